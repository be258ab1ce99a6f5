"""What keeps a function from everything else."""
