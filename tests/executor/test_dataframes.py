"""DataFrames travel exactly: what the runtime encodes is what comes back."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import numpy as np
import pandas as pd
import pytest

from nbfunctions.runtimes.python import dataframes, results
from tests.executor.deployments import Deployed

Deploy = Callable[..., Awaitable[Deployed]]

FRAMES: dict[str, pd.DataFrame] = {
    "plain": pd.DataFrame({"a": [1, 2], "b": [1.5, np.nan], "c": ["x", None], "d": [True, False]}),
    "times": pd.DataFrame(
        {
            "a": pd.date_range("2026-10-25", periods=3, freq="h", tz="Europe/Riga"),
            "b": pd.to_timedelta([1, None, 3], unit="s"),
            "c": pd.Categorical(["a", None, "b"], categories=["b", "a"], ordered=True),
            "d": pd.Series(["2026-01-01", None, "1901-01-01"]).astype("datetime64[s]"),
            "e": pd.Series(pd.to_datetime(["2026-01-01T00:00:00+05:30"] * 3)),
        },
    ).set_index(pd.Index(["x", "y", "z"], name="id")),
    "nullable": pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="Int64"),
            "b": pd.array([True, None], dtype="boolean"),
            "f": pd.array([1.5, None], dtype="Float64"),
            "s": pd.array(["a", None], dtype="string"),
        }
    ),
    "numbers": pd.DataFrame(
        {
            "inf": [np.inf, -np.inf],
            "big": np.array([1, 2**64 - 1], dtype="uint64"),
            "small": np.array([0.1, 0.2], dtype="float32"),
            "byte": np.array([-1, 1], dtype="int8"),
        }
    ),
    "levels": pd.DataFrame(
        [[1, 2], [3, 4]],
        columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["l", "m"]),
        index=pd.MultiIndex.from_tuples([("x", pd.Timestamp("2026-01-01")), ("y", pd.NaT)], names=["p", "q"]),
    ),
    "nothing": pd.DataFrame(),
    "no rows": pd.DataFrame({"a": []}),
    "no columns": pd.DataFrame(index=pd.RangeIndex(5, 1, -2)),
    "twice the same name": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "numbered columns": pd.DataFrame({1: [1], 5: [2]}),
    "periods": pd.DataFrame(
        {"p": pd.period_range("2026-01", periods=2, freq="M")}, index=pd.date_range("2026", periods=2, tz="UTC")
    ),
    "mixed": pd.DataFrame({"o": np.array([1, "x", None, [1]], dtype=object)}),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_comes_back_as_it_was(name: str) -> None:
    frame = FRAMES[name]
    text = results.to_json(dataframes.encode(frame))
    pd.testing.assert_frame_equal(dataframes.decode(json.loads(text)), frame, check_freq=False)


def test_what_has_no_exact_form_comes_as_text() -> None:
    frame = pd.DataFrame({"i": pd.interval_range(0, 2), "c": [1j, 2j]})
    decoded = dataframes.decode(json.loads(results.to_json(dataframes.encode(frame))))
    assert decoded.to_dict("list") == {"i": ["(0, 1]", "(1, 2]"], "c": ["1j", "2j"]}


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the format 'dataframe/1', found 'dataframe/9'"):
        dataframes.decode({"nbfunctions": "dataframe/9"})


async def test_functions_take_and_return_frames(deployed: Deploy) -> None:
    tables = await deployed("tables")
    rows = [{"name": "a", "x": 1.5}, {"name": "b", "x": None}]
    outcome = await tables(json.dumps({"rows": rows}))
    assert (outcome.status, outcome.response_type) == ("completed", "dataframe"), outcome.stderr
    frame = dataframes.decode(json.loads(outcome.response))
    assert frame.index.tolist() == ["a", "b"]
    assert str(frame["when"].dt.tz) == "Europe/Riga"
    sent = json.dumps({"rows": dataframes.encode(pd.DataFrame(rows)), "what": "values"})
    assert json.loads((await tables(sent)).response) == {
        "mean": 1.5,
        "array": [0, 1],
        "when": "2026-01-01T00:00:00+02:00",
        "none": None,
        "all": [1.5, None],
    }
    misfit = await tables('{"rows": "text"}')
    assert (misfit.status_code, misfit.response) == (
        422,
        "parameter 'rows': expected rows: a list of objects, found the text \"text\"",
    )
