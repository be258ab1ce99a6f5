"""``/users/{userId}``: tokens for the users of a project (an addition; spec, section 4.6 has their form)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from nbfunctions.models import adds
from nbfunctions.server import tokens
from nbfunctions.server.permissions import Caller
from nbfunctions.server.server import Server

__all__ = ["Token", "create_jwt"]


class Token(msgspec.Struct, frozen=True):
    """What proves that its bearer is a user."""

    jwt: Annotated[str, adds("The token, for `X-Appwrite-JWT`.")]


async def create_jwt(server: Server, caller: Caller, user_id: str, duration: int, teams: Sequence[str]) -> Token:
    """Return a token of a user: with it one can do what a user may, whatever the key that asked for it can do."""
    secret = await server.store.get_token_secret(caller.project_id)
    return Token(tokens.sign(secret, user_id, teams, int(server.clock()) + duration))
