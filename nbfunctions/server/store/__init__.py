"""Where the service keeps its rows."""
