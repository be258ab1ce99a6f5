"""The HTTP side: the table of routes, the wrapper around every endpoint, the one place where errors become answers.

The order of checks decides which error wins (spec, section 0.1): route, project, identity, scope, parameters, action.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from nbfunctions.errors import ApiError, GeneralRouteNotFound, GeneralServerError, GeneralUnknown
from nbfunctions.server import deployments, executions, functions, health
from nbfunctions.server.identity import PUBLIC, demand, identify
from nbfunctions.server.params import (
    CRON,
    CUSTOM_ID,
    EVENT,
    FLAG,
    FLAG_TEXT,
    ROLES,
    UID,
    VARIABLES,
    Param,
    array,
    between,
    check,
    one_of,
    text,
    zero_or,
)
from nbfunctions.server.server import Server
from nbfunctions.server.wire import Parameters, answer, headers_of, query_of, read, refusal
from nbfunctions.settings import MEMORY_LEAST

__all__ = ["App", "Endpoint", "endpoints"]

BASE: Final = "/v1"
READING: Final = ("GET", "HEAD")

log = logging.getLogger("nbfunctions")


class Endpoint(msgspec.Struct, kw_only=True, frozen=True):
    """One row of the route table."""

    method: str
    path: str
    action: Callable[..., Awaitable[Any]]
    scope: str
    params: tuple[Param, ...] = ()
    status: int = 200
    takes_file: bool = False


def endpoints(server: Server) -> tuple[Endpoint, ...]:
    """Return the route table (spec, section 1), with the limits and runtimes of this server in its rules."""
    settings = server.settings
    function_id = Param("functionId", UID, required=True)
    deployment_id = Param("deploymentId", UID, required=True)
    changeable = (
        Param("vars", VARIABLES, default={}),
        Param("events", array(EVENT), default=()),
        Param("schedule", CRON, default=""),
        Param("timeout", between(1, settings.timeout_limit), default=min(15, settings.timeout_limit)),
        # Additions
        Param("memory", zero_or(between(MEMORY_LEAST, settings.memory_limit)), default=0),
        Param("concurrency", zero_or(between(1, settings.concurrency_limit)), default=0),
    )
    name = Param("name", text(128), required=True)
    execute = Param("execute", ROLES, default=())
    page = (
        Param("search", text(256), default=""),
        Param("limit", between(0, 100), default=25),
        Param("offset", between(0, 5000), default=0),
        Param("cursor", UID, default=""),
        Param("cursorDirection", one_of("after", "before", loose=True), default="after", key="direction"),
    )
    order = Param("orderType", one_of("ASC", "DESC"), default="ASC", key="order")
    runtime = Param("runtime", one_of(*server.executor.runtimes), required=True)
    one_function = "/functions/{functionId}"
    all_deployments = one_function + "/deployments"
    one_deployment = all_deployments + "/{deploymentId}"
    all_executions = one_function + "/executions"
    return (
        Endpoint(
            method="POST",
            path="/functions",
            action=functions.create,
            scope="functions.write",
            params=(Param("functionId", CUSTOM_ID, required=True), name, execute, runtime, *changeable),
            status=201,
        ),
        Endpoint(
            method="GET", path="/functions", action=functions.list_, scope="functions.read", params=(*page, order)
        ),
        Endpoint(method="GET", path="/functions/runtimes", action=functions.list_runtimes, scope="functions.read"),
        Endpoint(method="GET", path=one_function, action=functions.get, scope="functions.read", params=(function_id,)),
        Endpoint(
            method="PUT",
            path=one_function,
            action=functions.update,
            scope="functions.write",
            params=(function_id, name, execute, *changeable),
        ),
        Endpoint(
            method="PATCH",
            path=one_deployment,
            action=functions.update_deployment,
            scope="functions.write",
            params=(function_id, deployment_id),
        ),
        Endpoint(
            method="DELETE",
            path=one_function,
            action=functions.delete,
            scope="functions.write",
            params=(function_id,),
            status=204,
        ),
        Endpoint(
            method="POST",
            path=all_deployments,
            action=deployments.create,
            scope="functions.write",
            params=(
                function_id,
                Param("entrypoint", text(1028), required=True),
                Param("activate", FLAG_TEXT, default=False),
            ),
            status=201,
            takes_file=True,
        ),
        Endpoint(
            method="GET",
            path=all_deployments,
            action=deployments.list_,
            scope="functions.read",
            params=(function_id, *page, order),
        ),
        Endpoint(
            method="GET",
            path=one_deployment,
            action=deployments.get,
            scope="functions.read",
            params=(function_id, deployment_id),
        ),
        Endpoint(
            method="DELETE",
            path=one_deployment,
            action=deployments.delete,
            scope="functions.write",
            params=(function_id, deployment_id),
            status=204,
        ),
        Endpoint(
            method="POST",
            path=all_executions,
            action=executions.create,
            scope="execution.write",
            params=(
                function_id,
                Param("data", text(8192), default=""),
                Param("async", FLAG, default=True, key="asynchronous"),
            ),
            status=201,
        ),
        Endpoint(
            method="GET",
            path=all_executions,
            action=executions.list_,
            scope="execution.read",
            params=(function_id, *page),
        ),
        Endpoint(
            method="GET",
            path=all_executions + "/{executionId}",
            action=executions.get,
            scope="execution.read",
            params=(function_id, Param("executionId", UID, required=True)),
        ),
        Endpoint(
            method="POST",
            path=one_deployment + "/builds/{buildId}",
            action=deployments.retry_build,
            scope="functions.write",
            params=(function_id, deployment_id, Param("buildId", UID, required=True)),
            status=204,
        ),
        Endpoint(method="GET", path="/health", action=health.health, scope="health.read"),
        Endpoint(method="GET", path="/health/version", action=health.version, scope=PUBLIC),
    )


class App:
    """The ASGI application: ``await app(scope, receive, send)``."""

    def __init__(self, server: Server) -> None:
        self._routes = Routes((one.method, BASE + one.path, _Wrapper(server, one)) for one in endpoints(server))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        found = self._routes.find(scope["method"], scope["path"])
        if found is None:
            await refusal(GeneralRouteNotFound())(scope, receive, send)
            return
        wrapper, scope["path_params"] = found
        await wrapper(scope, receive, send)


class Routes:
    """Finds the application of a path, part by part: a tenth of the time that a regular expression a route takes.

    A trailing slash makes no difference (spec, section 0.2): the Python SDK asks for one before an upload. A path that
    another method has is no route. ``HEAD`` is ``GET``, without a body.
    """

    def __init__(self, routes: Iterable[tuple[str, str, ASGIApp]]) -> None:
        self._by_length: dict[tuple[str, int], list[tuple[list[str], ASGIApp]]] = {}
        for method, path, app in routes:
            parts = path.split("/")
            self._by_length.setdefault((method, len(parts)), []).append((parts, app))

    def find(self, method: str, path: str) -> tuple[ASGIApp, dict[str, str]] | None:
        """Return the application and the path's parameters; a literal part wins over a parameter if it comes first."""
        parts = path.rstrip("/").split("/")
        for pattern, app in self._by_length.get(("GET" if method == "HEAD" else method, len(parts)), ()):
            params: dict[str, str] = {}
            for wanted, part in zip(pattern, parts, strict=True):
                if wanted.startswith("{"):
                    params[wanted[1:-1]] = part
                elif wanted != part:
                    break
            else:
                return app, params
        return None


class _Wrapper:
    """What happens around every action."""

    def __init__(self, server: Server, endpoint: Endpoint) -> None:
        self._server = server
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(scope, receive)
        except ApiError as error:
            response = refusal(error)
        except OSError as error:
            log.error("%s %s: %s", scope["method"], scope["path"], error)  # noqa: TRY400 - a full disk needs no traceback
            response = refusal(GeneralServerError(f"The server can't keep its data: {error.strerror or error}"))
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            response = refusal(GeneralUnknown())
        await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        server, endpoint = self._server, self._endpoint
        headers = headers_of(scope)
        response_format = headers.get("x-appwrite-response-format", "")
        if endpoint.scope == PUBLIC:
            return answer(endpoint.status, await endpoint.action(server), response_format)
        query = query_of(scope) if scope["method"] in READING else {}
        caller = await identify(server.store, headers, query, server.clock())
        demand(caller, endpoint.scope)
        if scope["method"] in READING:
            given = Parameters(query)
        else:
            given = await read(
                scope, receive, headers, server.settings.archive_size_limit if endpoint.takes_file else 0
            )
        try:
            values = check(endpoint.params, {**given.values, **scope["path_params"]})
            if endpoint.takes_file:
                values["file"] = given.file
                values["content_range"] = headers.get("content-range", "")
                values["upload_id"] = headers.get("x-appwrite-id", "")
            record = await endpoint.action(server, caller, **values)
        finally:
            if given.file is not None:
                given.file.content.close()
        return answer(endpoint.status, record, response_format)
