"""The handle: called like a function, mapped over rows, and honest about failures."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbfunctions
from nbfunctions.calls import data_of, data_of_arguments
from nbfunctions.capture.package import package_cell
from nbfunctions.client import Client
from nbfunctions.deploy import Deployed, deploy
from nbfunctions.errors import (
    BuildFailed,
    DeploymentNotFound,
    FunctionFailed,
    FunctionNotFound,
    GeneralArgumentInvalid,
    PackageError,
    SettingInvalid,
    StorageInvalidFileSize,
)
from nbfunctions.handle import FunctionHandle, get, publish
from nbfunctions.options import options_from

PLAIN = """
import datetime as dt

def adds(a: int, b: int = 2, *, day: dt.date | None = None) -> dict:
    if a < 0:
        raise ValueError(f"a is {a}")
    return {"sum": a + b, "day": day and day.isoformat()}
"""

TABLE = """
import pandas as pd

def table(rows: list, unit: str = "h") -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    frame["when"] = pd.to_datetime(frame["when"], utc=True)
    frame["kind"] = frame["kind"].astype("category")
    return frame.set_index("when")
"""

ENVIRONMENT = """
import os

def main(req, res):
    return res.json({"who": req.payload, "a": os.environ.get("A"), "b": os.environ.get("B")})
"""


def quiet(phase: str, detail: str = "") -> None:
    """Shows no progress."""


def make(body: str, name: str, **given: Any) -> FunctionHandle:
    options = options_from(name, given)
    return publish(package_cell(body, options), options, quiet)


def test_a_plain_function_is_called_by_its_own_parameters(client: Client) -> None:
    adds = make(PLAIN, "adds")
    assert adds(1) == {"sum": 3, "day": None}
    assert adds(1, b=4, day=pd.Timestamp("2026-01-02").date()) == {"sum": 5, "day": "2026-01-02"}
    assert adds.local(1, 5) == {"sum": 6, "day": None}


def test_arguments_that_do_not_fit_are_type_errors_before_anything_is_sent(client: Client) -> None:
    adds = make(PLAIN, "adds")
    for arguments, named, said in [
        ((), {}, "missing a required argument: 'a'"),
        ((1,), {"c": 1}, "unexpected keyword"),
    ]:
        with pytest.raises(TypeError, match=said):
            adds(*arguments, **named)
    assert client.executions.list("adds").total == 0


def test_values_that_do_not_fit_the_type_hints_are_said_by_the_service(client: Client) -> None:
    adds = make(PLAIN, "adds")
    with pytest.raises(FunctionFailed, match="adds: the arguments don't fit: parameter 'a'") as raised:
        adds("one")
    assert raised.value.execution.status_code == 422  # type: ignore[attr-defined]


def test_a_failure_points_at_the_line_of_the_cell(client: Client) -> None:
    adds = make(PLAIN, "adds")
    with pytest.raises(FunctionFailed) as raised:
        adds(-1)
    assert str(raised.value).startswith("adds failed in your code, cell line 7: ValueError: a is -1 (execution ")
    assert "\n" not in str(raised.value)
    (note,) = raised.value.__notes__
    assert 'File "%%function adds", line 7, in adds' in note


def test_dataframes_come_back_as_they_were(client: Client) -> None:
    table = make(TABLE, "table", timeout=60)
    rows = pd.DataFrame({"when": ["2026-01-01T00:00Z", "2026-01-02T00:00Z"], "kind": ["a", "b"], "n": [1, 2]})
    result = table(rows)
    assert str(result.index.dtype).endswith(", UTC]")
    assert str(result["kind"].dtype) == "category"
    pd.testing.assert_frame_equal(result, table.local(rows.to_dict("records")))


def test_other_shapes_take_data_and_variables(client: Client) -> None:
    function = make(ENVIRONMENT, "environment", var={"A": "1"})
    assert function("Ada") == {"who": "Ada", "a": "1", "b": None}
    assert function(x=1)["who"] == '{"x":1}'
    assert function.local("Ada") == {"who": "Ada", "a": "1", "b": None}
    assert "A" not in os.environ
    execution = function.execute({"n": 1})
    assert execution.json()["who"] == '{"n":1}'
    assert function.execute("later", wait=False).status == "waiting"


def test_mapping_gives_a_row_each_and_failed_rows_keep_their_error(client: Client) -> None:
    adds = make(PLAIN, "adds")
    rows = pd.DataFrame({"a": [1, -1, 3], "b": [10, 20, 30], "ignored": ["x", "y", "z"]}, index=["i", "j", "k"])
    frame = adds.map(rows, concurrency=2, retries=1)
    assert frame.index.tolist() == ["i", "j", "k"]
    assert frame["status"].tolist() == ["completed", "failed", "completed"]
    assert [r and r["sum"] for r in frame["result"]] == [11, None, 33]
    assert "ValueError: a is -1" in frame["error"].tolist()[1]
    assert frame["attempts"].tolist() == [1, 2, 1]
    assert str(frame["time"].dtype) == "timedelta64[ns]"
    assert adds.map([1, (2, 3), {"a": 4}])["result"].map(lambda r: r["sum"]).tolist() == [3, 5, 6]
    assert adds.map([]).columns.tolist() == frame.columns.tolist()
    with pytest.raises(TypeError, match="no column is a parameter of adds"):
        adds.map(pd.DataFrame({"z": [1]}))
    with pytest.raises(TypeError, match="missing a required argument"):
        adds.map(pd.DataFrame({"b": [1]}))


def test_an_unchanged_cell_makes_no_new_deployment_but_new_settings(client: Client) -> None:
    first = make(PLAIN, "adds", timeout=5)
    again = make(PLAIN, "adds", timeout=7)
    assert again.deployed is not None
    assert again.deployed.unchanged
    assert again.function.timeout == 7
    assert client.deployments.list("adds").total == 1
    assert "already deployed" in repr(again)
    changed = make(PLAIN + "# more\n", "adds")
    assert changed.function.deployment != first.function.deployment
    assert changed.function.timeout == 7
    assert client.deployments.list("adds").total == 2


def test_settings_that_are_not_named_stay(client: Client) -> None:
    make(PLAIN, "adds", var={"A": "1"}, execute=["role:all"], schedule="0 6 * * *")
    handle = make(PLAIN, "adds", var={"B": "2"})
    assert handle.function.vars == {"A": "1", "B": "2"}
    assert (handle.function.execute, handle.function.schedule) == (("role:all",), "0 6 * * *")
    assert handle.settings(vars={"C": "3"}, schedule="").function.vars == {"C": "3"}
    assert handle.function.schedule == ""
    with pytest.raises(SettingInvalid, match="no setting 'colour'"):
        handle.settings(colour="red")


def test_rolling_back_activates_the_deployment_before(client: Client) -> None:
    one = make("def f():\n    return 1\n", "f")
    two = make("def f():\n    return 2\n", "f")
    assert two() == 2
    two.rollback()
    assert two.function.deployment == one.function.deployment
    assert two() == 1
    with pytest.raises(SettingInvalid, match="no earlier deployment that is ready"):
        two.rollback()
    with pytest.raises(DeploymentNotFound, match="f has no deployment 'nowhere'; %deployments f lists them"):
        two.rollback("nowhere")
    assert two.rollback(client.deployments.list("f", order_type="DESC").deployments[0].id)() == 2


def test_not_activating_keeps_the_active_one(client: Client) -> None:
    one = make("def f():\n    return 1\n", "f")
    two = make("def f():\n    return 2\n", "f", no_activate=True)
    assert two.function.deployment == one.function.deployment
    assert "ready, not active" in repr(two)
    assert two.deployed is not None
    assert f"%function_rollback f {two.deployed.deployment.id}" in repr(two)
    assert two() == 1


def test_of_two_deployments_at_once_the_newer_one_becomes_active(client: Client) -> None:
    newer: list[FunctionHandle] = []

    def from_another_kernel(phase: str, detail: str = "") -> None:
        if phase == "building" and not newer:
            newer.append(make("def f():\n    return 2\n", "f"))

    options = options_from("f", {})
    older = publish(package_cell("def f():\n    return 1\n", options), options, from_another_kernel)
    assert repr(newer[0]).startswith("f: active\n")
    assert repr(older).startswith("f: ready, not active: a newer deployment came meanwhile\n")
    assert older.deployed is not None
    assert f"%deployments f   %function_rollback f {older.deployed.deployment.id}" in repr(older)
    assert client.functions.get("f").deployment == newer[0].function.deployment
    assert older() == 2
    assert older.rollback(older.deployed.deployment.id)() == 1
    assert repr(older).startswith("f: active\n")


def test_a_build_that_fails_says_its_last_line_and_keeps_the_active_deployment(client: Client, tmp_path: Path) -> None:
    one = make("def f():\n    return 1\n", "f")
    file = tmp_path / "bad.txt"
    file.write_text("no-such-package-of-ours==9.9.9\n")
    stays = f"deployment {one.function.deployment} stays active"
    with pytest.raises(BuildFailed, match=rf"f: the build of deployment \w+ failed: .*\({stays}\)\n"):
        make("def f():\n    return 2\n", "f", requirements=str(file), timeout=40)
    after = client.functions.get("f")
    assert (after.deployment, after.timeout) == (one.function.deployment, one.function.timeout)
    assert one() == 1
    with pytest.raises(BuildFailed, match=r"\(nothing is active\)\n"):
        make("def g():\n    return 2\n", "g", requirements=str(file))


def test_a_refused_upload_leaves_nothing_and_puts_settings_back(client: Client) -> None:
    package_options = options_from("big", {"timeout": 5})
    package = package_cell("def big():\n    return 1\n", package_options)
    content = os.urandom(31_000_000)
    huge = dataclasses.replace(package, archive=content, digest=hashlib.sha256(content).hexdigest())
    said = "big: File size not allowed: the package has 31,000,000 bytes, more than the server's setting archive_size_"
    with pytest.raises(StorageInvalidFileSize, match=said):
        deploy(client, huge, package_options, quiet)
    with pytest.raises(FunctionNotFound):
        client.functions.get("big")
    before = make("def big():\n    return 1\n", "big", timeout=9).function
    with pytest.raises(nbfunctions.Error, match="File size not allowed"):
        deploy(client, huge, package_options, quiet)
    after = client.functions.get("big")
    assert (after.timeout, after.deployment) == (9, before.deployment)
    assert client.deployments.list("big").total == 1


def test_the_runtime_of_a_function_is_not_changed_in_silence(client: Client) -> None:
    make("def f():\n    return 1\n", "f")
    with pytest.raises(SettingInvalid, match=r"f runs on python-.*, and a function keeps its runtime"):
        make("def f():\n    return 2\n", "f", runtime="node-16.0")
    with pytest.raises(nbfunctions.Error, match="Invalid runtime"):
        make("def g():\n    return 2\n", "g", runtime="cobol-85")
    with pytest.raises(FunctionNotFound):
        client.functions.get("g")


def test_the_decorator_deploys_the_function_below(client: Client, tmp_path: Path) -> None:
    source = "import json\nimport nbfunctions as nbf\n\n@nbf.function(timeout=4)\n"
    source += "def twice(n: int):\n    return json.dumps(n * 2)\n"
    path = tmp_path / "cell.py"
    path.write_text(source)
    namespace: dict[str, Any] = {}
    exec(compile(source, str(path), "exec"), namespace)  # noqa: S102
    twice = namespace["twice"]
    assert isinstance(twice, FunctionHandle)
    assert twice(4) == "8"
    assert (twice.function.timeout, twice.local(5)) == (4, "10")


def test_the_decorator_refuses_names_that_no_variable_can_have(client: Client) -> None:
    for name in ("grüße", "A B", "", "1A", "APPWRITE_FUNCTION_DATA"):
        with pytest.raises(SettingInvalid, match=name or "''"):
            nbfunctions.function(var={name: "1"})(quiet)
    assert client.functions.list().total == 0


def test_a_deleted_function_says_so(client: Client) -> None:
    handle = make("def f():\n    return 1\n", "f")
    handle.delete()
    assert repr(handle) == "f: deleted"
    with pytest.raises(FunctionNotFound, match="there is no function 'f'; %functions lists"):
        handle()


def test_a_limit_that_was_hit_is_named_with_what_helps(client: Client) -> None:
    sleeps = make("import time\ndef sleeps():\n    time.sleep(30)\n", "sleeps", timeout=1)
    with pytest.raises(FunctionFailed, match=r"no answer within 1\S* s; %function sleeps --timeout SECONDS"):
        sleeps()


def test_data_that_is_too_long_is_refused_before_it_is_sent(client: Client) -> None:
    long = make("def long(text: str) -> int:\n    return len(text)\n", "long")
    said = "long: the data has 9,011 characters, 8,192 are the most: put larger inputs into a file or database"
    for call in (lambda: long("x" * 9000), lambda: long.execute("x" * 9011), lambda: long.execute("x" * 9011, False)):
        with pytest.raises(GeneralArgumentInvalid, match=said):
            call()
    assert client.executions.list("long").total == 0
    frame = long.map(["x", "x" * 9000])
    assert frame["status"].tolist() == ["completed", "failed"]
    assert frame["error"].tolist()[1].startswith(said)
    assert long("x" * (8192 - 11)) == 8192 - 11


def test_keywords_may_have_any_name(client: Client) -> None:
    takes = make("def takes(self: int, name: str = ''):\n    return [self, name]\n", "takes")
    assert takes(self=1, name="a") == takes.local(self=1, name="a") == [1, "a"]


def test_a_dataframe_for_a_parameter_that_asks_for_one_arrives_as_it_is(client: Client) -> None:
    frame = pd.DataFrame(
        {"kind": pd.Categorical(["a", "b"]), "n": [1, 2], "x": [0.5, float("nan")]},
        index=pd.date_range("2026-01-01", periods=2, tz="Europe/Riga", name="when"),
    )
    body = "import pandas as pd\n\ndef same(frame: {}) -> pd.DataFrame:\n    return frame\n"
    for hint in ("pd.DataFrame", "'pd.DataFrame'", "pd.DataFrame | None = None"):
        same = make(body.format(hint), "same", timeout=60)
        pd.testing.assert_frame_equal(same(frame), frame, check_freq=False)
        pd.testing.assert_frame_equal(same.local(frame), frame)
    pd.testing.assert_frame_equal(
        same(frame.to_dict("records")), frame.reset_index(drop=True), check_dtype=False, check_categorical=False
    )
    assert same.execute('{"frame": [{"n": 1}]}').status == "completed"
    unresolved = (
        "from __future__ import annotations\nimport typing\nif typing.TYPE_CHECKING:\n    import pandas as pd\n"
    )
    columns = make(unresolved + "def columns(f: pd.DataFrame):\n    return list(f.columns)\n", "columns", timeout=60)
    with pytest.raises(FunctionFailed, match="can't be read without pandas: import it, not for type checkers only"):
        columns(frame)
    columns = make(unresolved + "import pandas\ndef columns(f: pd.DataFrame):\n    return list(f.columns)\n", "columns")
    assert columns(frame) == columns.local(frame) == ["kind", "n", "x"]
    kind = make("def kind(frame):\n    return type(frame).__name__\n", "kind")
    assert (kind(frame), kind.local(frame)) == ("list", "DataFrame")


def test_a_function_from_elsewhere_has_no_code_here(client: Client) -> None:
    make(PLAIN, "adds")
    found = get(client, "adds")
    assert found(a=1, b=1) == {"sum": 2, "day": None}
    with pytest.raises(PackageError, match="was not deployed from this notebook"):
        found.local(1)
    with pytest.raises(FunctionNotFound, match="there is no function 'nowhere'; %functions lists"):
        get(client, "nowhere")


def test_the_card_escapes_what_others_wrote(client: Client) -> None:
    handle = make("def f():\n    return '<script>alert(1)</script>'\n", "f")
    card = handle.settings(name="<script>alert(2)</script>", vars={"<b>": "secret-value"})._repr_html_()
    assert card is not None
    assert "<script>" not in card
    assert "<b>" not in card
    assert "secret-value" not in card + repr(handle)
    assert "var(--jp-border-color2,#c8c8c8)" in card
    assert handle.id in repr(handle)
    assert isinstance(handle.deployed, Deployed)


def test_data_is_text_as_it_is_and_anything_else_as_json() -> None:
    assert data_of("plain") == "plain"
    assert data_of({"when": pd.Timestamp("2026-01-01", tz="UTC"), "n": float("nan")}) == (
        '{"when":"2026-01-01T00:00:00+00:00","n":null}'
    )
    assert data_of(pd.DataFrame({"a": [1, 2]})) == '[{"a":1},{"a":2}]'
    assert data_of_arguments("f", None, (), {}) == ""
    with pytest.raises(TypeError, match="can't be turned into JSON"):
        data_of(object())
    loop: list[object] = []
    loop.append(loop)
    deep: list[object] = []
    for _ in range(200_000):
        deep = [deep]
    for value, said in [
        (loop, "the value contains itself"),
        (deep, "nested as deeply"),
        ("\ud800", "half of a surrogate pair"),
        ({"a": "\ud800"}, "half of a surrogate pair"),
    ]:
        with pytest.raises(TypeError, match=said):
            data_of(value)
    with pytest.raises(TypeError, match="takes one argument, the data"):
        data_of_arguments("f", None, (1, 2), {})
