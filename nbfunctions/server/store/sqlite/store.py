"""The embedded store: one SQLite file, one thread that writes, and readers that never wait for it.

Questions about one row are answered in the event loop's thread, which takes some 10 microseconds; lists are read in a
thread of their own. Every read begins anew, so it sees each commit before it, other processes' as well.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal

import msgspec

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
from nbfunctions.server.store.protocol import Active, BuildClaim, DueSchedule, ExecutionClaim, Page, finished
from nbfunctions.server.store.sqlite import changes, database, lists, rows
from nbfunctions.server.store.sqlite.sql import SQL
from nbfunctions.server.store.sqlite.writer import Writer

__all__ = ["SqliteStore"]

PIECE: Final = 250
"""Executions deleted by one change, which takes some 4 ms, so that others get their turn."""

SMALL: Final = 65_536
"""Characters of an outcome that are written in no time."""

log = logging.getLogger("nbfunctions")


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

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

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

    async def create_key(self, key: Key, secret_hash: str) -> Key:
        """Raises ``ProjectNotFound``."""
        await self._writer.write(changes.create_key, key, secret_hash)
        return key

    async def find_key(self, project_id: str, secret_hash: str) -> Key | None:
        """Return the project's key with this secret, expired or not."""
        row = self._db.execute(SQL["find_key"], (project_id, secret_hash)).fetchone()
        return None if row is None else rows.key(row)

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
        await self._writer.write(changes.create_function, project_id, function)
        return function

    async def get_function(self, project_id: str, function_id: str) -> Function:
        """Raises ``FunctionNotFound``."""
        row = self._db.execute(SQL["get_function"], (project_id, function_id)).fetchone()
        if row is None:
            raise FunctionNotFound
        return rows.function(row)

    async def get_active(self, project_id: str, function_id: str) -> Active:
        """Raises ``FunctionNotFound``."""
        row = self._db.execute(SQL["get_active"], (project_id, function_id)).fetchone()
        if row is None:
            raise FunctionNotFound
        deployment = row[rows.FUNCTION :]
        return Active(
            function=rows.function(row),
            deployment=rows.optional_deployment(deployment),
            build_status=deployment[rows.BUILD_STATUS],
            output=row[-1] or "",
        )

    async def list_functions(self, project_id: str, page: Page) -> FunctionList:
        """Raises ``GeneralCursorNotFound``."""
        return await asyncio.get_running_loop().run_in_executor(
            self._lists, lists.list_functions, self._lists_db, project_id, page
        )

    async def update_function(self, project_id: str, function: Function, now: float) -> Function:
        """Raises ``FunctionNotFound``."""
        return await self._writer.write(changes.update_function, project_id, function, now)

    async def activate_deployment(self, project_id: str, function_id: str, deployment_id: str, now: float) -> Function:
        """Raises ``FunctionNotFound``, ``DeploymentNotFound``, ``BuildNotFound``, ``BuildNotReady``."""
        return await self._writer.write(changes.activate_deployment, project_id, function_id, deployment_id, now)

    async def delete_function(self, project_id: str, function_id: str) -> list[str]:
        """Return the digests that no deployment uses any more. Raises ``FunctionNotFound``."""
        digests, left = await self._writer.write(changes.delete_function, project_id, function_id, PIECE)
        if left and self._deleting.done():
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
        return await self._writer.write(changes.create_deployment, project_id, deployment, durable=True)

    async def complete_deployment(
        self, project_id: str, function_id: str, deployment_id: str, *, digest: str, size: int, now: float
    ) -> Deployment:
        """Raises ``FunctionNotFound``, ``DeploymentNotFound``."""
        return await self._writer.write(
            changes.complete_deployment, project_id, function_id, deployment_id, digest, size, now, durable=True
        )

    async def expire_uploads(self, older_than: float) -> list[str]:
        """Return the ids of the deployments whose upload was given up."""
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

    async def delete_deployment(self, project_id: str, function_id: str, deployment_id: str) -> list[str]:
        """Return the digests that no deployment uses any more. Raises ``DeploymentNotFound``."""
        return await self._writer.write(changes.delete_deployment, project_id, function_id, deployment_id)

    async def claim_build(self, owner: str, lease_until: float, now: float) -> BuildClaim | None:
        """Take the oldest deployment that waits for its build, or whose builder's lease ran out."""
        return await self._writer.write(changes.claim_build, owner, lease_until, now)

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
        await self._writer.write(
            changes.retry_build, project_id, function_id, deployment_id, build_id, now, durable=True
        )

    # -- executions -------------------------------------------------------------------------------------

    async def create_execution(
        self,
        project_id: str,
        execution: Execution,
        *,
        data: str,
        user_id: str = "",
        event: str = "",
        event_data: str = "",
        now: float,
        owner: str | None = None,
        lease_until: float = 0.0,
    ) -> Execution:
        """Raises ``FunctionNotFound``."""
        status: Literal["waiting", "processing"] = "waiting" if owner is None else "processing"
        values = changes.execution_values(
            project_id,
            execution,
            status,
            now,
            data=data,
            user_id=user_id,
            event=event,
            event_data=event_data,
            owner=owner or "",
            lease_until=lease_until,
        )
        await self._writer.write(changes.create_execution, values, durable=owner is None, brief=True)
        return execution if execution.status == status else msgspec.structs.replace(execution, status=status)

    async def record_execution(
        self,
        project_id: str,
        execution: Execution,
        outcome: Outcome,
        *,
        data: str,
        user_id: str = "",
        now: float,
        ended: float,
    ) -> Execution:
        """Raises ``FunctionNotFound``."""
        updated_at = int(ended)
        values = (
            execution.id,
            now,
            execution.created_at,
            updated_at,
            rows.encode(execution.read),
            execution.trigger,
            execution.deployment_id,
            user_id,
            data,
            *rows.outcome_values(outcome),
            project_id,
            execution.function_id,
        )
        await self._writer.write(changes.record_execution, values, brief=_is_small(outcome))
        return finished(execution, outcome, updated_at)

    async def claim_executions(
        self, owner: str, limit: int, concurrency: int, lease_until: float, now: float
    ) -> list[ExecutionClaim]:
        """Take up to ``limit`` waiting executions, oldest first."""
        return await self._writer.write(changes.claim_executions, owner, limit, concurrency, lease_until, now)

    async def release_execution(self, execution_id: str, owner: str, now: float) -> bool:
        """Return whether it was this owner's."""
        return await self._writer.write(changes.release_execution, execution_id, owner, now)

    async def renew_leases(self, owner: str, lease_until: float) -> None:
        """Prolong the leases of what this owner works on."""
        await self._writer.write(changes.renew_leases, owner, lease_until)

    async def expire_leases(self, now: float) -> int:
        """End what a dead owner left; return how many rows changed. An infinite ``now`` expires every lease."""
        return await self._writer.write(changes.expire_leases, now)

    async def finish_execution(self, execution_id: str, owner: str, outcome: Outcome, now: float) -> Execution | None:
        """Return None when the execution is not this owner's any more."""
        updated_at = int(now)
        found = await self._writer.write(
            changes.finish_execution,
            (*rows.outcome_values(outcome), updated_at, owner, execution_id),
            brief=_is_small(outcome),
        )
        if found is None:
            return None
        created_at, read, function_id, trigger, deployment_id = found
        execution = Execution(
            id=execution_id,
            created_at=created_at,
            read=rows.texts(read),
            function_id=function_id,
            trigger=trigger,
            deployment_id=deployment_id,
        )
        return finished(execution, outcome, updated_at)

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
        while piece := await self._writer.write(changes.delete_executions, older_than, PIECE):
            deleted += piece
        return deleted

    # -- schedules --------------------------------------------------------------------------------------

    async def due_schedules(self, now: float, limit: int) -> list[DueSchedule]:
        """Return functions whose next scheduled time is not after ``now``, the earliest first."""
        found = self._db.execute(SQL["due_schedules"], (now, limit)).fetchall()
        return [DueSchedule(project_id=row[-1], function=rows.function(row)) for row in found]

    async def next_schedule(self) -> int:
        """Return the earliest next scheduled time of all functions; 0 when there is none."""
        earliest: int = self._db.execute(SQL["next_schedule"]).fetchone()[0]
        return earliest

    async def fire_schedule(self, due: DueSchedule, execution: Execution | None, next_tick: int, now: float) -> bool:
        """Return whether the tick was still there."""
        values = None
        if execution is not None:
            values = changes.execution_values(due.project_id, execution, "waiting", now)
        return await self._writer.write(changes.fire_schedule, due, values, next_tick, now, durable=True)


def _is_small(outcome: Outcome) -> bool:
    return len(outcome.response) + len(outcome.stdout) + len(outcome.stderr) < SMALL
