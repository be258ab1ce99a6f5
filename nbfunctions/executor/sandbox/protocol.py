"""What the executor asks of a sandbox: start one process with these folders and limits, and nothing else.

A driver is a :class:`Sandbox`. It doesn't know what a function, a call or a frame is. What a driver promises is
proved on the host it runs on by :func:`nbfunctions.executor.sandbox.proof.prove`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from nbfunctions.settings import Settings

__all__ = ["Child", "Interpreter", "Limits", "Places", "Promise", "Room", "Sandbox"]

Promise = Literal["files", "code", "processes", "privileges", "environment"]
"""What a driver can promise: only the room's files are visible; code can't be changed; other processes are neither
seen nor reached; no privileges and no way to gain any; nothing of the server's environment is to be found."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A language's program on this host."""

    executable: Path
    roots: tuple[Path, ...] = ()
    """Folders and files it needs beyond ``/usr`` (an installation below a home, for example)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one sandbox may use."""

    memory: int
    """MB of private writable memory."""
    tmp_size: int
    """MB of ``/tmp``."""
    processes: int
    """Processes and threads together."""
    open_files: int
    """Files open at once in one process."""

    @staticmethod
    def of(settings: Settings, memory: int) -> Limits:
        """Return the limits in force, with ``memory`` MB."""
        return Limits(
            memory=memory, tmp_size=settings.tmp_size, processes=settings.processes, open_files=settings.open_files
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Room:
    """What is visible inside, all of it read-only, and its limits."""

    interpreter: Interpreter
    runtime: Path
    code: Path
    packages: Path | None
    limits: Limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Where the room's folders are, as seen from inside."""

    runtime: str
    code: str
    packages: str
    """Empty when there are none."""
    tmp: str


class Child:
    """A sandboxed process: it can be killed with everything it started, watched and reaped."""

    def __init__(self, process: subprocess.Popen[bytes], *, group: bool, ended: Callable[[], None]) -> None:
        self.process = process
        self._group = group
        self._ended: Callable[[], None] | None = ended
        try:
            self.pidfd = os.pidfd_open(process.pid)
            """Becomes readable when the process has ended; closed by :meth:`reap`."""
        except OSError:  # Linux before 5.3
            process.kill()
            process.wait()
            ended()
            raise

    def kill(self) -> None:
        """End the process and all it started, now; harmless when it has ended."""
        if self._ended is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._group:
                os.killpg(self.process.pid, signal.SIGKILL)
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> int | None:
        """Return the exit status (128 + signal number for a signal), or None while it lives."""
        status = self.process.poll()
        if status is None:
            return None
        if self._ended is not None:
            os.close(self.pidfd)
            self._ended()
            self._ended = None
        return 128 - status if status < 0 else status


class Sandbox(Protocol):
    """A way to isolate a process."""

    @property
    def name(self) -> str:
        """Name for people: ``bubblewrap``, ``none``."""
        ...

    @property
    def promises(self) -> frozenset[Promise]:
        """What the self-test must find to be true."""
        ...

    def places(self, room: Room) -> Places:
        """Return where the room's folders will be seen."""
        ...

    def start(self, room: Room, arguments: Sequence[str], *, fds: Sequence[int], stdout: int, stderr: int) -> Child:
        """Start the room's interpreter with ``arguments``; it inherits ``fds`` under the same numbers.

        Its environment holds nothing of the server's. Raises ``OSError`` when it can't be started.
        """
        ...

    def describe(self) -> Mapping[str, str]:
        """Return what each protection and limit is enforced by, in words."""
        ...
