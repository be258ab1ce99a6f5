"""Plain functions: parameters from the JSON object in the data, the return value as the result."""

from __future__ import annotations

import collections
import inspect
import json
from typing import Any, Callable

from . import convert, results
from .requests import Answer, Call

__all__ = ["plain_function"]


def plain_function(function: Callable[..., Any], settle: Callable[[Any], Any]) -> Callable[[Call], Answer]:
    """Return what answers a call by ``function(**data)``; data that doesn't fit is answered with 422 and a sentence."""
    signature = inspect.signature(function)
    hints = convert.hints_of(function)

    def respond(call: Call) -> Answer:
        try:
            arguments = _arguments(signature, hints, call.payload)
        except convert.Misfit as misfit:
            return Answer(422, "text", str(misfit).encode("utf-8", "replace"))
        kind, body = results.encode(settle(function(*arguments.args, **arguments.kwargs)))
        return Answer(200, kind, body)

    return respond


def _arguments(signature: inspect.Signature, hints: dict[str, Any], payload: str) -> inspect.BoundArguments:
    """Return the call's arguments, ``*args`` from a list of that name, ``**kwargs`` from all that is left."""
    given = _given(signature, payload)
    names = _names(given) if given else "nothing"
    arguments: dict[str, Any] = {}
    rest = ""
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            rest = name
        elif name in given:
            many = parameter.kind is parameter.VAR_POSITIONAL
            arguments[name] = _converted(given.pop(name), hints.get(name, Any), name, many)
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
            raise convert.Misfit(f"parameter {name!r} is missing; found {names}")
    if given and not rest:
        raise convert.Misfit(f"unknown parameter {min(given)!r}; the function has {_names(signature.parameters)}")
    if rest:
        arguments[rest] = {name: _converted(item, hints.get(rest, Any), name) for name, item in given.items()}
    bound = inspect.BoundArguments(signature, collections.OrderedDict(arguments))
    bound.apply_defaults()
    return bound


def _converted(value: Any, hint: Any, name: str, many: bool = False) -> Any:
    where = f"parameter {name!r}"
    if not many:
        return convert.convert(value, hint, where)
    if not isinstance(value, list):
        raise convert.Misfit(f"{where}: expected a list, found {convert.found(value)}")
    return tuple(convert.convert(item, hint, f"{where}[{place}]") for place, item in enumerate(value))


def _given(signature: inspect.Signature, payload: str) -> dict[str, Any]:
    if not payload.strip():
        return {}
    wanted = f"a JSON object with {_names(signature.parameters)}" if signature.parameters else "no data"
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError):
        shown = payload if len(payload) <= 60 else payload[:57] + "..."
        raise convert.Misfit(f"data: expected {wanted}, found {shown!r}, which is not JSON") from None
    if not isinstance(data, dict):
        raise convert.Misfit(f"data: expected {wanted}, found {convert.found(data)}")
    return data


def _names(names: Any) -> str:
    listed = ", ".join(repr(name) for name in names)
    return listed or "no parameters"
