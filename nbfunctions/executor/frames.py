"""Frames between the executor and a runtime: ``>II`` lengths of head and body, the head as JSON, the body as raw bytes.

The peer runs other people's code. :class:`Replies` takes its bytes and gives a frame only when it is whole and valid.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Final, Literal

import msgspec

from nbfunctions.models import OUTPUT_LIMIT, ResponseType

__all__ = ["FrameInvalid", "Replies", "Reply", "pack_frame"]

LENGTHS: Final = struct.Struct(">II")
HEAD_LIMIT: Final = 4096
"""Bytes of a reply's head: a handful of short fields."""


class FrameInvalid(Exception):
    """The runtime sent something that is no frame; the message says what."""


class Reply(msgspec.Struct, frozen=True):
    """The head of a frame from a runtime (see :mod:`nbfunctions.runtimes.python`)."""

    type: Literal["hello", "ready", "failed", "answer"]
    status: Annotated[int, msgspec.Meta(ge=100, le=599)] = 500
    kind: ResponseType = "text"
    layer: Literal["", "code", "limit"] = ""
    last: bool = False
    """Whether the process is of no use for a further call."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Reply).decode


def pack_frame(head: Any, body: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    text = _encode(head)
    return LENGTHS.pack(len(text), len(body)) + text + body


class Replies:
    """Collects the bytes of one runtime."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __bool__(self) -> bool:
        """Whether there are bytes of a frame that is not whole."""
        return bool(self._bytes)

    def feed(self, piece: bytes) -> None:
        """Take what was read."""
        self._bytes += piece

    def next(self) -> tuple[Reply, bytes] | None:
        """Return the next frame, or None until it is whole. Raises :class:`FrameInvalid`."""
        held = self._bytes
        if len(held) < LENGTHS.size:
            return None
        head_size, body_size = LENGTHS.unpack_from(held)
        if head_size > HEAD_LIMIT or body_size > OUTPUT_LIMIT:
            raise FrameInvalid(f"announced a head of {head_size} and a body of {body_size} bytes")
        start = LENGTHS.size + head_size
        end = start + body_size
        if len(held) < end:
            return None
        try:
            reply = _decode(held[LENGTHS.size : start])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise FrameInvalid(f"sent a head that can't be read ({error})") from None
        body = bytes(held[start:end])
        del held[:end]
        return reply, body
