"""Parameters, and the rules of plain values, with the contract's exact messages (spec, sections 0.2 and 0.4)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from nbfunctions.errors import GeneralArgumentInvalid

__all__ = [
    "FLAG",
    "FLAG_TEXT",
    "Param",
    "Rule",
    "array",
    "between",
    "check",
    "is_unicode",
    "one_of",
    "passed_on",
    "refuse",
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


def refuse(message: str = "") -> Any:
    """Say that a value doesn't fit; without ``message`` what its rule says of itself."""
    raise ValueError(message)


def text(length: int) -> Rule:
    """Return the rule of a text of at most ``length`` characters."""

    def read(value: Any) -> str:
        return value if isinstance(value, str) and len(value) <= length and is_unicode(value) else refuse()

    message = f"Value must be a valid string and no longer than {length} chars"
    return Rule(message, read, {"type": "string", "maxLength": length})


def passed_on(schema: Mapping[str, Any]) -> Rule:
    """Return the rule of a text that the action itself holds against ``schema``."""
    return dataclasses.replace(text(PASSED_LIMIT), schema={"type": "string", **schema})


def is_unicode(value: str) -> bool:
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
            refuse()
        try:
            return tuple(rule.read(item) for item in items)
        except ValueError:
            return refuse()  # type: ignore[no-any-return]

    schema = {"type": "array", "items": rule.schema, "maxItems": length}
    return Rule(f"Value must a valid array and {rule.message}", read, schema)


def one_of(*values: str, loose: bool = False) -> Rule:
    """Return the rule of one of some texts; ``loose`` ignores case and returns the text as it is listed."""
    known = {value.lower() if loose else value: value for value in values}

    def read(value: Any) -> str:
        wanted = value.lower() if loose and isinstance(value, str) else value
        return known[wanted] if isinstance(wanted, str) and wanted in known else refuse()

    return Rule(f"Value must be one of ({', '.join(values)})", read, {"type": "string", "enum": list(values)})


_INTEGER: Final = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)


def between(low: int, high: int) -> Rule:
    """Return the rule of a whole number, or a text that is one, from ``low`` to ``high``."""

    def read(value: Any) -> int:
        if isinstance(value, str) and len(value) < 20 and _INTEGER.fullmatch(value):
            value = int(value)
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return int(value) if fits else refuse()

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
    lambda value: value if isinstance(value, bool) else refuse(),
    {"type": "boolean"},
)
"""JSON ``true`` or ``false`` only."""


def _flag_text(value: Any) -> bool:
    if value in ("true", "1", 1) and not isinstance(value, float):
        return True
    if value in ("false", "0", 0) and not isinstance(value, float):
        return False
    return refuse()  # type: ignore[no-any-return]


FLAG_TEXT: Final = Rule("Value must be a valid boolean", _flag_text, {"type": "boolean"})
"""``true``, ``false``, 1, 0, or the text of one of them."""
