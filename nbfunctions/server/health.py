"""``/health``: whether the service answers (spec, section 12.3)."""

from __future__ import annotations

import time

import msgspec

from nbfunctions import __version__
from nbfunctions.server.permissions import Caller
from nbfunctions.server.server import Server
from nbfunctions.server.wire import API_VERSION

__all__ = ["Health", "Version", "health", "version"]


class Version(msgspec.Struct, frozen=True):
    """Which contract, and (an addition) which release of ours."""

    version: str = API_VERSION
    nbfunctions: str = __version__


class Health(msgspec.Struct, frozen=True):
    """``ping`` is in milliseconds."""

    ping: int
    status: str = "pass"


async def version(server: Server) -> Version:
    """Return the version; anybody may ask, without a project."""
    return Version()


async def health(server: Server, caller: Caller) -> Health:
    """Return how long a question to the store takes."""
    began = time.monotonic()
    await server.store.get_project(caller.project_id)
    return Health(ping=int((time.monotonic() - began) * 1000))
