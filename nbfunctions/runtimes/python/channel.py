"""Frames over a socket: ``>II`` lengths of head and body, the head as JSON, the body as raw bytes."""

from __future__ import annotations

import json
import os
import struct

TYPE_CHECKING = False  # importing typing would cost every cold start milliseconds
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple

    Frame = Tuple[Dict[str, Any], bytes]

__all__ = ["Channel"]

LENGTHS = struct.Struct(">II")


class Channel:
    """The child's end of the socket, read and written without waiting for anything but the peer."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._fd = fd
        self._buffer = b""

    def receive(self) -> Frame | None:
        """Return the next frame, or None when the peer has gone."""
        buffer = self._buffer
        wanted = LENGTHS.size
        head_size = -1
        while True:
            if head_size < 0 and len(buffer) >= LENGTHS.size:
                head_size, body_size = LENGTHS.unpack_from(buffer)
                wanted = LENGTHS.size + head_size + body_size
            if head_size >= 0 and len(buffer) >= wanted:
                break
            buffer = self._more(buffer, wanted)
            if not buffer:
                return None
        start = LENGTHS.size + head_size
        self._buffer = buffer[wanted:]
        return json.loads(buffer[LENGTHS.size : start]), buffer[start:wanted]

    def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame, whole."""
        text = json.dumps(head).encode()
        frame = memoryview(LENGTHS.pack(len(text), len(body)) + text + body)
        while frame:
            frame = frame[os.write(self._fd, frame) :]

    def _more(self, buffer: bytes, wanted: int) -> bytes:
        pieces = [buffer]
        missing = wanted - len(buffer)
        while missing > 0:
            piece = os.read(self._fd, max(missing, 65536))
            if not piece:
                return b""
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)
