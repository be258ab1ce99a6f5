"""What the writer does with projects, functions, deployments and builds: one plain function a change.

Each runs in a savepoint, so that raising undoes it. Those that cause an event also return the executions it triggered.
"""

from __future__ import annotations

from collections.abc import Iterable
from sqlite3 import Connection
from typing import Any, Literal

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
from nbfunctions.models import OUTPUT_LIMIT, Deployment, Function, Key, Project, new_id
from nbfunctions.server.cron import next_time
from nbfunctions.server.store import search
from nbfunctions.server.store.protocol import BuildClaim
from nbfunctions.server.store.sqlite import rows
from nbfunctions.server.store.sqlite.emit import Cause, Triggered, emit, set_listeners
from nbfunctions.server.store.sqlite.sql import SQL

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


def create_function(db: Connection, project_id: str, function: Function) -> Triggered:
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
    set_listeners(db, project_id, function.id, function.events)
    return emit(db, project_id, [("functions", function.id)], "create", function, Cause(function.created_at))


def update_function(db: Connection, project_id: str, function: Function, now: float) -> tuple[Function, Triggered]:
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
    set_listeners(db, project_id, function.id, function.events)
    updated = _function(db, project_id, function.id)
    return updated, emit(db, project_id, [("functions", function.id)], "update", updated, Cause(now))


def activate_deployment(
    db: Connection, project_id: str, function_id: str, deployment_id: str, now: float
) -> tuple[Function, Triggered]:
    """Raises ``FunctionNotFound``, ``DeploymentNotFound``, ``BuildNotFound``, ``BuildNotReady``."""
    *_, build_id, status = _find_deployment(db, find_function(db, project_id, function_id), deployment_id)
    if build_id is None:
        raise BuildNotFound
    if status != "ready":
        raise BuildNotReady
    function = _function(db, project_id, function_id)
    _activate(db, project_id, function_id, function.schedule, deployment_id, now)
    activated = _function(db, project_id, function_id)
    return activated, _emit_of(db, project_id, function_id, deployment_id, "update", activated, now)


def delete_function(
    db: Connection, project_id: str, function_id: str, piece: int, now: float
) -> tuple[list[str], bool, Triggered]:
    """Return the digests that nobody uses any more, and whether executions are left over. Raises ``FunctionNotFound``.

    Not more than ``piece`` executions are deleted at once, so that others get their turn; nobody sees the rest.
    """
    function_seq = find_function(db, project_id, function_id)
    digests = [digest for (digest,) in db.execute(SQL["digests_of_function"], (function_seq,)).fetchall()]
    db.execute(SQL["delete_function"], (function_seq,))
    left = db.execute(SQL["delete_executions_of_function"], (function_seq, piece)).rowcount == piece
    if left:
        db.execute(SQL["remember_deleted_function"], (function_seq,))
    triggered = emit(db, project_id, [("functions", function_id)], "delete", [], Cause(now))
    return _unused(db, digests), left, triggered


def delete_leftovers(db: Connection, piece: int) -> None:
    """Delete up to ``piece`` executions of a function that is gone."""
    (function_seq,) = db.execute(SQL["next_deleted_function"]).fetchone()
    if db.execute(SQL["delete_executions_of_function"], (function_seq, piece)).rowcount < piece:
        db.execute(SQL["forget_deleted_function"], (function_seq,))


# -- deployments and builds -----------------------------------------------------------------------------


def create_deployment(db: Connection, project_id: str, deployment: Deployment) -> tuple[Deployment, Triggered]:
    """Raises ``FunctionNotFound``."""
    function_seq = find_function(db, project_id, deployment.function_id)
    created = _insert_deployment(db, function_seq, deployment)
    if created is None or not deployment.digest:
        return _deployment(db, project_id, deployment.function_id, deployment.id), []
    if deployment.activate:
        db.execute(SQL["clear_activate"], (deployment.created_at, function_seq, created))
    return _complete(db, project_id, deployment.function_id, deployment.id, deployment.created_at)


def begin_upload(db: Connection, project_id: str, deployment: Deployment) -> Deployment:
    """Raises ``FunctionNotFound``, ``DeploymentNotFound``."""
    function_seq = find_function(db, project_id, deployment.function_id)
    if db.execute(SQL["is_elsewhere"], (deployment.id, project_id, function_seq)).fetchone()[0]:
        raise DeploymentNotFound
    _insert_deployment(db, function_seq, deployment)
    return _deployment(db, project_id, deployment.function_id, deployment.id)


def note_chunks(
    db: Connection, project_id: str, function_id: str, deployment_id: str, uploaded: int, total: int, now: float
) -> Deployment:
    """Raises ``FunctionNotFound``, ``DeploymentNotFound``."""
    seq, *_ = _find_deployment(db, find_function(db, project_id, function_id), deployment_id)
    db.execute(SQL["note_chunks"], (uploaded, total, int(now), seq))
    return _deployment(db, project_id, function_id, deployment_id)


def complete_deployment(
    db: Connection, project_id: str, function_id: str, deployment_id: str, digest: str, size: int, now: float
) -> tuple[Deployment, Triggered]:
    """Raises ``FunctionNotFound``, ``DeploymentNotFound``."""
    function_seq = find_function(db, project_id, function_id)
    seq, activate, known_digest, *_ = _find_deployment(db, function_seq, deployment_id)
    if known_digest:
        return _deployment(db, project_id, function_id, deployment_id), []
    db.execute(SQL["complete_deployment"], (digest, size, int(now), seq))
    if activate:
        db.execute(SQL["clear_activate"], (int(now), function_seq, seq))
    return _complete(db, project_id, function_id, deployment_id, now)


def expire_uploads(db: Connection, older_than: float) -> list[tuple[str, str, str]]:
    """Return project, function and id of the deleted deployments."""
    return db.execute(SQL["expire_uploads"], (older_than,)).fetchall()


def delete_deployment(
    db: Connection, project_id: str, function_id: str, deployment_id: str, now: float
) -> tuple[list[str], Triggered]:
    """Return the digests that nobody uses any more. Raises ``DeploymentNotFound``."""
    try:
        function_seq = find_function(db, project_id, function_id)
    except FunctionNotFound:
        raise DeploymentNotFound from None
    seq, _, digest, *_ = _find_deployment(db, function_seq, deployment_id)
    db.execute(SQL["delete_deployment"], (seq,))
    db.execute(SQL["deactivate_deployment"], (function_seq, deployment_id))
    triggered = _emit_of(db, project_id, function_id, deployment_id, "delete", [], now)
    return _unused(db, [digest] if digest else []), triggered


def claim_build(db: Connection, owner: str, lease_until: float, now: float) -> tuple[BuildClaim | None, Triggered]:
    """Take the oldest that waits or whose lease ran out."""
    (seq,) = db.execute(SQL["next_build"], (now,)).fetchone()
    if seq is None:
        return None, []
    db.execute(SQL["claim_build"], (seq, new_id(), now, owner, lease_until))
    db.execute(SQL["set_waits"], (False, int(now), seq))
    row = db.execute(SQL["claimed_build"], (seq,)).fetchone()
    found = rows.deployment(row[rows.FUNCTION :])
    claim = BuildClaim(project_id=row[-1], build_id=found.build_id, function=rows.function(row), deployment=found)
    return claim, _emit_of(db, claim.project_id, claim.function.id, found.id, "update", found, now)


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
) -> Triggered:
    """Raises ``FunctionNotFound``, ``DeploymentNotFound``, ``BuildNotFound``, ``BuildInProgress``."""
    function_seq = find_function(db, project_id, function_id)
    seq, _, _, found, status = _find_deployment(db, function_seq, deployment_id)
    if found != build_id:
        raise BuildNotFound
    if status != "failed":
        raise BuildInProgress
    build_anew(db, seq, now)
    return _emit_of(db, project_id, function_id, deployment_id, "update", [], now)


# -- pieces ---------------------------------------------------------------------------------------------


def find_function(db: Connection, project_id: str, function_id: str) -> int:
    """Return its ``seq``; raises ``FunctionNotFound``."""
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


def _insert_deployment(db: Connection, function_seq: int, deployment: Deployment) -> int | None:
    """Return its ``seq``, None when it is there already."""
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
        deployment.chunks_total,
        deployment.chunks_uploaded,
    )
    created = db.execute(SQL["create_deployment"], values)
    return created.lastrowid if created.rowcount else None


def _complete(
    db: Connection, project_id: str, function_id: str, deployment_id: str, now: float
) -> tuple[Deployment, Triggered]:
    """Return a deployment whose upload is complete now."""
    deployment = _deployment(db, project_id, function_id, deployment_id)
    return deployment, _emit_of(db, project_id, function_id, deployment_id, "create", deployment, now)


def _emit_of(
    db: Connection, project_id: str, function_id: str, deployment_id: str, action: str, payload: Any, now: float
) -> Triggered:
    resources = [("functions", function_id), ("deployments", deployment_id)]
    return emit(db, project_id, resources, action, payload, Cause(now))


def _activate(db: Connection, project_id: str, function_id: str, schedule: str, deployment_id: str, now: float) -> None:
    values = (deployment_id, next_time(schedule, now), int(now), project_id, function_id)
    db.execute(SQL["activate_deployment"], values)


def build_anew(db: Connection, deployment_seq: int, now: float) -> None:
    """Have a deployment wait for its build again."""
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
