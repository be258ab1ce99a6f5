"""Who calls: the proofs a request carries (spec, sections 4.1 and 4.2), looked up in the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nbfunctions.errors import ProjectKeyExpired, ProjectNotFound
from nbfunctions.server.administration import hash_secret
from nbfunctions.server.permissions import Caller
from nbfunctions.server.store.protocol import Store

__all__ = ["identify"]

CONSOLE: Final = "console"
"""The project of a request that names none (spec, section 4.1)."""


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
