"""uvicorn, as this server uses it: one write an answer, signals left alone, an end that waits for nobody."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import uvicorn
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import State

__all__ = ["HttpServer"]

HEAD_LIMIT: Final = 256 * 1024
"""Bytes of a request's first line and headers; what comes at once may be more."""
BODY_HEADERS: Final = (b"content-length", b"transfer-encoding", b"connection")
"""What says how long a body is, and whether another request may follow."""
MESSAGE_LIMIT: Final = 64_000
"""Bytes of a message that a WebSocket takes (spec, section 11.2)."""
PIECES_LIMIT: Final = 1_000
"""Frames of such a message, which may be empty."""
READING: Final = 60.0
"""Seconds that a client may take to read anything of what waits for it."""
LEAVING: Final = 5.0
"""Seconds that it may take when its connection is to end."""


class HttpServer(uvicorn.Server):
    """Answers HTTP for an ASGI application until :meth:`refuse` is called."""

    def __init__(self, app: Any, *, stop_timeout: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=_Protocol,
                ws=_WebSocket,
                ws_max_size=MESSAGE_LIMIT,
                ws_per_message_deflate=False,
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
            connection.patience.hurry()
        self.should_exit = True


class _Patience:
    """Cuts a connection off whose client reads nothing: closing it would wait until everything is read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._waiting: asyncio.TimerHandle | None = None

    def begin(self, seconds: float = READING) -> None:
        """From now on it has so long."""
        self.end()
        self._waiting = self._loop.call_later(seconds, self._transport.abort)

    def end(self) -> None:
        """It has read, or is gone."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def hurry(self) -> None:
        """Shorten the time, if it has begun: the server stops."""
        if self._waiting is not None or self._transport.is_closing():
            self.begin(LEAVING)


class _Protocol(HttpToolsProtocol):
    """Writes what an answer brings in one turn of the loop at once: its head and its body, which come separately.

    Reads no head without end, which the parser would keep in memory. Hands a WebSocket's connection over; ignores any
    other wish to upgrade, as HTTP says, where the parser would take what follows for another protocol: Java's client
    wishes so for HTTP/2 with every request.
    """

    patience: _Patience

    _resuming = False

    _head: int | None = None
    """Bytes of a head that has begun; None while none has."""

    _is_websocket = False
    """Whether the head that was read last is a WebSocket's."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.patience = _Patience(self.loop, transport)
        super().connection_made(_Gathering(transport, self.loop))  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        self.patience.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self.patience.begin()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.patience.end()
        super().resume_writing()

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
            self._is_websocket = self.parser.should_upgrade() and self._wishes_websocket()
            super().on_headers_complete()
        self._resuming = False

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

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
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment]
        head = [b"GET ", self.url, b" HTTP/1.1\r\n", *(b"%b: %b\r\n" % header for header in self.headers), b"\r\n"]
        socket = _WebSocket(self.config, self.server_state, self.app_state, self.loop)
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


class _WebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that nobody keeps open, or lets grow, by not reading or by breaking the protocol's rules."""

    patience: _Patience

    _has_failed = False
    """Whether the client broke a rule; what it says is not read any more."""

    _rest = b""
    """What came before the handshake's answer: no client sends that, so it is looked at afterwards."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.patience = _Patience(self.loop, transport)
        super().connection_made(transport)

    def begin(self, head: bytes, rest: bytes) -> None:
        """Read the handshake; nothing more before it is answered."""
        self.transport.pause_reading()
        self._rest = rest
        self.data_received(head)
        if not self.handshake_initiated:  # a line too long, a header too many
            refusal = b"".join(self.conn.data_to_send())
            self.transport.write(
                refusal or b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            self.transport.close()
        if self.transport.is_closing():
            self.patience.begin(LEAVING)

    def connection_lost(self, exc: Exception | None) -> None:
        self.patience.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self.patience.begin()
        super().pause_writing()

    def resume_writing(self) -> None:
        if not self.close_sent and not self.transport.is_closing():
            self.patience.end()
        super().resume_writing()

    def shutdown(self) -> None:
        if self.handshake_complete and self.conn.state is not State.OPEN:
            self.transport.close()
        else:
            super().shutdown()
        self.patience.begin(LEAVING)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= PIECES_LIMIT:
            self._fail(1009)
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:  # answers to pings would pile up
            self.conn.data_to_send()

    def send_receive_event_to_app(self) -> None:
        try:
            if self.curr_msg_data_type == "text":
                b"".join(self.frames).decode()
        except UnicodeDecodeError:
            self._fail(1007)
        else:
            super().send_receive_event_to_app()

    def data_received(self, data: bytes) -> None:
        if not self._has_failed:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """Say why it ends, and wait until the client has read it: a connection closed earlier would be reset."""
        said = self.conn.close_sent
        self._has_failed = True
        if said is None:
            self.transport.abort()
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": said.code, "reason": said.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.write_eof()
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(LEAVING, self.transport.close)
        self.patience.begin(LEAVING)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.patience.begin(LEAVING)

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.close":
            self.writable.set()  # who doesn't read is told so behind what it didn't read
        await self.writable.wait()
        if self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        if message["type"] == "websocket.close":
            self.patience.begin(self.close_timeout)
        await super().send(message)
        if message["type"] == "websocket.accept" and not self.transport.is_closing():
            rest, self._rest = self._rest, b""
            self.transport.resume_reading()
            if rest:
                self.data_received(rest)

    def _fail(self, code: int) -> None:
        """End it, because of what came."""
        self.frames = []
        if not self.close_sent:
            self.conn.fail(code)
            self.handle_parser_exception()


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

    def release(self) -> asyncio.Transport:
        """Write what waits, and return the transport itself."""
        self._flush()
        return self._transport

    def _flush(self) -> None:
        if self._pieces:
            self._transport.write(b"".join(self._pieces))
            self._pieces.clear()
