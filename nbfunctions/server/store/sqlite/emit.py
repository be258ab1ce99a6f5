"""Turns events into executions, inside the transaction of what caused them: neither can be there without the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any, Final

import msgspec

from nbfunctions.models import Execution, new_id
from nbfunctions.server import patterns
from nbfunctions.server.store.protocol import Acceptance
from nbfunctions.server.store.sqlite import rows
from nbfunctions.server.store.sqlite.sql import SQL

__all__ = ["Cause", "TooMuch", "Triggered", "emit", "emit_names", "insert_execution", "set_listeners"]

EVENT_DATA_LIMIT: Final = 65_535
"""Bytes of an event's payload, as of all variables of a call together (spec, section 7.4)."""

ROW: Final = 500
"""Bytes of an execution that waits, without its event's payload."""

Triggered = list[Acceptance]
"""The executions that an event has triggered."""


class TooMuch(Exception):
    """An event would trigger more than there is room for."""


_encode = msgspec.json.Encoder().encode


class Cause(msgspec.Struct, frozen=True):
    """What an event comes from."""

    now: float
    user_id: str = ""
    """Who caused it."""
    depth: int = 0
    """How many executions lie behind it."""
    depth_limit: int = 1
    """How many there may be in a chain."""
    room: float = math.inf
    """Bytes of rows that it may trigger."""


def emit(
    db: Connection, project_id: str, resources: Sequence[tuple[str, str]], action: str, payload: Any, cause: Cause
) -> Triggered:
    """Accept one execution of each function that listens (spec, section 9.6), and return them.

    ``resources`` are kinds and ids from the root on, ``payload`` is a record. Functions without a deployment that is
    ready are passed over. One execution too many in a chain, and one whose event carries too much, are recorded as
    failed. Raises :class:`TooMuch` when it takes more than the cause's ``room``.
    """
    if db.execute(SQL["has_listeners"], (project_id,)).fetchone() is None:
        return []
    return emit_names(db, project_id, patterns.names(resources, action), payload, cause)


def emit_names(db: Connection, project_id: str, names: Sequence[str], payload: Any, cause: Cause) -> Triggered:
    """Do the same for an event whose names are known."""
    listening = db.execute(SQL["listening"], (project_id, _encode(names).decode())).fetchall()
    if not listening:
        return []
    data = _encode(payload).decode()
    if len(listening) * (ROW + len(data)) > cause.room:
        raise TooMuch
    reason = _refusal(names[0], data, cause)
    return [
        _trigger(
            db,
            Acceptance(
                project_id=project_id,
                execution=Execution(
                    id=new_id(),
                    created_at=int(cause.now),
                    updated_at=int(cause.now),
                    read=(f"user:{cause.user_id}",) if cause.user_id else (),
                    function_id=function_id,
                    trigger="event",
                    deployment_id=deployment_id,
                ),
                created=cause.now,
                user_id=cause.user_id,
                event=names[0],
                event_data=data if reason is None else "",
                depth=cause.depth + 1,
            ),
            reason,
        )
        for function_id, deployment_id in listening
    ]


def _refusal(event: str, data: str, cause: Cause) -> tuple[int, str] | None:
    """Return status code and reason of an event that triggers nothing any more."""
    if cause.depth >= cause.depth_limit:
        return 500, (
            f"Stopped: the event {event} ends a chain of {cause.depth} executions, each triggered by the one before; "
            "the setting event_depth allows no more. Does the function listen to what it does itself?"
        )
    size = len(data.encode())
    if size > EVENT_DATA_LIMIT:
        return 400, (
            f"Invalid vars: Value must be a valid object. The event {event} carries {size} bytes, "
            f"APPWRITE_FUNCTION_EVENT_DATA holds {EVENT_DATA_LIMIT}."
        )
    return None


def _trigger(db: Connection, accepted: Acceptance, reason: tuple[int, str] | None) -> Acceptance:
    if reason is None:
        insert_execution(db, accepted, "waiting")
        return accepted
    code, text = reason
    failed = msgspec.structs.replace(
        accepted.execution, status="failed", status_code=code, layer="platform", stderr=text
    )
    insert_execution(db, accepted, "failed")
    db.execute(SQL["fail_execution"], (code, text))
    return msgspec.structs.replace(accepted, execution=failed)


def insert_execution(
    db: Connection, accepted: Acceptance, status: str, owner: str = "", lease_until: float = 0.0
) -> bool:
    """Return whether its function is still there."""
    execution = accepted.execution
    values = (
        execution.id,
        accepted.created,
        execution.created_at,
        execution.updated_at,
        rows.encode(execution.read),
        execution.trigger,
        status,
        execution.deployment_id,
        owner,
        lease_until,
        accepted.user_id,
        accepted.event,
        accepted.data,
        accepted.event_data,
        accepted.depth,
        accepted.synchronous,
        accepted.project_id,
        execution.function_id,
    )
    return db.execute(SQL["create_execution"], values).rowcount > 0


def set_listeners(db: Connection, project_id: str, function_id: str, events: Sequence[str]) -> None:
    """Have a function listen to these events, and to no others."""
    db.execute(SQL["remove_listeners"], (project_id, function_id))
    if events:
        db.execute(SQL["add_listeners"], (_encode(events).decode(), project_id, function_id))
