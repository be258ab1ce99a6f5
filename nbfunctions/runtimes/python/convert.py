"""Converts values read from JSON to what a parameter's type hint asks for.

============================== ====================================================================================
hint                           data
============================== ====================================================================================
``int`` ``float``              a number (``3.0`` is a whole number; a whole number is a ``float``)
``bool`` ``str`` ``None``      true or false, a text, null
``bytes``                      a text in base64
``datetime`` ``date`` ``time`` a text in ISO 8601
``timedelta``                  a number of seconds
``Decimal`` ``UUID`` ``Path``  a text (``Decimal`` also a number)
``Enum``                       a member's value, or its name
``Literal``                    one of the values
``Optional`` ``Union``         the first alternative that fits
``list`` ``set`` ``tuple`` ... a list, its items converted
``dict`` ``Mapping``           an object, its keys and values converted
data class, ``TypedDict``      an object with its fields; ``NamedTuple`` also a list
pydantic model                 whatever its ``model_validate`` takes
``DataFrame`` ``Series``       a list of objects, an object of lists, or our encoding (:mod:`dataframes`); a list
``ndarray`` ``Timestamp``      a list; a text in ISO 8601
============================== ====================================================================================

Anything that doesn't fit raises :class:`Misfit`: a sentence with the place, what was expected and what was found.
"""

from __future__ import annotations

import base64
import binascii
import collections
import collections.abc
import datetime
import decimal
import enum
import json
import pathlib
import sys
import typing
import uuid
from typing import Any, Callable, Dict, Tuple, Union

__all__ = ["Misfit", "convert", "found", "hints_of"]


class Misfit(Exception):
    """Data that doesn't fit a parameter; the message is a sentence for the caller."""


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the type hints of a function's parameters; those that can't be resolved are left out."""
    target = function if hasattr(function, "__annotations__") else type(function).__call__
    try:
        return _resolved(target)
    except Exception:
        # A name known to type checkers only. The others may still be real types.
        return {name: hint for name, hint in target.__annotations__.items() if not isinstance(hint, str)}


def _resolved(target: Any) -> dict[str, Any]:
    # Not include_extras, which Python 3.8 doesn't have: what Annotated adds says nothing of the value.
    return typing.get_type_hints(target)


def found(value: Any) -> str:
    """Return words for a value that came instead of what was expected."""
    shown = json.dumps(value, ensure_ascii=False)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    kinds = {str: "the text ", list: "the list ", dict: "the object ", int: "the number ", float: "the number "}
    return kinds.get(type(value), "") + shown


def convert(value: Any, hint: Any, where: str) -> Any:
    """Return ``value`` as ``hint`` asks; ``where`` names it in messages. Raises :class:`Misfit`."""
    hint = _bare(hint)
    if hint is Any or hint is object:
        # A hint for type checkers only can't be resolved here, but the caller read it and sent a DataFrame.
        return _frame(value, where) if _is_frame(value) else value
    origin = typing.get_origin(hint)
    if hint in SCALARS:
        return SCALARS[hint](value, where)
    if origin is Union or type(hint).__name__ == "UnionType":
        return _union(value, typing.get_args(hint), where)
    if origin is typing.Literal:
        return _literal(value, typing.get_args(hint), where)
    return _compound(value, hint, origin if isinstance(origin, type) else hint, where)


def _bare(hint: Any) -> Any:
    """Strip what says nothing of the value: ``Annotated``, ``Required``, ``Final``, new types, type variables."""
    while True:
        if hasattr(hint, "__metadata__"):
            hint = hint.__origin__
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif hasattr(hint, "__value__"):
            hint = hint.__value__
        elif str(typing.get_origin(hint)).rpartition(".")[2] in ("Required", "NotRequired", "ReadOnly", "Final"):
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.TypeVar):
            return Any if hint.__bound__ is None else hint.__bound__
        else:
            return type(None) if hint is None else hint


def _misfit(where: str, expected: str, value: Any) -> Misfit:
    return Misfit(f"{where}: expected {expected}, found {found(value)}")


# -- scalars ----------------------------------------------------------------------------------------------


def _integer(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise _misfit(where, "a whole number", value)
    return int(value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _misfit(where, "a number", value)
    try:
        return float(value)
    except OverflowError:
        raise _misfit(where, "a number a float can hold", value) from None


def _exactly(kind: type, words: str) -> Callable[[Any, str], Any]:
    def exact(value: Any, where: str) -> Any:
        if type(value) is not kind:
            raise _misfit(where, words, value)
        return value

    return exact


def _text(words: str, read: Callable[[str], Any], also: tuple[type, ...] = ()) -> Callable[[Any, str], Any]:
    def from_text(value: Any, where: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, (str, *also)):
            raise _misfit(where, words, value)
        try:
            return read(value if isinstance(value, str) else repr(value))
        except (ValueError, ArithmeticError, binascii.Error):
            raise _misfit(where, words, value) from None

    return from_text


def _zulu(text: str) -> str:
    # fromisoformat() reads the letter from Python 3.11 on.
    return text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text


def _seconds(value: Any, where: str) -> datetime.timedelta:
    try:
        return datetime.timedelta(seconds=_number(value, where))
    except (Misfit, OverflowError, ValueError):
        raise _misfit(where, "a number of seconds", value) from None


SCALARS: dict[Any, Callable[[Any, str], Any]] = {
    int: _integer,
    float: _number,
    bool: _exactly(bool, "true or false"),
    str: _exactly(str, "a text"),
    type(None): _exactly(type(None), "null"),
    bytes: _text("bytes as a text in base64", lambda text: base64.b64decode(text, validate=True)),
    bytearray: _text("bytes as a text in base64", lambda text: bytearray(base64.b64decode(text, validate=True))),
    complex: _text("a complex number as a text", complex, (int, float)),
    datetime.datetime: _text("a date and time in ISO 8601", lambda t: datetime.datetime.fromisoformat(_zulu(t))),
    datetime.date: _text("a date in ISO 8601", datetime.date.fromisoformat),
    datetime.time: _text("a time in ISO 8601", lambda text: datetime.time.fromisoformat(_zulu(text))),
    datetime.timedelta: _seconds,
    decimal.Decimal: _text("a decimal number", decimal.Decimal, (int, float)),
    uuid.UUID: _text("a UUID", uuid.UUID),
    pathlib.Path: _text("a path", pathlib.Path),
    pathlib.PurePath: _text("a path", pathlib.PurePath),
    pathlib.PurePosixPath: _text("a path", pathlib.PurePosixPath),
}


# -- alternatives -----------------------------------------------------------------------------------------


def _union(value: Any, alternatives: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in alternatives:
        return None
    misfits: list[str] = []
    # The value's own type first: the text "2026-01-01" is a str for Union[date, str].
    exact = [alternative for alternative in alternatives if alternative is type(value)]
    for alternative in [*exact, *alternatives]:
        if alternative is type(None):
            continue
        try:
            return convert(value, alternative, where)
        except Misfit as misfit:
            misfits.append(str(misfit))
    if len(misfits) == 1:
        raise Misfit(misfits[0])
    raise _misfit(where, " or ".join(dict.fromkeys(_words(alternative) for alternative in alternatives)), value)


def _literal(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise _misfit(where, f"one of {_listed(choices)}", value)


def _enum(value: Any, kind: Any, where: str) -> Any:
    for member in kind:
        same = type(member.value) is type(value) or isinstance(member.value, type(value))
        if same and not (isinstance(value, bool) is not isinstance(member.value, bool)) and member.value == value:
            return member
    if isinstance(value, str) and value in kind.__members__:
        return kind[value]
    raise _misfit(where, f"one of {_listed([member.value for member in kind])}", value)


def _listed(choices: Any) -> str:
    return ", ".join(json.dumps(choice, ensure_ascii=False, default=str) for choice in choices)


def _words(hint: Any) -> str:
    hint = _bare(hint)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return words.get(hint) or "a {}".format(getattr(hint, "__name__", str(hint).replace("typing.", "")))


# -- compounds --------------------------------------------------------------------------------------------


def _compound(value: Any, hint: Any, kind: Any, where: str) -> Any:
    if not isinstance(kind, type):
        raise Misfit(f"{where}: the hint {hint} can't be filled from data")
    if issubclass(kind, enum.Enum):
        return _enum(value, kind, where)
    if hasattr(kind, "model_validate"):
        return _model(value, kind, where)
    if hasattr(kind, "__dataclass_fields__"):
        return _fields(value, kind, _dataclass_fields(kind), where)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(value, kind, where)
    if hasattr(kind, "__total__") and issubclass(kind, dict):
        return _typed_dict(value, kind, where)
    if kind.__module__.partition(".")[0] in ("pandas", "numpy"):
        return _tabular(value, kind, where)
    if issubclass(kind, tuple):
        return _tuple(value, typing.get_args(hint), kind, where)
    if issubclass(kind, collections.abc.Mapping):
        return _mapping(value, typing.get_args(hint), kind, where)
    if issubclass(kind, collections.abc.Iterable):
        return _list(value, typing.get_args(hint), kind, where)
    raise Misfit(f"{where}: a {kind.__qualname__} can't be filled from data")


def _list(value: Any, items: tuple[Any, ...], kind: type, where: str) -> Any:
    if not isinstance(value, list):
        raise _misfit(where, "a list", value)
    hint = items[0] if items else Any
    converted = [convert(item, hint, f"{where}[{place}]") for place, item in enumerate(value)]
    if issubclass(kind, collections.abc.Set):
        try:
            return frozenset(converted) if issubclass(frozenset, kind) and kind is not set else set(converted)
        except TypeError:
            raise _misfit(where, "a list of plain values", value) from None
    if issubclass(kind, collections.deque):
        return collections.deque(converted)
    return converted


def _tuple(value: Any, items: tuple[Any, ...], kind: type, where: str) -> Any:
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_list(value, items[:1], list, where))
    if not items:
        return tuple(_list(value, (), list, where))
    if not isinstance(value, list) or len(value) != len(items):
        raise _misfit(where, f"a list of {len(items)} items", value)
    return tuple(convert(item, hint, f"{where}[{i}]") for i, (item, hint) in enumerate(zip(value, items)))


def _mapping(value: Any, items: tuple[Any, ...], kind: type, where: str) -> Any:
    if not isinstance(value, dict):
        raise _misfit(where, "an object", value)
    if len(items) < 2:
        return dict(value)
    return {
        _key_of(key, items[0], where): convert(item, items[1], f"{where}[{json.dumps(key)}]")
        for key, item in value.items()
    }


def _key_of(key: str, hint: Any, where: str) -> Any:
    """Keys of JSON are texts: a number among them is meant where a number is asked for."""
    if _bare(hint) in (int, float, bool):
        try:
            return convert(json.loads(key), hint, f"{where}: key")
        except ValueError:
            raise _misfit(f"{where}: key", _words(hint), key) from None
    return convert(key, hint, f"{where}: key")


Fields = Dict[str, Tuple[Any, bool]]
"""Of each field its hint and whether it must be given."""


def _dataclass_fields(kind: Any) -> Fields:
    import dataclasses

    hints = _resolved(kind)
    missing = dataclasses.MISSING
    return {
        field.name: (hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(kind)
        if field.init
    }


def _fields(value: Any, kind: Callable[..., Any], fields: Fields, where: str) -> Any:
    if not isinstance(value, dict):
        raise _misfit(where, "an object with {}".format(", ".join(fields)), value)
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise Misfit("{}: unknown field {!r}; it has {}".format(where, unknown[0], ", ".join(fields)))
    for name, (_, required) in fields.items():
        if required and name not in value:
            raise Misfit(f"{where}: field {name!r} is missing")
    converted = {name: convert(item, fields[name][0], f"{where}.{name}") for name, item in value.items()}
    try:
        return kind(**converted)
    except (TypeError, ValueError) as error:
        raise Misfit(f"{where}: {error}") from None


def _named_tuple(value: Any, kind: Any, where: str) -> Any:
    hints = _resolved(kind)
    if isinstance(value, list):
        if len(value) > len(kind._fields):
            raise _misfit(where, f"a list of at most {len(kind._fields)} items", value)
        value = dict(zip(kind._fields, value))
    fields = {name: (hints.get(name, Any), name not in kind._field_defaults) for name in kind._fields}
    return _fields(value, kind, fields, where)


def _typed_dict(value: Any, kind: Any, where: str) -> Any:
    required = getattr(kind, "__required_keys__", None)
    if required is None:  # Python 3.8
        required = frozenset(kind.__annotations__) if kind.__total__ else frozenset()
    fields = {name: (hint, name in required) for name, hint in _resolved(kind).items()}
    return _fields(value, dict, fields, where)


def _model(value: Any, kind: Any, where: str) -> Any:
    try:
        return kind.model_validate(value)
    except ValueError as error:
        problems = getattr(error, "errors", None)
        if problems is None:
            raise Misfit(f"{where}: {error}") from None
        first = problems()[0]
        place = "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in first["loc"])
        raise Misfit("{}{}: {}, found {}".format(where, place, first["msg"], _safe(first.get("input")))) from None


def _safe(value: Any) -> str:
    try:
        return found(value)
    except (TypeError, ValueError):
        return repr(value)[:60]


def _is_frame(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("nbfunctions", "")).startswith("dataframe/")


def _frame(value: Any, where: str) -> Any:
    from . import dataframes

    try:
        return dataframes.decode(value)
    except ImportError:
        reason = "a DataFrame can't be read without pandas: import it, not for type checkers only"
    except Exception as error:
        reason = f"expected a DataFrame as nbfunctions writes it ({error!r}), found {found(value)}"
    raise Misfit(f"{where}: {reason}")


def _tabular(value: Any, kind: Any, where: str) -> Any:
    name = kind.__name__
    wanted = {"DataFrame": "rows: a list of objects", "Series": "a list", "ndarray": "a list of numbers"}
    try:
        made = _tabular_value(value, kind, name)
    except Exception as error:
        # pandas and NumPy raise all sorts of errors for values that don't fit.
        reason = f" ({error})" if str(error) else ""
        raise Misfit(f"{where}: expected {wanted.get(name, name)}, found {found(value)}{reason}") from None
    if made is None:
        raise _misfit(where, wanted.get(name, f"a {name}"), value)
    return made


def _tabular_value(value: Any, kind: Any, name: str) -> Any | None:
    module = sys.modules[kind.__module__.partition(".")[0]]
    if name == "DataFrame":
        if isinstance(value, dict) and "nbfunctions" in value:
            from . import dataframes

            return dataframes.decode(value)
        rows = isinstance(value, list) and all(isinstance(row, dict) for row in value)
        columns = isinstance(value, dict) and all(isinstance(column, list) for column in value.values())
        return module.DataFrame(value) if rows or columns else None
    if name in ("Series", "Index") or name.endswith("Index"):
        return kind(value) if isinstance(value, list) else None
    if name == "ndarray":
        return module.asarray(value) if isinstance(value, list) else None
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return kind(value)
    return None
