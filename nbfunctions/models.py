"""The records of the Functions API, as both sides of the wire see them (spec, section 2).

Fields stand in the wire's order. Fields below a ``-- additions --`` line are ours: optional, and absent from the
reference. Times are whole seconds since the epoch, UTC, unless a field says otherwise.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any, Final, Literal

import msgspec
from msgspec import field

__all__ = [
    "BUILD_STATUSES",
    "EXECUTION_STATUSES",
    "OUTPUT_LIMIT",
    "SCOPES",
    "TRIGGERS",
    "USAGE_RANGES",
    "BuildStatus",
    "Deployment",
    "DeploymentList",
    "Emitted",
    "ErrorAnswer",
    "Execution",
    "ExecutionList",
    "ExecutionStatus",
    "Function",
    "FunctionList",
    "Key",
    "Layer",
    "Project",
    "ResponseType",
    "Runtime",
    "RuntimeList",
    "Trigger",
    "UsageFunctions",
    "UsagePoint",
    "UsageRange",
    "new_id",
]

BuildStatus = Literal["processing", "building", "ready", "failed"]
ExecutionStatus = Literal["waiting", "processing", "completed", "failed"]
Trigger = Literal["http", "schedule", "event"]
Layer = Literal["", "start", "code", "limit", "platform", "cancelled"]
ResponseType = Literal["text", "json", "dataframe", "bytes"]
UsageRange = Literal["24h", "7d", "30d", "90d"]

BUILD_STATUSES: Final[tuple[BuildStatus, ...]] = ("processing", "building", "ready", "failed")
EXECUTION_STATUSES: Final[tuple[ExecutionStatus, ...]] = ("waiting", "processing", "completed", "failed")
USAGE_RANGES: Final[tuple[UsageRange, ...]] = ("24h", "7d", "30d", "90d")
TRIGGERS: Final[tuple[Trigger, ...]] = ("http", "schedule", "event")
SCOPES: Final[tuple[str, ...]] = (
    "functions.read",
    "functions.write",
    "execution.read",
    "execution.write",
    "events.write",
    "users.write",
    "health.read",
)
"""Scopes an API key can hold (spec, section 4.3)."""

OUTPUT_LIMIT: Final = 1_000_000
"""Bytes kept of a response, of an execution's stdout and stderr, and of a build's (spec, sections 2.4 and 6.1)."""


def new_id() -> str:
    """Return a fresh id: 13 hex digits of the microsecond clock and 7 random ones (spec, section 0.3)."""
    return f"{time.time_ns() // 1000:013x}"[-13:] + secrets.token_hex(4)[:7]


class Record(msgspec.Struct, kw_only=True, frozen=True):
    """A row as the API shows it: immutable; ``msgspec.structs.replace`` makes a changed copy."""


class Function(Record, kw_only=True, frozen=True):
    """A function's settings and its active deployment (spec, section 2.1)."""

    id: str = field(name="$id")
    created_at: int = field(name="$createdAt", default=0)
    updated_at: int = field(name="$updatedAt", default=0)
    execute: tuple[str, ...] = ()
    name: str = ""
    status: str = "enabled"
    runtime: str = ""
    deployment: str = ""
    vars: dict[str, Any] = {}
    events: tuple[str, ...] = ()
    schedule: str = ""
    schedule_next: int = field(name="scheduleNext", default=0)
    schedule_previous: int = field(name="schedulePrevious", default=0)
    timeout: int = 15
    # -- additions --
    memory: int = 0
    """Memory limit of one instance in MB; 0 is the server's default."""
    concurrency: int = 0
    """How many instances may run at once; 0 is the server's default."""


class Deployment(Record, kw_only=True, frozen=True):
    """One version of a function's code, with its build's status and log (spec, section 2.2)."""

    id: str = field(name="$id")
    created_at: int = field(name="$createdAt", default=0)
    updated_at: int = field(name="$updatedAt", default=0)
    function_id: str = field(name="resourceId", default="")
    resource_type: str = field(name="resourceType", default="functions")
    entrypoint: str = ""
    size: int = 0
    build_id: str = field(name="buildId", default="")
    activate: bool = False
    status: BuildStatus = "processing"
    build_stdout: str = field(name="buildStdout", default="")
    build_stderr: str = field(name="buildStderr", default="")
    # -- additions --
    build_time: float = field(name="buildTime", default=0)
    """Seconds from the start of the build to its end; 0 until it ended."""
    digest: str = ""
    """SHA-256 of the uploaded archive, in hex."""
    chunks_total: int = field(name="chunksTotal", default=1)
    chunks_uploaded: int = field(name="chunksUploaded", default=1)
    """How many parts the upload has, and how many of them have come."""


class Execution(Record, kw_only=True, frozen=True):
    """One run of a function (spec, section 2.4)."""

    id: str = field(name="$id")
    created_at: int = field(name="$createdAt", default=0)
    updated_at: int = field(name="$updatedAt", default=0)
    read: tuple[str, ...] = field(name="$read", default=())
    function_id: str = field(name="functionId", default="")
    trigger: Trigger = "http"
    status: ExecutionStatus = "waiting"
    status_code: int = field(name="statusCode", default=0)
    response: str = ""
    stderr: str = ""
    time: float = 0
    """Seconds inside the runtime; 0 until done."""
    # -- additions --
    deployment_id: str = field(name="deploymentId", default="")
    stdout: str = ""
    """What the code wrote to its standard output."""
    response_type: ResponseType = field(name="responseType", default="text")
    """How ``response`` is to be read; see :meth:`json` and the notebook side's results."""
    layer: Layer = ""
    """Why a failed execution failed: ``start``, ``code``, ``limit``, ``platform``, or it was ``cancelled``."""
    cold: bool = False
    """Whether an instance had to be started for it."""
    queued: float = 0
    """Seconds between acceptance and the start of the call."""

    def json(self) -> Any:
        """Return ``response`` read as JSON; raises ``ValueError`` saying what was found instead."""
        try:
            return json.loads(self.response)
        except ValueError:
            found = self.response[:80] or "an empty response"
            raise ValueError(
                f"execution {self.id} ({self.status}): the response is not JSON, found {found!r}"
            ) from None


class Runtime(Record, kw_only=True, frozen=True):
    """A language version functions can run on (spec, section 2.5)."""

    id: str = field(name="$id")
    name: str = ""
    version: str = ""
    base: str = ""
    image: str = ""
    logo: str = ""
    supports: tuple[str, ...] = ()


class FunctionList(Record, kw_only=True, frozen=True):
    """A page of functions; ``total`` counts all matches, at most 5000 (spec, section 1.2)."""

    total: int
    functions: tuple[Function, ...]


class DeploymentList(Record, kw_only=True, frozen=True):
    """A page of deployments; ``total`` counts all matches, at most 5000 (spec, section 1.2)."""

    total: int
    deployments: tuple[Deployment, ...]


class ExecutionList(Record, kw_only=True, frozen=True):
    """A page of executions; ``total`` counts all matches, at most 5000 (spec, section 1.2)."""

    total: int
    executions: tuple[Execution, ...]


class RuntimeList(Record, kw_only=True, frozen=True):
    """All runtimes of a server; there is no paging (spec, section 2.6)."""

    total: int
    runtimes: tuple[Runtime, ...]


class UsagePoint(Record, kw_only=True, frozen=True):
    """A count, and when its time began."""

    value: int
    date: int


class UsageFunctions(Record, kw_only=True, frozen=True):
    """What a function did, oldest first (spec, section 2.7)."""

    range: UsageRange
    executions: tuple[UsagePoint, ...] = field(name="functionsExecutions", default=())
    failures: tuple[UsagePoint, ...] = field(name="functionsFailures", default=())
    compute: tuple[UsagePoint, ...] = field(name="functionsCompute", default=())
    """Milliseconds inside the runtime."""


class Emitted(Record, kw_only=True, frozen=True):
    """An event that was taken (an addition)."""

    event: str
    executions: int
    """How many executions it triggered."""


class ErrorAnswer(Record, kw_only=True, frozen=True):
    """The body of every refused request (spec, section 3.1)."""

    message: str
    code: int
    type: str = "general_unknown"
    version: str = ""


class Project(Record, kw_only=True, frozen=True):
    """What functions, keys and executions belong to."""

    id: str
    name: str = ""
    created_at: int = 0


class Key(Record, kw_only=True, frozen=True):
    """An API key without its secret, which is stored hashed and shown once."""

    id: str
    project_id: str
    name: str = ""
    scopes: tuple[str, ...] = ()
    created_at: int = 0
    expires_at: int = 0
    """0 is never."""
