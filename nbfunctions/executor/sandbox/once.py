"""Runs a program in a sandbox to its end: self-tests and checks of a build."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from nbfunctions.executor.sandbox.protocol import Child, Room, Sandbox

__all__ = ["run_once"]


async def run_once(sandbox: Sandbox, room: Room, arguments: Sequence[str], *, seconds: float) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr of the room's interpreter.

    Raises ``OSError`` when it can't be started and ``TimeoutError`` after ``seconds``. Nothing stays behind.
    """
    stdout, stderr = os.memfd_create("stdout"), os.memfd_create("stderr")
    try:
        child = sandbox.start(room, arguments, fds=(), stdout=stdout, stderr=stderr)
        try:
            async with asyncio.timeout(seconds):
                status = await _end(child)
        except BaseException:
            child.kill()
            await _end(child)
            raise
        return status, _content(stdout), _content(stderr)
    finally:
        os.close(stdout)
        os.close(stderr)


async def _end(child: Child) -> int:
    loop = asyncio.get_running_loop()
    while True:
        exited: asyncio.Future[None] = loop.create_future()
        loop.add_reader(child.pidfd, _settle, exited)
        try:
            await exited
        finally:
            loop.remove_reader(child.pidfd)
        status = child.reap()
        if status is not None:
            return status


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _content(fd: int) -> str:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0).decode("utf-8", "replace")
