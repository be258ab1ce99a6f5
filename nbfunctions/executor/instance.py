"""One running runtime: a sandboxed process, the socket to it, and what it prints."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

from nbfunctions.executor.frames import FrameInvalid, Replies, Reply, pack_frame
from nbfunctions.executor.sandbox.protocol import Child, Room, Sandbox
from nbfunctions.models import OUTPUT_LIMIT, Layer

__all__ = ["CallTimeout", "Instance", "InstanceEnded", "StartFailed"]

PIECE: Final = 65_536
DRAIN_LIMIT: Final = 32
"""Pieces read at once at the end of a call: twice the largest pipe (1 MiB), so that it ends whatever is written."""
GRACE: Final = 0.25
"""Seconds between the end of the socket and the kill: the time an exiting process needs to tell its exit status."""


class InstanceEnded(Exception):
    """The process ended, or was ended, before it answered; the message says how, ``layer`` by whom."""

    def __init__(self, message: str, layer: Layer) -> None:
        super().__init__(message)
        self.layer: Layer = layer


class CallTimeout(Exception):
    """No answer came in time; the process was killed."""


class StartFailed(Exception):
    """No instance came of it; the message says why, ``layer`` where."""

    def __init__(self, message: str, layer: Layer) -> None:
        super().__init__(message)
        self.layer: Layer = layer


class Output:
    """Collects the first bytes of a pipe; what comes after them is read and thrown away."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._kept = bytearray()
        os.set_blocking(fd, False)

    def read(self) -> int | None:
        """Take what is there, one piece; return its size: None when nothing is there, 0 when nothing will come."""
        if self.fd < 0:
            return 0
        try:
            piece = os.read(self.fd, PIECE)
        except BlockingIOError:
            return None
        room = OUTPUT_LIMIT - len(self._kept)
        if room > 0:
            self._kept += piece[:room]
        return len(piece)

    def forget(self) -> None:
        """Throw away what was taken so far."""
        self._kept.clear()

    def drain(self) -> None:
        """Take all that is there."""
        for _ in range(DRAIN_LIMIT):
            if not self.read():
                break

    def close(self) -> None:
        """Take what is left and close the pipe; :meth:`take` still returns it."""
        if self.fd >= 0:
            self.drain()
            os.close(self.fd)
            self.fd = -1

    def take(self) -> str:
        """Return what was written since the last time, cut to the limit between two characters."""
        self.drain()
        if not self._kept:
            return ""
        kept = bytes(self._kept)
        self._kept.clear()
        if len(kept) == OUTPUT_LIMIT:
            kept = kept.decode("utf-8", "replace").encode()[:OUTPUT_LIMIT]
            return kept.decode("utf-8", "ignore")
        return kept.decode("utf-8", "replace")


class Instance:
    """A process that answers one call at a time.

    ``on_end`` is called once, when the process has ended and been reaped. Made inside a running event loop; raises
    ``OSError`` when the process can't be started.
    """

    def __init__(self, sandbox: Sandbox, room: Room, on_end: Callable[[Instance], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self._replies = Replies()
        self._waiting: asyncio.Future[tuple[Reply, bytes]] | None = None
        self._unsent = b""
        self._ending: asyncio.TimerHandle | None = None
        self._reason = ""
        self._layer: Layer = "code"
        self._called = False
        self.alive = True
        """Whether it may be given a call."""
        self.greeted = False
        """Whether the runtime inside has begun to run: the sandbox stands."""
        self.ended: asyncio.Future[int] = self._loop.create_future()
        """Done, with the exit status, when the process is gone."""
        self._child = self._spawn(sandbox, room)
        self._loop.add_reader(self._socket.fileno(), self._on_readable)
        for output in (self.stdout, self.stderr):
            self._loop.add_reader(output.fd, self._on_output, output)
        self._loop.add_reader(self._child.pidfd, self._on_exit)

    def _spawn(self, sandbox: Sandbox, room: Room) -> Child:
        self._socket, theirs = socket.socketpair()
        (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe()
        self._socket.setblocking(False)
        self.stdout, self.stderr = Output(out_read), Output(err_read)
        main = f"{sandbox.places(room).runtime}/nbfunctions_runtime/main.py"
        arguments = ["-I", "-S", "-X", "utf8", main, str(theirs.fileno())]
        try:
            return sandbox.start(room, arguments, fds=[theirs.fileno()], stdout=out_write, stderr=err_write)
        except BaseException:
            self._close_files()
            raise
        finally:
            theirs.close()
            os.close(out_write)
            os.close(err_write)

    async def load(self, start: dict[str, Any], seconds: float) -> None:
        """Have the code loaded; raises :class:`StartFailed` when that fails or takes longer, and ends the instance."""
        try:
            reply, body = await self._exchange({"type": "start", **start}, b"", seconds)
        except CallTimeout:
            what = "the code was not loaded" if self.greeted else "the sandbox did not start"
            raise StartFailed(f"{self.stderr.take()}{what} within {seconds:g} seconds", "limit") from None
        except InstanceEnded as error:
            printed = self.stderr.take()
            if self.greeted:
                raise StartFailed(f"{printed}{error} and before its code was loaded", error.layer) from None
            raise StartFailed(f"the sandbox could not be started: {printed.strip() or error}", "start") from None
        if reply.type != "ready":
            message = self.stderr.take() + body.decode("utf-8", "replace")
            self.kill("it was not needed any more")
            raise StartFailed(message, reply.layer or "code")

    async def call(self, head: dict[str, Any], body: bytes, seconds: float) -> tuple[Reply, bytes]:
        """Return the answer to one call; raises :class:`CallTimeout`, :class:`InstanceEnded`. Cancelling kills."""
        if self._called:
            # A thread of an earlier call wrote it; what was written while loading belongs to the first call.
            self.stdout.forget()
            self.stderr.forget()
        self._called = True
        return await self._exchange(head, body, seconds)

    def is_usable(self) -> bool:
        """Return whether the process lives, as far as its socket can tell this moment."""
        if not self.alive:
            return False
        try:
            found = self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            found = b""
        # Either it has gone, or it speaks without being asked.
        self._lose("the function's process spoke out of turn" if found else "")
        return False

    def kill(self, reason: str = "it was stopped") -> None:
        """End the process and everything it started; :attr:`ended` tells when it is gone."""
        self.alive = False
        if not self._reason:
            self._reason = f"the function's process was ended: {reason}"
            self._layer = "platform"
        self._child.kill()

    async def _exchange(self, head: dict[str, Any], body: bytes, seconds: float) -> tuple[Reply, bytes]:
        waiting: asyncio.Future[tuple[Reply, bytes]] = self._loop.create_future()
        self._waiting = waiting
        timer = self._loop.call_later(seconds, self._on_timeout)
        try:
            if self.ended.done():
                self._fail()
            self._send(pack_frame(head, body))
            return await waiting
        except asyncio.CancelledError:
            self.kill("its call was cancelled")
            raise
        finally:
            timer.cancel()
            self._waiting = None

    def _send(self, frame: bytes) -> None:
        try:
            sent = self._socket.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The end of the process is on its way to us by its pidfd.
            return
        if sent < len(frame):
            self._unsent = frame[sent:]
            self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = b""
        if not self._unsent:
            self._loop.remove_writer(self._socket.fileno())

    def _on_readable(self) -> None:
        try:
            piece = self._socket.recv(262_144)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._lose("")
            return
        self._replies.feed(piece)
        try:
            frame = self._replies.next()
            if frame is not None and frame[0].type == "hello" and not self.greeted:
                self.greeted = True
                frame = self._replies.next()
            if frame is not None:
                self._on_frame(*frame)
        except FrameInvalid as error:
            self._lose(f"the function's process {error}, which is no answer")

    def _on_frame(self, reply: Reply, body: bytes) -> None:
        if self._waiting is None or reply.type == "hello":
            raise FrameInvalid("spoke out of turn")
        if reply.last:
            self.alive = False
        if not self._waiting.done():
            self._waiting.set_result((reply, body))
        if self._replies:
            # One answer is one answer: what follows it would be taken for that of the next call.
            raise FrameInvalid("spoke out of turn")

    def _on_output(self, output: Output) -> None:
        if output.read() == 0:
            self._loop.remove_reader(output.fd)

    def _on_timeout(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(CallTimeout())
            self.kill("it took too long")

    def _lose(self, reason: str) -> None:
        """Let it go: nothing more is heard from it; kill it if it doesn't end by itself."""
        self.alive = False
        self._reason = self._reason or reason
        self._loop.remove_reader(self._socket.fileno())
        if self._ending is None:
            self._ending = self._loop.call_later(0 if reason else GRACE, self._child.kill)

    def _on_exit(self) -> None:
        pidfd = self._child.pidfd
        status = self._child.reap()
        if status is None:
            return
        self.alive = False
        self._loop.remove_reader(pidfd)
        if not self._reason:
            self._reason = f"the function's process {_how_it_ended(status)} before it answered"
        if self._ending is not None:
            self._ending.cancel()
        # What was printed last is still in the pipes; a frame sent just before the end still counts.
        if self._waiting is not None and not self._waiting.done():
            self._on_readable()
        self._stop_watching()
        self.ended.set_result(status)
        self._fail()
        self._close_files()
        self._on_end(self)

    def _fail(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(InstanceEnded(self._reason, self._layer))

    def _stop_watching(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        for output in (self.stdout, self.stderr):
            if output.fd >= 0:
                self._loop.remove_reader(output.fd)

    def _close_files(self) -> None:
        self._socket.close()
        self.stdout.close()
        self.stderr.close()


def _how_it_ended(status: int) -> str:
    if status <= 128:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(status - 128).name}"
    except ValueError:
        return f"ended with exit status {status}"
