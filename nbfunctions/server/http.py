"""uvicorn, as this server uses it: one write an answer, signals left alone, an end that waits for nobody."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import uvicorn
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HttpServer"]

HEAD_LIMIT: Final = 256 * 1024
"""Bytes of a request's first line and headers; what comes at once may be more."""
BODY_HEADERS: Final = (b"content-length", b"transfer-encoding", b"connection")
"""What says how long a body is, and whether another request may follow."""


class HttpServer(uvicorn.Server):
    """Answers HTTP for an ASGI application until :meth:`refuse` is called."""

    def __init__(self, app: Any, *, stop_timeout: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(stop_timeout),
            )
        )

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Leave signals alone; whoever runs this calls :meth:`refuse`."""
        return contextlib.nullcontext()

    def refuse(self) -> None:
        """Take no more connections and requests, at once; ``serve`` returns when those that have come are answered."""
        for server in self.servers:
            server.close()
        connections: list[Any] = list(self.server_state.connections)
        for connection in connections:
            connection.shutdown()
            if connection.cycle is not None and connection.cycle.more_body:  # the rest may never come
                connection.transport.close()
        self.should_exit = True


class _Protocol(HttpToolsProtocol):
    """Writes what an answer brings in one turn of the loop at once: its head and its body, which come separately.

    Reads no head without end, which the parser would keep in memory. Ignores a wish to upgrade, as HTTP says, where the
    parser would take what follows for another protocol: Java's client wishes so for HTTP/2 with every request.
    """

    _resuming = False

    _head: int | None = None
    """Bytes of a head that has begun; None while none has."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Gathering(transport, self.loop))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._go_on(data[upgrade.args[0] :])
        except HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        if self._head is not None:
            self._head += len(data)
            if self._head > HEAD_LIMIT:
                self._head = None
                self.send_400_response("The request's head is too large.")

    def on_message_begin(self) -> None:
        if not self._resuming:
            self._head = 0
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._resuming:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._resuming:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._resuming:
            self._head = None
            super().on_headers_complete()
        self._resuming = False

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _go_on(self, rest: bytes) -> None:
        """Read the body, and what comes after it, by a parser that has not heard of the upgrade."""
        framing = [name + b": " + value for name, value in self.headers if name in BODY_HEADERS]
        method = str(self.scope["method"]).encode()
        self.parser = HttpRequestParser(self)
        self._resuming = True
        self.data_received(b"\r\n".join([method + b" / HTTP/1.1", *framing, b"", b""]) + rest)


class _Gathering:
    """A transport whose writes of one turn of the loop are one system call, which on loopback costs 30 µs."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []
        # The rest is the transport's own.
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, piece: bytes) -> None:
        """Write it with the next piece of this turn of the loop, or at its end."""
        if not self._pieces:
            self._loop.call_soon(self._flush)
            self._pieces.append(piece)
        else:
            self._pieces.append(piece)
            self._flush()

    def close(self) -> None:
        """Write what waits, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _flush(self) -> None:
        if self._pieces:
            self._transport.write(b"".join(self._pieces))
            self._pieces.clear()
