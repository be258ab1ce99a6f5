"""Who calls, and what that caller may do (spec, section 4). Deciding is pure; only :func:`identify` asks the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from nbfunctions.errors import GeneralUnauthorizedScope, ProjectKeyExpired, ProjectNotFound, UserUnauthorized
from nbfunctions.server.administration import hash_secret
from nbfunctions.server.store.protocol import Store

__all__ = ["PUBLIC", "Caller", "demand", "demand_execute", "identify"]

PUBLIC: Final = ""
"""The scope of a route that anybody may call."""

CONSOLE: Final = "console"
"""The project of a request that names none (spec, section 4.1)."""


class Caller(msgspec.Struct, kw_only=True, frozen=True):
    """Whoever sent a request, as far as it could prove."""

    project_id: str
    label: str
    """Role as messages name it: ``guest``, ``application``."""
    who: str
    """Name as messages show it."""
    scopes: frozenset[str]
    roles: tuple[str, ...]
    """Permission roles, in the order in which messages list them."""
    user_id: str = ""
    is_key: bool = False
    """Whether permissions are not asked: API keys may execute everything and see every execution."""

    @property
    def visible(self) -> Sequence[str] | None:
        """Roles that limit which executions can be seen; None sees all."""
        return None if self.is_key else self.roles


async def identify(store: Store, headers: Mapping[str, str], query: Mapping[str, Any], now: float) -> Caller:
    """Return the caller of a request; ``headers`` by lower-case name.

    A key that doesn't exist makes a guest (spec, section 4.2). Raises ``ProjectNotFound`` and ``ProjectKeyExpired``.
    """
    project_id = query.get("project") or headers.get("x-appwrite-project") or CONSOLE
    if not isinstance(project_id, str):  # project[]=…
        raise ProjectNotFound
    secret = headers.get("x-appwrite-key")
    if secret:
        key = await store.find_key(project_id, hash_secret(secret))
        if key is not None:
            if key.expires_at and key.expires_at <= now:
                raise ProjectKeyExpired
            return Caller(
                project_id=project_id,
                label="application",
                who=f"app.{project_id}@service.{headers.get('host', '').partition(':')[0]}",
                scopes=frozenset(key.scopes) | {"health.read"},
                roles=("role:all",),
                is_key=True,
            )
    await store.get_project(project_id)
    return Caller(
        project_id=project_id,
        label="guest",
        who="User",
        # Guests execute what is open to them, as in the generations that followed (docs/api.md, "Deviations").
        scopes=frozenset({"execution.write"}),
        roles=("role:all", "role:guest"),
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


def _listed(roles: Sequence[str]) -> str:
    return json.dumps(list(roles), separators=(",", ":"), ensure_ascii=False)
