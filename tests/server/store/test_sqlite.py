"""What is true of the SQLite store only: its file, its versions, its processes, its queries."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nbfunctions.errors import SettingInvalid
from nbfunctions.executor.executor import Outcome
from nbfunctions.models import Function, Project
from nbfunctions.server.store.protocol import Page
from nbfunctions.server.store.sqlite import SqliteStore, database
from nbfunctions.server.store.sqlite import store as module
from nbfunctions.server.store.sqlite.sql import SQL
from tests.server.store.conftest import (
    NOW,
    PROJECT,
    accepted,
    claim_build,
    execution,
    make_deployment,
    make_function,
    make_ready,
)

PACKAGE = Path(module.__file__).parent


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "data")
    await opened.open()
    await opened.create_project(Project(id=PROJECT))
    yield opened
    await opened.close()


def rows(data_dir: Path, sql: str) -> list[tuple[object, ...]]:
    """Ask the file itself, past the store."""
    connection = database.connect(data_dir / database.FILE_NAME)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


# -- the file -------------------------------------------------------------------------------------------


async def test_only_this_user_can_read_the_rows(store: SqliteStore, tmp_path: Path) -> None:
    files = list((tmp_path / "data").iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


async def test_a_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    file = tmp_path / database.FILE_NAME
    file.touch(0o644)
    file.chmod(0o644)
    store = SqliteStore(tmp_path)
    await store.open()
    await store.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_closed_store_is_one_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data")
    await store.open()
    await store.close()
    assert [file.name for file in (tmp_path / "data").iterdir()] == [database.FILE_NAME]


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = database.prepare(tmp_path)
    version = len(list(database.MIGRATIONS.glob("*.sql")))
    assert rows(tmp_path, "PRAGMA user_version") == [(version,)]
    connection = sqlite3.connect(file)
    connection.execute(f"PRAGMA user_version = {version + 1}")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(SettingInvalid) as error:
        await SqliteStore(tmp_path).open()
    assert str(file) in str(error.value)
    assert f"found version {version + 1}" in str(error.value)
    assert "update nbfunctions" in str(error.value)
    assert file.read_bytes() == before


async def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations = tmp_path / "migrations"
    migrations.mkdir()
    (migrations / "0001_good.sql").write_text("CREATE TABLE good (a);\n")
    (migrations / "0002_bad.sql").write_text("CREATE TABLE half (a);\nCREATE TABLE good (a);\n")
    monkeypatch.setattr(database, "MIGRATIONS", migrations)
    with pytest.raises(SettingInvalid, match="already exists"):
        database.prepare(tmp_path)
    assert rows(tmp_path, "SELECT name FROM sqlite_master") == []
    assert rows(tmp_path, "PRAGMA user_version") == [(0,)]


async def test_migrations_that_were_applied_are_not_applied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations = tmp_path / "migrations"
    migrations.mkdir()
    monkeypatch.setattr(database, "MIGRATIONS", migrations)
    for number in range(1, 4):
        (migrations / f"000{number}_more.sql").write_text(f"-- more; and more\nCREATE TABLE t{number} (a);\n")
        for _ in range(2):
            database.prepare(tmp_path)
        assert rows(tmp_path, "PRAGMA user_version") == [(number,)]
    assert len(rows(tmp_path, "SELECT name FROM sqlite_master")) == 3


FIRST_VERSION = """
INSERT INTO projects (id, name, created_at) VALUES ('default', 'Default', 7), ('other', 'Other', 8);
INSERT INTO keys (project_id, id, secret_hash, name, scopes, created_at, expires_at)
VALUES ('default', 'k', 'hash', 'CI', '["functions.read"]', 7, 0);
INSERT INTO functions (
    project_id, id, created_at, updated_at, execute, name, status, runtime, deployment, events, schedule,
    schedule_next, schedule_previous, timeout, memory, concurrency, words, vars
) VALUES
    ('default', 'hello', 7, 7, '[]', 'Hello', 'enabled', 'python-3.11', 'first',
        '["users.*","users.*.create","users.*"]', '', 0, 0, 15, 0, 0, 'hello', '{"A":"b"}'),
    ('other', 'quiet', 7, 7, '[]', 'Quiet', 'enabled', 'python-3.11', '', '[]', '', 0, 0, 15, 0, 0, 'quiet', '{}');
INSERT INTO deployments (
    function_seq, id, created_at, updated_at, entrypoint, size, activate, digest, waits, words
) VALUES
    (1, 'first', 7, 7, 'main.py', 412, 1, 'digest', 0, 'first main.py'),
    (1, 'begun', 7, 7, 'main.py', 412, 0, '', 0, 'begun main.py');
INSERT INTO builds (deployment_seq, id, status, start_time, end_time, owner, lease_until, output, stdout, stderr)
VALUES (1, 'b', 'ready', 7, 8, '', 0, '/built', 'said', '');
INSERT INTO executions (
    function_seq, id, created, created_at, updated_at, read, "trigger", status, deployment_id, owner, lease_until,
    user_id, event, data, event_data
) VALUES
    (1, 'ended', 7, 7, 7, '["user:u1"]', 'http', 'completed', 'first', '', 0, 'u1', '', '', ''),
    (1, 'waits', 8, 8, 8, '[]', 'http', 'waiting', 'first', '', 0, '', '', 'input', ''),
    (1, 'runs', 9, 9, 9, '[]', 'http', 'processing', 'first', 'dead', 30, '', '', '', '');
"""


async def test_a_database_of_the_first_version_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "migrations"
    old.mkdir()
    (first, *_) = sorted(database.MIGRATIONS.glob("*.sql"))
    (old / first.name).write_text(first.read_text())
    with monkeypatch.context() as patched:
        patched.setattr(database, "MIGRATIONS", old)
        connection = database.connect(database.prepare(tmp_path))
    connection.executescript(FIRST_VERSION)
    connection.close()
    assert rows(tmp_path, "PRAGMA user_version") == [(1,)]

    store = SqliteStore(tmp_path)
    await store.open()
    secrets = [await store.get_token_secret(project_id) for project_id in (PROJECT, "other")]
    assert len(set(secrets)) == 2
    assert min(map(len, secrets)) == 64
    assert (await store.find_key(PROJECT, "hash")) is not None
    function = await store.get_function(PROJECT, "hello")
    assert (function.deployment, function.vars) == ("first", {"A": "b"})
    ready = await store.get_deployment(PROJECT, "hello", "first")
    assert (ready.status, ready.build_stdout, ready.chunks_total, ready.chunks_uploaded) == ("ready", "said", 1, 1)
    assert [one.id for one in (await store.list_executions(PROJECT, "hello", Page(), "user:u1")).executions] == [
        "ended"
    ]
    assert await store.expire_leases(100.0) == 1
    assert await store.expire_uploads(100.0) == [(PROJECT, "hello", "begun")]
    (claim,) = await store.claim_executions("owner", 9, 9, NOW, NOW)
    assert (claim.accepted.data, claim.accepted.depth, claim.accepted.synchronous) == ("input", 0, False)
    assert await store.emit_event(PROJECT, "users.ada.create", {}, "", NOW) == 1
    assert await store.emit_event("other", "users.ada.create", {}, "", NOW) == 0
    await store.close()
    assert rows(tmp_path, "SELECT project_id, event, function_seq FROM listeners ORDER BY event") == [
        (PROJECT, "users.*", 1),
        (PROJECT, "users.*.create", 1),
    ]
    assert rows(tmp_path, "PRAGMA foreign_key_check") == []


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / database.FILE_NAME).write_text("not a database, but long enough to look like one" * 100)
    with pytest.raises(SettingInvalid, match=database.FILE_NAME):
        await SqliteStore(tmp_path).open()


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingInvalid, match="file"):
        await SqliteStore(tmp_path / "file" / "data").open()


async def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(SettingInvalid, match="SQLite"):
        await SqliteStore(tmp_path).open()


# -- processes ------------------------------------------------------------------------------------------

DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from nbfunctions.models import Deployment, Execution, Function, Project
from nbfunctions.server.store.protocol import Acceptance
from nbfunctions.server.store.sqlite import SqliteStore

def accepted(made):
    return Acceptance(project_id="default", execution=made, created=1.0)

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    await store.create_project(Project(id="default"))
    await store.create_function("default", Function(id="hello"))
    made = [Execution(id=f"e{number}", function_id="hello") for number in range(20)]
    await asyncio.gather(*(store.create_execution(accepted(one)) for one in made))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""

OPENS = """
import asyncio, sys
from pathlib import Path
from nbfunctions.models import Project
from nbfunctions.server.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    sys.stdin.readline()
    await store.open()
    await asyncio.gather(*(store.create_project(Project(id=f"{sys.argv[2]}-{number}")) for number in range(20)))
    await store.close()

asyncio.run(main())
"""


def test_what_was_answered_survives_the_death_of_the_process(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", DIES, tmp_path], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    found = {row[0] for row in rows(tmp_path, "SELECT id FROM executions")}
    assert found == {f"e{number}" for number in range(20)}


def test_processes_that_make_a_database_at_once_do_not_collide(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", OPENS, tmp_path, str(number)], stdin=subprocess.PIPE)
        for number in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 4
    assert rows(tmp_path, "SELECT count(*) FROM projects") == [(80,)]


async def test_the_command_line_writes_beside_an_open_store(store: SqliteStore, tmp_path: Path) -> None:
    async def keys(*arguments: str) -> list[dict[str, str]]:
        command = [sys.executable, "-m", "nbfunctions", "keys", *arguments, "--data-dir", str(tmp_path / "data")]
        process = await asyncio.create_subprocess_exec(*command, "--json", stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(output) if output else []

    async def write_all_the_time() -> None:
        await make_ready(store)
        while True:
            made = execution()
            await store.create_execution(accepted(made))
            await store.get_execution(PROJECT, "hello", made.id)

    writing = asyncio.create_task(write_all_the_time())
    (made,) = await keys("create", "--scope", "functions.read")
    (key,) = await store.list_keys(PROJECT)
    assert key.id == made["id"]
    await keys("revoke", made["id"])
    assert await store.list_keys(PROJECT) == []
    assert not writing.done()
    writing.cancel()


async def test_what_makes_a_promise_is_durable_and_the_rest_is_not(store: SqliteStore) -> None:
    statements: list[str] = []
    store._writer._connection.set_trace_callback(statements.append)

    def durable() -> bool:
        levels = [statement for statement in statements if statement.startswith("PRAGMA synchronous")]
        statements.clear()
        return levels == ["PRAGMA synchronous = FULL"]

    await make_ready(store, schedule="* * * * *")
    await store.revoke_key(PROJECT, "k")
    statements.clear()
    await store.create_execution(accepted(execution()), owner="owner", lease_until=NOW)
    assert not durable()
    await store.create_execution(accepted(execution()))
    assert durable()
    await store.claim_executions("owner", 9, 999, NOW, NOW)
    assert not durable()
    await make_deployment(store, "upload", digest="")
    assert durable()
    await store.revoke_key(PROJECT, "k")
    assert not durable()
    await store.complete_deployment(PROJECT, "hello", "upload", digest="d", size=1, now=NOW)
    assert durable()
    claim = await claim_build(store)
    await store.finish_build(claim.build_id, "owner", "failed", stderr="", output="", now=NOW)
    statements.clear()
    await store.retry_build(PROJECT, "hello", "upload", claim.build_id, NOW)
    assert durable()
    await store.revoke_key(PROJECT, "k")
    (due,) = await store.due_schedules(NOW + 100, 9)
    statements.clear()
    await store.fire_schedule(due, None, 0, NOW)
    assert durable()


async def test_an_event_is_in_the_commit_of_what_causes_it(store: SqliteStore) -> None:
    await make_ready(store)
    await make_ready(store, "ear", "second", events=("functions.hello",))
    statements: list[str] = []
    for connection in (store._db, store._writer._connection):
        connection.set_trace_callback(statements.append)

    def commits() -> list[int]:
        """Return how many executions each commit has triggered."""
        found = [0]
        for statement in statements:
            found[-1] += statement.startswith("INSERT INTO executions") and "'event'" in statement
            if statement == "COMMIT":
                found.append(0)
        statements.clear()
        return found[:-1]

    made = await store.create_execution(accepted(execution()))
    assert commits() == [1]
    await store.claim_executions("owner", 1, 1, NOW, NOW)
    assert commits() == [0]
    await store.finish_execution(made.id, "owner", Outcome(status="completed", status_code=200), NOW)
    assert commits() == [1]
    await store.record_execution(accepted(execution()), Outcome(status="completed", status_code=200), ended=NOW)
    assert commits() == [1]
    asked = accepted(execution(), synchronous=True)
    made = await store.create_execution(asked, owner="owner", lease_until=NOW)
    assert commits() == [0]
    await store.cancel_execution(PROJECT, "hello", made.id, "enough", NOW)
    assert commits() == [1]
    await store.delete_function(PROJECT, "hello", NOW)
    assert commits() == [1]


async def test_an_end_that_triggers_much_is_not_committed_by_the_loop(store: SqliteStore) -> None:
    await make_ready(store)
    here: list[str] = []
    store._db.set_trace_callback(here.append)
    done = Outcome(status="completed", status_code=200, response="x" * 50_000)

    async def ended_here() -> list[bool]:
        found = []
        for way in ("record", "finish"):
            asked = accepted(execution(), synchronous=True)
            if way == "finish":
                await store.create_execution(asked, owner="owner", lease_until=NOW)
            here.clear()
            if way == "finish":
                await store.finish_execution(asked.execution.id, "owner", done, NOW)
            else:
                await store.record_execution(asked, done, ended=NOW)
            found.append("COMMIT" in here)
            recorded = await store.get_execution(PROJECT, "hello", asked.execution.id)
            assert recorded.status == "completed"
        return found

    assert await ended_here() == [True, True]
    await make_ready(store, "one", "d1", events=("functions.hello",))
    assert await ended_here() == [True, True]
    await make_ready(store, "two", "d2", events=("functions.hello",))
    assert await ended_here() == [False, False]
    for function_id, triggered in (("one", 4), ("two", 2)):
        assert (await store.list_executions(PROJECT, function_id, Page())).total == triggered


# -- queries --------------------------------------------------------------------------------------------


def test_every_query_is_asked_somewhere() -> None:
    code = "".join(file.read_text() for file in PACKAGE.glob("*.py"))
    asked = {name for name in re.findall(r'"(\w+)"', code) if name in SQL}
    tables = ("functions", "deployments", "executions")
    paged = (*tables, *(f"found_{table}" for table in tables), "own_executions")
    asked |= {f"{kind}_{way}" for kind in paged for way in ("after", "before")}
    asked |= {f"{table}_of_page" for table in tables}
    asked |= {f"count_{kind}" for kind in paged}
    assert set(SQL) <= asked
    assert set(re.findall(r'SQL\["(\w+)"\]', code)) <= set(SQL)


def test_no_query_reads_a_whole_table(tmp_path: Path) -> None:
    connection = database.connect(database.prepare(tmp_path))
    for name, sql in SQL.items():
        parameters = dict.fromkeys(re.findall(r":(\w+)", sql)) or (None,) * sql.count("?")
        for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters):
            harmless = re.match(
                r"SCAN (\(|CONSTANT|\w+ VIRTUAL TABLE|projects$|waiting$|\w+ USING (COVERING )?INDEX \w+_)", step
            )
            # The oldest executions are looked for among the first thousand.
            among_few = (name, step) == ("delete_executions", "SCAN executions") and "ORDER BY seq LIMIT 1000" in sql
            assert not step.startswith("SCAN") or harmless or among_few, (name, step)
            # Without a word on how, it goes through the table in order.
            assert not re.fullmatch(r"SEARCH (functions|deployments|builds|executions)", step), (name, step)
    connection.close()


@pytest.mark.parametrize("name", ["count_own_executions", "own_executions_after", "own_executions_before"])
def test_a_users_executions_are_found_by_an_index_of_readers(tmp_path: Path, name: str) -> None:
    connection = database.connect(database.prepare(tmp_path))
    parameters = dict.fromkeys(re.findall(r":(\w+)", SQL[name]))
    steps = [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", parameters)]
    connection.close()
    assert any("INDEX executions_of_reader (function_seq=? AND read=?" in step for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


async def test_reads_leave_no_snapshot_behind(store: SqliteStore, tmp_path: Path) -> None:
    await make_ready(store)
    made = await store.create_execution(accepted(execution()))
    await store.get_project(PROJECT)
    await store.find_key(PROJECT, "hash")
    await store.get_function(PROJECT, "hello")
    await store.get_active(PROJECT, "hello")
    await store.get_deployment(PROJECT, "hello", "first")
    await store.get_execution(PROJECT, "hello", made.id)
    await store.list_executions(PROJECT, "hello", Page(limit=1))
    await store.next_schedule()
    await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    # A checkpoint that empties the WAL needs every reader to be done with it.
    assert rows(tmp_path / "data", "PRAGMA wal_checkpoint(TRUNCATE)") == [(0, 0, 0)]


async def test_executions_left_of_deleted_functions_are_deleted(tmp_path: Path) -> None:
    def left() -> list[tuple[object, ...]]:
        return rows(tmp_path, "SELECT (SELECT count(*) FROM executions), (SELECT count(*) FROM deleted_functions)")

    async def until_left_is(executions: int) -> None:
        while left() != [(executions, 0)]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)

    store = SqliteStore(tmp_path)
    await store.open()
    await store.create_project(Project(id=PROJECT))
    count = 4 * module.PIECE + 10
    for name in ("a", "b"):
        await make_function(store, name)
        made = [execution(name) for _ in range(count)]
        await asyncio.gather(*(store.create_execution(accepted(one), owner="o", lease_until=NOW) for one in made))
    deleting = asyncio.create_task(store.delete_function(PROJECT, "a", NOW))
    await asyncio.sleep(0)
    await store.close()
    await deleting
    assert left() > [(count, 0)]
    again = SqliteStore(tmp_path)
    await again.open()
    await asyncio.wait_for(until_left_is(count), 10)
    await again.delete_function(PROJECT, "b", NOW)
    await asyncio.wait_for(until_left_is(0), 10)
    await again.close()


async def test_lists_are_read_beside_the_event_loop(store: SqliteStore) -> None:
    await make_function(store)
    big = "x" * 1_000_000
    for number in range(30):
        await store.create_function(PROJECT, Function(id=f"f{number}", vars={"A": big}))
    await make_deployment(store)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    assert len((await store.list_functions(PROJECT, Page(limit=100))).functions) == 31
    turning.cancel()
    assert turns > 10


async def test_closing_twice_and_reading_the_rest_is_harmless(store: SqliteStore, tmp_path: Path) -> None:
    await asyncio.gather(store.close(), store.close())
    assert not [file for file in (tmp_path / "data").iterdir() if os.fspath(file).endswith("-wal")]
