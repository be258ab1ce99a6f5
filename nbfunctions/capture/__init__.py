"""From cells to archives."""
