"""Projects and API keys, as the command line makes them: rules, secrets and the store of a data directory."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from nbfunctions.errors import SettingInvalid
from nbfunctions.models import SCOPES, Key, Project, new_id
from nbfunctions.settings import Settings

if TYPE_CHECKING:
    from nbfunctions.server.store.protocol import Store

__all__ = ["create_key", "create_project", "hash_secret", "new_secret", "open_store"]

_ID = re.compile(r"(?![_.\-])[A-Za-z0-9_.\-]{1,36}")


def new_secret() -> str:
    """Return a fresh API key secret: 256 hex digits (spec, section 4.2)."""
    return secrets.token_hex(128)


def hash_secret(secret: str) -> str:
    """Return what the store keeps of a secret: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


async def create_project(store: Store, project_id: str, name: str = "") -> Project:
    """Make a project. Raises ``SettingInvalid`` for an id outside spec section 0.3, ``ProjectAlreadyExists``."""
    if not _ID.fullmatch(project_id):
        raise SettingInvalid(
            f"project id: expected up to 36 of a-z A-Z 0-9 . _ - not starting with one of . _ -, found {project_id!r}"
        )
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


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """Open the store of a data directory, also beside a running server."""
    from nbfunctions.server.store.sqlite import SqliteStore

    store = SqliteStore(settings.data_dir)
    await store.open()
    try:
        yield store
    finally:
        await store.close()
