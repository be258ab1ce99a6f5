"""``GET /realtime``: a WebSocket that is told the events of executions (spec, section 11)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from nbfunctions.errors import ApiError, GeneralRateLimitExceeded, GeneralRouteNotFound, ProjectNotFound, UserJwtInvalid
from nbfunctions.server import identity, permissions
from nbfunctions.server.limits import RateLimit, client_address
from nbfunctions.server.origins import Origins
from nbfunctions.server.permissions import Caller
from nbfunctions.server.realtime import Socket
from nbfunctions.server.server import Server
from nbfunctions.server.store.protocol import StoreFailed
from nbfunctions.server.wire import Answer, encoded, headers_of, query_of, refusal

__all__ = ["WebSockets"]

CONNECTS: Final = 128
"""Connections that an address may open in a window (spec, section 11.1)."""
MESSAGES: Final = 32
"""Messages that a connection may send in a window (spec, section 11.2)."""
WINDOW: Final = 60
"""Seconds."""

UNSUPPORTED, FORBIDDEN, FAILED, RESTART, LATER = 1003, 1008, 1011, 1012, 1013
"""Codes that connections are closed with, or messages refused (RFC 6455, section 7.4)."""

log = logging.getLogger("nbfunctions")


class _Refused(Exception):
    """What was asked for is not done; the code is a WebSocket's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.error = {"type": "error", "data": {"code": code, "message": message}}
        self.code = code


class WebSockets:
    """The ASGI application of every WebSocket; those of other paths than ``path`` are refused."""

    def __init__(self, server: Server, origins: Origins, path: str) -> None:
        self._server = server
        self._origins = origins
        self._path = path
        self._limit = RateLimit(CONNECTS, WINDOW) if server.settings.rate_limit else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection from its handshake to its end."""
        headers = headers_of(scope)
        await receive()  # the wish to connect
        try:
            self._origins.demand_host(headers)
            if scope["path"].rstrip("/") != self._path:
                raise GeneralRouteNotFound
        except ApiError as error:
            await _reject(send, refusal(error).with_headers(self._origins.headers({})))
            return
        await send({"type": "websocket.accept", "headers": [(b"server", b"Appwrite")]})
        try:
            socket = await self._admit(scope, headers)
        except _Refused as refused:
            code = refused.code
            with contextlib.suppress(OSError):
                await send({"type": "websocket.send", "text": encoded(refused.error).decode()})
        else:
            code = await self._converse(socket, receive, send)
        with contextlib.suppress(OSError):  # it is closed already
            await send({"type": "websocket.close", "code": code})

    async def _admit(self, scope: Scope, headers: Mapping[str, str]) -> Socket:
        """Make the checks of a connection, in the contract's order (spec, section 11.1)."""
        server = self._server
        now = server.clock()
        try:
            query = query_of(scope)
            project = query.get("project") or headers.get("x-appwrite-project")
            project_id = project if isinstance(project, str) else ""  # project[]=…
            await server.store.get_project(project_id)
            if self._limit is not None:
                peer = client_address((scope.get("client") or ("",))[0], headers)
                if self._limit.count(peer, now, exempt=False).exceeded:
                    raise _Refused(LATER, "Too many requests")
            self._origins.demand_platform(headers)
            token = headers.get("x-appwrite-jwt")
            caller = await identity.user(server, project_id, token, now) if token else permissions.guest(project_id)
        except ProjectNotFound:
            raise _Refused(FORBIDDEN, "Missing or unknown project ID") from None
        except ApiError as error:
            raise _Refused(FORBIDDEN, error.message) from None
        except StoreFailed as error:
            log.error("a WebSocket can't be connected: %s", error)  # noqa: TRY400 - a full disk needs no traceback
            raise _Refused(FAILED, "Server Error") from None
        channels = _channels(_listed(query.get("channels")), caller)
        if not channels:
            raise _Refused(FORBIDDEN, "Missing channels")
        return Socket(caller, channels, headers.get("x-appwrite-response-format", ""))

    async def _converse(self, socket: Socket, receive: Receive, send: Send) -> int:
        """Tell events and answer messages until either side has enough; return what to close the connection with."""
        told = {"type": "connected", "data": {"channels": socket.channels, "user": _user(socket.caller)}}
        socket.outbox.put(encoded(told))
        with self._server.realtime.connected(socket):
            tasks = [
                asyncio.create_task(self._listen(socket, receive)),
                asyncio.create_task(_speak(socket, send)),
                asyncio.create_task(socket.outbox.ended.wait()),  # who doesn't read is not waited for
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, OSError):  # the client is gone
                log.error("a WebSocket failed", exc_info=result)
                return FAILED
        return LATER if socket.outbox.overflowed else RESTART

    async def _listen(self, socket: Socket, receive: Receive) -> None:
        """Answer what the client says until it is gone."""
        limit = RateLimit(MESSAGES, WINDOW)
        while (message := await receive())["type"] != "websocket.disconnect":
            try:
                limit.count("", self._server.clock(), exempt=False).demand()
                said = message.get("text")
                answer = await self._answer(socket, message["bytes"] if said is None else said)
            except GeneralRateLimitExceeded:
                answer = _Refused(LATER, "Too many messages").error
            except _Refused as refused:
                answer = refused.error
            socket.outbox.put(encoded(answer))

    async def _answer(self, socket: Socket, said: str | bytes) -> dict[str, Any]:
        try:
            content = msgspec.json.decode(said)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            content = None
        if not isinstance(content, dict) or content.keys().isdisjoint(("type", "data")):
            raise _Refused(UNSUPPORTED, "Message format is not valid.")
        if content.get("type") != "authentication":
            raise _Refused(UNSUPPORTED, "Message type is not valid.")
        data = content.get("data")
        if not isinstance(data, dict) or "session" not in data:
            raise _Refused(UNSUPPORTED, "Payload is not valid.")
        caller = await self._user(socket.caller.project_id, data["session"])
        self._server.realtime.change_caller(socket, caller, _channels(socket.channels, caller))
        return {"type": "response", "data": {"to": "authentication", "success": True, "user": _user(caller)}}

    async def _user(self, project_id: str, session: object) -> Caller:
        """Return the user of a session: there are no others than tokens."""
        try:
            if not isinstance(session, str):
                raise UserJwtInvalid
            return await identity.user(self._server, project_id, session, self._server.clock())
        except ApiError:
            raise _Refused(UNSUPPORTED, "Session is not valid.") from None
        except StoreFailed as error:
            log.error("a session can't be looked at: %s", error)  # noqa: TRY400 - a full disk needs no traceback
            raise _Refused(FAILED, "Server Error") from None


async def _speak(socket: Socket, send: Send) -> None:
    while (messages := await socket.outbox.take()) is not None:
        for one in messages:
            await send({"type": "websocket.send", "text": one.decode()})


async def _reject(send: Send, answer: Answer) -> None:
    """Answer a handshake like a request that is refused."""
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": answer.pairs})
    await send({"type": "websocket.http.response.body", "body": answer.body})


def _user(caller: Caller) -> dict[str, Any] | None:
    """Return what is known of a user."""
    return {"$id": caller.user_id} if caller.user_id else None


def _listed(given: Any) -> list[str]:
    """Return the texts of a parameter that should be a list."""
    if isinstance(given, dict):
        given = list(given.values())
    return [one for one in (given if isinstance(given, list) else [given]) if one]


def _channels(given: Iterable[str], caller: Caller) -> tuple[str, ...]:
    """Return the channels that a caller gets; only a user's own account is one (spec, section 11.3)."""
    found = [channel for channel in dict.fromkeys(given) if not channel.startswith("account.")]
    own = [f"account.{caller.user_id}"] if caller.user_id and "account" in found else []
    return (*found, *own)
