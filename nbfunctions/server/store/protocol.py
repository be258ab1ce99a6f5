"""The questions the server asks its store: one protocol, one contract test, one file of SQL a database.

Methods that change rows return after their commit. ``durable`` changes survive a power cut (the accepted
asynchronous execution, the deployment, the schedule tick); the others survive the death of the process.
Any method can raise :class:`StoreFailed`. Times (``now``, ``lease_until``) are seconds since the epoch with fractions
and always given by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from nbfunctions.executor.executor import Outcome
from nbfunctions.models import (
    BuildStatus,
    Deployment,
    DeploymentList,
    Execution,
    ExecutionList,
    Function,
    FunctionList,
    Key,
    Project,
)

__all__ = [
    "Acceptance",
    "Active",
    "BuildClaim",
    "DueSchedule",
    "ExecutionChange",
    "ExecutionClaim",
    "Idempotency",
    "OnChange",
    "Page",
    "Store",
    "StoreFailed",
    "UsageCount",
    "finished",
]


class Page(msgspec.Struct, kw_only=True, frozen=True):
    """Which part of a list (spec, section 1.2)."""

    search: str = ""
    limit: int = 25
    offset: int = 0
    cursor: str = ""
    direction: Literal["after", "before"] = "after"
    order: Literal["ASC", "DESC"] = "ASC"


class Active(msgspec.Struct, kw_only=True, frozen=True):
    """A function and what an execution of it would run: one question, asked by every execution."""

    function: Function
    deployment: Deployment | None
    """The active one, without its build's log; None when there is none."""
    build_status: BuildStatus | None
    """Status of the active deployment's build; None before a build was begun."""
    output: str
    """What the executor's ``prepare`` returned for it; empty until it is ready."""


class BuildClaim(msgspec.Struct, kw_only=True, frozen=True):
    """A build that this owner may work on until the lease ends."""

    project_id: str
    build_id: str
    function: Function
    deployment: Deployment


class Idempotency(msgspec.Struct, frozen=True):
    """What makes a request the same as an earlier one."""

    caller: str
    """Who asks: keys of others are not seen."""
    key: str
    digest: str
    """Of everything that the request asked for."""


class Acceptance(msgspec.Struct, kw_only=True, frozen=True):
    """An execution as it is accepted, with what only the server keeps of it."""

    project_id: str
    execution: Execution
    created: float
    """When it was accepted, with fractions of a second."""
    data: str = ""
    user_id: str = ""
    """The user who asked for it, or caused the event that triggered it."""
    event: str = ""
    event_data: str = ""
    depth: int = 0
    """How many executions came before it in its chain of events."""
    synchronous: bool = False
    """Whether its caller waits for its end."""


class ExecutionClaim(msgspec.Struct, kw_only=True, frozen=True):
    """An execution that this owner may run until the lease ends, and what it takes to run it."""

    accepted: Acceptance
    function: Function
    deployment: Deployment | None
    """The one that was active when the execution was accepted; None when it was deleted since."""
    output: str


class ExecutionChange(msgspec.Struct, kw_only=True, frozen=True):
    """What became of an execution, told after the commit."""

    project_id: str
    execution: Execution
    """As it is now; as it was last, if it was deleted."""
    action: Literal["create", "update", "delete"]
    event: Literal["", "create", "update"] = ""
    """The contract's event for it, if there is one: a synchronous execution that ends is its ``create`` (spec, sections
    7.1 and 9.5)."""


OnChange = Callable[[ExecutionChange], None]


class UsageCount(msgspec.Struct, frozen=True):
    """What a function did in half an hour (spec, section 2.7)."""

    project_id: str
    function_id: str
    start: int
    """Begin of the half hour, in seconds since the epoch."""
    executions: int
    failures: int
    compute: float
    """Seconds inside the runtime."""


class DueSchedule(msgspec.Struct, kw_only=True, frozen=True):
    """A function whose scheduled time has come."""

    project_id: str
    function: Function
    """``function.schedule_next`` is the tick."""


class StoreFailed(OSError):
    """Rows can't be written or read: the disk is full or broken, or another process holds the database."""


def finished(execution: Execution, outcome: Outcome, updated_at: int) -> Execution:
    """Return an execution as it is once its outcome is recorded."""
    return Execution(
        id=execution.id,
        created_at=execution.created_at,
        updated_at=updated_at,
        read=execution.read,
        function_id=execution.function_id,
        trigger=execution.trigger,
        status=outcome.status,
        status_code=outcome.status_code,
        response=outcome.response,
        stderr=outcome.stderr,
        time=outcome.time,
        deployment_id=execution.deployment_id,
        stdout=outcome.stdout,
        response_type=outcome.response_type,
        layer=outcome.layer,
        cold=outcome.cold,
        queued=outcome.queued,
    )


class Store(Protocol):
    """Where projects, keys, functions, deployments, builds and executions live."""

    async def open(self) -> None:
        """Connect and migrate; raises :class:`~nbfunctions.errors.SettingInvalid` when the place can't be used.

        Any number of processes may have it open.
        """
        ...

    async def close(self) -> None:
        """Commit what is under way and let go."""
        ...

    def listen(self, on_change: OnChange) -> None:
        """Have ``on_change`` called, in the event loop and in order, for every change of an execution once it is
        committed: accepted, claimed, given back, finished, deleted."""
        ...

    # -- projects and keys ------------------------------------------------------------------------------

    async def create_project(self, project: Project) -> Project:
        """Raises ``ProjectAlreadyExists``."""
        ...

    async def get_project(self, project_id: str) -> Project:
        """Raises ``ProjectNotFound``."""
        ...

    async def list_projects(self) -> list[Project]:
        """Return all projects, oldest first."""
        ...

    async def get_token_secret(self, project_id: str) -> str:
        """Return what signs the tokens of the project's users, made with the project. Raises ``ProjectNotFound``."""
        ...

    async def create_key(self, key: Key, secret_hash: str) -> Key:
        """Keep a key; ``secret_hash`` is the SHA-256 of its secret in hex. Raises ``ProjectNotFound``."""
        ...

    async def find_key(self, project_id: str, secret_hash: str) -> Key | None:
        """Return the project's key with this secret, expired or not."""
        ...

    async def list_keys(self, project_id: str) -> list[Key]:
        """Return the project's keys, oldest first. Raises ``ProjectNotFound``."""
        ...

    async def revoke_key(self, project_id: str, key_id: str) -> bool:
        """Remove a key; return whether there was one. Counts from the next request on."""
        ...

    # -- functions --------------------------------------------------------------------------------------

    async def create_function(self, project_id: str, function: Function) -> Function:
        """Raises ``ProjectNotFound``, ``FunctionAlreadyExists``."""
        ...

    async def get_function(self, project_id: str, function_id: str) -> Function:
        """Raises ``FunctionNotFound``."""
        ...

    async def get_active(self, project_id: str, function_id: str) -> Active:
        """Return what an execution needs, read in one question. Raises ``FunctionNotFound``."""
        ...

    async def list_functions(self, project_id: str, page: Page) -> FunctionList:
        """Raises ``GeneralCursorNotFound``."""
        ...

    async def update_function(self, project_id: str, function: Function, now: float) -> Function:
        """Replace the settings: name, execute, vars, events, schedule, timeout, additions.

        The active deployment and the date of creation stay as they are. ``schedule_next`` is the first time after
        ``now`` when a schedule and an active deployment are there, else 0. Raises ``FunctionNotFound``.
        """
        ...

    async def activate_deployment(self, project_id: str, function_id: str, deployment_id: str, now: float) -> Function:
        """Make a ready deployment the active one, at once; a schedule has its next time from ``now`` on.

        Raises ``FunctionNotFound``, ``DeploymentNotFound``, ``BuildNotFound``, ``BuildNotReady`` (in this order; spec,
        section 6.2).
        """
        ...

    async def delete_function(self, project_id: str, function_id: str, now: float) -> list[str]:
        """Delete it with its deployments, builds and executions; return the digests that no deployment uses
        any more. Raises ``FunctionNotFound``."""
        ...

    # -- deployments and builds -------------------------------------------------------------------------

    async def create_deployment(self, project_id: str, deployment: Deployment) -> Deployment:
        """Durable. With a ``digest`` it waits for its build, and ``activate`` clears the flag of the function's other
        deployments; without one its upload is not complete yet. An id that the function has already is returned as it
        stands: two first chunks of one upload may come at once. Raises ``FunctionNotFound``."""
        ...

    async def complete_deployment(
        self, project_id: str, function_id: str, deployment_id: str, *, digest: str, size: int, now: float
    ) -> Deployment:
        """The last chunk of an upload has come: from now on it waits for its build, as in :meth:`create_deployment`.

        Durable. Completing it again changes nothing. Raises ``FunctionNotFound``, ``DeploymentNotFound``.
        """
        ...

    async def expire_uploads(self, older_than: float) -> list[tuple[str, str, str]]:
        """Delete deployments whose upload was begun before and never completed; return their project, function
        and id."""
        ...

    async def begin_upload(self, project_id: str, deployment: Deployment) -> Deployment:
        """Return the deployment of an upload in chunks, made if it isn't there. Raises ``FunctionNotFound``, and
        ``DeploymentNotFound`` when the id is one of another function of the project."""
        ...

    async def note_chunks(
        self, project_id: str, function_id: str, deployment_id: str, *, uploaded: int, total: int, now: float
    ) -> Deployment:
        """Record how many chunks of an upload have come. Raises ``DeploymentNotFound``."""
        ...

    async def get_deployment(self, project_id: str, function_id: str, deployment_id: str) -> Deployment:
        """Raises ``DeploymentNotFound``, also when it belongs to another function."""
        ...

    async def list_deployments(self, project_id: str, function_id: str, page: Page) -> DeploymentList:
        """Raises ``GeneralCursorNotFound`` (word ``Tag``)."""
        ...

    async def delete_deployment(self, project_id: str, function_id: str, deployment_id: str, now: float) -> list[str]:
        """Delete it and its build; the function loses it as active deployment, executions stay. Return the digests
        that no deployment uses any more. Raises ``DeploymentNotFound``."""
        ...

    async def claim_build(self, owner: str, lease_until: float, now: float) -> BuildClaim | None:
        """Take the oldest deployment that waits for its build, or whose builder's lease ran out."""
        ...

    async def append_build_log(self, build_id: str, owner: str, stdout: str, stderr: str) -> bool:
        """Add to a running build's log, up to ``OUTPUT_LIMIT`` bytes each (cut between two characters); False when
        the build is not this owner's any more."""
        ...

    async def finish_build(
        self, build_id: str, owner: str, status: Literal["ready", "failed"], *, stderr: str, output: str, now: float
    ) -> bool:
        """Record the end of a build and add ``stderr`` to its log.

        A ready build whose deployment says ``activate`` becomes active in the same commit, and a schedule gets its next
        time. Return False, changing nothing, when the build is not this owner's any more.
        """
        ...

    async def retry_build(
        self, project_id: str, function_id: str, deployment_id: str, build_id: str, now: float
    ) -> None:
        """Send a failed build on again under the same id, its log emptied (spec, section 6.3).

        Raises ``FunctionNotFound``, ``DeploymentNotFound``, ``BuildNotFound``, ``BuildInProgress`` (in this order).
        """
        ...

    # -- executions -------------------------------------------------------------------------------------

    async def create_execution(
        self,
        accepted: Acceptance,
        *,
        owner: str | None = None,
        lease_until: float = 0.0,
        idempotency: Idempotency | None = None,
    ) -> Execution:
        """Accept an execution. With an ``owner`` it is claimed in the same commit (the synchronous call's short cut)
        and its status is ``processing``; without one it waits for a claim and the commit is durable.

        An ``idempotency`` that was seen within a day, and whose execution is still there, makes no further one: the
        earlier one is returned as it is now, or ``ExecutionAlreadyExists`` raised when it had another digest.
        Raises ``FunctionNotFound`` when the function was deleted meanwhile.
        """
        ...

    async def record_execution(self, accepted: Acceptance, outcome: Outcome, *, ended: float) -> Execution:
        """Accept an execution and record its result, in one commit; return the finished record.

        The short cut of a synchronous execution that was over before anybody could have looked. Raises
        ``FunctionNotFound`` when the function was deleted meanwhile.
        """
        ...

    async def claim_executions(
        self, owner: str, limit: int, concurrency: int, lease_until: float, now: float
    ) -> list[ExecutionClaim]:
        """Take up to ``limit`` waiting executions, oldest first; their status becomes ``processing``.

        Of no function are there more of that status, whoever runs them, than its ``concurrency`` says, or
        ``concurrency`` where it says nothing: what can't run yet waits where everybody sees it.
        """
        ...

    async def release_execution(self, execution_id: str, owner: str, now: float) -> bool:
        """Give back a claimed execution whose function was never called: it waits again. Return False, changing
        nothing, when it is not this owner's any more."""
        ...

    async def renew_leases(self, owner: str, lease_until: float) -> None:
        """Prolong the leases of the executions and builds of this owner that are not finished."""
        ...

    async def expire_leases(self, now: float) -> int:
        """End what a dead owner left: executions whose lease ran out before ``now`` end as ``failed``, status code
        500, layer ``platform``, with a sentence in ``stderr`` that says so; builds go back to ``processing``, their
        log emptied, and can be claimed again. Return how many rows changed."""
        ...

    async def finish_execution(self, execution_id: str, owner: str, outcome: Outcome, now: float) -> Execution | None:
        """Record the one result. Return None, changing nothing, when the execution is not this owner's any more."""
        ...

    async def cancel_execution(
        self, project_id: str, function_id: str, execution_id: str, reason: str, now: float
    ) -> Execution:
        """End an execution that waits or runs: ``failed``, status code 500, layer ``cancelled``, ``reason`` in
        ``stderr``. Whoever runs it finds that it is theirs no more. Raises ``FunctionNotFound``, ``ExecutionNotFound``,
        ``ExecutionEnded``.
        """
        ...

    async def delete_execution(self, project_id: str, function_id: str, execution_id: str) -> None:
        """Raises ``FunctionNotFound``, ``ExecutionNotFound``, ``ExecutionInProgress``."""
        ...

    async def get_execution(self, project_id: str, function_id: str, execution_id: str) -> Execution:
        """Raises ``ExecutionNotFound``, also when it belongs to another function."""
        ...

    async def list_executions(
        self, project_id: str, function_id: str, page: Page, reader: str | None = None
    ) -> ExecutionList:
        """Return executions newest first; ``reader`` limits them to those whose ``$read`` is this one role.

        A search takes an execution's id for one lower-case word, as ``new_id`` makes it. Raises
        ``GeneralCursorNotFound``.
        """
        ...

    async def delete_executions(self, older_than: float) -> int:
        """Delete finished executions created before; return how many."""
        ...

    async def delete_idempotency_keys(self, now: float) -> None:
        """Delete the idempotency keys that count no more at ``now``."""
        ...

    # -- events and usage ---------------------------------------------------------------------------------

    async def emit_event(self, project_id: str, event: str, payload: Any, user_id: str, now: float) -> int:
        """Accept one execution of each function that listens to an event (spec, section 9.6); return how many.

        ``event`` has concrete ids, ``payload`` is what JSON can say. Durable. Events of this service need no
        such call: the commit of what causes one accepts its executions. Raises ``ProjectNotFound``.
        """
        ...

    async def add_usage(self, counts: Sequence[UsageCount]) -> None:
        """Add to the counts of functions; those of functions that are gone are dropped."""
        ...

    async def get_usage(self, project_id: str, function_id: str, since: int) -> list[UsageCount]:
        """Return a function's counts of the half hours from ``since`` on that have any, oldest first. Raises
        ``FunctionNotFound``."""
        ...

    async def delete_usage(self, older_than: int) -> None:
        """Delete counts of half hours that began before."""
        ...

    async def count_waiting(self) -> int:
        """Return how many executions wait for a claim."""
        ...

    # -- schedules --------------------------------------------------------------------------------------

    async def due_schedules(self, now: float, limit: int) -> list[DueSchedule]:
        """Return functions whose next scheduled time is not after ``now``, the earliest first."""
        ...

    async def next_schedule(self) -> int:
        """Return the earliest next scheduled time of all functions; 0 when there is none."""
        ...

    async def fire_schedule(self, due: DueSchedule, accepted: Acceptance | None, next_tick: int, now: float) -> bool:
        """Record a tick, durably and in one commit: ``schedule_previous`` becomes ``now``, ``schedule_next`` becomes
        ``next_tick``, and the execution (if given) is accepted. Return False, changing nothing, when the function's
        next time is not that tick any more: somebody else fired it, or its schedule was changed."""
        ...
