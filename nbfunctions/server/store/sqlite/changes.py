"""What the writer does: one plain function a change. Each runs in a savepoint, so that raising undoes it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from sqlite3 import Connection
from typing import Any, Final, Literal

from nbfunctions.errors import (
    BuildInProgress,
    BuildNotFound,
    BuildNotReady,
    DeploymentNotFound,
    FunctionAlreadyExists,
    FunctionNotFound,
    ProjectAlreadyExists,
    ProjectNotFound,
)
from nbfunctions.models import OUTPUT_LIMIT, Deployment, Execution, Function, Key, Project, new_id
from nbfunctions.server.cron import next_time
from nbfunctions.server.store import search
from nbfunctions.server.store.protocol import BuildClaim, DueSchedule, ExecutionClaim
from nbfunctions.server.store.sqlite import rows
from nbfunctions.server.store.sqlite.sql import SQL

ABANDONED: Final = (
    "The server that ran this execution stopped before it ended; whether its code ran to the end is not known."
)

# -- projects and keys ----------------------------------------------------------------------------------


def create_project(db: Connection, project: Project) -> None:
    """Raises ``ProjectAlreadyExists``."""
    if not db.execute(SQL["create_project"], (project.id, project.name, project.created_at)).rowcount:
        raise ProjectAlreadyExists


def create_key(db: Connection, key: Key, secret_hash: str) -> None:
    """Raises ``ProjectNotFound``."""
    values = (key.id, secret_hash, key.name, rows.encode(key.scopes), key.created_at, key.expires_at, key.project_id)
    if not db.execute(SQL["create_key"], values).rowcount:
        raise ProjectNotFound


def revoke_key(db: Connection, project_id: str, key_id: str) -> bool:
    """Return whether there was one."""
    return db.execute(SQL["revoke_key"], (project_id, key_id)).rowcount > 0


# -- functions ------------------------------------------------------------------------------------------


def create_function(db: Connection, project_id: str, function: Function) -> None:
    """Raises ``ProjectNotFound``, ``FunctionAlreadyExists``."""
    if db.execute(SQL["get_project"], (project_id,)).fetchone() is None:
        raise ProjectNotFound
    values = (
        project_id,
        function.id,
        function.created_at,
        function.updated_at,
        rows.encode(function.execute),
        function.name,
        function.status,
        function.runtime,
        function.deployment,
        rows.encode(function.vars),
        rows.encode(function.events),
        function.schedule,
        function.schedule_next,
        function.schedule_previous,
        function.timeout,
        function.memory,
        function.concurrency,
        search.searchable(function.id, function.name, function.runtime),
    )
    if not db.execute(SQL["create_function"], values).rowcount:
        raise FunctionAlreadyExists


def update_function(db: Connection, project_id: str, function: Function, now: float) -> Function:
    """Raises ``FunctionNotFound``."""
    stored = _function(db, project_id, function.id)
    values = (
        int(now),
        rows.encode(function.execute),
        function.name,
        rows.encode(function.vars),
        rows.encode(function.events),
        function.schedule,
        next_time(function.schedule, now) if stored.deployment else 0,
        function.timeout,
        function.memory,
        function.concurrency,
        search.searchable(function.id, function.name, stored.runtime),
        project_id,
        function.id,
    )
    db.execute(SQL["update_function"], values)
    return _function(db, project_id, function.id)


def activate_deployment(db: Connection, project_id: str, function_id: str, deployment_id: str, now: float) -> Function:
    """Raises ``FunctionNotFound``, ``DeploymentNotFound``, ``BuildNotFound``, ``BuildNotReady``."""
    *_, build_id, status = _find_deployment(db, _find_function(db, project_id, function_id), deployment_id)
    if build_id is None:
        raise BuildNotFound
    if status != "ready":
        raise BuildNotReady
    function = _function(db, project_id, function_id)
    _activate(db, project_id, function_id, function.schedule, deployment_id, now)
    return _function(db, project_id, function_id)


def delete_function(db: Connection, project_id: str, function_id: str, piece: int) -> tuple[list[str], bool]:
    """Return the digests that nobody uses any more, and whether executions are left over. Raises ``FunctionNotFound``.

    Not more than ``piece`` executions are deleted at once, so that others get their turn; nobody sees the rest.
    """
    function_seq = _find_function(db, project_id, function_id)
    digests = [digest for (digest,) in db.execute(SQL["digests_of_function"], (function_seq,)).fetchall()]
    db.execute(SQL["delete_function"], (function_seq,))
    left = db.execute(SQL["delete_executions_of_function"], (function_seq, piece)).rowcount == piece
    if left:
        db.execute(SQL["remember_deleted_function"], (function_seq,))
    return _unused(db, digests), left


def delete_leftovers(db: Connection, piece: int) -> None:
    """Delete up to ``piece`` executions of a function that is gone."""
    (function_seq,) = db.execute(SQL["next_deleted_function"]).fetchone()
    if db.execute(SQL["delete_executions_of_function"], (function_seq, piece)).rowcount < piece:
        db.execute(SQL["forget_deleted_function"], (function_seq,))


# -- deployments and builds -----------------------------------------------------------------------------


def create_deployment(db: Connection, project_id: str, deployment: Deployment) -> Deployment:
    """Raises ``FunctionNotFound``."""
    function_seq = _find_function(db, project_id, deployment.function_id)
    values = (
        function_seq,
        deployment.id,
        deployment.created_at,
        deployment.updated_at,
        deployment.entrypoint,
        deployment.size,
        deployment.activate,
        deployment.digest,
        bool(deployment.digest),
        search.searchable(deployment.id, deployment.entrypoint),
    )
    created = db.execute(SQL["create_deployment"], values)
    if created.rowcount and deployment.digest and deployment.activate:
        db.execute(SQL["clear_activate"], (deployment.created_at, function_seq, created.lastrowid))
    return _deployment(db, project_id, deployment.function_id, deployment.id)


def complete_deployment(
    db: Connection, project_id: str, function_id: str, deployment_id: str, digest: str, size: int, now: float
) -> Deployment:
    """Raises ``FunctionNotFound``, ``DeploymentNotFound``."""
    function_seq = _find_function(db, project_id, function_id)
    seq, activate, known_digest, *_ = _find_deployment(db, function_seq, deployment_id)
    if not known_digest:
        db.execute(SQL["complete_deployment"], (digest, size, int(now), seq))
        if activate:
            db.execute(SQL["clear_activate"], (int(now), function_seq, seq))
    return _deployment(db, project_id, function_id, deployment_id)


def expire_uploads(db: Connection, older_than: float) -> list[str]:
    """Return the ids of the deleted deployments."""
    return [deployment_id for (deployment_id,) in db.execute(SQL["expire_uploads"], (older_than,)).fetchall()]


def delete_deployment(db: Connection, project_id: str, function_id: str, deployment_id: str) -> list[str]:
    """Return the digests that nobody uses any more. Raises ``DeploymentNotFound``."""
    try:
        function_seq = _find_function(db, project_id, function_id)
    except FunctionNotFound:
        raise DeploymentNotFound from None
    seq, _, digest, *_ = _find_deployment(db, function_seq, deployment_id)
    db.execute(SQL["delete_deployment"], (seq,))
    db.execute(SQL["deactivate_deployment"], (function_seq, deployment_id))
    return _unused(db, [digest] if digest else [])


def claim_build(db: Connection, owner: str, lease_until: float, now: float) -> BuildClaim | None:
    """Take the oldest that waits or whose lease ran out."""
    (seq,) = db.execute(SQL["next_build"], (now,)).fetchone()
    if seq is None:
        return None
    db.execute(SQL["claim_build"], (seq, new_id(), now, owner, lease_until))
    db.execute(SQL["set_waits"], (False, int(now), seq))
    row = db.execute(SQL["claimed_build"], (seq,)).fetchone()
    found = rows.deployment(row[rows.FUNCTION :])
    return BuildClaim(project_id=row[-1], build_id=found.build_id, function=rows.function(row), deployment=found)


def append_build_log(db: Connection, build_id: str, owner: str, stdout: str, stderr: str) -> bool:
    """Return whether the build is still this owner's."""
    sizes = db.execute(SQL["build_log_sizes"], (build_id, owner)).fetchone()
    if sizes is None:
        return False
    _append_log(db, build_id, sizes, stdout, stderr)
    return True


def finish_build(
    db: Connection, build_id: str, owner: str, status: Literal["ready", "failed"], stderr: str, output: str, now: float
) -> bool:
    """Return whether the build was still this owner's."""
    sizes = db.execute(SQL["build_log_sizes"], (build_id, owner)).fetchone()
    if sizes is None:
        return False
    seq = sizes[2]
    _append_log(db, build_id, sizes, "", stderr)
    db.execute(SQL["finish_build"], (status, output, now, build_id))
    db.execute(SQL["touch_deployment"], (int(now), seq))
    if status == "ready":
        db.execute(SQL["note_build_successful"], (build_id,))
        project_id, function_id, schedule, deployment_id, activate = db.execute(
            SQL["built_deployment"], (seq,)
        ).fetchone()
        if activate:
            _activate(db, project_id, function_id, schedule, deployment_id, now)
    return True


def retry_build(
    db: Connection, project_id: str, function_id: str, deployment_id: str, build_id: str, now: float
) -> None:
    """Raises ``FunctionNotFound``, ``DeploymentNotFound``, ``BuildNotFound``, ``BuildInProgress``."""
    function_seq = _find_function(db, project_id, function_id)
    seq, _, _, found, status = _find_deployment(db, function_seq, deployment_id)
    if found != build_id:
        raise BuildNotFound
    if status != "failed":
        raise BuildInProgress
    _build_anew(db, seq, now)


# -- executions -----------------------------------------------------------------------------------------


def create_execution(db: Connection, values: tuple[Any, ...]) -> None:
    """Raises ``FunctionNotFound``. ``values`` are :func:`execution_values`."""
    if not db.execute(SQL["create_execution"], values).rowcount:
        raise FunctionNotFound


def execution_values(
    project_id: str,
    execution: Execution,
    status: str,
    now: float,
    *,
    data: str = "",
    user_id: str = "",
    event: str = "",
    event_data: str = "",
    owner: str = "",
    lease_until: float = 0.0,
) -> tuple[Any, ...]:
    """Return what :func:`create_execution` keeps."""
    return (
        execution.id,
        now,
        execution.created_at,
        execution.updated_at,
        rows.encode(execution.read),
        execution.trigger,
        status,
        execution.deployment_id,
        owner,
        lease_until,
        user_id,
        event,
        data,
        event_data,
        project_id,
        execution.function_id,
    )


def record_execution(db: Connection, values: tuple[Any, ...]) -> None:
    """Raises ``FunctionNotFound``."""
    if not db.execute(SQL["record_execution"], values).rowcount:
        raise FunctionNotFound


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


def release_execution(db: Connection, execution_id: str, owner: str, now: float) -> bool:
    """Return whether it was this owner's."""
    return db.execute(SQL["release_execution"], (int(now), owner, execution_id)).rowcount == 1


def _execution_claim(row: tuple[Any, ...]) -> ExecutionClaim:
    deployment, execution = row[rows.FUNCTION :], row[rows.FUNCTION + rows.DEPLOYMENT :]
    output, project_id, data, user_id, event, event_data, created = execution[rows.EXECUTION :]
    return ExecutionClaim(
        project_id=project_id,
        execution=rows.execution(execution),
        data=data,
        user_id=user_id,
        event=event,
        event_data=event_data,
        created=created,
        function=rows.function(row),
        deployment=rows.optional_deployment(deployment),
        output=output or "",
    )


def finish_execution(db: Connection, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return what the caller does not know of the execution, None when it is not the owner's any more."""
    found: tuple[Any, ...] | None = db.execute(SQL["finish_execution"], values).fetchone()
    return found


def renew_leases(db: Connection, owner: str, lease_until: float) -> None:
    """Prolong what this owner works on."""
    db.execute(SQL["renew_executions"], (lease_until, owner))
    db.execute(SQL["renew_builds"], (lease_until, owner))


def expire_leases(db: Connection, now: float) -> int:
    """Return how many executions and builds changed.

    A ``now`` of infinity expires every lease; what it ends has ended with its lease.
    """
    ended = now if math.isfinite(now) else None
    builds = db.execute(SQL["abandoned_builds"], (now,)).fetchall()
    for seq, lease_until in builds:
        _build_anew(db, seq, lease_until if ended is None else ended)
    expired = db.execute(SQL["expire_executions"], (ABANDONED, ended, ended, now)).rowcount
    return expired + len(builds)


def delete_executions(db: Connection, older_than: float, limit: int) -> int:
    """Delete at most ``limit``; return how many."""
    return db.execute(SQL["delete_executions"], (older_than, limit)).rowcount


# -- schedules ------------------------------------------------------------------------------------------


def fire_schedule(
    db: Connection, due: DueSchedule, execution: tuple[Any, ...] | None, next_tick: int, now: float
) -> bool:
    """Return whether the tick was still there; ``execution`` are :func:`execution_values`."""
    tick = (int(now), next_tick, int(now), due.project_id, due.function.id, due.function.schedule_next)
    if not db.execute(SQL["fire_schedule"], tick).rowcount:
        return False
    if execution is not None:
        create_execution(db, execution)
    return True


# -- pieces ---------------------------------------------------------------------------------------------


def _find_function(db: Connection, project_id: str, function_id: str) -> int:
    row = db.execute(SQL["find_function"], (project_id, function_id)).fetchone()
    if row is None:
        raise FunctionNotFound
    seq: int = row[0]
    return seq


def _function(db: Connection, project_id: str, function_id: str) -> Function:
    row = db.execute(SQL["get_function"], (project_id, function_id)).fetchone()
    if row is None:
        raise FunctionNotFound
    return rows.function(row)


def _find_deployment(db: Connection, function_seq: int, deployment_id: str) -> tuple[Any, ...]:
    """Return seq, activate, digest, id of its build and its status."""
    row: tuple[Any, ...] | None = db.execute(SQL["find_deployment"], (function_seq, deployment_id)).fetchone()
    if row is None:
        raise DeploymentNotFound
    return row


def _deployment(db: Connection, project_id: str, function_id: str, deployment_id: str) -> Deployment:
    row = db.execute(SQL["get_deployment"], (project_id, function_id, deployment_id)).fetchone()
    return rows.deployment(row, *row[rows.DEPLOYMENT :])


def _activate(db: Connection, project_id: str, function_id: str, schedule: str, deployment_id: str, now: float) -> None:
    values = (deployment_id, next_time(schedule, now), int(now), project_id, function_id)
    db.execute(SQL["activate_deployment"], values)


def _build_anew(db: Connection, deployment_seq: int, now: float) -> None:
    db.execute(SQL["empty_build"], (deployment_seq,))
    db.execute(SQL["set_waits"], (True, int(now), deployment_seq))


def _append_log(db: Connection, build_id: str, sizes: tuple[int, ...], stdout: str, stderr: str) -> None:
    stdout, stderr = _cut(stdout, OUTPUT_LIMIT - sizes[0]), _cut(stderr, OUTPUT_LIMIT - sizes[1])
    if stdout or stderr:
        db.execute(SQL["append_build_log"], (stdout, stderr, build_id))


def _cut(text: str, size: int) -> str:
    """Return as much of a text as fits into so many bytes."""
    if len(text) * 4 <= size:
        return text
    return text.encode()[: max(size, 0)].decode(errors="ignore")


def _unused(db: Connection, digests: Iterable[str]) -> list[str]:
    return [digest for digest in digests if not db.execute(SQL["is_digest_used"], (digest,)).fetchone()[0]]
