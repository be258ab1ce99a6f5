"""``POST /events``: says that something happened outside this service (an addition)."""

from __future__ import annotations

from typing import Any

import msgspec

from nbfunctions.server.permissions import Caller
from nbfunctions.server.server import Server

__all__ = ["Emitted", "create"]


class Emitted(msgspec.Struct, frozen=True):
    """An event that was taken, and how many executions it triggered."""

    event: str
    executions: int


async def create(server: Server, caller: Caller, event: str, payload: dict[str, Any], user_id: str) -> Emitted:
    """Trigger the functions that listen to an event; their executions are accepted when this is answered."""
    triggered = await server.store.emit_event(caller.project_id, event, payload, user_id, server.clock())
    return Emitted(event, triggered)
