"""Plain functions: parameters from the JSON object in the data, the return value as the result."""

from __future__ import annotations

import inspect
import json
from typing import Any, Callable, Dict, List, Tuple  # noqa: UP035 - Python 3.8 runs this

from . import convert, results
from .requests import Answer, Call

__all__ = ["plain_function"]


def plain_function(function: Callable[..., Any], settle: Callable[[Any], Any]) -> Callable[[Call], Answer]:
    """Return what answers a call by ``function(**data)``; data that doesn't fit is answered with 422 and a sentence."""
    signature = inspect.signature(function)
    hints = convert.hints_of(function)

    def respond(call: Call) -> Answer:
        try:
            positional, named = _arguments(signature, hints, call.payload)
        except convert.Misfit as misfit:
            return Answer(422, "text", str(misfit).encode("utf-8", "replace"))
        kind, body = results.encode(settle(function(*positional, **named)))
        return Answer(200, kind, body)

    return respond


def _arguments(
    signature: inspect.Signature,
    hints: Dict[str, Any],  # noqa: UP006
    payload: str,
) -> Tuple[List[Any], Dict[str, Any]]:  # noqa: UP006
    given = _given(signature, payload)
    positional: List[Any] = []  # noqa: UP006
    named: Dict[str, Any] = {}  # noqa: UP006
    rest = None
    variadic = any(p.kind is p.VAR_POSITIONAL and p.name in given for p in signature.parameters.values())
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            rest = name
            continue
        if name not in given:
            if parameter.kind is parameter.VAR_POSITIONAL:
                continue
            if parameter.default is parameter.empty:
                raise convert.Misfit(
                    "parameter %r is missing; %s" % (name, "found %s" % _names(given) if given else "no data was given")
                )
            if parameter.kind is parameter.KEYWORD_ONLY or not variadic:
                if parameter.kind is not parameter.POSITIONAL_ONLY:
                    continue
            positional.append(parameter.default)
            continue
        value = given.pop(name)
        where = "parameter %r" % name
        if parameter.kind is parameter.VAR_POSITIONAL:
            if not isinstance(value, list):
                raise convert.Misfit("%s: expected a list, found %s" % (where, convert.found(value)))
            hint = hints.get(name, Any)
            positional += [convert.convert(item, hint, "%s[%d]" % (where, i)) for i, item in enumerate(value)]
            continue
        converted = convert.convert(value, hints.get(name, Any), where)
        if parameter.kind is parameter.POSITIONAL_ONLY or (
            variadic and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ):
            positional.append(converted)
        else:
            named[name] = converted
    if given and rest is None:
        raise convert.Misfit("unknown parameter %r; the function has %s" % (min(given), _names(signature.parameters)))
    for name, value in given.items():
        named[name] = convert.convert(value, hints.get(rest or "", Any), "parameter %r" % name)
    return positional, named


def _given(signature: inspect.Signature, payload: str) -> Dict[str, Any]:  # noqa: UP006
    if not payload.strip():
        return {}
    wanted = "a JSON object with %s" % _names(signature.parameters) if signature.parameters else "no data"
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError):
        shown = payload if len(payload) <= 60 else payload[:57] + "..."
        raise convert.Misfit("data: expected %s, found %r, which is not JSON" % (wanted, shown)) from None
    if not isinstance(data, dict):
        raise convert.Misfit("data: expected %s, found %s" % (wanted, convert.found(data)))
    return data


def _names(names: Any) -> str:
    listed = ", ".join(repr(name) for name in names)
    return listed or "no parameters"
