"""The rules of ids, roles, events and the like, with the contract's exact messages (spec, sections 0.3, 0.4, 4.4)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from nbfunctions.server import cron, patterns
from nbfunctions.server.params import Rule, is_unicode, refuse

__all__ = [
    "CRON",
    "CUSTOM_ID",
    "EVENT",
    "HAPPENED",
    "IDEMPOTENCY_KEY",
    "OBJECT",
    "ROLES",
    "TEAMS",
    "UID",
    "VARIABLES",
    "is_id",
    "is_team",
]

_ID: Final = "[A-Za-z0-9][A-Za-z0-9_.-]{0,35}"
_KEY: Final = re.compile(_ID)


def is_id(value: Any) -> bool:
    """Return whether it is a text that can be an id (spec, section 0.3)."""
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


_ID_MESSAGE: Final = (
    "Parameter must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, period, hyphen, and underscore. "
    "Can't start with a special char"
)

_ID_SAID: Final = "1 to 36 of `A-Z a-z 0-9 . _ -`, the first a letter or digit"

CUSTOM_ID: Final = Rule(
    _ID_MESSAGE,
    lambda value: value if value == "unique()" or is_id(value) else refuse(),
    {
        "type": "string",
        "pattern": rf"^(unique\(\)|{_ID})$",
        "description": f"{_ID_SAID}, or `unique()` for a fresh one.",
    },
)
"""An id of the caller's choice, or ``unique()``."""

UID: Final = Rule(
    "UID must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, and underscore. "
    "Can't start with a leading underscore",
    lambda value: value if is_id(value) else refuse(),
    {"type": "string", "pattern": f"^{_ID}$"},
)

VARIABLES_LIMIT: Final = 65_535
"""Bytes of all variables together, as JSON."""
NESTING_LIMIT: Final = 64
"""Levels of a variable that is JSON itself: few enough for every reader on its way."""


def _object(value: Any) -> dict[str, Any]:
    if value == []:
        return {}
    if not isinstance(value, dict) or not _is_json(value, NESTING_LIMIT):
        refuse()
    if len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) > VARIABLES_LIMIT:
        refuse()
    return dict(value)


_OBJECT_SAID: Final = f"Up to {VARIABLES_LIMIT:,} bytes as JSON, {NESTING_LIMIT} levels deep, numbers of 64 bits."

OBJECT: Final = Rule("Value must be a valid object.", _object, {"type": "object", "description": _OBJECT_SAID})
"""The reference's ``Assoc``."""


def _variables(value: Any) -> dict[str, Any]:
    value = _object(value)
    for name, content in value.items():
        if not name or "=" in name or "\0" in name or not is_unicode(name):
            refuse(f"Value must be a valid object. {name!r} can't be the name of a variable.")
        if isinstance(content, str) and ("\0" in content or not is_unicode(content)):
            refuse(f"Value must be a valid object. Variable {name!r} holds a character that no environment can.")
    return dict(value)


def _is_json(value: Any, levels: int) -> bool:
    """Whether every JSON reader takes it: not nested deeper than ``levels``, no number of more than 64 bits."""
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return levels > 0 and all(_is_json(item, levels - 1) for item in items)
    return not isinstance(value, int) or -(2**63) <= value < 2**64


VARIABLES: Final = Rule(
    "Value must be a valid object.",
    _variables,
    {
        "type": "object",
        "propertyNames": {"pattern": "^[^=\\u0000]+$"},
        "additionalProperties": {"if": {"type": "string"}, "then": {"pattern": "^[^\\u0000]*$"}},
        "description": f"{_OBJECT_SAID} A name has no `=`; neither a name nor a value has a null character.",
    },
)
"""The reference's ``Assoc``, as far as its names and values can be environment variables."""

CRON: Final = Rule(
    "String must be a valid cron expression",
    lambda value: value if isinstance(value, str) and cron.is_cron(value) else refuse(),
    {
        "type": "string",
        "format": "cron",
        "maxLength": cron.LENGTH_LIMIT,
        "description": "Five fields, in UTC, or a name such as `@daily`.",
    },
)


def _event_schema(form: str, roots: Iterable[str], id_: str, description: str) -> Mapping[str, Any]:
    return {
        "type": "string",
        "format": form,
        "pattern": rf"^({'|'.join(roots)})\.{id_}(\.{id_}){{0,6}}$",
        "maxLength": patterns.LENGTH_LIMIT,
        "description": description,
    }


EVENT: Final = Rule(
    "Event is not valid.",
    lambda value: value if isinstance(value, str) and patterns.is_event(value) else refuse(),
    _event_schema("event-pattern", patterns.TREE, "[^.]+", "A pattern such as `users.*.create`."),
)


OWN: Final = "functions"
ELSEWHERE: Final = tuple(root for root in patterns.TREE if root != OWN)
"""Kinds of things that others know about: what functions do, this service says itself."""


def _happened(value: Any) -> str:
    if not isinstance(value, str) or not patterns.is_event(value):
        refuse()
    if value.partition(".")[0] == OWN:
        refuse(f"Event is not valid. What functions do is said by this service itself, found {value!r}.")
    if not patterns.has_happened(value):
        refuse(f"Event is not valid. Expected one thing that happened, as users.jane.create, found {value!r}.")
    return str(value)


HAPPENED: Final = Rule(
    "Event is not valid.",
    _happened,
    _event_schema("event", ELSEWHERE, "[^.*]+", "One thing and its action, as `users.jane.create`."),
)
"""An event of somewhere else, with concrete ids and an action."""

_PRINTABLE: Final = re.compile(r"[ -~]{1,255}")

IDEMPOTENCY_KEY: Final = Rule(
    "Value must be at most 255 printable ASCII characters",
    lambda value: value if isinstance(value, str) and _PRINTABLE.fullmatch(value) else refuse(),
    {"type": "string", "pattern": f"^{_PRINTABLE.pattern}$", "description": "Up to 255 printable ASCII characters."},
)
"""What the client calls a request."""


def _role(role: Any) -> str:
    """Return a permission role; raises ``ValueError`` saying what is wrong (spec, section 4.4)."""
    if not isinstance(role, str):
        refuse("Permissions role must be of type string.")
    if role == "*":
        refuse('Wildcard permission "*" deprecated. Use "role:all" instead.')
    if role.count(":") != 1:
        refuse('Permission roles must contain one and only one ":" character.')
    kind, _, value = role.partition(":")
    if not value:
        refuse("Permission role value must not be empty")
    if kind == "role":
        if value not in ("all", "guest", "member"):
            refuse("Permission roles must be one of: all, guest, member")
    elif kind in ("user", "member"):
        if not is_id(value):
            refuse(f"[role:$id] $id must be a valid key: {_ID_MESSAGE}")
    elif kind == "team":
        _check_team(value)
    else:
        refuse("Permission role must begin with one of: member, role, team, user")
    return str(role)


def _check_team(value: str) -> None:
    if value.count("/") > 1:
        refuse('Permission roles may contain at most one "/" character.')
    team, slash, role = value.partition("/")
    if not team:
        refuse("Team ID must not be empty.")
    if slash and not role:
        refuse("Team role must not be empty.")
    if not slash and not is_id(team):
        refuse(f"[role:$id] $id must be a valid key: {_ID_MESSAGE}")
    if slash and not (is_id(team) and is_id(role)):
        refuse(f"[team:$teamId/$role] $teamID and $role must be valid keys: {_ID_MESSAGE}")


def _roles(value: Any) -> tuple[str, ...]:
    items = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(items, list):
        refuse()
    if len(items) > 100:
        refuse("You can only provide up to 100 permissions.")
    return tuple(_role(role) for role in items)


ROLES: Final = Rule(
    "Permissions roles must be an array of strings.",
    _roles,
    {
        "type": "array",
        "items": {
            "type": "string",
            "pattern": f"^(role:(all|guest|member)|(user|member):{_ID}|team:{_ID}(/{_ID})?)$",
            "description": "`role:all`, `role:guest`, `role:member`, `user:ID`, `team:ID` or `team:ID/ROLE`.",
        },
        "maxItems": 100,
    },
)


def is_team(value: Any) -> bool:
    """Return whether it is a text that is a team's id, or ``id/role``."""
    return isinstance(value, str) and value.count("/") < 2 and all(is_id(part) for part in value.split("/"))


def _teams(value: Any) -> tuple[str, ...]:
    items = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(items, list) or len(items) > 100:
        refuse()
    for item in items:
        if not is_team(item):
            refuse(f"{json.dumps(item)[:80]} is neither the id of a team nor id/role. {_ID_MESSAGE}")
    return tuple(items)


TEAMS: Final = Rule(
    "Value must be a valid array of at most 100 teams.",
    _teams,
    {
        "type": "array",
        "items": {"type": "string", "pattern": f"^{_ID}(/{_ID})?$", "description": "`ID` or `ID/ROLE`."},
        "maxItems": 100,
    },
)
"""What a token says of its user's teams: ids, or ``id/role``."""
