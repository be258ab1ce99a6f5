"""Event patterns: which ones a function may listen to (spec, sections 9.1 to 9.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["is_event"]

Actions = Mapping[str, frozenset[str]]
"""Names of actions and of the attributes each can carry."""


def _actions(*names: str, update: tuple[str, ...] = ()) -> Actions:
    return {name: frozenset(update if name == "update" else ()) for name in names}


_ALL: Final = _actions("create", "delete", "update")

TREE: Final[Mapping[str, tuple[Actions, Mapping[str, Actions]]]] = {
    "users": (
        _actions("create", "delete", "update", update=("email", "name", "password", "status", "prefs")),
        {
            "sessions": _actions("create", "delete"),
            "recovery": _actions("create", "update"),
            "verification": _actions("create", "update"),
        },
    ),
    "collections": (
        _ALL,
        {"documents": _ALL, "indexes": _actions("create", "delete"), "attributes": _actions("create", "delete")},
    ),
    "databases": (_ALL, {"collections": _ALL}),
    "buckets": (_ALL, {"files": _ALL}),
    "teams": (_ALL, {"memberships": _actions("create", "delete", "update", update=("status",))}),
    "functions": (_ALL, {"deployments": _ALL, "executions": _ALL}),
}
"""What can happen: resource, its actions, and its sub-resources with theirs."""

DEEPEST: Final[Mapping[str, Actions]] = TREE["collections"][1]
"""What lies below a collection of a database: the one place with three levels."""


LENGTH_LIMIT: Final = 256
"""Characters of a pattern (spec, section 3.4)."""


def is_event(text: str) -> bool:
    """Return whether ``text`` is ``resource.ID``, deeper, or with an action; ``*`` stands for any id.

    Both trees of the reference are taken: ``collections`` at the root (0.14) and below ``databases`` (0.15).
    """
    if len(text) > LENGTH_LIMIT:
        return False
    parts = text.split(".")
    if not 2 <= len(parts) <= 8 or parts[0] not in TREE or not all(parts) or "0" in parts[1::2][:1]:
        return False
    actions, below = TREE[parts[0]]
    rest = parts[2:]
    if len(rest) >= 2 and rest[0] in below:
        name, rest = rest[0], rest[2:]
        actions, below = below[name], DEEPEST if parts[0] == "databases" else {}
        if len(rest) >= 2 and rest[0] in below:
            actions, rest = below[rest[0]], rest[2:]
    if len(rest) == 1:
        # A sub-resource without an id is taken too, though nothing is ever called that.
        return rest[0] in actions or rest[0] in below
    return not rest or (len(rest) == 2 and rest[1] in actions.get(rest[0], frozenset()))
