"""Who calls: the proofs a request carries (spec, sections 4.1 and 4.2), looked up in the store or with an issuer."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

from nbfunctions.errors import ProjectKeyExpired, ProjectNotFound
from nbfunctions.models import Key
from nbfunctions.server import permissions, tokens
from nbfunctions.server.administration import hash_secret
from nbfunctions.server.origins import host_of
from nbfunctions.server.permissions import Caller
from nbfunctions.server.server import Server

__all__ = ["holds", "identify", "user"]

CONSOLE: Final = "console"
"""The project of a request that names none (spec, section 4.1)."""


async def identify(server: Server, headers: Mapping[str, str], query: Mapping[str, Any], now: float) -> Caller:
    """Return the caller of a request; ``headers`` by lower-case name.

    A user's token wins over a key, and a key that doesn't exist makes a guest (spec, section 4.2). Raises
    ``ProjectNotFound``, ``UserJwtInvalid`` and ``ProjectKeyExpired``.
    """
    project_id = query.get("project") or headers.get("x-appwrite-project") or CONSOLE
    if not isinstance(project_id, str):  # project[]=…
        raise ProjectNotFound
    token = headers.get("x-appwrite-jwt")
    if token:
        return await user(server, project_id, token, now)
    secret = headers.get("x-appwrite-key")
    if secret:
        key_hash = hash_secret(secret)
        key = await server.store.find_key(project_id, key_hash)
        if key is not None:
            if key.expires_at and key.expires_at <= now:
                raise ProjectKeyExpired
            return _application(key, key_hash, headers.get("host", ""))
    await server.store.get_project(project_id)
    return permissions.guest(project_id)


@functools.lru_cache(512)
def _application(key: Key, key_hash: str, host: str) -> Caller:
    """Return the caller with a key: the same one as long as the key is the same."""
    return permissions.application(key.project_id, host_of(host), key.scopes, key_id=key.id, key_hash=key_hash)


async def user(server: Server, project_id: str, token: str, now: float) -> Caller:
    """Return the user whom a token is of: one that the project signed, or the issuer.

    Raises ``ProjectNotFound`` before the token is looked at, then ``UserJwtInvalid``.
    """
    secret = await server.store.get_token_secret(project_id)
    if server.issuer is not None and tokens.header_of(token)["alg"] != tokens.OWN:
        claims = await server.issuer.verify(token, now)
    else:
        claims = tokens.verify(token, secret, now)
    return permissions.member(
        project_id, claims.user_id, claims.teams, email=claims.email, expires_at=claims.expires_at
    )


async def holds(server: Server, caller: Caller, now: float) -> bool:
    """Return whether what a caller has proved still counts: its key was not revoked, nothing has expired since."""
    if caller.is_key:
        key = await server.store.find_key(caller.project_id, caller.key_hash)
        return key is not None and not (key.expires_at and key.expires_at <= now)
    return not caller.expires_at or now < caller.expires_at
