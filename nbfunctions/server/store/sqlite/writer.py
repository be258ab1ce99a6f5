"""One writer with group commit: whatever a turn of the event loop brings, or waits meanwhile, is one commit.

A *change* is a plain function of the connection. It runs inside a savepoint, so that one that raises undoes itself and
harms no neighbour; its caller gets the answer after the commit.

Commits are made by a thread. A *brief* change (one small row, not durable) is committed by the loop itself, at once,
when the thread has nothing to do: waking a thread and being woken by it costs more than the commit, and costs every
other request the interpreter's lock. What could make the loop wait stays with the thread: disk flushes, long
changes, another process that writes, and moving the WAL into the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal, NamedTuple, TypeVar, TypeVarTuple

from nbfunctions.server.store.protocol import StoreFailed

__all__ = ["Writer"]

log = logging.getLogger("nbfunctions")

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

BATCH: Final = 500
"""Changes one commit takes at most, so that the first of them does not wait for too many others."""
CHECKPOINT: Final = 4000
"""Pages in the WAL after which a commit moves them to the database, which takes some 70 ms; SQLite's own 1000 take 20
and come so often that they make the 99th percentile of a busy server."""
BRIEF_CHECKPOINT: Final = 500
"""Commits of the loop between two checkpoints: some 4000 pages."""
CHECKPOINT_PATIENCE: Final = 20
"""Milliseconds that a checkpoint waits for a reader while nobody can write; it is tried again later."""
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
    """Owns a connection and the thread that writes through it; its methods belong to the event loop's thread.

    ``here`` is the loop's own connection, for brief changes; without it the thread makes them all.
    """

    def __init__(self, connection: sqlite3.Connection, here: sqlite3.Connection | None = None) -> None:
        self._connection = connection
        self._here = here
        self._here_commits = 0
        self._under_way = 0
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[Submission] | Literal["checkpoint", "end"]] = SimpleQueue()
        self._collected: list[Submission] = []
        self._closing = False
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._full = False
        if here is not None:
            here.execute("PRAGMA synchronous = NORMAL")
            here.execute("PRAGMA wal_autocheckpoint = 0")
            here.execute("PRAGMA busy_timeout = 0")
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
        brief: bool = False,
    ) -> asyncio.Future[T]:
        """Have a change made; the future has its answer, or what it raised, after the commit.

        The commit of a ``durable`` change survives a power cut; a ``brief`` one takes microseconds. A caller that is
        cancelled leaves its change to be made. Raises ``RuntimeError`` after :meth:`close`.
        """
        if self._closing:
            raise RuntimeError("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        submission = Submission(future, change, arguments, durable)
        if brief and not durable and self._commit_here(submission):
            return future
        # One hand-over a turn of the loop: the thread wakes once for all that this turn brings.
        if not self._collected:
            self._loop.call_soon(self._hand_over)
        self._collected.append(submission)
        return future

    def _hand_over(self) -> None:
        if self._collected:
            self._under_way += len(self._collected)
            self._queue.put(self._collected)
            self._collected = []

    def _commit_here(self, submission: Submission) -> bool:
        """Commit a brief change in this thread, if nothing waits in front of it and nobody else writes."""
        if self._here is None or self._under_way or self._collected:
            return False
        try:
            self._here.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # locked, most likely; the thread waits, or says what is wrong
            return False
        _answer(_commit(self._here, [submission]))
        self._here_commits += 1
        if self._here_commits == BRIEF_CHECKPOINT:
            self._here_commits = 0
            self._queue.put("checkpoint")
        return True

    async def close(self) -> None:
        """Commit what was submitted, close the connection and end the thread. Closing again only waits."""
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._queue.put("end")
        await asyncio.shield(self._closed)
        self._thread.join()

    def _on_answers(self, answers: list[Answer]) -> None:
        self._under_way -= len(answers)
        _answer(answers)

    # -- in the thread ----------------------------------------------------------------------------------

    def _write(self) -> None:
        goes_on = True
        while goes_on:
            waiting, checkpoint, goes_on = self._take()
            for start in range(0, len(waiting), BATCH):
                self._write_batch(waiting[start : start + BATCH])
            if checkpoint:
                self._checkpoint()
        self._connection.close()
        self._call(self._closed.set_result, None)

    def _take(self) -> tuple[list[Submission], bool, bool]:
        """Wait for something to do; return all that waits, whether to checkpoint, and whether more may come."""
        waiting: list[Submission] = []
        checkpoint = False
        taken = self._queue.get()
        try:
            while taken != "end":
                if taken == "checkpoint":
                    checkpoint = True
                else:
                    waiting += taken
                if len(waiting) >= BATCH:
                    return waiting, checkpoint, True
                taken = self._queue.get_nowait()
        except Empty:
            return waiting, checkpoint, True
        return waiting, checkpoint, False

    def _write_batch(self, submissions: Sequence[Submission]) -> None:
        try:
            self._set_durability(any(submission.durable for submission in submissions))
            self._connection.execute("BEGIN IMMEDIATE")
        except Exception as error:
            answers = _refused(submissions, error)
        else:
            answers = _commit(self._connection, submissions)
        self._call(self._on_answers, answers)

    def _checkpoint(self) -> None:
        """Move the WAL into the database, so that it begins anew.

        Most of it beside the loop's commits; the rest while they are handed to this thread. The first write into the
        new WAL flushes its header: that is ours as well.
        """
        connection = self._connection
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
            connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_PATIENCE}")
            try:
                (busy, *_) = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {before}")
            if not busy:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute(f"PRAGMA user_version = {version}")
        except sqlite3.Error:
            # A full disk, for one: the next write says so to somebody who can be told.
            log.warning("the WAL could not be moved into the database", exc_info=True)

    def _set_durability(self, durable: bool) -> None:
        # With NORMAL a commit reaches the disk at the next checkpoint, with FULL before it returns, together with all
        # commits before it. SQLite takes this only between transactions.
        if durable is not self._full:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._full = durable

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed, and with it went everybody who waited
            self._loop.call_soon_threadsafe(callback, *arguments)


def _commit(connection: sqlite3.Connection, submissions: Sequence[Submission]) -> list[Answer]:
    """Make the changes in the transaction that has begun, and commit it; return everybody's answer."""
    try:
        make = _make if len(submissions) > 1 else _make_alone
        answers = [make(connection, submission) for submission in submissions]
        connection.execute("COMMIT")
    except Exception as error:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return _refused(submissions, error)
    return answers


def _make_alone(connection: sqlite3.Connection, submission: Submission) -> Answer:
    """Without a neighbour to protect, undoing everything is undoing the change."""
    return submission.future, submission.change(connection, *submission.arguments), None


def _make(connection: sqlite3.Connection, submission: Submission) -> Answer:
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


def _refused(submissions: Sequence[Submission], error: Exception) -> list[Answer]:
    if isinstance(error, sqlite3.OperationalError):
        error = StoreFailed(str(error))
    # One object each: a traceback grows on the error that is raised.
    errors = [error, *(_copy(error) for _ in submissions[1:])]
    return [(one.future, None, raised) for one, raised in zip(submissions, errors, strict=True)]


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
