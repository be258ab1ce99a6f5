"""What a caller may do (spec, section 4). Nothing here asks or changes anything: one table test has every case."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import msgspec

from nbfunctions.errors import GeneralUnauthorizedScope, UserUnauthorized

__all__ = ["PUBLIC", "Caller", "demand", "demand_execute"]

PUBLIC: Final = ""
"""The scope of a route that anybody may call."""


class Caller(msgspec.Struct, kw_only=True, frozen=True):
    """Whoever sent a request, as far as it could prove."""

    project_id: str
    label: str
    """Role as messages name it: ``guest``, ``member``, ``application``."""
    who: str
    """Name as messages show it."""
    scopes: frozenset[str]
    roles: tuple[str, ...]
    """Permission roles, in the order in which messages list them."""
    user_id: str = ""
    is_key: bool = False
    """Whether permissions are not asked: API keys may execute everything and see every execution."""

    @property
    def reader(self) -> str | None:
        """The role whose executions can be seen; None sees all."""
        return None if self.is_key else f"user:{self.user_id}"


def demand(caller: Caller, scope: str) -> None:
    """Let the caller pass when it holds ``scope``; raises ``GeneralUnauthorizedScope`` naming both."""
    if scope != PUBLIC and scope not in caller.scopes:
        raise GeneralUnauthorizedScope(f"{caller.who} (role: {caller.label}) missing scope ({scope})")


def demand_execute(caller: Caller, execute: Sequence[str]) -> None:
    """Let the caller pass when one of its roles is in a function's ``execute``; raises ``UserUnauthorized``."""
    if caller.is_key or not set(caller.roles).isdisjoint(execute):
        return
    if not execute:
        raise UserUnauthorized("No permissions provided for action 'execute'")
    raise UserUnauthorized(
        f'Missing "execute" permission for role "{execute[-1]}". Only this scopes "{_listed(caller.roles)}" are given '
        f'and only this are allowed "{_listed(execute)}".'
    )


def _listed(roles: Sequence[str]) -> str:
    return json.dumps(list(roles), separators=(",", ":"), ensure_ascii=False)
