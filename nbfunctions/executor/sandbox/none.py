"""No isolation: the process runs as the server's user and sees what that user sees.

For trusted code, and only when asked for.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from nbfunctions.executor.sandbox.protocol import Child, Places, Promise, Room

__all__ = ["Unconfined"]


class Unconfined:
    """Starts processes with limits, and nothing else."""

    name = "none"
    promises: frozenset[Promise] = frozenset({"environment"})

    def __init__(self, tmp: Path) -> None:
        self._tmp = tmp
        self._prlimit = shutil.which("prlimit")
        self._setpriv = shutil.which("setpriv")

    def places(self, room: Room) -> Places:
        """Return the host's own paths."""
        packages = str(room.packages) if room.packages is not None else ""
        return Places(runtime=str(room.runtime), code=str(room.code), packages=packages, tmp=str(self._tmp))

    def start(self, room: Room, arguments: Sequence[str], *, fds: Sequence[int], stdout: int, stderr: int) -> Child:
        """Start it in a process group of its own."""
        self._tmp.mkdir(parents=True, exist_ok=True)
        limits = room.limits
        command: list[str] = []
        if self._prlimit is not None:
            # Not RLIMIT_NPROC: without a namespace it would count everything this user runs.
            memory = limits.memory * 1024 * 1024
            command += [self._prlimit, f"--nofile={limits.open_files}", "--core=0", f"--data={memory}", "--"]
        if self._setpriv is not None:
            command += [self._setpriv, "--pdeathsig", "KILL", "--"]
        process = subprocess.Popen(
            [*command, str(room.interpreter.executable), *arguments],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=fds,
            cwd=self._tmp,
            start_new_session=True,
        )
        return Child(process, group=True, ended=lambda: None)

    def describe(self) -> Mapping[str, str]:
        """Return what each limit is enforced by."""
        limited = self._prlimit is not None
        return {
            "files": "not isolated",
            "processes": "not isolated, not limited",
            "privileges": "the server's own",
            "memory": "RLIMIT_DATA for each process" if limited else "not limited (prlimit is missing)",
            "tmp": "not limited",
            "open files": "RLIMIT_NOFILE" if limited else "not limited (prlimit is missing)",
            "network": "not isolated: the host's network",
            "cpu": "not limited",
        }
