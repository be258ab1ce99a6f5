"""``POST /events``: says that something happened outside this service (an addition)."""

from __future__ import annotations

from typing import Any

from nbfunctions.models import Emitted
from nbfunctions.server.permissions import Caller
from nbfunctions.server.server import Server

__all__ = ["create"]


async def create(server: Server, caller: Caller, event: str, payload: dict[str, Any], user_id: str) -> Emitted:
    """Trigger the functions that listen to an event; their executions are accepted when this is answered."""
    triggered = await server.store.emit_event(caller.project_id, event, payload, user_id, server.clock())
    return Emitted(event=event, executions=triggered)
