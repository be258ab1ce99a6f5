"""The records of the Functions API, as both sides of the wire see them (spec, section 2).

Fields stand in the wire's order. Fields that :func:`adds` are ours: optional, and absent from the reference. Times are
whole seconds since the epoch, UTC, unless a field says otherwise.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, field

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
    "adds",
    "new_id",
    "says",
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


def says(description: str) -> Meta:
    """Return what a field is, for the OpenAPI document."""
    return Meta(description=description)


def adds(description: str) -> Meta:
    """Return what a field is that the reference doesn't have."""
    return Meta(description=description, extra_json_schema={"x-addition": True})


_Id = Annotated[str, says("The id.")]
_Created = Annotated[int, says("When it was made, in seconds since the epoch.")]
_Updated = Annotated[int, says("When it was last changed, in seconds since the epoch.")]


class Record(msgspec.Struct, kw_only=True, frozen=True):
    """A row as the API shows it: immutable; ``msgspec.structs.replace`` makes a changed copy."""


class Function(Record, kw_only=True, frozen=True):
    """A function's settings and its active deployment (spec, section 2.1)."""

    id: _Id = field(name="$id")
    created_at: _Created = field(name="$createdAt", default=0)
    updated_at: _Updated = field(name="$updatedAt", default=0)
    execute: Annotated[tuple[str, ...], says("Roles that may execute it.")] = ()
    name: Annotated[str, says("What people call it.")] = ""
    status: Annotated[str, says("Always `enabled`.")] = "enabled"
    runtime: Annotated[str, says("Id of its runtime.")] = ""
    deployment: Annotated[str, says("Id of its active deployment; empty without one.")] = ""
    vars: Annotated[dict[str, Any], says("Environment variables of its code.")] = {}
    events: Annotated[tuple[str, ...], says("Patterns of the events that trigger it.")] = ()
    schedule: Annotated[str, says("Cron expression, in UTC; empty without one.")] = ""
    schedule_next: Annotated[int, says("When it is due next, in seconds since the epoch; 0 is never.")] = field(
        name="scheduleNext", default=0
    )
    schedule_previous: Annotated[int, says("When it was due last, in seconds since the epoch; 0 is never.")] = field(
        name="schedulePrevious", default=0
    )
    timeout: Annotated[int, says("Seconds an execution may take.")] = 15
    memory: Annotated[int, adds("Memory limit of one instance in MB; 0 is the server's default.")] = 0
    concurrency: Annotated[int, adds("How many instances may run at once; 0 is the server's default.")] = 0


class Deployment(Record, kw_only=True, frozen=True):
    """One version of a function's code, with its build's status and log (spec, section 2.2)."""

    id: _Id = field(name="$id")
    created_at: _Created = field(name="$createdAt", default=0)
    updated_at: _Updated = field(name="$updatedAt", default=0)
    function_id: Annotated[str, says("Id of its function.")] = field(name="resourceId", default="")
    resource_type: Annotated[str, says("Always `functions`.")] = field(name="resourceType", default="functions")
    entrypoint: Annotated[str, says("The file that holds the function.")] = ""
    size: Annotated[int, says("Bytes of the archive.")] = 0
    build_id: Annotated[str, says("Id of its build; empty until one has begun.")] = field(name="buildId", default="")
    activate: Annotated[bool, says("Whether it is to be active once it is built.")] = False
    status: Annotated[BuildStatus, says("How far its build is.")] = "processing"
    build_stdout: Annotated[str, says("What the build wrote to its standard output.")] = field(
        name="buildStdout", default=""
    )
    build_stderr: Annotated[str, says("What it wrote to its standard error, or why it failed.")] = field(
        name="buildStderr", default=""
    )
    build_time: Annotated[float, adds("Seconds from the start of the build to its end; 0 until it ended.")] = field(
        name="buildTime", default=0
    )
    digest: Annotated[str, adds("SHA-256 of the uploaded archive, in hex; empty until all of it has come.")] = ""
    chunks_total: Annotated[int, adds("How many chunks the upload has.")] = field(name="chunksTotal", default=1)
    chunks_uploaded: Annotated[int, adds("How many of them have come.")] = field(name="chunksUploaded", default=1)


class Execution(Record, kw_only=True, frozen=True):
    """One run of a function (spec, section 2.4)."""

    id: _Id = field(name="$id")
    created_at: _Created = field(name="$createdAt", default=0)
    updated_at: _Updated = field(name="$updatedAt", default=0)
    read: Annotated[tuple[str, ...], says("Roles that see it: that of the user who asked for it.")] = field(
        name="$read", default=()
    )
    function_id: Annotated[str, says("Id of its function.")] = field(name="functionId", default="")
    trigger: Annotated[Trigger, says("What asked for it.")] = "http"
    status: Annotated[ExecutionStatus, says("How far it is.")] = "waiting"
    status_code: Annotated[int, says("The function's HTTP status; 0 until done.")] = field(name="statusCode", default=0)
    response: Annotated[str, says("What the function answered, up to 1,000,000 bytes.")] = ""
    stderr: Annotated[str, says("What the code wrote to its standard error, then why it failed.")] = ""
    time: Annotated[float, says("Seconds inside the runtime; 0 until done.")] = 0
    deployment_id: Annotated[str, adds("Id of the deployment that was executed.")] = field(
        name="deploymentId", default=""
    )
    stdout: Annotated[str, adds("What the code wrote to its standard output.")] = ""
    response_type: Annotated[ResponseType, adds("How `response` is to be read; `bytes` are Base64.")] = field(
        name="responseType", default="text"
    )
    layer: Annotated[Layer, adds("Where a failed execution failed, or that it was cancelled; empty for others.")] = ""
    cold: Annotated[bool, adds("Whether an instance had to be started for it.")] = False
    queued: Annotated[float, adds("Seconds between acceptance and the start of the call.")] = 0

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

    id: Annotated[str, says("The id, for a function's `runtime`.")] = field(name="$id")
    name: Annotated[str, says("The language.")] = ""
    version: Annotated[str, says("Its version.")] = ""
    base: Annotated[str, says("The image it is based on.")] = ""
    image: Annotated[str, says("The image it runs in.")] = ""
    logo: Annotated[str, says("File name of a picture.")] = ""
    supports: Annotated[tuple[str, ...], says("Processors it runs on.")] = ()


_Total = Annotated[int, says("How many match, counted up to 5000.")]


class FunctionList(Record, kw_only=True, frozen=True):
    """A page of functions; ``total`` counts all matches, at most 5000 (spec, section 1.2)."""

    total: _Total
    functions: Annotated[tuple[Function, ...], says("This page of them.")]


class DeploymentList(Record, kw_only=True, frozen=True):
    """A page of deployments; ``total`` counts all matches, at most 5000 (spec, section 1.2)."""

    total: _Total
    deployments: Annotated[tuple[Deployment, ...], says("This page of them.")]


class ExecutionList(Record, kw_only=True, frozen=True):
    """A page of executions; ``total`` counts all matches, at most 5000 (spec, section 1.2)."""

    total: _Total
    executions: Annotated[tuple[Execution, ...], says("This page of them.")]


class RuntimeList(Record, kw_only=True, frozen=True):
    """All runtimes of a server; there is no paging (spec, section 2.6)."""

    total: _Total
    runtimes: Annotated[tuple[Runtime, ...], says("All of them.")]


class UsagePoint(Record, kw_only=True, frozen=True):
    """A count, and when its time began."""

    value: Annotated[int, says("The count.")]
    date: Annotated[int, says("When its time began, in seconds since the epoch.")]


class UsageFunctions(Record, kw_only=True, frozen=True):
    """What a function did, oldest first (spec, section 2.7)."""

    range: Annotated[UsageRange, says("The time it is about.")]
    executions: Annotated[tuple[UsagePoint, ...], says("Executions that ended.")] = field(
        name="functionsExecutions", default=()
    )
    failures: Annotated[tuple[UsagePoint, ...], says("Those of them that failed.")] = field(
        name="functionsFailures", default=()
    )
    compute: Annotated[tuple[UsagePoint, ...], says("Milliseconds inside the runtime.")] = field(
        name="functionsCompute", default=()
    )


class Emitted(Record, kw_only=True, frozen=True):
    """An event that was taken (an addition)."""

    event: Annotated[str, adds("The event.")]
    executions: Annotated[int, adds("How many executions it triggered.")]


class ErrorAnswer(Record, kw_only=True, frozen=True):
    """The body of every refused request (spec, section 3.1)."""

    message: Annotated[str, says("What went wrong, for people.")]
    code: Annotated[int, says("The answer's status.")]
    type: Annotated[str, says("What went wrong, for programs.")] = "general_unknown"
    version: Annotated[str, says("The generation of the API.")] = ""


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
