"""The executor's interface: :meth:`Executor.prepare` a deployment once, :meth:`Executor.run` calls of it.

The server knows nothing else of sandboxes, instances and runtimes. Nothing here knows of rows, keys or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from nbfunctions.models import Layer, ResponseType, Runtime

__all__ = ["BuildOrder", "Call", "Executor", "Log", "Outcome"]

Log = Callable[[Literal["stdout", "stderr"], str], None]
"""Takes a piece of a build's log as soon as it is there."""


class BuildOrder(msgspec.Struct, kw_only=True, frozen=True):
    """What a build starts from."""

    archive: Path
    """The uploaded ``.tar.gz`` on this machine."""
    digest: str
    """SHA-256 of the archive in hex: names its unpacked code."""
    runtime: str
    """Key of the runtime, as ``python-3.11``."""
    entrypoint: str
    """File to load, relative to the archive's root; ``file.py:name`` names the function in it."""


class Call(msgspec.Struct, kw_only=True, frozen=True):
    """One run of a prepared deployment."""

    execution_id: str
    function_id: str
    deployment_id: str
    digest: str
    runtime: str
    entrypoint: str
    output: str
    """What :meth:`Executor.prepare` returned for this deployment."""
    variables: Mapping[str, str]
    """The function's own variables: process environment and ``req.env``."""
    context: Mapping[str, str]
    """The ``APPWRITE_FUNCTION_*`` values of this call (spec, section 7.2)."""
    data: str
    headers: Mapping[str, str]
    timeout: float
    """Seconds the call may take, cold start not counted."""
    memory: int
    """Memory limit of the instance in MB."""
    concurrency: int
    """Instances of this deployment that may run at once."""


class Outcome(msgspec.Struct, kw_only=True, frozen=True):
    """How a call ended (spec, section 7.4)."""

    status: Literal["completed", "failed"]
    status_code: int
    response: str = ""
    response_type: ResponseType = "text"
    stdout: str = ""
    stderr: str = ""
    layer: Layer = ""
    time: float = 0.0
    """Seconds inside the runtime."""
    queued: float = 0.0
    """Seconds between :meth:`Executor.run` and the start of the call, cold start included."""
    cold: bool = False
    called: bool = True
    """False when the executor stopped before it called the function: the call can be made again."""


class Executor(Protocol):
    """Prepares deployments and runs them, somewhere."""

    @property
    def runtimes(self) -> Mapping[str, Runtime]:
        """The runtimes that can be used here, by key, in the order in which they are listed."""
        ...

    async def start(self) -> None:
        """Prove the sandbox by a self-test; raises :class:`~nbfunctions.errors.SandboxUnavailable`."""
        ...

    async def prepare(self, order: BuildOrder, log: Log) -> str:
        """Unpack the code and install its dependencies; return what :meth:`run` needs to find them again.

        Doing it again for the same order is cheap and gives the same answer. Raises
        :class:`~nbfunctions.errors.BuildFailed` or :class:`~nbfunctions.errors.ArchiveInvalid`; nothing
        half-made stays behind.
        """
        ...

    async def run(self, call: Call) -> Outcome:
        """Run one call. Whatever the function does ends in an :class:`Outcome`, never in an exception.

        Cancelling ends the call and its instance.
        """
        ...

    async def forget(self, digests: set[str]) -> None:
        """Stop idle instances of these archives and remove their prepared code: their deployments are gone."""
        ...

    async def stop(self) -> None:
        """End all instances; calls that still run end as ``failed``."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what isolates functions here and what each limit is enforced by, for ``status`` and ``doctor``."""
        ...
