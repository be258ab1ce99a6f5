"""The table of routes of a server that isn't started: with the default limits, and without runtimes."""

from __future__ import annotations

import functools
from pathlib import Path

from nbfunctions.server.routes import Endpoint, endpoints
from nbfunctions.server.server import Server
from nbfunctions.settings import Settings

__all__ = ["all_routes"]


@functools.cache
def all_routes() -> tuple[Endpoint, ...]:
    """Return the table; nothing is written."""
    return endpoints(Server(Settings(data_dir=Path("nowhere"))))
