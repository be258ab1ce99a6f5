"""The embedded store: one SQLite file, one thread that writes, and readers that never wait for it.

Questions about one row are answered in the event loop's thread, which takes some 10 microseconds; lists are read in a
thread of their own. Every read begins anew, so it sees each commit before it, other processes' as well. What each
execution asks for, its key and what to run, is remembered for as long as SQLite says that nobody else has written.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, TypeVarTuple

from nbfunctions.errors import DeploymentNotFound, ExecutionNotFound, FunctionNotFound, ProjectNotFound
from nbfunctions.executor.executor import Outcome
from nbfunctions.models import (
    Deployment,
    DeploymentList,
    Execution,
    ExecutionList,
    Function,
    FunctionList,
    Key,
    Project,
)
from nbfunctions.server.store.protocol import (
    Acceptance,
    Active,
    BuildClaim,
    DueSchedule,
    ExecutionChange,
    ExecutionClaim,
    Idempotency,
    OnChange,
    Page,
    UsageCount,
)
from nbfunctions.server.store.sqlite import changes, database, execution_changes, lists, rows
from nbfunctions.server.store.sqlite.emit import TooMuch, Triggered
from nbfunctions.server.store.sqlite.execution_changes import Ended
from nbfunctions.server.store.sqlite.sql import SQL
from nbfunctions.server.store.sqlite.writer import Writer

__all__ = ["SqliteStore"]

PIECE: Final = 250
"""Executions deleted by one change, which takes some 4 ms, so that others get their turn."""

SMALL: Final = 65_536
"""Characters that are written in no time."""

KNOWN: Final = 1000
"""Keys and functions that are remembered while nothing changes."""
WARNING_PAUSE: Final = 60.0
"""Seconds in which a function is warned of once."""
WARNINGS: Final = 1000
"""Functions that are remembered for that."""

log = logging.getLogger("nbfunctions")

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class SqliteStore:
    """The :class:`~nbfunctions.server.store.protocol.Store` of a data directory."""

    _db: sqlite3.Connection
    """Read by the event loop's thread."""
    _lists_db: sqlite3.Connection
    """Read by the thread of the lists."""
    _lists: ThreadPoolExecutor
    _writer: Writer
    _deleting: asyncio.Task[None]
    """Deletes what executions were left of deleted functions."""

    def __init__(self, data_dir: Path, *, event_depth: int = 3) -> None:
        """``event_depth`` is how many executions may follow one from another by events."""
        self._data_dir = data_dir
        self._event_depth = event_depth
        self._listeners: list[OnChange] = []
        self._warned: dict[tuple[str, str], float] = {}
        self._version = -1
        """Of the database, as the loop's connection saw it last."""
        self._keys: dict[tuple[str, str], Key] = {}
        self._active: dict[tuple[str, str], Active] = {}
        self._closing = False

    def listen(self, on_change: OnChange) -> None:
        """Have ``on_change`` called for every change of an execution that this store has committed."""
        self._listeners.append(on_change)

    async def open(self) -> None:
        """Make or migrate the database; raises :class:`~nbfunctions.errors.SettingInvalid` when it can't be used."""
        file = database.prepare(self._data_dir)
        self._db = database.connect(file)
        self._lists_db = database.connect(file)
        self._lists = ThreadPoolExecutor(1, "nbfunctions-store-lists")
        # The loop reads and commits through one connection: its own commits leave its page cache as it is.
        self._writer = Writer(database.connect(file), self._db)
        self._deleting = asyncio.create_task(self._delete_leftovers())

    async def close(self) -> None:
        """Commit what was asked for and let go of the file."""
        self._closing = True
        self._deleting.cancel()
        await asyncio.wait([self._deleting])
        await self._writer.close()
        self._lists.shutdown()
        self._lists_db.close()
        self._db.close()

    # -- projects and keys ------------------------------------------------------------------------------

    async def create_project(self, project: Project) -> Project:
        """Raises ``ProjectAlreadyExists``."""
        await self._writer.write(changes.create_project, project)
        return project

    async def get_project(self, project_id: str) -> Project:
        """Raises ``ProjectNotFound``."""
        row = self._db.execute(SQL["get_project"], (project_id,)).fetchone()
        if row is None:
            raise ProjectNotFound
        return rows.project(row)

    async def list_projects(self) -> list[Project]:
        """Return all projects, oldest first."""
        return [rows.project(row) for row in self._db.execute(SQL["list_projects"]).fetchall()]

    async def get_token_secret(self, project_id: str) -> str:
        """Raises ``ProjectNotFound``."""
        row = self._db.execute(SQL["get_token_secret"], (project_id,)).fetchone()
        if row is None:
            raise ProjectNotFound
        secret: str = row[0]
        return secret

    async def create_key(self, key: Key, secret_hash: str) -> Key:
        """Raises ``ProjectNotFound``."""
        await self._writer.write(changes.create_key, key, secret_hash)
        return key

    async def find_key(self, project_id: str, secret_hash: str) -> Key | None:
        """Return the project's key with this secret, expired or not."""
        self._look_for_changes()
        known = self._keys.get((project_id, secret_hash))
        if known is None:
            row = self._db.execute(SQL["find_key"], (project_id, secret_hash)).fetchone()
            if row is None:
                return None
            known = self._keys[project_id, secret_hash] = rows.key(row)
        return known

    async def list_keys(self, project_id: str) -> list[Key]:
        """Raises ``ProjectNotFound``."""
        await self.get_project(project_id)
        return [rows.key(row) for row in self._db.execute(SQL["list_keys"], (project_id,)).fetchall()]

    async def revoke_key(self, project_id: str, key_id: str) -> bool:
        """Remove a key; return whether there was one."""
        return await self._writer.write(changes.revoke_key, project_id, key_id)

    # -- functions --------------------------------------------------------------------------------------

    async def create_function(self, project_id: str, function: Function) -> Function:
        """Raises ``ProjectNotFound``, ``FunctionAlreadyExists``."""
        self._announce_triggered(await self._writer.write(changes.create_function, project_id, function))
        return function

    async def get_function(self, project_id: str, function_id: str) -> Function:
        """Raises ``FunctionNotFound``."""
        row = self._db.execute(SQL["get_function"], (project_id, function_id)).fetchone()
        if row is None:
            raise FunctionNotFound
        return rows.function(row)

    async def get_active(self, project_id: str, function_id: str) -> Active:
        """Raises ``FunctionNotFound``."""
        self._look_for_changes()
        known = self._active.get((project_id, function_id))
        if known is None:
            row = self._db.execute(SQL["get_active"], (project_id, function_id)).fetchone()
            if row is None:
                raise FunctionNotFound
            deployment = row[rows.FUNCTION :]
            known = self._active[project_id, function_id] = Active(
                function=rows.function(row),
                deployment=rows.optional_deployment(deployment),
                build_status=deployment[rows.BUILD_STATUS],
                output=row[-1] or "",
            )
        return known

    def _look_for_changes(self) -> None:
        """Forget what every execution asks for when another connection has changed anything.

        The loop's own commits are of executions only, so that what is known stays true while nobody else writes.
        """
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version or len(self._keys) + len(self._active) > KNOWN:
            self._version = version
            self._keys.clear()
            self._active.clear()

    async def list_functions(self, project_id: str, page: Page) -> FunctionList:
        """Raises ``GeneralCursorNotFound``."""
        return await asyncio.get_running_loop().run_in_executor(
            self._lists, lists.list_functions, self._lists_db, project_id, page
        )

    async def update_function(self, project_id: str, function: Function, now: float) -> Function:
        """Raises ``FunctionNotFound``."""
        updated, triggered = await self._writer.write(changes.update_function, project_id, function, now)
        self._announce_triggered(triggered)
        return updated

    async def activate_deployment(self, project_id: str, function_id: str, deployment_id: str, now: float) -> Function:
        """Raises ``FunctionNotFound``, ``DeploymentNotFound``, ``BuildNotFound``, ``BuildNotReady``."""
        activated, triggered = await self._writer.write(
            changes.activate_deployment, project_id, function_id, deployment_id, now
        )
        self._announce_triggered(triggered)
        return activated

    async def delete_function(self, project_id: str, function_id: str, now: float) -> list[str]:
        """Return the digests that no deployment uses any more. Raises ``FunctionNotFound``."""
        digests, left, triggered = await self._writer.write(
            changes.delete_function, project_id, function_id, PIECE, now
        )
        self._announce_triggered(triggered)
        if left and self._deleting.done() and not self._closing:
            self._deleting = asyncio.create_task(self._delete_leftovers())
        return digests

    async def _delete_leftovers(self) -> None:
        try:
            while self._db.execute(SQL["next_deleted_function"]).fetchone()[0] is not None:
                await self._writer.write(changes.delete_leftovers, PIECE)
        except sqlite3.Error:
            log.exception("some executions of deleted functions are left over; the next start deletes them")

    # -- deployments and builds -------------------------------------------------------------------------

    async def create_deployment(self, project_id: str, deployment: Deployment) -> Deployment:
        """Raises ``FunctionNotFound``."""
        created, triggered = await self._writer.write(changes.create_deployment, project_id, deployment, durable=True)
        self._announce_triggered(triggered)
        return created

    async def begin_upload(self, project_id: str, deployment: Deployment) -> Deployment:
        """Raises ``FunctionNotFound``, ``DeploymentNotFound``."""
        return await self._writer.write(changes.begin_upload, project_id, deployment)

    async def note_chunks(
        self, project_id: str, function_id: str, deployment_id: str, *, uploaded: int, total: int, now: float
    ) -> Deployment:
        """Raises ``FunctionNotFound``, ``DeploymentNotFound``."""
        return await self._writer.write(
            changes.note_chunks, project_id, function_id, deployment_id, uploaded, total, now
        )

    async def complete_deployment(
        self, project_id: str, function_id: str, deployment_id: str, *, digest: str, size: int, now: float
    ) -> Deployment:
        """Raises ``FunctionNotFound``, ``DeploymentNotFound``."""
        completed, triggered = await self._writer.write(
            changes.complete_deployment, project_id, function_id, deployment_id, digest, size, now, durable=True
        )
        self._announce_triggered(triggered)
        return completed

    async def expire_uploads(self, older_than: float) -> list[tuple[str, str, str]]:
        """Return project, function and id of the deployments whose upload was given up."""
        return await self._writer.write(changes.expire_uploads, older_than)

    async def get_deployment(self, project_id: str, function_id: str, deployment_id: str) -> Deployment:
        """Raises ``DeploymentNotFound``."""
        row = self._db.execute(SQL["get_deployment"], (project_id, function_id, deployment_id)).fetchone()
        if row is None:
            raise DeploymentNotFound
        return rows.deployment(row, *row[rows.DEPLOYMENT :])

    async def list_deployments(self, project_id: str, function_id: str, page: Page) -> DeploymentList:
        """Raises ``GeneralCursorNotFound``."""
        return await asyncio.get_running_loop().run_in_executor(
            self._lists, lists.list_deployments, self._lists_db, project_id, function_id, page
        )

    async def delete_deployment(self, project_id: str, function_id: str, deployment_id: str, now: float) -> list[str]:
        """Return the digests that no deployment uses any more. Raises ``DeploymentNotFound``."""
        digests, triggered = await self._writer.write(
            changes.delete_deployment, project_id, function_id, deployment_id, now
        )
        self._announce_triggered(triggered)
        return digests

    async def claim_build(self, owner: str, lease_until: float, now: float) -> BuildClaim | None:
        """Take the oldest deployment that waits for its build, or whose builder's lease ran out."""
        claim, triggered = await self._writer.write(changes.claim_build, owner, lease_until, now)
        self._announce_triggered(triggered)
        return claim

    async def append_build_log(self, build_id: str, owner: str, stdout: str, stderr: str) -> bool:
        """Return whether the build is still this owner's."""
        return await self._writer.write(changes.append_build_log, build_id, owner, stdout, stderr)

    async def finish_build(
        self, build_id: str, owner: str, status: Literal["ready", "failed"], *, stderr: str, output: str, now: float
    ) -> bool:
        """Return whether the build was still this owner's."""
        return await self._writer.write(changes.finish_build, build_id, owner, status, stderr, output, now)

    async def retry_build(
        self, project_id: str, function_id: str, deployment_id: str, build_id: str, now: float
    ) -> None:
        """Raises ``FunctionNotFound``, ``DeploymentNotFound``, ``BuildNotFound``, ``BuildInProgress``."""
        triggered = await self._writer.write(
            changes.retry_build, project_id, function_id, deployment_id, build_id, now, durable=True
        )
        self._announce_triggered(triggered)

    # -- executions -------------------------------------------------------------------------------------

    async def create_execution(
        self,
        accepted: Acceptance,
        *,
        owner: str | None = None,
        lease_until: float = 0.0,
        idempotency: Idempotency | None = None,
    ) -> Execution:
        """Raises ``FunctionNotFound``, ``ExecutionAlreadyExists``."""
        execution, triggered = await self._writer.write(
            execution_changes.create_execution,
            accepted,
            owner or "",
            lease_until,
            idempotency,
            durable=owner is None,
            brief=True,
        )
        if execution.id == accepted.execution.id:
            self._announce(accepted.project_id, execution, "create", "" if accepted.synchronous else "create")
        self._announce_triggered(triggered)
        return execution

    async def record_execution(self, accepted: Acceptance, outcome: Outcome, *, ended: float) -> Execution:
        """Raises ``FunctionNotFound``."""
        recorded = await self._write_outcome(outcome, execution_changes.record_execution, accepted, outcome, ended)
        return self._announce_ended(recorded, "create")

    async def claim_executions(
        self, owner: str, limit: int, concurrency: int, lease_until: float, now: float
    ) -> list[ExecutionClaim]:
        """Take up to ``limit`` waiting executions, oldest first."""
        claims = await self._writer.write(
            execution_changes.claim_executions, owner, limit, concurrency, lease_until, now
        )
        for claim in claims:
            self._announce(claim.accepted.project_id, claim.accepted.execution, "update")
        return claims

    async def release_execution(self, execution_id: str, owner: str, now: float) -> bool:
        """Return whether it was this owner's."""
        released = await self._writer.write(execution_changes.release_execution, execution_id, owner, now)
        if released is not None:
            self._announce(*released, "update")
        return released is not None

    async def renew_leases(self, owner: str, lease_until: float) -> None:
        """Prolong the leases of what this owner works on."""
        await self._writer.write(execution_changes.renew_leases, owner, lease_until)

    async def expire_leases(self, now: float) -> int:
        """End what a dead owner left; return how many rows changed. An infinite ``now`` expires every lease."""
        changed, expired = await self._writer.write(execution_changes.expire_leases, now, self._event_depth)
        for ended in expired:
            self._announce_ended(ended)
        return changed

    async def finish_execution(self, execution_id: str, owner: str, outcome: Outcome, now: float) -> Execution | None:
        """Return None when the execution is not this owner's any more."""
        ended = await self._write_outcome(
            outcome,
            execution_changes.finish_execution,
            execution_id,
            owner,
            outcome,
            now,
            self._event_depth,
        )
        return None if ended is None else self._announce_ended(ended)

    async def _write_outcome(
        self,
        outcome: Outcome,
        change: Callable[[sqlite3.Connection, float, *Arguments], T],
        *arguments: *Arguments,
    ) -> T:
        """Have an outcome recorded, at once if that and what it triggers takes no time."""
        if len(outcome.response) + len(outcome.stdout) + len(outcome.stderr) < SMALL:
            try:
                return await self._writer.write(change, SMALL, *arguments, brief=True)
            except TooMuch:  # the thread has time for it
                pass
        return await self._writer.write(change, math.inf, *arguments)

    async def cancel_execution(
        self, project_id: str, function_id: str, execution_id: str, reason: str, now: float
    ) -> Execution:
        """Raises ``FunctionNotFound``, ``ExecutionNotFound``, ``ExecutionEnded``."""
        return self._announce_ended(
            await self._writer.write(
                execution_changes.cancel_execution,
                project_id,
                function_id,
                execution_id,
                reason,
                now,
                self._event_depth,
            )
        )

    async def delete_execution(self, project_id: str, function_id: str, execution_id: str) -> None:
        """Raises ``FunctionNotFound``, ``ExecutionNotFound``, ``ExecutionInProgress``."""
        deleted = await self._writer.write(execution_changes.delete_execution, project_id, function_id, execution_id)
        self._announce(project_id, deleted, "delete")

    async def count_waiting(self) -> int:
        """Return how many executions wait for a claim."""
        waiting: int = self._db.execute(SQL["count_waiting"]).fetchone()[0]
        return waiting

    async def get_execution(self, project_id: str, function_id: str, execution_id: str) -> Execution:
        """Raises ``ExecutionNotFound``."""
        row = self._db.execute(SQL["get_execution"], (project_id, function_id, execution_id)).fetchone()
        if row is None:
            raise ExecutionNotFound
        return rows.execution(row)

    async def list_executions(
        self, project_id: str, function_id: str, page: Page, reader: str | None = None
    ) -> ExecutionList:
        """Raises ``GeneralCursorNotFound``."""
        return await asyncio.get_running_loop().run_in_executor(
            self._lists, lists.list_executions, self._lists_db, project_id, function_id, page, reader
        )

    async def delete_executions(self, older_than: float) -> int:
        """Delete finished executions created before; return how many."""
        deleted = 0
        while piece := await self._writer.write(execution_changes.delete_executions, older_than, PIECE):
            deleted += piece
        return deleted

    async def delete_idempotency_keys(self, now: float) -> None:
        """Delete those that count no more."""
        await self._writer.write(execution_changes.delete_idempotency_keys, now)

    # -- events and usage -------------------------------------------------------------------------------

    async def emit_event(self, project_id: str, event: str, payload: Any, user_id: str, now: float) -> int:
        """Raises ``ProjectNotFound``."""
        triggered = await self._writer.write(
            execution_changes.emit_event, project_id, event, payload, user_id, now, durable=True
        )
        self._announce_triggered(triggered)
        return len(triggered)

    async def add_usage(self, counts: Sequence[UsageCount]) -> None:
        """Add to the counts of functions that are there."""
        await self._writer.write(execution_changes.add_usage, counts)

    async def get_usage(self, project_id: str, function_id: str, since: int) -> list[UsageCount]:
        """Raises ``FunctionNotFound``."""
        await self.get_function(project_id, function_id)
        found = self._db.execute(SQL["get_usage"], (project_id, function_id, since)).fetchall()
        return [UsageCount(project_id, function_id, *row) for row in found]

    async def delete_usage(self, older_than: int) -> None:
        """Delete counts of half hours that began before."""
        await self._writer.write(execution_changes.delete_usage, older_than)

    # -- schedules --------------------------------------------------------------------------------------

    async def due_schedules(self, now: float, limit: int) -> list[DueSchedule]:
        """Return functions whose next scheduled time is not after ``now``, the earliest first."""
        found = self._db.execute(SQL["due_schedules"], (now, limit)).fetchall()
        return [DueSchedule(project_id=row[-1], function=rows.function(row)) for row in found]

    async def next_schedule(self) -> int:
        """Return the earliest next scheduled time of all functions; 0 when there is none."""
        earliest: int = self._db.execute(SQL["next_schedule"]).fetchone()[0]
        return earliest

    async def fire_schedule(self, due: DueSchedule, accepted: Acceptance | None, next_tick: int, now: float) -> bool:
        """Return whether the tick was still there."""
        fired = await self._writer.write(execution_changes.fire_schedule, due, accepted, next_tick, now, durable=True)
        if fired and accepted is not None:
            self._announce(accepted.project_id, accepted.execution, "create")
        return fired

    # -- saying what has changed ------------------------------------------------------------------------

    def _announce(
        self,
        project_id: str,
        execution: Execution,
        action: Literal["create", "update", "delete"],
        event: Literal["", "create", "update"] = "",
    ) -> None:
        change = ExecutionChange(project_id=project_id, execution=execution, action=action, event=event)
        for on_change in self._listeners:
            on_change(change)

    def _announce_ended(self, ended: Ended, action: Literal["create", "update"] = "update") -> Execution:
        event: Literal["create", "update"] = "create" if ended.synchronous else "update"
        self._announce(ended.project_id, ended.execution, action, event)
        self._announce_triggered(ended.triggered)
        return ended.execution

    def _announce_triggered(self, triggered: Triggered) -> None:
        for accepted in triggered:
            if accepted.execution.status == "failed":
                self._warn(accepted)
            self._announce(accepted.project_id, accepted.execution, "create")

    def _warn(self, refused: Acceptance) -> None:
        """Say that a function is not called for an event; the same function not again within a minute."""
        execution = refused.execution
        key = (refused.project_id, execution.function_id)
        if refused.created - self._warned.get(key, -math.inf) < WARNING_PAUSE:
            return
        if len(self._warned) >= WARNINGS:
            self._warned.clear()
        self._warned[key] = refused.created
        log.warning("function %s of project %s is not called: %s", key[1], key[0], execution.stderr)
