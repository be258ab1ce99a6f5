"""Parameter rules with the contract's exact messages (spec, sections 0.2 to 0.4)."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from nbfunctions.errors import GeneralArgumentInvalid
from nbfunctions.server import cron, patterns

__all__ = [
    "CRON",
    "CUSTOM_ID",
    "EVENT",
    "FLAG",
    "FLAG_TEXT",
    "HAPPENED",
    "IDEMPOTENCY_KEY",
    "OBJECT",
    "ROLES",
    "TEAMS",
    "UID",
    "VARIABLES",
    "Param",
    "Rule",
    "array",
    "between",
    "check",
    "is_id",
    "is_team",
    "one_of",
    "passed_on",
    "text",
    "zero_or",
]


PASSED_LIMIT: Final = 262_144
"""Characters of a text that the action itself reads more closely."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """What a value must be: ``read`` returns it converted, or raises ``ValueError`` when it isn't that."""

    message: str
    """What the caller is told, unless the ``ValueError`` says something more exact."""
    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    """The same as JSON Schema, as clients should write it; ``read`` takes some other spellings, too."""


@dataclasses.dataclass(frozen=True)
class Param:
    """A parameter of a route."""

    name: str
    """As the wire spells it."""
    rule: Rule
    default: Any = None
    required: bool = False
    key: str = ""
    """The action's argument; the name in Python's spelling where nothing else is said."""
    help: str = ""
    """What it is, in one line, with its unit."""
    example: Any = None
    """A value for the documentation; None where the default does."""
    addition: bool = False
    """Whether the reference doesn't have it."""

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", re.sub(r"(?=[A-Z])", "_", self.name).lower())

    @property
    def must_be_given(self) -> bool:
        """Whether it can't be left out: what is required and has a default can (spec, section 0.2)."""
        return self.required and (self.default is None or self.default == "")


def check(params: Sequence[Param], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters by their Python names; the first that doesn't fit is refused.

    Null and empty text are replaced by the default before the rule is asked (spec, section 0.2). Raises
    :class:`~nbfunctions.errors.GeneralArgumentInvalid`.
    """
    values: dict[str, Any] = {}
    for param in params:
        value = given.get(param.name)
        if value is None or value == "":
            value = param.default
        if value is None or value == "":
            if param.required:
                raise GeneralArgumentInvalid(f'Param "{param.name}" is not optional.')
        elif value is not param.default:
            try:
                value = param.rule.read(value)
            except ValueError as error:
                raise GeneralArgumentInvalid(f"Invalid {param.name}: {str(error) or param.rule.message}") from None
        values[param.key] = value
    return values


def _refuse(message: str = "") -> Any:
    raise ValueError(message)


def text(length: int) -> Rule:
    """Return the rule of a text of at most ``length`` characters."""

    def read(value: Any) -> str:
        return value if isinstance(value, str) and len(value) <= length and _is_unicode(value) else _refuse()

    message = f"Value must be a valid string and no longer than {length} chars"
    return Rule(message, read, {"type": "string", "maxLength": length})


def passed_on(schema: Mapping[str, Any]) -> Rule:
    """Return the rule of a text that the action itself holds against ``schema``."""
    return dataclasses.replace(text(PASSED_LIMIT), schema={"type": "string", **schema})


def _is_unicode(value: str) -> bool:
    """Whether it can be written as UTF-8: JSON may carry half of a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def array(rule: Rule, length: int = 100) -> Rule:
    """Return the rule of an array of at most ``length`` values that fit ``rule``; keys are ignored."""

    def read(value: Any) -> tuple[Any, ...]:
        items = list(value.values()) if isinstance(value, dict) else value
        if not isinstance(items, list) or len(items) > length:
            _refuse()
        try:
            return tuple(rule.read(item) for item in items)
        except ValueError:
            return _refuse()  # type: ignore[no-any-return]

    schema = {"type": "array", "items": rule.schema, "maxItems": length}
    return Rule(f"Value must a valid array and {rule.message}", read, schema)


def one_of(*values: str, loose: bool = False) -> Rule:
    """Return the rule of one of some texts; ``loose`` ignores case and returns the text as it is listed."""
    known = {value.lower() if loose else value: value for value in values}

    def read(value: Any) -> str:
        wanted = value.lower() if loose and isinstance(value, str) else value
        return known[wanted] if isinstance(wanted, str) and wanted in known else _refuse()

    return Rule(f"Value must be one of ({', '.join(values)})", read, {"type": "string", "enum": list(values)})


_INTEGER: Final = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)


def between(low: int, high: int) -> Rule:
    """Return the rule of a whole number, or a text that is one, from ``low`` to ``high``."""

    def read(value: Any) -> int:
        if isinstance(value, str) and len(value) < 20 and _INTEGER.fullmatch(value):
            value = int(value)
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return int(value) if fits else _refuse()

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Rule(f"Value must be a valid range between {low:,} and {high:,}", read, schema)


def zero_or(rule: Rule) -> Rule:
    """Return the rule of a number that fits ``rule``, or is 0 for the server's default."""

    def read(value: Any) -> Any:
        return 0 if value == "0" or (value == 0 and type(value) is int) else rule.read(value)

    bounds = {name: value for name, value in rule.schema.items() if name != "type"}
    schema = {"type": rule.schema["type"], "anyOf": [{"const": 0}, bounds]}
    return Rule(f"{rule.message}, or 0 for the default", read, schema)


FLAG: Final = Rule(
    "Value must be a valid boolean",
    lambda value: value if isinstance(value, bool) else _refuse(),
    {"type": "boolean"},
)
"""JSON ``true`` or ``false`` only."""


def _flag_text(value: Any) -> bool:
    if value in ("true", "1", 1) and not isinstance(value, float):
        return True
    if value in ("false", "0", 0) and not isinstance(value, float):
        return False
    return _refuse()  # type: ignore[no-any-return]


FLAG_TEXT: Final = Rule("Value must be a valid boolean", _flag_text, {"type": "boolean"})
"""``true``, ``false``, 1, 0, or the text of one of them."""

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
    lambda value: value if value == "unique()" or is_id(value) else _refuse(),
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
    lambda value: value if is_id(value) else _refuse(),
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
        _refuse()
    if len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) > VARIABLES_LIMIT:
        _refuse()
    return dict(value)


_OBJECT_SAID: Final = f"Up to {VARIABLES_LIMIT:,} bytes as JSON, {NESTING_LIMIT} levels deep, numbers of 64 bits."

OBJECT: Final = Rule("Value must be a valid object.", _object, {"type": "object", "description": _OBJECT_SAID})
"""The reference's ``Assoc``."""


def _variables(value: Any) -> dict[str, Any]:
    value = _object(value)
    for name, content in value.items():
        if not name or "=" in name or "\0" in name or not _is_unicode(name):
            _refuse(f"Value must be a valid object. {name!r} can't be the name of a variable.")
        if isinstance(content, str) and ("\0" in content or not _is_unicode(content)):
            _refuse(f"Value must be a valid object. Variable {name!r} holds a character that no environment can.")
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
    lambda value: value if isinstance(value, str) and cron.is_cron(value) else _refuse(),
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
    lambda value: value if isinstance(value, str) and patterns.is_event(value) else _refuse(),
    _event_schema("event-pattern", patterns.TREE, "[^.]+", "A pattern such as `users.*.create`."),
)


OWN: Final = "functions"
ELSEWHERE: Final = tuple(root for root in patterns.TREE if root != OWN)
"""Kinds of things that others know about: what functions do, this service says itself."""


def _happened(value: Any) -> str:
    if not isinstance(value, str) or not patterns.is_event(value):
        _refuse()
    if value.partition(".")[0] == OWN:
        _refuse(f"Event is not valid. What functions do is said by this service itself, found {value!r}.")
    if not patterns.has_happened(value):
        _refuse(f"Event is not valid. Expected one thing that happened, as users.jane.create, found {value!r}.")
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
    lambda value: value if isinstance(value, str) and _PRINTABLE.fullmatch(value) else _refuse(),
    {"type": "string", "pattern": f"^{_PRINTABLE.pattern}$", "description": "Up to 255 printable ASCII characters."},
)
"""What the client calls a request."""


def _role(role: Any) -> str:
    """Return a permission role; raises ``ValueError`` saying what is wrong (spec, section 4.4)."""
    if not isinstance(role, str):
        _refuse("Permissions role must be of type string.")
    if role == "*":
        _refuse('Wildcard permission "*" deprecated. Use "role:all" instead.')
    if role.count(":") != 1:
        _refuse('Permission roles must contain one and only one ":" character.')
    kind, _, value = role.partition(":")
    if not value:
        _refuse("Permission role value must not be empty")
    if kind == "role":
        if value not in ("all", "guest", "member"):
            _refuse("Permission roles must be one of: all, guest, member")
    elif kind in ("user", "member"):
        if not is_id(value):
            _refuse(f"[role:$id] $id must be a valid key: {_ID_MESSAGE}")
    elif kind == "team":
        _check_team(value)
    else:
        _refuse("Permission role must begin with one of: member, role, team, user")
    return str(role)


def _check_team(value: str) -> None:
    if value.count("/") > 1:
        _refuse('Permission roles may contain at most one "/" character.')
    team, slash, role = value.partition("/")
    if not team:
        _refuse("Team ID must not be empty.")
    if slash and not role:
        _refuse("Team role must not be empty.")
    if not slash and not is_id(team):
        _refuse(f"[role:$id] $id must be a valid key: {_ID_MESSAGE}")
    if slash and not (is_id(team) and is_id(role)):
        _refuse(f"[team:$teamId/$role] $teamID and $role must be valid keys: {_ID_MESSAGE}")


def _roles(value: Any) -> tuple[str, ...]:
    items = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(items, list):
        _refuse()
    if len(items) > 100:
        _refuse("You can only provide up to 100 permissions.")
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
        _refuse()
    for item in items:
        if not is_team(item):
            _refuse(f"{json.dumps(item)[:80]} is neither the id of a team nor id/role. {_ID_MESSAGE}")
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
