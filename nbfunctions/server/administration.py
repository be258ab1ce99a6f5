"""Projects, API keys and tokens, as the command line makes them: rules, secrets and the store of a data directory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nbfunctions.errors import ProjectAlreadyExists, SettingInvalid
from nbfunctions.models import SCOPES, Key, Project, new_id
from nbfunctions.server import tokens
from nbfunctions.server.rules import is_id, is_team
from nbfunctions.settings import Settings

if TYPE_CHECKING:
    from nbfunctions.server.store.protocol import Store

__all__ = [
    "create_jwt",
    "create_key",
    "create_project",
    "first_access",
    "hash_secret",
    "new_secret",
    "open_store",
    "write_private",
]

FIRST_PROJECT: Final = "default"
"""The project of a fresh data directory."""

ID: Final = "up to 36 of a-z A-Z 0-9 . _ - not starting with one of . _ -"


def new_secret() -> str:
    """Return a fresh API key secret: 256 hex digits (spec, section 4.2)."""
    return secrets.token_hex(128)


def hash_secret(secret: str) -> str:
    """Return what the store keeps of a secret: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


async def create_project(store: Store, project_id: str, name: str = "") -> Project:
    """Make a project. Raises ``SettingInvalid`` for an id outside spec section 0.3, ``ProjectAlreadyExists``."""
    if not is_id(project_id):
        raise SettingInvalid(f"project id: expected {ID}, found {project_id!r}")
    return await store.create_project(Project(id=project_id, name=name or project_id, created_at=int(time.time())))


async def create_key(
    store: Store, project_id: str, name: str, scopes: Sequence[str], *, expires_in: int = 0
) -> tuple[Key, str]:
    """Make a key and return it with its secret, which can't be had again.

    ``expires_in`` is in seconds, 0 for ever. Raises ``SettingInvalid`` for an unknown scope or a negative time,
    ``ProjectNotFound``.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise SettingInvalid(f"scope: expected some of {', '.join(SCOPES)}, found {unknown[0]!r}")
    if expires_in < 0:
        raise SettingInvalid(f"expires: expected seconds from now, 0 for ever, found {expires_in}")
    now = int(time.time())
    key = Key(
        id=new_id(),
        project_id=project_id,
        name=name,
        scopes=tuple(dict.fromkeys(scopes)),
        created_at=now,
        expires_at=now + expires_in if expires_in else 0,
    )
    secret = new_secret()
    return await store.create_key(key, hash_secret(secret)), secret


async def create_jwt(
    store: Store, project_id: str, user_id: str, teams: Sequence[str] = (), *, expires_in: int = tokens.LIFE
) -> tuple[str, int]:
    """Return a token of a user, and when it ends in seconds since the epoch; ``teams`` are ids, or ``id/role``.

    Raises ``SettingInvalid`` for what is no id or a life that is too long, ``ProjectNotFound``.
    """
    if not is_id(user_id):
        raise SettingInvalid(f"user: expected {ID}, found {user_id!r}")
    for team in teams:
        if not is_team(team):
            raise SettingInvalid(f"team: expected an id or ID/ROLE, each {ID}, found {team!r}")
    if not 1 <= expires_in <= tokens.LONGEST:
        raise SettingInvalid(f"expires: expected 1 to {tokens.LONGEST} seconds from now, found {expires_in}")
    expires = int(time.time()) + expires_in
    return tokens.sign(await store.get_token_secret(project_id), user_id, teams, expires), expires


async def first_access(store: Store, data_dir: Path) -> tuple[str, str]:
    """Return the project ``default`` and a key with every scope; make them at a data directory's first start.

    The key's secret is kept beside the database for its owner alone (``default.key``, mode 0600), so that the next
    start announces the same one; a key that was revoked, that an older release made with fewer scopes, or whose file
    is gone, is replaced by a new one.
    """
    with contextlib.suppress(ProjectAlreadyExists):
        await create_project(store, FIRST_PROJECT, "Default")
    file = data_dir / "default.key"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        secret = file.read_text().strip()
        key = await store.find_key(FIRST_PROJECT, hash_secret(secret))
        if key is not None and not key.expires_at and key.scopes == SCOPES:
            return FIRST_PROJECT, secret
    _, secret = await create_key(store, FIRST_PROJECT, "server", SCOPES)
    write_private(file, secret + "\n")
    return FIRST_PROJECT, secret


def write_private(file: Path, text: str) -> None:
    """Write a file whole or not at all, for its owner's eyes only."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        fresh.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """Open the store of a data directory that a server has made, also beside a running one.

    Raises ``SettingInvalid`` where there is none, and makes nothing there.
    """
    from nbfunctions.server.store.sqlite import SqliteStore
    from nbfunctions.server.store.sqlite.database import FILE_NAME

    try:
        (settings.data_dir / FILE_NAME).stat()
    except (FileNotFoundError, NotADirectoryError):
        where = settings.data_dir
        raise SettingInvalid(
            f"there is no nbfunctions data in {where}; `nbfunctions serve --data-dir {where}` makes it"
        ) from None
    except OSError as error:
        raise SettingInvalid(f"--data-dir: {settings.data_dir} can't be used: {error.strerror}") from None
    store = SqliteStore(settings.data_dir)
    await store.open()
    try:
        yield store
    finally:
        await store.close()
