"""The table of routes (spec, section 1): what server, documentation and OpenAPI document read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import msgspec

from nbfunctions.errors import (
    ApiError,
    BuildInProgress,
    BuildNotFound,
    BuildNotReady,
    DeploymentNotFound,
    ExecutionAlreadyExists,
    ExecutionEnded,
    ExecutionInProgress,
    ExecutionNotFound,
    FunctionAlreadyExists,
    FunctionNotFound,
    FunctionRuntimeUnsupported,
    GeneralCursorNotFound,
    StorageFileEmpty,
    StorageFileTypeUnsupported,
    StorageInvalidContentRange,
    StorageInvalidFileSize,
    UserUnauthorized,
)
from nbfunctions.models import (
    USAGE_RANGES,
    Deployment,
    DeploymentList,
    Emitted,
    Execution,
    ExecutionList,
    Function,
    FunctionList,
    RuntimeList,
    UsageFunctions,
)
from nbfunctions.server import deployments, events, executions, functions, health, stream, users
from nbfunctions.server.openapi import OpenApi
from nbfunctions.server.params import (
    FLAG,
    FLAG_TEXT,
    Param,
    array,
    between,
    one_of,
    passed_on,
    text,
    zero_or,
)
from nbfunctions.server.permissions import PUBLIC
from nbfunctions.server.rules import (
    CRON,
    CUSTOM_ID,
    EVENT,
    HAPPENED,
    IDEMPOTENCY_KEY,
    OBJECT,
    ROLES,
    TEAMS,
    UID,
    VARIABLES,
)
from nbfunctions.server.server import Server
from nbfunctions.server.tokens import LIFE, LONGEST
from nbfunctions.settings import MEMORY_LEAST

__all__ = ["Endpoint", "endpoints"]


class Endpoint(msgspec.Struct, frozen=True):
    """One row of the table. The action's docstring says what the route does."""

    method: str
    path: str
    action: Callable[..., Awaitable[Any]]
    """Called with the server, the caller and the parameters; public ones with the server alone."""
    scope: str
    answer: Any = None
    """The type of what the action returns; None where the answer is empty or no JSON."""
    params: tuple[Param, ...] = ()
    headers: tuple[Param, ...] = ()
    """Request headers that are parameters."""
    status: int = 200
    takes_file: bool = False
    limited: bool = False
    """Whether users may call it only so often (spec, section 12.2)."""
    addition: bool = False
    """Whether the reference doesn't have it."""
    errors: tuple[type[ApiError], ...] = ()
    """What it may refuse with, beside what every route may."""
    media: str = ""
    """The content type of an answer that is no JSON."""
    not_for: tuple[Literal["users", "guests"], ...] = ()
    """Who is always refused though they hold the scope; the action sees to it."""
    sdk: str = ""
    """What SDKs call it, where method and path don't say so."""


# -- parameters, those apart whose rules depend on the server's settings -------------------------------------

FUNCTION_ID: Final = Param("functionId", UID, required=True, help="Id of the function.", example="hello")
DEPLOYMENT_ID: Final = Param(
    "deploymentId", UID, required=True, help="Id of the deployment.", example="6610b41fd5c49dcbecbf"
)
EXECUTION_ID: Final = Param(
    "executionId", UID, required=True, help="Id of the execution.", example="6610b42042f8a7b6fa5a"
)
BUILD_ID: Final = Param(
    "buildId", UID, required=True, help="Id of the build that failed.", example="6610b41fe2a7d04c1b83"
)
NEW_ID: Final = Param("functionId", CUSTOM_ID, required=True, help="Id of the new function.", example="hello")
NAME: Final = Param("name", text(128), required=True, help="What people call the function.", example="Hello")
EXECUTE: Final = Param("execute", ROLES, default=(), help="Roles that may execute the function; keys always may.")
PAGE: Final = (
    Param("search", text(256), default="", help="Words that what is listed must have."),
    Param("limit", between(0, 100), default=25, help="How many to list at most."),
    Param("offset", between(0, 5000), default=0, help="How many to skip."),
    Param("cursor", UID, default="", help="Id of the one from which the page goes on."),
    Param(
        "cursorDirection",
        one_of("after", "before", loose=True),
        default="after",
        key="direction",
        help="On which side of the cursor the page is.",
    ),
)
ORDERED_PAGE: Final = (
    *PAGE,
    Param(
        "orderType",
        one_of("ASC", "DESC"),
        default="ASC",
        key="order",
        help="Whether the oldest come first, or the newest.",
    ),
)
ARCHIVE: Final = (
    Param(
        "entrypoint",
        text(1028),
        required=True,
        help="The file that holds the function, or `FILE:NAME`, which names the function as well.",
        example="main.py",
    ),
    Param(
        "activate",
        FLAG_TEXT,
        default=False,
        help="Whether the deployment is active as soon as it is built.",
        example=True,
    ),
)
CHUNK: Final = (
    Param(
        "Content-Range",
        passed_on({"pattern": f"^{deployments.RANGE.pattern}$"}),
        default="",
        key="content_range",
        help="Which bytes of the archive a chunk is: `bytes START-END/SIZE`.",
    ),
    Param(
        "X-Appwrite-ID",
        passed_on(UID.schema),
        default="",
        key="upload_id",
        help="Id of the deployment that a chunk is of, from the second one on.",
    ),
)
CALL: Final = (
    Param("data", text(8192), default="", help="What the function is told.", example="Ada"),
    Param(
        "async",
        FLAG,
        default=True,
        key="asynchronous",
        help="Whether to be answered at once; `false` waits for the end.",
        example=False,
    ),
)
ONCE: Final = (
    Param(
        "Idempotency-Key",
        IDEMPOTENCY_KEY,
        default="",
        key="idempotency_key",
        help="The same request with the same key is executed once within a day.",
        addition=True,
    ),
)
OCCURRENCE: Final = (
    Param("event", HAPPENED, required=True, help="What happened.", example="users.jane.create"),
    Param("payload", OBJECT, default={}, help="What there is to know about it.", example={"name": "Jane"}),
    Param("userId", UID, default="", help="Id of the user who caused it, and may see the executions."),
)
RANGE: Final = Param("range", one_of(*USAGE_RANGES, loose=True), default="30d", help="How far back to look.")
TOKEN: Final = (
    Param("userId", UID, required=True, help="Id of the user.", example="jane"),
    Param("duration", between(1, LONGEST), default=LIFE, help="Seconds until the token ends.", example=3600),
    Param("teams", TEAMS, default=(), help="Teams of the user, and roles in them.", example=["sales/lead"]),
)
POSITION: Final = "The last event that was got; what came after it is sent first."
STREAMED: Final = (
    Param("functionId", UID, default="", help="Id of the function whose executions are sent; without it, all are."),
    Param("lastEventId", text(100), default="", key="position", help=POSITION),
)
RESUMED: Final = (
    Param("Last-Event-ID", text(100), default="", key="last_event_id", help=POSITION),
    Param(
        "X-Appwrite-Response-Format",
        text(100),
        default="",
        key="response_format",
        help="The generation of the executions: `0.14.0` or later.",
    ),
)


def endpoints(server: Server) -> tuple[Endpoint, ...]:
    """Return the table, with the limits and runtimes of this server in its rules."""
    settings = server.settings
    runtimes = tuple(server.executor.runtimes)
    runtime = Param(
        "runtime",
        one_of(*runtimes),
        required=True,
        help="Id of the runtime that its code is for.",
        example=runtimes[-1] if runtimes else None,
    )
    changeable = (
        Param("vars", VARIABLES, default={}, help="Environment variables of the function's code."),
        Param("events", array(EVENT), default=(), help="Events that trigger the function."),
        Param("schedule", CRON, default="", help="When the function is executed by itself; empty is never."),
        Param(
            "timeout",
            between(1, settings.timeout_limit),
            default=min(15, settings.timeout_limit),
            help="Seconds an execution may take.",
        ),
        Param(
            "memory",
            zero_or(between(MEMORY_LEAST, settings.memory_limit)),
            default=0,
            help="Memory limit of one instance in MB; 0 is the server's default.",
            addition=True,
        ),
        Param(
            "concurrency",
            zero_or(between(1, settings.concurrency_limit)),
            default=0,
            help="How many instances may run at once; 0 is the server's default.",
            addition=True,
        ),
    )
    read, write, see, run = "functions.read", "functions.write", "execution.read", "execution.write"
    one_function = "/functions/{functionId}"
    all_deployments = one_function + "/deployments"
    one_deployment = all_deployments + "/{deploymentId}"
    all_executions = one_function + "/executions"
    one_execution = all_executions + "/{executionId}"
    no_function: tuple[type[ApiError], ...] = (FunctionNotFound,)
    no_deployment = (*no_function, DeploymentNotFound)
    no_execution = (*no_function, ExecutionNotFound)
    not_built = (*no_deployment, BuildNotFound, BuildNotReady)
    no_archive = (StorageFileEmpty, StorageFileTypeUnsupported, StorageInvalidContentRange, StorageInvalidFileSize)
    no_cursor = GeneralCursorNotFound
    openapi = OpenApi()
    row = Endpoint
    table = (
        row("POST", "/functions", functions.create, write, Function, (NEW_ID, NAME, EXECUTE, runtime, *changeable),
            status=201, errors=(FunctionAlreadyExists,)),
        row("GET", "/functions", functions.list_, read, FunctionList, ORDERED_PAGE, errors=(no_cursor,)),
        row("GET", "/functions/runtimes", functions.list_runtimes, read, RuntimeList),
        row("GET", "/functions/executions/stream", stream.stream, see, params=STREAMED, headers=RESUMED, addition=True,
            errors=no_function, media="text/event-stream", sdk="streamExecutions"),
        row("GET", one_function, functions.get, read, Function, (FUNCTION_ID,), errors=no_function),
        row("GET", one_function + "/usage", functions.get_usage, read, UsageFunctions, (FUNCTION_ID, RANGE),
            errors=no_function),
        row("PUT", one_function, functions.update, write, Function, (FUNCTION_ID, NAME, EXECUTE, *changeable),
            errors=no_function),
        row("PATCH", one_deployment, functions.update_deployment, write, Function, (FUNCTION_ID, DEPLOYMENT_ID),
            errors=not_built),
        row("DELETE", one_function, functions.delete, write, params=(FUNCTION_ID,), status=204, errors=no_function),
        row("POST", all_deployments, deployments.create, write, Deployment, (FUNCTION_ID, *ARCHIVE), CHUNK,
            status=201, takes_file=True, errors=(*no_deployment, *no_archive)),
        row("GET", all_deployments, deployments.list_, read, DeploymentList, (FUNCTION_ID, *ORDERED_PAGE),
            errors=(*no_function, no_cursor)),
        row("GET", one_deployment, deployments.get, read, Deployment, (FUNCTION_ID, DEPLOYMENT_ID),
            errors=no_deployment),
        row("DELETE", one_deployment, deployments.delete, write, params=(FUNCTION_ID, DEPLOYMENT_ID), status=204,
            errors=no_deployment),
        row("POST", all_executions, executions.create, run, Execution, (FUNCTION_ID, *CALL), ONCE,
            status=201, limited=True,
            errors=(*not_built, FunctionRuntimeUnsupported, UserUnauthorized, ExecutionAlreadyExists)),
        row("GET", all_executions, executions.list_, see, ExecutionList, (FUNCTION_ID, *PAGE),
            errors=(*no_function, no_cursor)),
        row("GET", one_execution, executions.get, see, Execution, (FUNCTION_ID, EXECUTION_ID), errors=no_execution),
        row("POST", one_deployment + "/builds/{buildId}", deployments.retry_build, write,
            params=(FUNCTION_ID, DEPLOYMENT_ID, BUILD_ID), status=204, sdk="retryBuild",
            errors=(*no_deployment, BuildNotFound, BuildInProgress)),
        row("GET", one_deployment + "/download", deployments.download, read,
            params=(FUNCTION_ID, DEPLOYMENT_ID), addition=True, errors=no_deployment, media="application/gzip",
            sdk="downloadDeployment"),
        row("POST", one_execution + "/cancel", executions.cancel, run, Execution, (FUNCTION_ID, EXECUTION_ID),
            addition=True, errors=(*no_execution, ExecutionEnded), not_for=("guests",), sdk="cancelExecution"),
        row("DELETE", one_execution, executions.delete, run, params=(FUNCTION_ID, EXECUTION_ID), status=204,
            addition=True, errors=(*no_execution, ExecutionInProgress, UserUnauthorized), not_for=("users", "guests")),
        row("POST", "/events", events.create, "events.write", Emitted, OCCURRENCE, status=201, addition=True),
        row("POST", "/users/{userId}/jwts", users.create_jwt, "users.write", users.Token, TOKEN,
            status=201, addition=True, sdk="createJWT"),
        row("GET", "/health", health.health, "health.read", health.Health),
        row("GET", "/health/db", health.health, "health.read", health.Health, sdk="getDB"),
        row("GET", "/health/queue/functions", health.queue, "health.read", health.Queue),
        row("GET", "/health/storage/local", health.storage, "health.read", health.Health),
        row("GET", "/health/version", health.version, PUBLIC, health.Version),
        row("GET", "/openapi.json", openapi.document, PUBLIC, dict[str, Any], addition=True),
        row("GET", "/docs", openapi.page, PUBLIC, addition=True, media="text/html"),
    )  # fmt: skip
    openapi.endpoints = table
    return table
