"""Group commit: who shares a commit, and who is harmed by what."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nbfunctions.server.store.protocol import StoreFailed
from nbfunctions.server.store.sqlite import database, writer
from nbfunctions.server.store.sqlite.writer import BATCH, Writer


class Bench:
    """A writer over a small table, what it says to SQLite, and a second connection that sees only commits."""

    def __init__(self, file: Path, *, here: bool = False) -> None:
        self.statements: list[str] = []
        connection = database.connect(file)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        connection.execute(
            "CREATE TABLE numbers (n UNIQUE, parent REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)"
        )
        connection.set_trace_callback(self.statements.append)
        self.writer = Writer(connection, database.connect(file) if here else None)
        self.reader = database.connect(file)

    def numbers(self) -> list[int]:
        return [n for (n,) in self.reader.execute("SELECT n FROM numbers ORDER BY n")]

    @property
    def commits(self) -> int:
        return self.statements.count("COMMIT")

    def hold(self) -> threading.Event:
        """Keep the thread busy until the event is set: what is written meanwhile waits for one commit."""
        go_on = threading.Event()
        self.writer.write(lambda db: go_on.wait(10))
        return go_on


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "file.sqlite")
    yield made
    await made.writer.close()
    made.reader.close()


def insert(db: sqlite3.Connection, number: int, parent: int | None = None) -> int:
    db.execute("INSERT INTO numbers VALUES (?, ?)", (number, parent))
    return number


def insert_and_fail(db: sqlite3.Connection, number: int) -> None:
    insert(db, number)
    raise LookupError(number)


def synchronous(db: sqlite3.Connection) -> int:
    level: int = db.execute("PRAGMA synchronous").fetchone()[0]
    return level


async def test_an_answer_comes_after_its_commit(bench: Bench) -> None:
    for number in range(20):
        assert await bench.writer.write(insert, number) == number
        assert bench.numbers() == list(range(number + 1))


async def test_what_waits_together_is_committed_together_in_order(bench: Bench) -> None:
    go_on = bench.hold()
    await asyncio.sleep(0.05)
    writes = [bench.writer.write(insert, number) for number in range(100)]
    assert bench.numbers() == []
    go_on.set()
    assert await asyncio.gather(*writes) == list(range(100))
    assert bench.commits == 2
    assert [n for (n,) in bench.reader.execute("SELECT n FROM numbers ORDER BY rowid")] == list(range(100))


async def test_one_commit_does_not_take_too_many(bench: Bench) -> None:
    go_on = bench.hold()
    await asyncio.sleep(0.05)
    writes = [bench.writer.write(insert, number) for number in range(2 * BATCH + 1)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*writes)
    assert bench.commits == 4


async def test_a_change_that_fails_undoes_itself_and_nothing_else(bench: Bench) -> None:
    go_on = bench.hold()
    before = bench.writer.write(insert, 1)
    failing = bench.writer.write(insert_and_fail, 2)
    again = bench.writer.write(insert, 1)
    after = bench.writer.write(insert, 3)
    go_on.set()
    assert (await before, await after) == (1, 3)
    with pytest.raises(LookupError):
        await failing
    with pytest.raises(sqlite3.IntegrityError):
        await again
    assert bench.commits == 1
    assert bench.numbers() == [1, 3]


async def test_a_commit_that_fails_is_everybodys_error_and_nobodys_change(bench: Bench) -> None:
    go_on = bench.hold()
    await asyncio.sleep(0.05)
    writes = [bench.writer.write(insert, 1), bench.writer.write(insert, 2, 404), bench.writer.write(insert, 3)]
    failing = bench.writer.write(insert_and_fail, 4)
    go_on.set()
    errors = await asyncio.gather(*writes, return_exceptions=True)
    with pytest.raises(sqlite3.IntegrityError):
        await failing
    assert [type(error) for error in errors] == [sqlite3.IntegrityError] * 3
    assert len(set(map(id, errors))) == 3
    assert bench.numbers() == []
    assert await bench.writer.write(insert, 5) == 5
    assert bench.numbers() == [5]


async def test_a_full_disk_is_everybodys_error_until_there_is_room(bench: Bench) -> None:
    def limit(db: sqlite3.Connection, pages: int) -> None:
        db.execute(f"PRAGMA max_page_count = {pages}")

    def fill(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO numbers VALUES (zeroblob(1000000), NULL)")

    await bench.writer.write(limit, 1)
    go_on = bench.hold()
    await asyncio.sleep(0.05)
    neighbours = [bench.writer.write(insert, 1), bench.writer.write(insert, 2)]
    filling = bench.writer.write(fill)
    go_on.set()
    answers = await asyncio.gather(*neighbours, return_exceptions=True)
    with pytest.raises(StoreFailed, match="full"):
        await filling
    assert bench.numbers() == [answer for answer in answers if not isinstance(answer, BaseException)]
    await bench.writer.write(limit, 1_000_000)
    await bench.writer.write(fill)


async def test_a_durable_change_makes_its_commit_reach_the_disk(bench: Bench) -> None:
    full, normal = 2, 1
    assert await bench.writer.write(synchronous) == normal
    assert await bench.writer.write(synchronous, durable=True) == full
    assert await bench.writer.write(synchronous) == normal
    go_on = bench.hold()
    await asyncio.sleep(0.05)
    together = [bench.writer.write(synchronous), bench.writer.write(synchronous, durable=True)]
    go_on.set()
    assert await asyncio.gather(*together) == [full, full]


async def test_a_writer_in_another_process_is_waited_for(bench: Bench) -> None:
    bench.reader.execute("BEGIN IMMEDIATE")
    write = bench.writer.write(insert, 1)
    await asyncio.sleep(0.1)
    assert not write.done()
    bench.reader.execute("ROLLBACK")
    assert await write == 1


async def test_a_caller_that_is_cancelled_leaves_its_change(bench: Bench) -> None:
    go_on = bench.hold()
    gone, stays = bench.writer.write(insert, 1), bench.writer.write(insert, 2)
    failing = bench.writer.write(insert_and_fail, 3)
    await asyncio.sleep(0.05)
    gone.cancel()
    failing.cancel()
    go_on.set()
    assert await stays == 2
    assert bench.numbers() == [1, 2]


async def test_closing_finishes_what_waits_and_refuses_more(bench: Bench) -> None:
    go_on = bench.hold()
    writes = [bench.writer.write(insert, number) for number in range(10)]
    closing = [asyncio.create_task(bench.writer.close()) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(RuntimeError, match="closed"):
        bench.writer.write(insert, 10)
    go_on.set()
    await asyncio.gather(*closing)
    assert [write.result() for write in writes] == list(range(10))
    assert bench.numbers() == list(range(10))
    assert not any(thread.name == "nbfunctions-store-writer" for thread in threading.enumerate())


async def test_what_was_asked_for_in_the_turn_of_closing_is_finished(bench: Bench) -> None:
    write = bench.writer.write(insert, 1)
    await bench.writer.close()
    assert write.result() == 1


# -- brief changes --------------------------------------------------------------------------------------

LOOP, THREAD = "MainThread", "nbfunctions-store-writer"


def where(db: sqlite3.Connection, number: int) -> str:
    insert(db, number)
    return threading.current_thread().name


@pytest.fixture
async def brief(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "file.sqlite", here=True)
    yield made
    await made.writer.close()
    made.reader.close()


async def test_a_brief_change_is_committed_by_the_loop_when_nothing_is_in_front_of_it(brief: Bench) -> None:
    write = brief.writer.write
    assert await write(where, 1, brief=True) == LOOP
    assert brief.numbers() == [1]
    assert await write(where, 2) == THREAD
    assert await write(where, 3, brief=True, durable=True) == THREAD
    assert list(await asyncio.gather(write(where, 4, brief=True), write(where, 5))) == [LOOP, THREAD]
    assert list(await asyncio.gather(write(where, 6), write(where, 7, brief=True))) == [THREAD, THREAD]
    assert set(await asyncio.gather(*(write(where, 10 + n, brief=True) for n in range(99)))) == {LOOP}


async def test_a_brief_change_does_not_overtake_what_the_thread_has(brief: Bench) -> None:
    go_on = brief.hold()
    await asyncio.sleep(0.01)
    before = brief.writer.write(where, 1)
    await asyncio.sleep(0.01)
    after = brief.writer.write(where, 2, brief=True)
    await asyncio.sleep(0.01)
    assert not after.done()
    go_on.set()
    assert set(await asyncio.gather(before, after)) == {THREAD}
    assert [n for (n,) in brief.reader.execute("SELECT n FROM numbers ORDER BY rowid")] == [1, 2]
    assert await brief.writer.write(where, 3, brief=True) == LOOP


async def test_the_loop_does_not_wait_for_another_process_that_writes(brief: Bench) -> None:
    brief.reader.execute("BEGIN IMMEDIATE")
    write = brief.writer.write(where, 1, brief=True)
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(0.05)
    assert asyncio.get_running_loop().time() - began < 1
    assert not write.done()
    brief.reader.execute("ROLLBACK")
    assert await write == THREAD


@pytest.mark.parametrize("neighbours", [0, 2])
async def test_a_brief_change_that_fails_undoes_itself_and_nothing_else(brief: Bench, neighbours: int) -> None:
    made = [brief.writer.write(where, number, brief=True) for number in range(neighbours)]
    failing = brief.writer.write(insert_and_fail, 9, brief=True)
    with pytest.raises(LookupError):
        await failing
    assert await asyncio.gather(*made) == [LOOP] * neighbours
    assert brief.numbers() == list(range(neighbours))
    assert await brief.writer.write(where, 9, brief=True) == LOOP


async def test_a_brief_commit_that_fails_is_its_own_error_and_no_change(brief: Bench) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await brief.writer.write(insert, 2, 404, brief=True)
    assert brief.numbers() == []
    assert await brief.writer.write(where, 1, brief=True) == LOOP


async def test_the_wal_begins_anew_however_much_the_loop_writes(brief: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BRIEF_CHECKPOINT", 50)
    for number in range(500):
        await brief.writer.write(insert, number, brief=True)
        if number % 25 == 0:
            await asyncio.sleep(0.005)  # as a server does between requests
    await brief.writer.write(insert, 500)
    assert "PRAGMA wal_checkpoint(RESTART)" in brief.statements
    _, pages, _ = brief.reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert pages < 400
    assert brief.numbers() == list(range(501))
