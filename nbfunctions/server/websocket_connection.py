"""A WebSocket's bytes: uvicorn's protocol, which trusts its client, for one that isn't trusted."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import State

from nbfunctions.server.patience import LEAVING, Patience

__all__ = ["MESSAGE_LIMIT", "WebSocketConnection"]

MESSAGE_LIMIT: Final = 64_000
"""Bytes of a message that a WebSocket takes (spec, section 11.2)."""
PIECES_LIMIT: Final = 1_000
"""Frames of such a message, which may be empty."""


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket that nobody keeps open, or lets grow, by not reading or by breaking the protocol's rules."""

    patience: Patience

    _has_failed = False
    """Whether the client broke a rule; what it says is not read any more."""

    _rest = b""
    """What came before the handshake's answer: no client sends that, so it is looked at afterwards."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.patience = Patience(self.loop, transport)
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
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # a refusal completes it, too
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
