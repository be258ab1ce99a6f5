"""Who hears what of the executions' changes: WebSockets what the contract tells them, streams everything.

It is told every change of an execution right after its commit, thousands a second, so what nobody hears costs nothing
but a note of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from nbfunctions.models import Execution, new_id
from nbfunctions.server.patterns import names
from nbfunctions.server.permissions import Caller, may_read
from nbfunctions.server.store.protocol import ExecutionChange
from nbfunctions.server.wire import encoded

__all__ = ["Outbox", "Realtime", "Socket", "Stream", "Trace", "message"]

RECENT: Final = 10_000
"""Changes that a stream can go back."""
WAITING: Final = 1_000
"""Messages that wait for one reader."""
WAITING_BYTES: Final = 8_000_000
"""Their size; a single message may be larger."""

Trace = tuple[str, str, str, str, tuple[str, ...]]
"""A change without what changed: project, function, execution, action, ``$read``."""


class Outbox:
    """What waits to be sent to one reader: a bounded queue that is given up once its reader falls behind."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self.ended = asyncio.Event()
        """Nothing more is taken."""
        self.overflowed = False
        """Whether it ended because more waited than it holds. All of that is forgotten."""

    def put(self, message: bytes) -> None:
        """Have it sent after what waits already."""
        if self.ended.is_set():
            return
        if self._waiting and (len(self._waiting) >= WAITING or self._size + len(message) > WAITING_BYTES):
            self.overflowed = True
            self._waiting.clear()
            self.end()
            return
        self._waiting.append(message)
        self._size += len(message)
        self._news.set()

    def end(self) -> None:
        """Take nothing more; what waits is still sent."""
        self.ended.set()
        self._news.set()

    async def take(self, seconds: float | None = None) -> list[bytes] | None:
        """Return what waits once something does, nothing when that takes longer, and None at the end."""
        if not self._waiting and not self.ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        if not self._waiting and self.ended.is_set():
            return None
        found = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        if not self.ended.is_set():
            self._news.clear()
        return found


class Socket:
    """A WebSocket that is connected."""

    def __init__(self, caller: Caller, channels: tuple[str, ...], response_format: str) -> None:
        self.caller = caller
        self.channels = channels
        self.response_format = response_format
        self.outbox = Outbox()


class Stream:
    """A stream of all changes that a caller may see, or of those of one function."""

    def __init__(self, caller: Caller, function_id: str, response_format: str) -> None:
        self.caller = caller
        self.function_id = function_id
        self.response_format = response_format
        self.outbox = Outbox()
        self.touched: set[str] | None = None
        """Executions that changed while it was told what it had missed; None when it isn't."""

    def shows(self, project_id: str, function_id: str, read: tuple[str, ...]) -> bool:
        """Return whether changes of such an execution belong into it."""
        return (
            project_id == self.caller.project_id
            and (not self.function_id or self.function_id == function_id)
            and may_read(self.caller, read)
        )


class Realtime:
    """Tells every connected reader what it may hear. ``clock`` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._run = new_id()
        self._last = 0
        self._recent: deque[Trace] = deque(maxlen=RECENT)
        self._streams: set[Stream] = set()
        self._sockets: dict[tuple[str, str], set[Socket]] = {}
        """By project and role: an event is for whoever holds one of its execution's roles."""
        self.ended = False
        """Whether everybody was sent away."""

    def on_change(self, change: ExecutionChange) -> None:
        """Take note of a change, and tell it whom it is for."""
        self._last += 1
        execution = change.execution
        self._recent.append((change.project_id, execution.function_id, execution.id, change.action, execution.read))
        if self._streams:
            self._stream(change)
        if self._sockets and change.event and execution.read:
            self._emit(change)

    def end(self) -> None:
        """Send everybody away, also who comes later."""
        self.ended = True
        for stream in self._streams:
            stream.outbox.end()
        for sockets in self._sockets.values():
            for socket in sockets:
                socket.outbox.end()

    # -- streams ----------------------------------------------------------------------------------------

    @property
    def position(self) -> str:
        """The last change, as a stream's reader names it."""
        return f"{self._run}-{self._last}"

    def since(self, position: str) -> list[Trace] | None:
        """Return what changed after ``position``, oldest first; None when that isn't known (any more)."""
        run, _, number = position.rpartition("-")
        if run != self._run or not number.isdecimal() or len(number) > 20:
            return None
        missed = self._last - int(number)
        if not 0 <= missed <= len(self._recent):
            return None
        return list(itertools.islice(self._recent, len(self._recent) - missed, None))

    @contextlib.contextmanager
    def streaming(self, stream: Stream) -> Iterator[None]:
        """Tell a stream all changes meanwhile."""
        self._streams.add(stream)
        if self.ended:
            stream.outbox.end()
        try:
            yield
        finally:
            self._streams.discard(stream)

    def _stream(self, change: ExecutionChange) -> None:
        execution = change.execution
        body = _Body(execution)
        for stream in self._streams:
            if stream.shows(change.project_id, execution.function_id, execution.read):
                if stream.touched is not None:
                    stream.touched.add(execution.id)
                stream.outbox.put(message(change.action, body.of(stream.response_format), self.position))

    # -- WebSockets -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def connected(self, socket: Socket) -> Iterator[None]:
        """Tell a WebSocket its events meanwhile."""
        self._seat(socket)
        if self.ended:
            socket.outbox.end()
        try:
            yield
        finally:
            self._unseat(socket)

    def change_caller(self, socket: Socket, caller: Caller, channels: tuple[str, ...]) -> None:
        """From now on, a connected WebSocket is somebody else's."""
        self._unseat(socket)
        socket.caller, socket.channels = caller, channels
        self._seat(socket)

    def _seat(self, socket: Socket) -> None:
        for role in socket.caller.roles:
            self._sockets.setdefault((socket.caller.project_id, role), set()).add(socket)

    def _unseat(self, socket: Socket) -> None:
        for role in socket.caller.roles:
            key = (socket.caller.project_id, role)
            sockets = self._sockets.get(key, set())
            sockets.discard(socket)
            if not sockets:
                self._sockets.pop(key, None)

    def _emit(self, change: ExecutionChange) -> None:
        """Tell an event (spec, section 11.3)."""
        execution = change.execution
        found: set[Socket] = set()
        for role in execution.read:
            found |= self._sockets.get((change.project_id, role), set())
        if not found:
            return
        now = self._clock()
        channels = (
            "console",
            "executions",
            f"executions.{execution.id}",
            f"functions.{execution.function_id}",
        )
        data: dict[str, Any] = {
            "events": names((("functions", execution.function_id), ("executions", execution.id)), change.event),
            "channels": channels,
            "timestamp": int(now),
        }
        body = _Body(execution)
        for socket in found:
            ends = socket.caller.expires_at
            if (ends and ends <= now) or set(channels).isdisjoint(socket.channels):
                continue
            payload = msgspec.Raw(body.of(socket.response_format))
            socket.outbox.put(encoded({"type": "event", "data": {**data, "payload": payload}}))


class _Body:
    """An execution as JSON, made once for each format that somebody reads."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._made: dict[str, bytes] = {}

    def of(self, response_format: str) -> bytes:
        found = self._made.get(response_format)
        if found is None:
            found = self._made[response_format] = encoded(self._execution, response_format)
        return found


def message(event: str, data: bytes, position: str = "") -> bytes:
    """Return one event of a stream; without ``position`` its reader's stays what it was."""
    return b"%sevent: %s\ndata: %s\n\n" % (f"id: {position}\n".encode() if position else b"", event.encode(), data)
