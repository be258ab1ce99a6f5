"""Turns what a function returns into bytes for the answer.

JSON holds what it can; the rest is written so that a reader knows it: dates and times as ISO 8601, ``timedelta`` as
seconds, ``Decimal``, ``UUID`` and paths as text, enumerations as their values, sets as lists, bytes as base64, data
classes and pydantic models as objects, NumPy and pandas values as the plain values they hold. NaN, infinities, NaT
and NA, for which JSON has nothing, become null.
"""

from __future__ import annotations

import base64
import collections.abc
import json
import sys

TYPE_CHECKING = False  # importing typing would cost every cold start milliseconds
if TYPE_CHECKING:
    from typing import Any

__all__ = ["encode", "to_json"]


def encode(value: Any) -> tuple[str, bytes]:
    """Return the kind of result (``json``, ``dataframe`` or ``bytes``) and its bytes. Raises ``TypeError``."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes", base64.b64encode(bytes(value))
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame):
        from . import dataframes

        return "dataframe", to_json(dataframes.encode(value)).encode("utf-8", "replace")
    return "json", to_json(value).encode("utf-8", "replace")


def to_json(value: Any, *, sort_keys: bool = False, ensure_ascii: bool = False) -> str:
    """Return ``value`` as compact JSON. Raises ``TypeError`` for what can't be written, ``RecursionError``."""
    options: Any = {"separators": (",", ":"), "sort_keys": sort_keys, "ensure_ascii": ensure_ascii}
    try:
        return json.dumps(value, default=plain, allow_nan=False, **options)
    except (TypeError, ValueError):
        pass  # and what the slower way below raises stands alone, not "during handling of" this
    # Only for values with NaN or with keys that aren't text.
    return json.dumps(_tree(value, ()), allow_nan=False, **options)


def plain(value: Any) -> Any:
    """Return an equal value that ``json`` can write, one level deep. Raises ``TypeError``."""
    kind = type(value)
    for convert in (_standard, _numeric, _structured):
        found = convert(value)
        if found is not value:
            return found
    if isinstance(value, collections.abc.Mapping):
        return dict(value)
    if isinstance(value, (collections.abc.Iterator, collections.abc.KeysView, collections.abc.ValuesView)):
        return list(value)
    raise TypeError(f"a {kind.__module__}.{kind.__qualname__} can't be turned into JSON")


def _standard(value: Any) -> Any:
    import datetime
    import decimal
    import enum
    import os
    import uuid

    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.date, datetime.time)):
        text = value.isoformat()
        return None if text == "NaT" else text
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (set, frozenset)):
        try:
            return sorted(value)
        except TypeError:
            return list(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    return value


def _numeric(value: Any) -> Any:
    """NumPy and pandas, if the function has imported them."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if pandas is not None:
        if value is pandas.NaT or value is pandas.NA:
            return None
        if isinstance(value, pandas.DataFrame):
            return value.to_dict("records")
        if isinstance(value, pandas.Series):
            return value.tolist() if isinstance(value.index, pandas.RangeIndex) else value.to_dict()
        if isinstance(value, (pandas.Index, pandas.api.extensions.ExtensionArray)):
            return value.tolist()
        if isinstance(value, (pandas.Period, pandas.Interval)):
            return str(value)
    if numpy is not None:
        if isinstance(value, (numpy.datetime64, numpy.timedelta64)):
            return _numpy_time(numpy, value)
        if isinstance(value, (numpy.ndarray, numpy.generic)):
            return value.tolist()
    return value


def _numpy_time(numpy: Any, value: Any) -> Any:
    if numpy.isnat(value):
        return None
    if isinstance(value, numpy.datetime64):
        return str(value)
    return float(value / numpy.timedelta64(1, "s"))


def _structured(value: Any) -> Any:
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        import dataclasses

        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    dump = getattr(type(value), "model_dump", None)
    if dump is not None:
        return dump(value, mode="json")
    return value


def _tree(value: Any, above: tuple[int, ...]) -> Any:
    if isinstance(value, float):
        number = float(value)
        return None if number != number or number in (float("inf"), float("-inf")) else number
    if value is None or isinstance(value, (str, int)):
        return value
    if id(value) in above:
        raise ValueError("the result contains itself")
    above = (*above, id(value))
    if isinstance(value, dict):
        return {_key(key): _tree(item, above) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tree(item, above) for item in value]
    return _tree(plain(value), above)


def _key(key: Any) -> Any:
    if key is None or isinstance(key, (str, int, float)):
        return key
    value = plain(key) if not isinstance(key, tuple) else key
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
