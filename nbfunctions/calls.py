"""A call like Python's own: arguments become an execution's data, its outcome becomes a value or an exception."""

from __future__ import annotations

import base64
import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from nbfunctions.display import LAYERS, duration, in_cell, last_line, without_insides
from nbfunctions.errors import FunctionFailed, GeneralArgumentInvalid
from nbfunctions.models import Execution

if TYPE_CHECKING:
    from nbfunctions.client import Client

__all__ = ["data_of", "data_of_arguments", "failure_of", "json_of", "send", "value_of"]

LONGEST_DATA: Final = 8192
"""Characters that an execution's data may have (spec, section 1.1)."""

FRAME: Final = r"(?:(?:pd|pandas)\.)?DataFrame"
DATAFRAME: Final = re.compile(rf"{FRAME}|{FRAME} \| None|None \| {FRAME}|(?:\w+\.)?Optional\[{FRAME}\]")
"""A type hint, as it is written, that asks for a DataFrame and nothing else."""

TIMED_OUT = "Operation timed out"
"""What the reference's sentence for an execution that took too long ends with (spec, section 7.4)."""


def data_of(value: Any) -> str:
    """Return ``value`` as an execution's data: a text as it is, anything else as JSON.

    Dates are written as ISO 8601, a DataFrame as a list of records, NumPy and pandas values as plain ones, NaN and
    infinities as null. Raises ``TypeError`` naming what can't be written.
    """
    text = value if isinstance(value, str) else json_of(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = text[error.start : error.end]
        raise TypeError(f"a text with {found!a}, half of a surrogate pair, can't be sent as UTF-8") from None
    return text


def json_of(value: Any) -> str:
    """Return ``value`` as JSON; raises ``TypeError`` naming what can't be written."""
    from nbfunctions.runtimes.python.results import to_json

    try:
        return to_json(value)
    except RecursionError:
        raise TypeError("a value nested as deeply as this can't be turned into JSON") from None
    except ValueError as error:
        reason = str(error).replace("the result", "the value")
        raise TypeError(f"this can't be turned into JSON: {reason}") from None


def send(
    client: Client, function_id: str, data: str, *, asynchronous: bool = False, timeout: float | None = None
) -> Execution:
    """Execute a function with this data and return the record.

    Raises :class:`~nbfunctions.errors.GeneralArgumentInvalid` before anything is sent when the data is too long. An
    interrupt ends the wait, not the execution, and says so.
    """
    if len(data) > LONGEST_DATA:
        raise GeneralArgumentInvalid(
            f"{function_id}: the data has {len(data):,} characters, {LONGEST_DATA:,} are the most: put larger inputs "
            "into a file or database which the function reads"
        )
    try:
        return client.executions.create(function_id, data, asynchronous, timeout=timeout)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the execution goes on; %executions {function_id} shows it") from None


def data_of_arguments(
    name: str, signature: inspect.Signature | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    """Return the JSON object that gives a plain function these arguments; ``TypeError`` when they don't fit it.

    Defaults stay the function's own. A DataFrame for a parameter that asks for one arrives exactly as it is.
    Without a signature one argument is the data itself, keywords are a JSON object.
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
            given[key] = _typed(value, signature.parameters[key])
    return data_of(given) if given else ""


def _typed(value: Any, parameter: inspect.Parameter) -> Any:
    """Return a DataFrame, where the parameter asks for one, so that it arrives with its dtypes and its index."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, pandas.DataFrame):
        return value
    if not DATAFRAME.fullmatch(repr(parameter.annotation).strip("'\"")):
        return value
    from nbfunctions.runtimes.python.dataframes import encode

    return encode(value)


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
