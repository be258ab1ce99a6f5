"""The table of routes (spec, section 1): what server, documentation and OpenAPI document read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

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
from nbfunctions.server.params import (
    CRON,
    CUSTOM_ID,
    EVENT,
    FLAG,
    FLAG_TEXT,
    HAPPENED,
    IDEMPOTENCY_KEY,
    OBJECT,
    ROLES,
    TEAMS,
    UID,
    VARIABLES,
    Param,
    array,
    between,
    one_of,
    text,
    zero_or,
)
from nbfunctions.server.permissions import PUBLIC
from nbfunctions.server.server import Server
from nbfunctions.server.tokens import LIFE, LONGEST
from nbfunctions.settings import MEMORY_LEAST

__all__ = ["Endpoint", "endpoints"]

HEADER_LIMIT = 262_144
"""Characters of a header that the action itself reads more closely."""


class Endpoint(msgspec.Struct, frozen=True):
    """One row of the table. The action's docstring says what the route does."""

    method: str
    path: str
    action: Callable[..., Awaitable[Any]]
    """Called with the server, the caller and the parameters; public ones with the server alone."""
    scope: str
    answer: type | None = None
    """What the action returns; None where the answer is empty or no JSON."""
    params: tuple[Param, ...] = ()
    headers: tuple[Param, ...] = ()
    """Request headers that are parameters."""
    status: int = 200
    takes_file: bool = False
    limited: bool = False
    """Whether users may call it only so often (spec, section 12.2)."""
    addition: bool = False
    """Whether the reference doesn't have it."""


def endpoints(server: Server) -> tuple[Endpoint, ...]:
    """Return the table, with the limits and runtimes of this server in its rules."""
    settings = server.settings
    function_id = Param("functionId", UID, required=True)
    deployment_id = Param("deploymentId", UID, required=True)
    execution_id = Param("executionId", UID, required=True)
    name = Param("name", text(128), required=True)
    execute = Param("execute", ROLES, default=())
    runtime = Param("runtime", one_of(*server.executor.runtimes), required=True)
    changeable = (
        Param("vars", VARIABLES, default={}),
        Param("events", array(EVENT), default=()),
        Param("schedule", CRON, default=""),
        Param("timeout", between(1, settings.timeout_limit), default=min(15, settings.timeout_limit)),
        # Additions
        Param("memory", zero_or(between(MEMORY_LEAST, settings.memory_limit)), default=0),
        Param("concurrency", zero_or(between(1, settings.concurrency_limit)), default=0),
    )
    page = (
        Param("search", text(256), default=""),
        Param("limit", between(0, 100), default=25),
        Param("offset", between(0, 5000), default=0),
        Param("cursor", UID, default=""),
        Param("cursorDirection", one_of("after", "before", loose=True), default="after", key="direction"),
    )
    ordered_page = (*page, Param("orderType", one_of("ASC", "DESC"), default="ASC", key="order"))
    archive = (Param("entrypoint", text(1028), required=True), Param("activate", FLAG_TEXT, default=False))
    chunk = (
        Param("Content-Range", text(HEADER_LIMIT), default="", key="content_range"),
        Param("X-Appwrite-ID", text(HEADER_LIMIT), default="", key="upload_id"),
    )
    call = (
        Param("data", text(8192), default=""),
        Param("async", FLAG, default=True, key="asynchronous"),
    )
    once = (Param("Idempotency-Key", IDEMPOTENCY_KEY, default="", key="idempotency_key"),)
    happened = (
        Param("event", HAPPENED, required=True),
        Param("payload", OBJECT, default={}),
        Param("userId", UID, default=""),
    )
    range_ = Param("range", one_of(*USAGE_RANGES, loose=True), default="30d")
    token = (
        Param("userId", UID, required=True),
        Param("duration", between(1, LONGEST), default=LIFE),
        Param("teams", TEAMS, default=()),
    )
    streamed = (Param("functionId", UID, default=""), Param("lastEventId", text(100), default="", key="position"))
    resumed = (
        Param("Last-Event-ID", text(100), default="", key="last_event_id"),
        Param("X-Appwrite-Response-Format", text(100), default="", key="response_format"),
    )
    build_id = Param("buildId", UID, required=True)

    read, write, see, run = "functions.read", "functions.write", "execution.read", "execution.write"
    one_function = "/functions/{functionId}"
    all_deployments = one_function + "/deployments"
    one_deployment = all_deployments + "/{deploymentId}"
    all_executions = one_function + "/executions"
    one_execution = all_executions + "/{executionId}"
    row = Endpoint
    return (
        row("POST", "/functions", functions.create, write, Function,
            (Param("functionId", CUSTOM_ID, required=True), name, execute, runtime, *changeable), status=201),
        row("GET", "/functions", functions.list_, read, FunctionList, ordered_page),
        row("GET", "/functions/runtimes", functions.list_runtimes, read, RuntimeList),
        row("GET", "/functions/executions/stream", stream.stream, see, params=streamed, headers=resumed, addition=True),
        row("GET", one_function, functions.get, read, Function, (function_id,)),
        row("GET", one_function + "/usage", functions.get_usage, read, UsageFunctions, (function_id, range_)),
        row("PUT", one_function, functions.update, write, Function, (function_id, name, execute, *changeable)),
        row("PATCH", one_deployment, functions.update_deployment, write, Function, (function_id, deployment_id)),
        row("DELETE", one_function, functions.delete, write, params=(function_id,), status=204),
        row("POST", all_deployments, deployments.create, write, Deployment, (function_id, *archive), chunk,
            status=201, takes_file=True),
        row("GET", all_deployments, deployments.list_, read, DeploymentList, (function_id, *ordered_page)),
        row("GET", one_deployment, deployments.get, read, Deployment, (function_id, deployment_id)),
        row("DELETE", one_deployment, deployments.delete, write, params=(function_id, deployment_id), status=204),
        row("POST", all_executions, executions.create, run, Execution, (function_id, *call), once,
            status=201, limited=True),
        row("GET", all_executions, executions.list_, see, ExecutionList, (function_id, *page)),
        row("GET", one_execution, executions.get, see, Execution, (function_id, execution_id)),
        row("POST", one_deployment + "/builds/{buildId}", deployments.retry_build, write,
            params=(function_id, deployment_id, build_id), status=204),
        row("GET", one_deployment + "/download", deployments.download, read,
            params=(function_id, deployment_id), addition=True),
        row("POST", one_execution + "/cancel", executions.cancel, run, Execution, (function_id, execution_id),
            addition=True),
        row("DELETE", one_execution, executions.delete, run, params=(function_id, execution_id), status=204,
            addition=True),
        row("POST", "/events", events.create, "events.write", Emitted, happened, status=201, addition=True),
        row("POST", "/users/{userId}/jwts", users.create_jwt, "users.write", users.Token, token,
            status=201, addition=True),
        row("GET", "/health", health.health, "health.read", health.Health),
        row("GET", "/health/db", health.health, "health.read", health.Health),
        row("GET", "/health/queue/functions", health.queue, "health.read", health.Queue),
        row("GET", "/health/storage/local", health.storage, "health.read", health.Health),
        row("GET", "/health/version", health.version, PUBLIC, health.Version),
    )  # fmt: skip
