"""The queries of this store by name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nbfunctions.server.store import queries

__all__ = ["SQL"]

SQL: Final = queries.load(Path(__file__).with_name("queries"))
