"""``GET /functions/executions/stream``: server-sent events of every change of an execution that a caller may see.

An addition. A reader that was cut off names the last event it got and is told first what it missed; one that opens the
stream before it reads a list misses nothing between the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator
from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nbfunctions.errors import ExecutionNotFound, FunctionNotFound
from nbfunctions.server import identity
from nbfunctions.server.permissions import Caller
from nbfunctions.server.realtime import Outbox, Stream, Trace, message
from nbfunctions.server.server import Server
from nbfunctions.server.store.protocol import StoreFailed
from nbfunctions.server.wire import encoded

__all__ = ["stream"]

HEARTBEAT: Final = 15.0
"""Seconds without news after which a stream shows that it is alive."""
PIECE: Final = 65_536
"""Bytes that are written at once, about."""
HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

log = logging.getLogger("nbfunctions")


async def stream(
    server: Server, caller: Caller, function_id: str, position: str, last_event_id: str, response_format: str
) -> Response:
    """Send every change of the executions that the caller may see as it happens, until either side goes away."""
    if function_id:
        await server.store.get_function(caller.project_id, function_id)
    return _Events(server, Stream(caller, function_id, response_format), last_event_id or position)


class _Events(Response):
    """The answer: it ends with the server, the caller's token or key, or a reader that is too slow."""

    def __init__(self, server: Server, reader: Stream, position: str) -> None:
        self.raw_headers = [*HEADERS]
        self._server = server
        self._reader = reader
        self._position = position

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            with self._server.realtime.streaming(self._reader):
                leaving = asyncio.create_task(_leave(receive, self._reader.outbox))
                try:
                    async with contextlib.aclosing(self._pieces()) as pieces:
                        async for piece in pieces:
                            await send({"type": "http.response.body", "body": piece, "more_body": True})
                except StoreFailed as error:
                    log.error("a stream can't be resumed: %s", error)  # noqa: TRY400 - a full disk needs no traceback
                finally:
                    leaving.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        realtime, outbox = self._server.realtime, self._reader.outbox
        # No await between these: what comes from now on waits in the outbox.
        begin = realtime.position
        missed = realtime.since(self._position) if self._position else []
        self._reader.touched = set()
        yield b"retry: 1000\n\n"
        if missed is None:
            yield message("reset", b"{}")
        else:
            async for piece in self._missed(missed):
                yield piece
        self._reader.touched = None
        yield message("open", b"{}", begin)
        while (messages := await outbox.take(self._patience())) is not None and await self._holds():
            if not messages:
                # Names the position as well: there may have been news for others.
                yield f": alive\nid: {realtime.position}\n\n".encode()
            for piece in _gathered(messages):
                yield piece
        if outbox.overflowed:
            yield message("reset", b"{}")

    async def _missed(self, traces: list[Trace]) -> AsyncGenerator[bytes, None]:
        """Yield what executions are like that changed; nothing of those that the outbox has by now."""
        reader = self._reader
        changed: dict[str, tuple[str, str]] = {}
        for project_id, function_id, execution_id, action, read in traces:
            if reader.shows(project_id, function_id, read):
                changed.setdefault(execution_id, (function_id, action))
        for execution_id, (function_id, action) in changed.items():
            try:
                found = await self._server.store.get_execution(reader.caller.project_id, function_id, execution_id)
                shown = message(action, encoded(found, reader.response_format))
            except (ExecutionNotFound, FunctionNotFound):
                shown = message("delete", msgspec.json.encode({"$id": execution_id, "functionId": function_id}))
            if reader.touched is not None and execution_id not in reader.touched:
                yield shown

    def _patience(self) -> float:
        """Return for how many seconds to wait for news."""
        ends = self._reader.caller.expires_at
        return min(HEARTBEAT, max(ends - self._server.clock(), 0.0)) if ends else HEARTBEAT

    async def _holds(self) -> bool:
        """Whether the caller may still see anything: its token or key has neither ended nor been revoked."""
        return await identity.holds(self._server, self._reader.caller, self._server.clock())


def _gathered(messages: list[bytes]) -> Iterator[bytes]:
    """Yield messages in pieces that are worth a write."""
    piece = b""
    for one in messages:
        piece += one
        if len(piece) >= PIECE:
            yield piece
            piece = b""
    if piece:
        yield piece


async def _leave(receive: Receive, outbox: Outbox) -> None:
    """End the stream when its reader is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    outbox.end()
