"""The HTTP side: the wrapper around every endpoint, and the one place where errors become answers.

The order of checks decides which error wins (spec, section 0.1): route, host, project, identity, origin, scope, rate
limit, parameters, action.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from nbfunctions.errors import ApiError, GeneralRouteNotFound, GeneralServerError, GeneralUnknown
from nbfunctions.server.identity import identify
from nbfunctions.server.limits import RateLimit, client_address
from nbfunctions.server.origins import Origins
from nbfunctions.server.params import check
from nbfunctions.server.permissions import PUBLIC, demand
from nbfunctions.server.routes import Endpoint, endpoints
from nbfunctions.server.server import Server
from nbfunctions.server.websocket import WebSockets
from nbfunctions.server.wire import (
    Answer,
    Parameters,
    RawHeaders,
    answer,
    compressed,
    headers_of,
    query_of,
    read,
    refusal,
)

__all__ = ["App", "Routes"]

BASE: Final = "/v1"
READING: Final = ("GET", "HEAD")

log = logging.getLogger("nbfunctions")


class App:
    """The ASGI application: ``await app(scope, receive, send)``."""

    def __init__(self, server: Server) -> None:
        self._origins = Origins(server.settings)
        self._websockets = WebSockets(server, self._origins, BASE + "/realtime")
        self._routes = Routes(
            (one.method, BASE + one.path, _Wrapper(server, one, self._origins)) for one in endpoints(server)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or serve one WebSocket."""
        if scope["type"] == "websocket":
            await self._websockets(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await self._preflight(scope)(scope, receive, send)
            return
        # A slash that is written as %2F is no part of any path: it would make another one of it.
        is_hidden = b"%2f" in scope.get("raw_path", b"").lower()
        found = None if is_hidden else self._routes.find(scope["method"], scope["path"])
        if found is None:
            common = self._origins.headers(headers_of(scope))
            none = refusal(GeneralRouteNotFound()).with_headers(common, [(b"x-debug-speed", b"%.6f" % 0)])
            await none(scope, receive, send)
            return
        wrapper, scope["path_params"] = found
        await wrapper(scope, receive, send)

    def _preflight(self, scope: Scope) -> Answer:
        """Every path answers alike, also one that is no route."""
        headers = headers_of(scope)
        try:
            self._origins.demand_host(headers)
        except ApiError as error:
            return refusal(error).with_headers(self._origins.headers({}))
        return answer(204, None).with_headers(self._origins.preflight(headers))


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
        parts = path.removesuffix("/").split("/")
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

    def __init__(self, server: Server, endpoint: Endpoint, origins: Origins) -> None:
        self._server = server
        self._endpoint = endpoint
        self._origins = origins
        self._header_names = [(one.name, one.name.lower()) for one in endpoint.headers]
        limit, window = server.settings.rate_limit, server.settings.rate_limit_window
        self._limit = RateLimit(limit, window) if endpoint.limited and limit else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers = headers_of(scope)
        common = self._origins.headers(headers)
        own: RawHeaders = []
        response: Answer | Response
        try:
            response = await self._respond(scope, receive, headers, own)
        except ApiError as error:
            response = refusal(error)
        except OSError as error:
            log.error("%s %s: %s", scope["method"], scope["path"], error)  # noqa: TRY400 - a full disk needs no traceback
            response = refusal(GeneralServerError(f"The server can't keep its data: {error.strerror or error}"))
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            response = refusal(GeneralUnknown())
        own.append((b"x-debug-speed", b"%.6f" % (time.perf_counter() - began)))
        if isinstance(response, Answer):
            response = response.with_headers(common, own)
            if "accept-encoding" in headers:
                response = await compressed(response, headers["accept-encoding"])
        else:
            response.raw_headers += common.pairs + own
        await response(scope, receive, send)

    async def _respond(
        self, scope: Scope, receive: Receive, headers: dict[str, str], own: RawHeaders
    ) -> Answer | Response:
        """Return the answer; its further headers are added to ``own``, whatever becomes of it."""
        server, endpoint = self._server, self._endpoint
        self._origins.demand_host(headers)
        response_format = headers.get("x-appwrite-response-format", "")
        if endpoint.scope == PUBLIC:
            told = await endpoint.action(server)
            return told if isinstance(told, Answer) else answer(endpoint.status, told, response_format)
        method = scope["method"]
        query = query_of(scope) if method in READING else {}
        now = server.clock()
        caller = await identify(server, headers, query, now)
        if not caller.is_key:
            self._origins.demand_origin(method, headers)
        demand(caller, endpoint.scope)
        if self._limit is not None:
            peer = client_address((scope.get("client") or ("",))[0], headers)
            counted = self._limit.count(peer, now, exempt=caller.is_key)
            own += counted.headers()
            if counted.exceeded:
                own.append((b"retry-after", b"%d" % max(1, counted.reset - int(now))))
            counted.demand()
        if method in READING:
            given = Parameters(query)
        else:
            given = await read(
                scope, receive, headers, server.settings.archive_size_limit if endpoint.takes_file else 0
            )
        try:
            values = check(endpoint.params, {**given.values, **scope["path_params"]})
            if endpoint.headers:
                values |= check(endpoint.headers, {name: headers.get(lower) for name, lower in self._header_names})
            if endpoint.takes_file:
                values["file"] = given.file
            result = await endpoint.action(server, caller, **values)
        finally:
            if given.file is not None:
                given.file.content.close()
        return result if isinstance(result, Response) else answer(endpoint.status, result, response_format)
