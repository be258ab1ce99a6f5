"""What the writer does with executions, schedules, events and usage: one plain function a change.

Each runs in a savepoint, so that raising undoes it. Those that cause an event also return the executions it triggered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any, Final

import msgspec

from nbfunctions.errors import (
    ExecutionAlreadyExists,
    ExecutionEnded,
    ExecutionInProgress,
    ExecutionNotFound,
    FunctionNotFound,
    ProjectNotFound,
)
from nbfunctions.executor.executor import Outcome
from nbfunctions.models import Execution
from nbfunctions.server import patterns
from nbfunctions.server.store.protocol import (
    Acceptance,
    DueSchedule,
    ExecutionClaim,
    Idempotency,
    UsageCount,
    finished,
)
from nbfunctions.server.store.sqlite import rows
from nbfunctions.server.store.sqlite.changes import build_anew, find_function
from nbfunctions.server.store.sqlite.emit import Cause, Triggered, emit, emit_names, insert_execution
from nbfunctions.server.store.sqlite.sql import SQL

ABANDONED: Final = (
    "The server that ran this execution stopped before it ended; whether its code ran to the end is not known."
)
IDEMPOTENCY_RETENTION: Final = 86_400.0
"""Seconds an idempotency key is kept."""


class Ended(msgspec.Struct, frozen=True):
    """An execution that has ended, and what that has triggered."""

    project_id: str
    execution: Execution
    synchronous: bool
    triggered: Triggered


def create_execution(
    db: Connection,
    accepted: Acceptance,
    owner: str,
    lease_until: float,
    idempotency: Idempotency | None,
) -> tuple[Execution, Triggered]:
    """Raises ``FunctionNotFound``, ``ExecutionAlreadyExists``."""
    execution = accepted.execution
    if idempotency is not None:
        function_seq = find_function(db, accepted.project_id, execution.function_id)
        known = _known(db, function_seq, idempotency, accepted.created)
        if known is not None:
            return known, []
        db.execute(
            SQL["keep_idempotency_key"],
            (function_seq, idempotency.caller, idempotency.key, idempotency.digest, execution.id, accepted.created),
        )
    status = "processing" if owner else "waiting"
    if not insert_execution(db, accepted, status, owner, lease_until):
        raise FunctionNotFound
    if execution.status != status:
        execution = msgspec.structs.replace(execution, status=status)
    if accepted.synchronous or execution.trigger != "http":
        return execution, []  # their only event is that of their end (spec, section 7.1)
    return execution, _emit_of(db, accepted.project_id, execution, "create", Cause(accepted.created, accepted.user_id))


def _known(db: Connection, function_seq: int, idempotency: Idempotency, now: float) -> Execution | None:
    found = db.execute(
        SQL["find_idempotency_key"],
        (function_seq, idempotency.caller, idempotency.key, now - IDEMPOTENCY_RETENTION),
    ).fetchone()
    if found is None:
        return None
    digest, seq = found
    if digest != idempotency.digest:
        raise ExecutionAlreadyExists
    return rows.execution(db.execute(SQL["executions_of_page"], (json.dumps([seq]),)).fetchone())


def record_execution(db: Connection, room: float, accepted: Acceptance, outcome: Outcome, ended: float) -> Ended:
    """Raises ``FunctionNotFound``; ``TooMuch`` when what it triggers takes more than ``room`` bytes."""
    execution = accepted.execution
    values = (
        execution.id,
        accepted.created,
        execution.created_at,
        int(ended),
        rows.encode(execution.read),
        execution.trigger,
        execution.deployment_id,
        accepted.user_id,
        accepted.data,
        *rows.outcome_values(outcome),
        accepted.project_id,
        execution.function_id,
    )
    if not db.execute(SQL["record_execution"], values).rowcount:
        raise FunctionNotFound
    record = finished(execution, outcome, int(ended))
    return _ended(db, accepted.project_id, record, Cause(ended, accepted.user_id, room=room), synchronous=True)


def claim_executions(
    db: Connection, owner: str, limit: int, concurrency: int, lease_until: float, now: float
) -> list[ExecutionClaim]:
    """Take the oldest that wait, of no function more than may run at once."""
    waiting = db.execute(SQL["functions_with_waiting"]).fetchall()
    if not waiting or limit < 1:
        return []
    running = dict(db.execute(SQL["count_processing"]).fetchall())
    oldest: list[int] = []
    for function_seq, own_concurrency in waiting:
        room = min((own_concurrency or concurrency) - running.get(function_seq, 0), limit)
        if room > 0:
            oldest += (seq for (seq,) in db.execute(SQL["oldest_waiting"], (function_seq, room)))
    taken = json.dumps(sorted(oldest)[:limit])
    db.execute(SQL["claim_executions"], (owner, lease_until, int(now), taken))
    return [_execution_claim(row) for row in db.execute(SQL["claimed_executions"], (taken,))]


def release_execution(db: Connection, execution_id: str, owner: str, now: float) -> tuple[str, Execution] | None:
    """Return its project and the execution; None when it is not the owner's any more."""
    found = db.execute(SQL["release_execution"], (int(now), owner, execution_id)).fetchone()
    if found is None:
        return None
    row = db.execute(SQL["changed_executions"], (json.dumps(found),)).fetchone()
    return row[rows.EXECUTION], rows.execution(row)


def _execution_claim(row: tuple[Any, ...]) -> ExecutionClaim:
    deployment, execution = row[rows.FUNCTION :], row[rows.FUNCTION + rows.DEPLOYMENT :]
    output, project_id, created, data, user_id, event, event_data, depth, synchronous = execution[rows.EXECUTION :]
    return ExecutionClaim(
        accepted=Acceptance(
            project_id=project_id,
            execution=rows.execution(execution),
            created=created,
            data=data,
            user_id=user_id,
            event=event,
            event_data=event_data,
            depth=depth,
            synchronous=synchronous == 1,
        ),
        function=rows.function(row),
        deployment=rows.optional_deployment(deployment),
        output=output or "",
    )


def finish_execution(
    db: Connection, room: float, execution_id: str, owner: str, outcome: Outcome, now: float, depth_limit: int
) -> Ended | None:
    """Return None when the execution is not the owner's any more; raises as :func:`record_execution`."""
    values = (*rows.outcome_values(outcome), int(now), owner, execution_id)
    found = db.execute(SQL["finish_execution"], values).fetchone()
    if found is None:
        return None
    function_seq, created_at, read, trigger, deployment_id, user_id, depth, synchronous = found
    project_id, function_id = db.execute(SQL["function_of"], (function_seq,)).fetchone()
    execution = Execution(
        id=execution_id,
        created_at=created_at,
        read=rows.texts(read),
        function_id=function_id,
        trigger=trigger,
        deployment_id=deployment_id,
    )
    cause = Cause(now, user_id, depth, depth_limit, room)
    return _ended(db, project_id, finished(execution, outcome, int(now)), cause, synchronous=synchronous == 1)


def cancel_execution(
    db: Connection, project_id: str, function_id: str, execution_id: str, reason: str, now: float, depth_limit: int
) -> Ended:
    """Raises ``FunctionNotFound``, ``ExecutionNotFound``, ``ExecutionEnded``."""
    function_seq = find_function(db, project_id, function_id)
    values = (reason, now, int(now), function_seq, execution_id)
    found = db.execute(SQL["cancel_execution"], values).fetchone()
    if found is None:
        _execution(db, project_id, function_id, execution_id)
        raise ExecutionEnded
    return _ended_rows(db, [found[0]], now, depth_limit)[0]


def delete_execution(db: Connection, project_id: str, function_id: str, execution_id: str) -> Execution:
    """Return it as it was. Raises ``FunctionNotFound``, ``ExecutionNotFound``, ``ExecutionInProgress``."""
    function_seq = find_function(db, project_id, function_id)
    execution = _execution(db, project_id, function_id, execution_id)
    if not db.execute(SQL["delete_execution"], (function_seq, execution_id)).rowcount:
        raise ExecutionInProgress
    return execution


def renew_leases(db: Connection, owner: str, lease_until: float) -> None:
    """Prolong what this owner works on."""
    db.execute(SQL["renew_executions"], (lease_until, owner))
    db.execute(SQL["renew_builds"], (lease_until, owner))


def expire_leases(db: Connection, now: float, depth_limit: int) -> tuple[int, list[Ended]]:
    """Return how many executions and builds changed, and the executions.

    A ``now`` of infinity expires every lease; what it ends has ended with its lease.
    """
    ended = now if math.isfinite(now) else None
    builds = db.execute(SQL["abandoned_builds"], (now,)).fetchall()
    for seq, lease_until in builds:
        build_anew(db, seq, lease_until if ended is None else ended)
    seqs = [seq for (seq,) in db.execute(SQL["expire_executions"], (ABANDONED, ended, ended, now)).fetchall()]
    expired = _ended_rows(db, seqs, ended, depth_limit)
    return len(seqs) + len(builds), expired


def delete_executions(db: Connection, older_than: float, limit: int) -> int:
    """Delete at most ``limit``; return how many."""
    return db.execute(SQL["delete_executions"], (older_than, limit)).rowcount


def delete_idempotency_keys(db: Connection, now: float) -> None:
    """Delete those that count no more."""
    db.execute(SQL["delete_idempotency_keys"], (now - IDEMPOTENCY_RETENTION,))


# -- schedules ------------------------------------------------------------------------------------------


def fire_schedule(db: Connection, due: DueSchedule, accepted: Acceptance | None, next_tick: int, now: float) -> bool:
    """Return whether the tick was still there."""
    tick = (int(now), next_tick, int(now), due.project_id, due.function.id, due.function.schedule_next)
    if not db.execute(SQL["fire_schedule"], tick).rowcount:
        return False
    if accepted is not None:
        insert_execution(db, accepted, "waiting")
    return True


# -- events and usage -----------------------------------------------------------------------------------


def emit_event(db: Connection, project_id: str, event: str, payload: Any, user_id: str, now: float) -> Triggered:
    """Raises ``ProjectNotFound``."""
    if db.execute(SQL["get_project"], (project_id,)).fetchone() is None:
        raise ProjectNotFound
    return emit_names(db, project_id, patterns.expand(event), payload, Cause(now, user_id))


def add_usage(db: Connection, counts: Sequence[UsageCount]) -> None:
    """Add to the counts of functions that are there."""
    for one in counts:
        values = (one.start, one.executions, one.failures, one.compute, one.project_id, one.function_id)
        db.execute(SQL["add_usage"], values)


def delete_usage(db: Connection, older_than: int) -> None:
    """Delete counts of half hours that began before."""
    db.execute(SQL["delete_usage"], (older_than,))


# -- pieces ---------------------------------------------------------------------------------------------


def _execution(db: Connection, project_id: str, function_id: str, execution_id: str) -> Execution:
    row = db.execute(SQL["get_execution"], (project_id, function_id, execution_id)).fetchone()
    if row is None:
        raise ExecutionNotFound
    return rows.execution(row)


def _ended_rows(db: Connection, seqs: Sequence[int], now: float | None, depth_limit: int) -> list[Ended]:
    """Return executions that have been ended where they stand."""
    found = db.execute(SQL["changed_executions"], (json.dumps(seqs),)).fetchall() if seqs else []
    ended = []
    for row in found:
        project_id, user_id, depth, synchronous = row[rows.EXECUTION :]
        execution = rows.execution(row)
        cause = Cause(execution.updated_at if now is None else now, user_id, depth, depth_limit)
        ended.append(_ended(db, project_id, execution, cause, synchronous=synchronous == 1))
    return ended


def _ended(db: Connection, project_id: str, execution: Execution, cause: Cause, *, synchronous: bool) -> Ended:
    """Return an execution that has ended, once its event is out."""
    triggered = _emit_of(db, project_id, execution, "create" if synchronous else "update", cause)
    return Ended(project_id, execution, synchronous, triggered)


def _emit_of(db: Connection, project_id: str, execution: Execution, action: str, cause: Cause) -> Triggered:
    resources = [("functions", execution.function_id), ("executions", execution.id)]
    return emit(db, project_id, resources, action, execution, cause)
