"""The embedded store: one SQLite file in the data directory."""

from nbfunctions.server.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
