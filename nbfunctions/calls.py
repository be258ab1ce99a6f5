"""A call like Python's own: arguments become an execution's data, its outcome becomes a value or an exception."""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from nbfunctions.display import LAYERS, duration, in_cell, last_line, without_insides
from nbfunctions.errors import FunctionFailed
from nbfunctions.models import Execution

__all__ = ["data_of", "data_of_arguments", "failure_of", "value_of"]

TIMED_OUT = "Operation timed out"
"""What the reference's sentence for an execution that took too long ends with (spec, section 7.4)."""


def data_of(value: Any) -> str:
    """Return ``value`` as an execution's data: a text as it is, anything else as JSON.

    Dates are written as ISO 8601, a DataFrame as a list of records, NumPy and pandas values as plain ones. Raises
    ``TypeError`` naming what can't be written.
    """
    if isinstance(value, str):
        return value
    from nbfunctions.runtimes.python.results import to_json

    return to_json(value)


def data_of_arguments(
    name: str, signature: inspect.Signature | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    """Return the JSON object that gives a plain function these arguments; ``TypeError`` when they don't fit it.

    Defaults stay the function's own. Without a signature one argument is the data itself, keywords are a JSON object.
    """
    __tracebackhide__ = True
    if signature is None:
        if args and (kwargs or len(args) > 1):
            raise TypeError(f"{name}() takes one argument, the data, or keywords, which become a JSON object")
        return data_of(args[0]) if args else data_of(dict(kwargs)) if kwargs else ""
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}() {error}; it is {name}{signature}") from None
    given: dict[str, Any] = {}
    for key, value in bound.arguments.items():
        if signature.parameters[key].kind is inspect.Parameter.VAR_KEYWORD:
            given.update(value)
        else:
            given[key] = value
    return data_of(given) if given else ""


def value_of(name: str, execution: Execution) -> Any:
    """Return what a function answered, read by its type: text, JSON value, bytes or DataFrame.

    Raises :class:`~nbfunctions.errors.FunctionFailed` when it failed, or when the arguments didn't fit (422).
    """
    if execution.status != "completed":
        raise failure_of(name, execution)
    if execution.status_code == 422 and execution.response_type == "text":
        misfit = FunctionFailed(f"{name}: the arguments don't fit: {execution.response}", execution)
        without_insides(misfit)
        raise misfit
    if execution.response_type == "json":
        return execution.json()
    if execution.response_type == "bytes":
        return base64.b64decode(execution.response)
    if execution.response_type == "dataframe":
        from nbfunctions.runtimes.python.dataframes import decode

        return decode(json.loads(execution.response))
    return execution.response


def failure_of(name: str, execution: Execution) -> FunctionFailed:
    """Return the exception for an execution that did not complete; its message is one line, its note the traceback."""
    said = in_cell(name, execution.stderr).strip()
    line = last_line(execution.stderr)
    what = LAYERS.get(execution.layer, "failed")
    where = f", cell line {line}" if line else ""
    failed = FunctionFailed(f"{name} {what}{where}: {_reason(name, execution)} (execution {execution.id})", execution)
    if "\n" in said:
        failed.add_note(said)
    without_insides(failed)
    return failed


def _reason(name: str, execution: Execution) -> str:
    """Return why it failed, in one line: the exception, or what the platform said, with the option that helps."""
    if TIMED_OUT in execution.stderr and execution.layer == "limit":
        return f"no answer within {duration(execution.time)}; %function {name} --timeout SECONDS gives it longer"
    lines = execution.stderr.strip().splitlines()
    starts = [index for index, text in enumerate(lines) if text.startswith("Traceback (most recent call last)")]
    if not starts or (execution.layer == "limit" and starts[0] > 0):
        return lines[0] if lines else f"status {execution.status_code}"
    return next((text for text in lines[starts[-1] + 1 :] if text and not text.startswith(" ")), lines[-1])
