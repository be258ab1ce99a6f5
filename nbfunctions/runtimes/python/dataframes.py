"""DataFrames as JSON, exact: dtypes, index, column names, categories and time zones come back as they were.

``encode`` gives (and ``decode`` reads)::

    {"nbfunctions": "dataframe/1",
     "length": 3,
     "index":   [AXIS COLUMN, ...]            one for each level of the index
     "columns": [COLUMN, ...]
     "axis":    {"names": [...], "labels": [...], "dtypes": [...]}     the columns' labels: a label or a list of them

    COLUMN = {"dtype": "int64", "values": [...]}
    AXIS COLUMN = the same with "name", or {"name": ..., "range": [start, stop, step]} for the usual index

Values by dtype:

=========================== ==========================================================================================
int, uint, bool, Int64 ...  numbers, true and false; null is NA
float                       numbers; null is NaN; the texts "inf" and "-inf"
datetime64[unit(, zone)]    whole numbers of the unit since 1970 in UTC; null is NaT
timedelta64[unit]           whole numbers of the unit; null is NaT
category                    codes (-1 is none), with "categories" (a COLUMN) and "ordered"
str, string                 texts; null is missing
period[...]                 texts
object                      whatever JSON can hold of each value, as in :mod:`results`: not exact
=========================== ==========================================================================================

Other dtypes (intervals, sparse, complex) are sent as ``object``. Without pandas this module can't be used.
"""

from __future__ import annotations

import importlib
from typing import Any, Dict

__all__ = ["FORMAT", "decode", "encode"]

FORMAT = "dataframe/1"
Column = Dict[str, Any]


def encode(frame: Any) -> Column:
    """Return what stands for ``frame``; numbers in it are Python's, so that ``json`` can write it."""
    pd = importlib.import_module("pandas")

    labels = frame.columns
    levels = [labels.get_level_values(level) for level in range(labels.nlevels)]
    return {
        "nbfunctions": FORMAT,
        "length": len(frame),
        "index": [_axis(level, pd) for level in _levels(frame.index)],
        "columns": [_column(frame.iloc[:, place], pd) for place in range(len(labels))],
        "axis": [_axis(level, pd) for level in levels],
    }


def decode(value: Column) -> Any:
    """Return the DataFrame that ``value`` stands for. Raises ``ValueError`` for another format."""
    pd = importlib.import_module("pandas")

    if value.get("nbfunctions") != FORMAT:
        raise ValueError("expected the format {!r}, found {!r}".format(FORMAT, value.get("nbfunctions")))
    index = _index(value["index"], pd)
    data = {place: _series(column, pd, index) for place, column in enumerate(value["columns"])}
    frame = pd.DataFrame(data, index=index)
    frame.columns = _index(value["axis"], pd)
    return frame


def _levels(index: Any) -> list[Any]:
    return [index.get_level_values(level) for level in range(index.nlevels)]


def _axis(level: Any, pd: Any) -> Column:
    name = list(level.name) if isinstance(level.name, tuple) else level.name
    if isinstance(level, pd.RangeIndex):
        return {"name": name, "range": [level.start, level.stop, level.step]}
    return {"name": name, **_column(level, pd)}


def _column(values: Any, pd: Any) -> Column:
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categorical = values.cat if hasattr(values, "cat") else values
        return {
            "dtype": "category",
            "values": [int(code) for code in categorical.codes],
            "categories": _column(dtype.categories, pd),
            "ordered": bool(dtype.ordered),
        }
    name = str(dtype)
    if name.startswith(("datetime64", "timedelta64")):
        missing = values.isna()
        numbers = pd.Index(values).asi8.tolist()
        return {"dtype": name, "values": [None if gone else n for gone, n in zip(missing, numbers)]}
    if name.startswith("period"):
        return {"dtype": name, "values": [None if pd.isna(item) else str(item) for item in values]}
    if _is_plain(dtype, pd):
        return {"dtype": name, "values": [_plain(item, pd) for item in values.tolist()]}
    if name.startswith(("interval", "Sparse", "complex")):
        return {"dtype": "object", "values": [None if pd.isna(item) else str(item) for item in values.tolist()]}
    return {
        "dtype": name if name in ("str", "string") else "object",
        "values": [_object(i, pd) for i in values.tolist()],
    }


def _is_plain(dtype: Any, pd: Any) -> bool:
    return bool(pd.api.types.is_bool_dtype(dtype)) or (
        bool(pd.api.types.is_numeric_dtype(dtype)) and not pd.api.types.is_complex_dtype(dtype)
    )


def _plain(item: Any, pd: Any) -> Any:
    if item is pd.NA or item is None or item != item:
        return None
    if item in (float("inf"), float("-inf")):
        return "inf" if item > 0 else "-inf"
    return item


def _object(item: Any, pd: Any) -> Any:
    """Missing values of any kind become null; the rest is left to the writer of JSON."""
    return None if item is pd.NA or item is pd.NaT or (isinstance(item, float) and item != item) else item


def _index(axes: list[Column], pd: Any) -> Any:
    levels = [_level(axis, pd) for axis in axes]
    if len(levels) == 1:
        return levels[0]
    return pd.MultiIndex.from_arrays(levels, names=[level.name for level in levels])


def _level(axis: Column, pd: Any) -> Any:
    name = tuple(axis["name"]) if isinstance(axis["name"], list) else axis["name"]
    if "range" in axis:
        return pd.RangeIndex(*axis["range"], name=name)
    return pd.Index(_values(axis, pd), name=name)


def _series(column: Column, pd: Any, index: Any) -> Any:
    return pd.Series(_values(column, pd), index=index)


def _values(column: Column, pd: Any) -> Any:
    np = importlib.import_module("numpy")

    dtype, values = column["dtype"], column["values"]
    if dtype == "category":
        categories = pd.Index(_values(column["categories"], pd))
        return pd.Categorical.from_codes(values, categories=categories, ordered=column["ordered"])
    if dtype.startswith(("datetime64", "timedelta64")):
        kind, _, rest = dtype.partition("[")
        unit, _, zone = rest.rstrip("]").partition(", ")
        missing = np.iinfo("int64").min
        whole = np.array([missing if item is None else item for item in values], dtype="int64")
        moments = whole.view(f"{kind}[{unit}]")
        return pd.DatetimeIndex(moments).tz_localize("UTC").tz_convert(zone) if zone else moments
    if dtype.startswith("period"):
        return pd.PeriodIndex(values, freq=dtype[7:-1])
    if dtype.startswith("float"):
        return np.array([float("nan") if item is None else float(item) for item in values], dtype=dtype)
    if dtype == "object":
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    if dtype in ("str", "string", "boolean") or dtype[:1].isupper() or dtype.endswith("]"):
        return pd.array(values, dtype=dtype)
    return np.array(values, dtype=dtype)
