"""The database file: where it is, how it is opened, and how an older one is brought up to date."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nbfunctions.errors import SettingInvalid

__all__ = ["FILE_NAME", "connect", "prepare"]

FILE_NAME: Final = "nbfunctions.sqlite"
OLDEST_SQLITE: Final = (3, 35, 0)
"""The first with ``RETURNING``."""
BUSY_TIMEOUT: Final = 10.0
"""Seconds to wait for another process that writes."""
MIGRATIONS: Final = Path(__file__).with_name("migrations")


def connect(file: Path) -> sqlite3.Connection:
    """Return a connection whose transactions begin and end where our SQL says so, usable in any one thread."""
    connection = sqlite3.connect(
        file, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # variables of functions may be secret
    return connection


def prepare(data_dir: Path) -> Path:
    """Make the database or bring it up to date; return its file.

    Any number of processes may do so at once. Raises :class:`~nbfunctions.errors.SettingInvalid` when the directory or
    the file can't be used, or was made by a newer version of this program.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise SettingInvalid(f"SQLite: expected {wanted} or newer, found {sqlite3.sqlite_version}; use another Python")
    file = data_dir / FILE_NAME
    try:
        _make_private(data_dir, file)
        _migrate(file)
    except OSError as error:
        raise SettingInvalid(f"data_dir {data_dir}: {error.strerror or error}; give another one") from error
    except sqlite3.Error as error:
        raise SettingInvalid(
            f"{file} can't be used as a database: {error}; move it away or give another data_dir"
        ) from (error)
    return file


def _make_private(data_dir: Path, file: Path) -> None:
    """See that only this user can read the rows: variables of functions may be secret.

    SQLite gives the files beside the database the permissions of the database.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(handle).st_mode & 0o077:
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def _migrate(file: Path) -> None:
    migrations = sorted(MIGRATIONS.glob("*.sql"))
    newest = len(migrations)
    connection = connect(file)
    try:
        version = _version(connection, file, newest)
        _enter_wal(connection, file)
        if version == newest:
            return
        connection.execute("BEGIN EXCLUSIVE")
        # Asked again under the lock: another process may have been faster.
        for migration in migrations[_version(connection, file, newest) :]:
            for statement in _statements(migration.read_text()):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
    finally:
        connection.close()


def _version(connection: sqlite3.Connection, file: Path, newest: int) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > newest:
        raise SettingInvalid(
            f"{file}: expected a database of version {newest} or older, found version {version}, made by a newer "
            "nbfunctions; update nbfunctions or give another data_dir"
        )
    return version


def _enter_wal(connection: sqlite3.Connection, file: Path) -> None:
    # SQLite does not wait for the lock that this change needs: two processes that make a database at once collide.
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            break
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise SettingInvalid(
            f"{file}: expected a file system with shared memory for SQLite's WAL, found journal mode {mode!r}; "
            "give a data_dir on a local disk"
        )


def _statements(script: str) -> Iterator[str]:
    """Yield a script's statements; ``executescript`` would commit between them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
