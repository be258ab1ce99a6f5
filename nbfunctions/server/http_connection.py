"""The bytes of HTTP: uvicorn's protocol with one write an answer, and limits in time and size on whatever comes."""

from __future__ import annotations

import asyncio
import functools
import re
from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from nbfunctions.server.patience import LEAVING, Patience
from nbfunctions.server.websocket_connection import WebSocketConnection
from nbfunctions.server.wire import WHOLE

__all__ = ["HttpConnection"]

HEAD_LIMIT: Final = 256 * 1024
"""Bytes of a request's first line and headers, or of what follows its last chunk; what comes at once may be more."""
HEAD_TIME: Final = 60.0
"""Seconds in which a head must have come, from its first byte on; in a new connection from the beginning."""
BODY_TIME: Final = 120.0
"""Seconds without a byte of a body that isn't complete."""
REST_TIME: Final = 30.0
"""Seconds that the rest of a body may take that was answered before it was complete."""
BODY_HEADERS: Final = (b"content-length", b"transfer-encoding", b"connection")
"""What says how long a body is, and whether another request may follow."""


_AUTHORITY_END: Final = re.compile(rb"[/?#]")


class HttpConnection(HttpToolsProtocol):
    """Writes what an answer brings in one turn of the loop at once: its head and its body, which come separately.

    Reads no head without end, which the parser would keep in memory, and waits for none without end; takes one ``Host``
    only, and no header that comes after the body. Hands a WebSocket's connection over; ignores any other wish to
    upgrade, as HTTP says, where the parser would take what follows for another protocol: Java's client wishes so for
    HTTP/2 with every request.
    """

    patience: Patience

    _resuming = False

    _head: int | None = None
    """Bytes of a head that has begun, or of what follows a chunk's size; None while neither has."""

    _in_body = False
    """Whether a head has come whose body isn't complete."""

    _limit: asyncio.TimerHandle | None = None
    """When what has begun must have ended."""

    _seconds = 0.0
    """How long it may take."""

    _lingers = False
    """Whether the last answer is out and only the rest of its request's body is waited for: a connection that is closed
    while something comes is reset, and takes the answer with it."""

    _is_websocket = False
    """Whether the head that was read last is a WebSocket's."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.patience = Patience(self.loop, transport)
        super().connection_made(_Gathering(transport, self.loop))  # type: ignore[arg-type]
        self.flow = _Flow(self)
        self._wait(HEAD_TIME)

    def connection_lost(self, exc: Exception | None) -> None:
        self.patience.end()
        self._wait_no_more()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self.patience.begin()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.patience.end()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        if not self.transport.is_closing():
            self._leave()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        self._leave()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body and self.cycle.response_complete and not self.transport.is_closing():
            self._wait(REST_TIME)

    def _leave(self) -> None:
        """End the connection; a client that doesn't read what is on its way is not waited for."""
        self._wait_no_more()
        self.transport.close()
        self.patience.begin(LEAVING)

    def _wait(self, seconds: float) -> None:
        self._wait_no_more()
        self._seconds = seconds
        self._limit = self.loop.call_later(seconds, self._waited)

    def _wait_no_more(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _waited(self) -> None:
        if self._is_answering() and (self.flow.read_paused or not self._in_body):
            self._wait(self._seconds)  # it is the server that takes its time
        else:
            self._leave()

    def _is_answering(self) -> bool:
        """Return whether the request whose head was read last has not been answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def shutdown(self) -> None:
        super().shutdown()
        if self.cycle is not None and self.cycle.more_body:  # the rest may never come
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._is_websocket:
                self._hand_over(rest)
            else:
                self._go_on(rest)
            return
        except HttpParserError:
            if self._lingers:
                self._leave()
            else:
                self.send_400_response("Invalid HTTP request received.")
            return
        if self._head is not None:
            self._head += len(data)
            if self._head > HEAD_LIMIT:
                self.send_400_response("The request's head is too large.")
                return
        if self._head is None and self._is_answering():
            if self._in_body:
                self._wait(BODY_TIME)
            else:
                self._wait_no_more()
        elif self._limit is None or (self._seconds != HEAD_TIME and (self._head is not None or not self._in_body)):
            self._wait(HEAD_TIME)

    def on_message_begin(self) -> None:
        if self._lingers:
            raise ValueError("the last request has been answered")
        if not self._resuming:
            self._head = 0
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._resuming:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._resuming:
            self._head = None
            self._see_host()
            self._in_body = True
            self._is_websocket = self.parser.should_upgrade() and self._wishes_websocket()
            super().on_headers_complete()
            if not self._is_websocket:
                extensions: dict[str, Any] = {WHOLE: functools.partial(_answer, self, self.cycle)}
                self.scope["extensions"] = extensions
        self._resuming = False

    def on_chunk_header(self) -> None:
        """Count what follows: the last chunk has no content, and headers behind it that nobody asked for."""
        self._head = 0

    def on_body(self, body: bytes) -> None:
        self._head = None
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            self._head = None
            self._in_body = False
            super().on_message_complete()
            if self._lingers:
                self._leave()

    def linger(self) -> None:
        """End the connection behind the last answer, once the body that it didn't wait for has come."""
        self._lingers = True
        self.transport.write_eof()
        self._wait(REST_TIME)

    def _see_host(self) -> None:
        """See that a head says once which host it asks; a target with a host of its own is believed (RFC 9112, 3.2)."""
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() != "1.0"):
            raise ValueError("a request has one host")
        if not self.url.startswith(b"/") and b"://" in self.url:
            target = _AUTHORITY_END.split(self.url.partition(b"://")[2], maxsplit=1)[0]
            self.headers[:] = [header for header in self.headers if header[0] != b"host"] + [(b"host", target)]

    def _should_upgrade(self) -> bool:
        return self._is_websocket

    def _wishes_websocket(self) -> bool:
        """Return whether a head begins a WebSocket, and the connection is free for it: nothing is on its way."""
        names = {name for name, _ in self.headers}
        return (
            self.parser.get_method() == b"GET"
            and self._get_upgrade() == b"websocket"
            and b"sec-websocket-key" in names
            and names.isdisjoint((b"content-length", b"transfer-encoding"))
            and self.url.isascii()
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
        )

    def _hand_over(self, rest: bytes) -> None:
        """Let the connection be a WebSocket's; ``rest`` came behind its head."""
        gathering: Any = self.transport
        transport = gathering.release()
        self._wait_no_more()
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment]
        head = [b"GET ", self.url, b" HTTP/1.1\r\n", *(b"%b: %b\r\n" % header for header in self.headers), b"\r\n"]
        socket = WebSocketConnection(self.config, self.server_state, self.app_state, self.loop)
        transport.set_protocol(socket)
        socket.connection_made(transport)
        socket.begin(b"".join(head), rest)

    def _go_on(self, rest: bytes) -> None:
        """Read the body, and what comes after it, by a parser that has not heard of the upgrade."""
        framing = [name + b": " + value for name, value in self.headers if name in BODY_HEADERS]
        method = str(self.scope["method"]).encode()
        self.parser = HttpRequestParser(self)
        self._resuming = True
        self.data_received(b"\r\n".join([method + b" / HTTP/1.1", *framing, b"", b""]) + rest)


async def _answer(protocol: HttpConnection, cycle: Any, status: int, lines: bytes, body: bytes) -> None:
    """Send a whole answer at once, as the cycle of a request does in pieces; ``lines`` are its headers as they are."""
    if cycle.flow.write_paused and not cycle.disconnected:
        await cycle.flow.drain()
    if cycle.disconnected:
        return
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    head = [STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in cycle.default_headers), lines]
    if not cycle.keep_alive:
        head.append(b"connection: close\r\n")
    cycle.transport.write_whole(b"".join([*head, b"\r\n", b"" if cycle.scope["method"] == "HEAD" else body]))
    cycle.message_event.set()
    if not cycle.keep_alive:
        if cycle.more_body:
            protocol.linger()
        else:
            cycle.transport.close()
    cycle.on_response()


class _Flow(FlowControl):
    """Reads nothing more while requests wait that have come: a client could fill the memory with them."""

    def __init__(self, protocol: HttpConnection) -> None:
        super().__init__(protocol.transport)
        self._protocol = protocol

    def resume_reading(self) -> None:
        if not self._protocol.pipeline:
            super().resume_reading()


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

    def write_whole(self, piece: bytes) -> None:
        """Write it now, behind what waits."""
        self._flush()
        self._transport.write(piece)

    def write_eof(self) -> None:
        """Write what waits, and nothing more."""
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Write what waits, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def release(self) -> asyncio.Transport:
        """Write what waits, and return the transport itself."""
        self._flush()
        return self._transport

    def _flush(self) -> None:
        if self._pieces:
            pieces = b"".join(self._pieces)
            self._pieces.clear()
            if not self._transport.is_closing():  # the client may be gone by now
                self._transport.write(pieces)
