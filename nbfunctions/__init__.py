"""Turn a notebook cell into a backend function: packaged, deployed, versioned, run in isolation."""

__version__ = "0.1.0"
