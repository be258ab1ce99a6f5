"""What runs inside the sandbox, one folder per language; standard library only."""
