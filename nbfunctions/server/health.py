"""``/health``: whether the service answers (spec, section 12.3)."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec

from nbfunctions import __version__
from nbfunctions.models import adds, says
from nbfunctions.server.permissions import Caller
from nbfunctions.server.server import Server
from nbfunctions.server.wire import API_VERSION

__all__ = ["Health", "Queue", "Version", "health", "queue", "storage", "version"]


class Version(msgspec.Struct, frozen=True):
    """Which contract, and which release of ours."""

    version: Annotated[str, says("The generation of the API.")] = API_VERSION
    nbfunctions: Annotated[str, adds("The release of this server.")] = __version__


class Health(msgspec.Struct, frozen=True):
    """That something works, and how fast."""

    ping: Annotated[int, says("Milliseconds it took.")]
    status: Annotated[str, says("Always `pass`: what doesn't work is refused.")] = "pass"


class Queue(msgspec.Struct, frozen=True):
    """How much waits."""

    size: Annotated[int, says("How many executions wait.")]


async def version(server: Server) -> Version:
    """Return the version; anybody may ask, without a project."""
    return Version()


async def health(server: Server, caller: Caller) -> Health:
    """Return how long a question to the store takes."""
    began = time.monotonic()
    await server.store.get_project(caller.project_id)
    return Health(ping=_milliseconds(began))


async def queue(server: Server, caller: Caller) -> Queue:
    """Return how many executions wait."""
    return Queue(size=await server.store.count_waiting())


async def storage(server: Server, caller: Caller) -> Health:
    """Return how long it takes to write a file beside the archives and read it again."""
    began = time.monotonic()
    await server.artifacts.prove()
    return Health(ping=_milliseconds(began))


def _milliseconds(began: float) -> int:
    return int((time.monotonic() - began) * 1000)
