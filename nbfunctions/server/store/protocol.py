"""The questions the server asks its store: one protocol, one contract test, one file of SQL a database.

Methods that change rows return after their commit. ``durable`` changes survive a power cut (the accepted
asynchronous execution, the deployment, the schedule tick); the others survive the death of the process.
Times (``now``, ``lease_until``) are seconds since the epoch with fractions and always given by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from nbfunctions.executor.executor import Outcome
from nbfunctions.models import (
    Build,
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

__all__ = ["BuildClaim", "ExecutionClaim", "Page", "Store"]


class Page(msgspec.Struct, kw_only=True, frozen=True):
    """Which part of a list (spec, section 1.2)."""

    search: str = ""
    limit: int = 25
    offset: int = 0
    cursor: str = ""
    direction: Literal["after", "before"] = "after"
    order: Literal["ASC", "DESC"] = "ASC"


class BuildClaim(msgspec.Struct, kw_only=True, frozen=True):
    """A build that this owner may work on until the lease ends."""

    project_id: str
    build_id: str
    function: Function
    deployment: Deployment


class ExecutionClaim(msgspec.Struct, kw_only=True, frozen=True):
    """An execution that this owner may run until the lease ends."""

    project_id: str
    execution: Execution
    data: str
    user_id: str
    event: str
    event_data: str
    created: float
    """When it was accepted, with fractions of a second."""


class Store(Protocol):
    """Where projects, keys, functions, deployments, builds and executions live."""

    async def open(self) -> None:
        """Connect and migrate; raises :class:`~nbfunctions.errors.DataDirectoryBusy` or ``SettingInvalid``."""
        ...

    async def close(self) -> None:
        """Commit what is under way and let go."""
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
        """Raises ``FunctionAlreadyExists``."""
        ...

    async def get_function(self, project_id: str, function_id: str) -> Function:
        """Raises ``FunctionNotFound``."""
        ...

    async def list_functions(self, project_id: str, page: Page) -> FunctionList:
        """Raises ``GeneralCursorNotFound``."""
        ...

    async def update_function(self, project_id: str, function: Function) -> Function:
        """Replace the settings: name, execute, vars, events, schedule and what depends on it, timeout, additions.

        The active deployment and the date of creation stay as they are. Raises ``FunctionNotFound``.
        """
        ...

    async def activate_deployment(self, project_id: str, function_id: str, deployment_id: str, now: float) -> Function:
        """Make a ready deployment the active one, at once. Raises ``FunctionNotFound``, ``DeploymentNotFound``,
        ``BuildNotFound``, ``BuildNotReady`` (in this order; spec, section 6.2)."""
        ...

    async def delete_function(self, project_id: str, function_id: str) -> list[str]:
        """Delete it with its deployments, builds and executions; return the digests that no deployment uses
        any more. Raises ``FunctionNotFound``."""
        ...

    # -- deployments and builds -------------------------------------------------------------------------

    async def create_deployment(self, project_id: str, deployment: Deployment) -> Deployment:
        """Durable. ``activate`` clears the flag of the function's other deployments. Raises ``FunctionNotFound``."""
        ...

    async def get_deployment(self, project_id: str, function_id: str, deployment_id: str) -> Deployment:
        """Raises ``DeploymentNotFound``, also when it belongs to another function."""
        ...

    async def list_deployments(self, project_id: str, function_id: str, page: Page) -> DeploymentList:
        """Raises ``GeneralCursorNotFound`` (word ``Tag``)."""
        ...

    async def delete_deployment(self, project_id: str, function_id: str, deployment_id: str) -> list[str]:
        """Delete it and its build; the function loses it as active deployment, executions stay. Return the digests
        that no deployment uses any more. Raises ``DeploymentNotFound``."""
        ...

    async def claim_build(self, owner: str, lease_until: float, now: float) -> BuildClaim | None:
        """Take the oldest deployment that waits for its build, or whose builder's lease ran out."""
        ...

    async def append_build_log(self, build_id: str, owner: str, stdout: str, stderr: str) -> None:
        """Add to a running build's log, up to ``OUTPUT_LIMIT`` bytes each."""
        ...

    async def finish_build(self, build: Build, owner: str, output: str, now: float) -> bool:
        """Record ``ready`` or ``failed``; a ready build whose deployment says ``activate`` becomes active in the
        same commit. Return False, changing nothing, when the build is not this owner's any more."""
        ...

    async def retry_build(self, project_id: str, function_id: str, deployment_id: str, build_id: str) -> None:
        """Send a failed build on again (spec, section 6.3). Raises ``FunctionNotFound``, ``DeploymentNotFound``,
        ``BuildNotFound``, ``BuildInProgress``."""
        ...

    async def get_build(self, project_id: str, deployment_id: str) -> tuple[BuildStatus, str] | None:
        """Return the status and output of a deployment's build, or None before it began."""
        ...

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
        """Accept an execution. With an ``owner`` it is claimed in the same commit (the synchronous call's short cut);
        without one it waits for a claim and the commit is durable."""
        ...

    async def claim_executions(self, owner: str, limit: int, lease_until: float, now: float) -> list[ExecutionClaim]:
        """Take up to ``limit`` waiting executions, oldest first; their status becomes ``processing``."""
        ...

    async def renew_executions(self, owner: str, ids: Sequence[str], lease_until: float) -> None:
        """Prolong the lease of executions that still run."""
        ...

    async def expire_executions(self, now: float) -> int:
        """End executions whose owner's lease ran out as ``failed``, layer ``platform``, with a sentence that says so;
        return how many."""
        ...

    async def finish_execution(self, execution_id: str, owner: str, outcome: Outcome, now: float) -> Execution | None:
        """Record the one result. Return None, changing nothing, when the execution is not this owner's any more."""
        ...

    async def get_execution(self, project_id: str, function_id: str, execution_id: str) -> Execution:
        """Raises ``ExecutionNotFound``, also when it belongs to another function."""
        ...

    async def list_executions(
        self, project_id: str, function_id: str, page: Page, roles: Sequence[str] | None = None
    ) -> ExecutionList:
        """Return executions newest first; ``roles`` limits them to those whose ``$read`` names one of them.
        Raises ``GeneralCursorNotFound``."""
        ...

    async def delete_executions(self, older_than: float) -> int:
        """Delete finished executions created before; return how many."""
        ...
