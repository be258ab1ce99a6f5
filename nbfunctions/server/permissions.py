"""What a caller may do (spec, section 4). Nothing here asks or changes anything: one table test has every case."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from nbfunctions.errors import ExecutionNotFound, GeneralUnauthorizedScope, UserUnauthorized

__all__ = [
    "GUEST_SCOPES",
    "MEMBER_SCOPES",
    "PUBLIC",
    "Caller",
    "application",
    "demand",
    "demand_delete",
    "demand_execute",
    "demand_read",
    "guest",
    "may_read",
    "member",
]

PUBLIC: Final = ""
"""The scope of a route that anybody may call."""
MEMBER_SCOPES: Final = frozenset({"execution.read", "execution.write"})
GUEST_SCOPES: Final = frozenset({"execution.write"})
"""Guests execute what is open to them, as in the generations that followed (docs/api.md, "Deviations")."""


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
    expires_at: float = 0.0
    """When a user's token ends, in seconds since the epoch; 0 is never."""
    key_id: str = ""
    key_hash: str = ""
    """Which API key it has, and what the store finds it by."""

    @property
    def reader(self) -> str | None:
        """The role whose executions can be seen; None sees all."""
        return None if self.is_key else f"user:{self.user_id}"


def application(project_id: str, host: str, scopes: Iterable[str], *, key_id: str = "", key_hash: str = "") -> Caller:
    """Return the caller with an API key that holds ``scopes``; ``host`` is the one it called."""
    return Caller(
        project_id=project_id,
        label="application",
        who=f"app.{project_id}@service.{host}",
        scopes=frozenset(scopes) | {"health.read"},
        roles=("role:all",),
        is_key=True,
        key_id=key_id,
        key_hash=key_hash,
    )


def member(
    project_id: str, user_id: str, teams: Sequence[str] = (), *, email: str = "", expires_at: float = 0.0
) -> Caller:
    """Return the caller who is a user; ``teams`` has ids of teams, or ``id/role``, which is the team as well."""
    by_team: dict[str, list[str]] = {}
    for team, slash, role in (one.partition("/") for one in teams):
        roles = by_team.setdefault(team, [f"team:{team}"])
        if slash and f"team:{team}/{role}" not in roles:
            roles.append(f"team:{team}/{role}")
    return Caller(
        project_id=project_id,
        label="member",
        who=email or "User",
        scopes=MEMBER_SCOPES,
        roles=("role:all", "role:member", f"user:{user_id}", *(role for roles in by_team.values() for role in roles)),
        user_id=user_id,
        expires_at=expires_at,
    )


def guest(project_id: str) -> Caller:
    """Return the caller who proved nothing."""
    return Caller(
        project_id=project_id, label="guest", who="User", scopes=GUEST_SCOPES, roles=("role:all", "role:guest")
    )


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


def may_read(caller: Caller, read: Sequence[str]) -> bool:
    """Return whether the caller sees an execution with this ``$read``: keys all, users theirs, guests none."""
    return caller.is_key or (caller.user_id != "" and f"user:{caller.user_id}" in read)


def demand_read(caller: Caller, read: Sequence[str]) -> None:
    """Let the caller pass when it sees an execution with this ``$read``: who does may cancel it, too.

    Raises ``ExecutionNotFound``: what can't be seen is not there (spec, section 4.5).
    """
    if not may_read(caller, read):
        raise ExecutionNotFound


def demand_delete(caller: Caller) -> None:
    """Let the caller pass when it may delete executions; raises ``UserUnauthorized``.

    The record of what was executed is the project's, not the user's.
    """
    if not caller.is_key:
        raise UserUnauthorized("Only API keys may delete executions; a user may cancel them")


def _listed(roles: Sequence[str]) -> str:
    return json.dumps(list(roles), separators=(",", ":"), ensure_ascii=False)
