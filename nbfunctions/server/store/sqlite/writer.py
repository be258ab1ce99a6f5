"""One thread that writes, with group commit: whatever waits while it commits is the next commit.

A *change* is a plain function of the connection. It runs inside a savepoint, so that one that raises undoes itself and
harms no neighbour; its caller gets the answer after the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar, TypeVarTuple

__all__ = ["Writer"]

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

BATCH: Final = 500
"""Changes one commit takes at most, so that the first of them does not wait for too many others."""
CHECKPOINT: Final = 4000
"""Pages in the WAL after which a commit moves them to the database, which takes some 70 ms; SQLite's own 1000 take 20
and come so often that they make the 99th percentile of a busy server."""
JOURNAL_SIZE: Final = 64_000_000
"""Bytes that the WAL keeps of the disk after a long reader made it grow."""


class Submission(NamedTuple):
    """A change that waits, and who waits for it."""

    future: asyncio.Future[Any]
    change: Callable[..., Any]
    arguments: tuple[Any, ...]
    durable: bool


Answer = tuple[asyncio.Future[Any], Any, BaseException | None]


class Writer:
    """Owns a connection and the thread that writes through it; its methods belong to the event loop's thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[Submission] | None] = SimpleQueue()
        self._collected: list[Submission] = []
        self._closing = False
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._full = False
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_SIZE}")
        self._thread = threading.Thread(target=self._write, name="nbfunctions-store-writer", daemon=True)
        self._thread.start()

    def write(
        self,
        change: Callable[[sqlite3.Connection, *Arguments], T],
        *arguments: *Arguments,
        durable: bool = False,
    ) -> asyncio.Future[T]:
        """Have a change made; the future has its answer, or what it raised, after the commit.

        The commit of a ``durable`` change survives a power cut. A caller that is cancelled leaves its change to be
        made. Raises ``RuntimeError`` after :meth:`close`.
        """
        if self._closing:
            raise RuntimeError("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        # One hand-over a turn of the loop: the thread wakes once for all that this turn brings.
        if not self._collected:
            self._loop.call_soon(self._hand_over)
        self._collected.append(Submission(future, change, arguments, durable))
        return future

    def _hand_over(self) -> None:
        if self._collected:
            self._queue.put(self._collected)
            self._collected = []

    async def close(self) -> None:
        """Commit what was submitted, close the connection and end the thread. Closing again only waits."""
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._queue.put(None)
        await asyncio.shield(self._closed)
        self._thread.join()

    # -- in the thread ----------------------------------------------------------------------------------

    def _write(self) -> None:
        goes_on = True
        while goes_on:
            waiting, goes_on = self._take()
            for start in range(0, len(waiting), BATCH):
                self._commit(waiting[start : start + BATCH])
        self._connection.close()
        self._call(self._closed.set_result, None)

    def _take(self) -> tuple[list[Submission], bool]:
        """Wait for something to write; return all that waits, and whether more may come."""
        waiting: list[Submission] = []
        taken = self._queue.get()
        try:
            while taken is not None:
                waiting += taken
                if len(waiting) >= BATCH:
                    return waiting, True
                taken = self._queue.get_nowait()
        except Empty:
            return waiting, True
        return waiting, False

    def _commit(self, submissions: Sequence[Submission]) -> None:
        connection = self._connection
        try:
            self._set_durability(any(submission.durable for submission in submissions))
            connection.execute("BEGIN IMMEDIATE")
            make = self._make if len(submissions) > 1 else self._make_alone
            answers = [make(submission) for submission in submissions]
            connection.execute("COMMIT")
        except Exception as error:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            # One object each: a traceback grows on the error that is raised.
            errors = [error, *(_copy(error) for _ in submissions[1:])]
            answers = [(one.future, None, raised) for one, raised in zip(submissions, errors, strict=True)]
        self._call(_answer, answers)

    def _make_alone(self, submission: Submission) -> Answer:
        """Without a neighbour to protect, undoing everything is undoing the change."""
        return submission.future, submission.change(self._connection, *submission.arguments), None

    def _make(self, submission: Submission) -> Answer:
        connection = self._connection
        connection.execute("SAVEPOINT change")
        try:
            answer = submission.change(connection, *submission.arguments)
        except Exception as error:
            if not connection.in_transaction:
                raise  # a full disk, for one: SQLite has undone the neighbours' changes as well
            connection.execute("ROLLBACK TO change")
            connection.execute("RELEASE change")
            return submission.future, None, error
        connection.execute("RELEASE change")
        return submission.future, answer, None

    def _set_durability(self, durable: bool) -> None:
        # With NORMAL a commit reaches the disk at the next checkpoint, with FULL before it returns, together with all
        # commits before it. SQLite takes this only between transactions.
        if durable is not self._full:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._full = durable

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed, and with it went everybody who waited
            self._loop.call_soon_threadsafe(callback, *arguments)


def _answer(answers: list[Answer]) -> None:
    for future, answer, error in answers:
        if future.done():  # its caller was cancelled
            continue
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)


def _copy(error: Exception) -> Exception:
    copied = type(error)(*error.args)
    copied.__cause__ = error
    return copied
