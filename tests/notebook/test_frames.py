"""Lists are DataFrames whose columns and dtypes never change."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pytest

from nbfunctions import frames
from nbfunctions.client import Client
from nbfunctions.errors import FunctionNotFound, SettingInvalid
from nbfunctions.models import EXECUTION_STATUSES, TRIGGERS, Function
from tests.notebook.conftest import packed, wait_for_build
from tests.serving import RUNTIME

Deploy = Callable[..., Function]

DTYPES = {
    "text": "str",
    "texts": "object",
    "time": "datetime64[ns, UTC]",
    "duration": "timedelta64[ns]",
    "whole": "int64",
    "flag": "bool",
    "status": "category",
    "build status": "category",
    "trigger": "category",
}


def check_columns(frame: pd.DataFrame, name: str) -> None:
    columns = frames.COLUMNS[name]
    assert list(frame.columns) == list(columns)
    expected = pd.Series({c: pd.Series([], dtype=DTYPES[kind]).dtype for c, kind in columns.items()}, dtype="object")
    found = frame.dtypes.map(lambda dtype: "category" if dtype == "category" else str(dtype))
    assert found.to_dict() == expected.map(str).to_dict()
    assert frame.index.name == "id"
    assert str(frame.index.dtype) == str(pd.Index([], dtype="str").dtype)


def test_columns_and_dtypes_are_the_same_empty_or_full(client: Client, deployed: Deploy) -> None:
    check_columns(frames.functions(client), "functions")
    check_columns(frames.executions(client), "executions")
    client.functions.create("empty", "empty", runtime=RUNTIME)
    check_columns(frames.deployments(client, "empty"), "deployments")
    check_columns(frames.executions(client, "empty"), "executions")
    deployed("hello", vars={"GREETING": "Hi"}, schedule="0 6 * * *")
    client.executions.create("hello", asynchronous=False)
    check_columns(frames.functions(client), "functions")
    check_columns(frames.deployments(client, "hello"), "deployments")
    check_columns(frames.executions(client, "hello"), "executions")
    check_columns(frames.runtimes(client), "runtimes")


def test_every_column_is_explained_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "frames.md").read_text()
    for name, columns in frames.COLUMNS.items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(columns)
        assert all(f"``{column}``" in (getattr(frames, name).__doc__ or "") for column in columns)


def test_functions_show_names_of_variables_only_and_times_with_zone(client: Client) -> None:
    client.functions.create(
        "shop", "Shop", runtime=RUNTIME, vars={"B": "secret", "A": "x"}, schedule="0 6 * * *", timeout=20
    )
    row = frames.functions(client).loc["shop"]
    assert row["vars"] == ("A", "B")
    assert row["timeout"] == pd.Timedelta(seconds=20)
    assert abs(row["created"] - pd.Timestamp.now(tz="UTC")) < pd.Timedelta(minutes=1)
    assert pd.isna(row["previous"])
    assert "secret" not in frames.functions(client).to_csv()


def test_deployments_are_newest_first_and_the_active_one_is_marked(client: Client, deployed: Deploy) -> None:
    function = deployed("hello")
    newer = wait_for_build(client, client.deployments.create("hello", "main.py", packed("hello")))
    frame = frames.deployments(client, "hello")
    assert frame.index.tolist() == [newer.id, function.deployment]
    assert frame["active"].tolist() == [False, True]
    assert frame["status"].tolist() == ["ready", "ready"]
    assert (frame["build_time"] > pd.Timedelta(0)).all()
    assert frame.attrs == {"total": 2, "query": {"function": "hello", "limit": 25}}


def test_executions_have_every_category_and_are_filtered(client: Client, deployed: Deploy) -> None:
    deployed("hello", vars={"GREETING": "Hi"})
    deployed("raises")
    for name in ("hello", "raises", "hello"):
        client.executions.create(name, asynchronous=False)
    everything = frames.executions(client)
    assert everything["function"].tolist() == ["hello", "raises", "hello"] or everything["created"].nunique() == 1
    assert everything["status"].cat.categories.tolist() == list(EXECUTION_STATUSES)
    assert everything["trigger"].cat.categories.tolist() == list(TRIGGERS)
    assert everything["status"].value_counts().to_dict() == {"completed": 2, "failed": 1, "waiting": 0, "processing": 0}
    assert frames.executions(client, status="failed")["function"].tolist() == ["raises"]
    assert frames.executions(client, "hello", status="failed").empty
    assert frames.executions(client, trigger="schedule").empty
    assert len(frames.executions(client, since="1h")) == 3
    assert frames.executions(client, since=datetime.now(UTC) + timedelta(minutes=5)).empty
    assert (everything["time"] > pd.Timedelta(0)).all()
    assert everything.attrs["total"] == 3
    assert everything.attrs["query"]["function"] is None


def test_more_than_a_page_comes_by_itself(client: Client, deployed: Deploy) -> None:
    deployed("hello", vars={"GREETING": "Hi"})
    for _ in range(120):
        client.executions.create("hello")
    deadline = time.monotonic() + 30
    while frames.executions(client, "hello", status="waiting", limit=1).size and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(frames.executions(client, "hello")) == 25
    assert len(frames.executions(client, "hello", limit=110)) == 110
    everything = frames.executions(client, "hello", limit=None)
    assert len(everything) == 120
    assert everything.index.is_unique
    assert everything.attrs["total"] == 120
    assert frames.executions(client, "hello", limit=0).empty


def test_an_unknown_function_is_refused(client: Client) -> None:
    with pytest.raises(FunctionNotFound):
        frames.deployments(client, "nowhere")
    with pytest.raises(FunctionNotFound):
        frames.executions(client, "nowhere")


NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("7d", NOW - timedelta(days=7)),
        ("1.5h", NOW - timedelta(minutes=90)),
        ("30 m", NOW - timedelta(minutes=30)),
        (timedelta(hours=1), NOW - timedelta(hours=1)),
        ("2026-11-23T10:00+01:00", datetime(2026, 11, 23, 10, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_since_is_a_span_or_a_time_with_its_zone(since: str | timedelta, expected: datetime) -> None:
    assert frames.since_time(since, NOW) == expected


@pytest.mark.parametrize("since", ["soon", "7", "2026-11-23T10:00", "d7", "-3h", "99999999d"])
def test_a_since_that_cannot_be_is_refused(since: str) -> None:
    with pytest.raises(SettingInvalid, match="since: "):
        frames.since_time(since, NOW)


@pytest.mark.parametrize(("name", "value"), [("status", "done"), ("trigger", "cron")])
def test_an_unknown_status_or_trigger_is_refused_before_anything_is_asked(name: str, value: str) -> None:
    with pytest.raises(SettingInvalid, match=f"{name}: expected one of .*, found '{value}'"):
        frames.check_filters(**{name: value})


def test_a_limit_below_zero_is_refused_before_anything_is_asked(client: Client) -> None:
    with pytest.raises(SettingInvalid, match="limit: expected 0 or more, found -1"):
        frames.executions(client, limit=-1)
    with pytest.raises(SettingInvalid, match="limit: expected 0 or more, found -1"):
        frames.deployments(client, "nowhere", limit=-1)
