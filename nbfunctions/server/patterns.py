"""Event patterns: which ones a function may listen to, and which ones an event fits (spec, sections 9.1 to 9.4)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["expand", "has_happened", "is_event", "names"]

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


STARRED: Final[Mapping[int, tuple[tuple[bool, ...], ...]]] = {
    1: ((False,), (True,)),
    2: ((False, False), (True, True), (False, True), (True, False)),
    3: (
        (False, False, False),
        (True, True, True),
        (False, True, False),
        (True, True, False),
        (True, False, False),
        (False, False, True),
        (True, False, True),
        (False, True, True),
    ),
}
"""Which ids of so many are ``*``, in the contract's order."""


def names(resources: Sequence[tuple[str, str]], action: str, attribute: str = "") -> tuple[str, ...]:
    """Return every pattern that an event fits, in the contract's order (spec, section 9.4).

    ``resources`` are one to three kinds and ids, outermost first; ids may hold dots. ``action`` may be empty.
    """
    ids = [id_ for _, id_ in resources]
    return tuple(shape.format(*ids) for shape in _shapes(tuple(kind for kind, _ in resources), action, attribute))


@functools.lru_cache(256)
def _shapes(kinds: tuple[str, ...], action: str, attribute: str) -> tuple[str, ...]:
    """Return those patterns with numbered places for ids: every execution asks for the same few."""
    ends = [f".{action}"] if action else []
    if action and attribute:
        # The attribute comes first, but for an event of an outermost resource.
        ends.insert(len(kinds) == 1, f".{action}.{attribute}")
    shapes = [(len(kinds), end) for end in ends] + [(depth, "") for depth in range(len(kinds), 0, -1)]
    return tuple(
        ".".join(f"{kinds[place]}.{'*' if star else f'{{{place}}}'}" for place, star in enumerate(starred)) + end
        for depth, end in shapes
        for starred in STARRED[depth]
    )


def expand(event: str) -> tuple[str, ...]:
    """Return every pattern that an event with concrete ids fits, such as ``users.jane.update.email``.

    Its ids hold no dots: those of others go to :func:`names`. Raises ``ValueError`` for what is no event.
    """
    resources, rest, _ = _parsed(event)
    return names(resources, *(rest or [""]))


def has_happened(event: str) -> bool:
    """Return whether an event says what happened to one thing: no ``*``, and an action."""
    if not is_event(event):
        return False
    resources, rest, below = _parsed(event)
    return all(id_ != "*" for _, id_ in resources) and bool(rest) and rest[0] not in below


def _parsed(event: str) -> tuple[list[tuple[str, str]], list[str], Mapping[str, Actions]]:
    """Return an event's kinds and ids, its action and attribute, and what could lie below. Raises ``ValueError``."""
    if not is_event(event):
        raise ValueError(f"{event!r} is no event")
    parts = event.split(".")
    below: Mapping[str, Actions] = TREE[parts[0]][1]
    resources, rest = [(parts[0], parts[1])], parts[2:]
    while len(rest) >= 2 and rest[0] in below:
        below = DEEPEST if len(resources) == 1 and parts[0] == "databases" else {}
        resources, rest = [*resources, (rest[0], rest[1])], rest[2:]
    return resources, rest, below
