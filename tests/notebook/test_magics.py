"""Every magic is a door: it parses, calls one thing, returns it; what can't be is one line and leaves nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from IPython.core.completer import provisionalcompleter

from nbfunctions.capture.receipt import Receipt
from nbfunctions.client import Client
from nbfunctions.connection import Connection
from nbfunctions.display import execution_text
from nbfunctions.errors import DeploymentNotFound
from nbfunctions.handle import FunctionHandle
from nbfunctions.magics import NbfunctionsMagics, magic_names
from nbfunctions.models import Execution
from tests.notebook.conftest import wait_for_build

HELLO = (
    "%%function hello --timeout 10 --var 'GREETING=Good day'\n"
    "import os\n"
    "def main(req, res):\n"
    "    return res.json({'message': f\"{os.environ['GREETING']}, {req.payload or 'world'}\"})\n"
)


def run(shell: Any, cell: str) -> Any:
    """Run a cell that must succeed; return its value."""
    result = shell.run_cell(cell)
    result.raise_error()
    return result.result


def failure(shell: Any, capsys: pytest.CaptureFixture[str], cell: str) -> str:
    """Run a cell that must fail; return everything that was shown."""
    capsys.readouterr()
    result = shell.run_cell(cell)
    assert not result.success, cell
    shown = capsys.readouterr()
    return (shown.out + shown.err).strip()


def test_a_cell_becomes_a_function_that_runs(shell: Any, client: Client) -> None:
    handle = run(shell, HELLO)
    assert isinstance(handle, FunctionHandle)
    assert shell.user_ns["hello"] is handle
    assert handle.function.timeout == 10
    execution = run(shell, "ex = %execute hello Ada\nex")
    assert isinstance(execution, Execution)
    assert (execution.status, execution.json()) == ("completed", {"message": "Good day, Ada"})
    assert run(shell, "hello('Bob')") == {"message": "Good day, Bob"}
    assert run(shell, "who = 'Eve'\n%execute hello {who}").json() == {"message": "Good day, Eve"}
    assert run(shell, "%execute hello --from-var who").json() == {"message": "Good day, Eve"}
    assert run(shell, "%execute hello --async later").status == "waiting"


def test_lists_are_dataframes(shell: Any, client: Client) -> None:
    run(shell, HELLO)
    run(shell, "%execute hello")
    assert run(shell, "%functions").index.tolist() == ["hello"]
    assert run(shell, "%functions nowhere").empty
    assert run(shell, "%deployments hello")["active"].tolist() == [True]
    executions = run(shell, "rows = %executions hello --status completed --since 1h --trigger http --limit 5\nrows")
    assert isinstance(executions, pd.DataFrame)
    assert len(executions) == 1
    assert len(run(shell, "%executions --all")) == 1
    assert any(name.startswith("python-") for name in run(shell, "%runtimes").index)


def test_the_handles_name_and_id_may_differ_from_the_functions(shell: Any, client: Client) -> None:
    handle = run(shell, "%%function my-report --id report.v2\ndef compute(n: int = 1):\n    return n\n")
    assert (handle.id, handle.name) == ("report.v2", "my-report")
    assert "next        my_report(...)   %execute report.v2 DATA" in repr(handle)
    assert run(shell, "my_report(3)") == 3
    assert run(shell, "%execute my_report").response == "1"
    assert run(shell, "%execute report.v2").response == "1"
    run(shell, "%%function 3d -o cube\ndef f():\n    return 8\n")
    assert run(shell, "cube()") == 8


def test_settings_change_without_a_deployment(shell: Any, client: Client) -> None:
    run(shell, HELLO)
    handle = run(shell, "%function hello --timeout 20 --var EXTRA=1 --memory 256")
    assert (handle.function.timeout, handle.function.memory) == (20, 256)
    assert handle.function.vars == {"GREETING": "Good day", "EXTRA": "1"}
    assert client.deployments.list("hello").total == 1
    assert run(shell, "hello('Ada')") == {"message": "Good day, Ada"}


def test_a_callable_of_the_notebook_is_deployed(shell: Any, client: Client) -> None:
    run(shell, "import json\ndef doubled(n: int) -> int:\n    return json.loads(json.dumps(n * 2))")
    handle = run(shell, "%function doubled --timeout 3")
    assert isinstance(handle, FunctionHandle)
    assert run(shell, "doubled(21)") == 42
    assert handle.function.timeout == 3
    assert run(shell, "def another(): return 1\n%function other another").id == "other"


def test_a_dry_run_shows_the_receipt_and_uploads_nothing(shell: Any, client: Client) -> None:
    receipt = run(shell, "%%function hello --dry-run\nimport packaging\ndef main(req, res): ...\n")
    assert isinstance(receipt, Receipt)
    assert any(item.name.startswith("packaging==") for item in receipt.items)
    assert client.functions.list().total == 0
    assert "hello" not in shell.user_ns


def test_a_dry_run_needs_no_server(shell: Any, no_server: Path) -> None:
    run(shell, "%%function hello --dry-run\ndef main(req, res): ...\n")
    assert not (no_server / "runtime").exists()
    assert not (no_server / "data").exists()


def test_local_runs_the_cell_here_too(shell: Any, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "%%function f --local\nprint('here')\nVALUE = 5\ndef f():\n    return VALUE\n")
    assert "here" in capsys.readouterr().out
    assert shell.user_ns["VALUE"] == 5
    assert isinstance(shell.user_ns["f"], FunctionHandle)


def test_a_cell_that_fails_here_is_deployed_and_its_line_is_shown(
    shell: Any, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = failure(shell, capsys, "%%function f --local\ndef f(): ...\n1 / 0\n")
    assert "line 3" in shown
    assert "nbfunctions/magics.py" not in shown
    assert shown.endswith("UsageError: f is deployed, but running its cell here failed, as shown above")
    assert isinstance(shell.user_ns["f"], FunctionHandle)


def test_an_execution_shows_what_became_of_it(shell: Any, client: Client) -> None:
    run(shell, "%%function f\ndef f(text: str = '<b>'):\n    print('<i>')\n    return [text][len(text) - 3]\n")
    data, _ = shell.display_formatter.format(run(shell, "%execute f"))
    assert re.match(
        r"execution \w+ of f: completed, status 200, .+\nresponse: \"<b>\"\nstdout: <i>$", data["text/plain"]
    )
    assert "<b>" not in data["text/html"]
    assert "<i>" not in data["text/html"]
    data, _ = shell.display_formatter.format(run(shell, '%execute f {"text": "a"}'))
    assert re.match(r"execution \w+ of f: failed in your code, ", data["text/plain"])
    assert 'File "%%function f", line 4, in f' in data["text/plain"]
    data, _ = shell.display_formatter.format(run(shell, "%execute f --async"))
    assert data["text/plain"].splitlines()[0].endswith("of f: waiting")
    assert data["text/plain"].splitlines()[1] == "next: %executions f"


def test_not_waiting_returns_while_the_build_goes_on(shell: Any, client: Client) -> None:
    handle = run(shell, "%%function f --no-wait\ndef f():\n    return 1\n")
    assert handle.deployed.deployment.status in ("processing", "building", "ready")
    assert "uploaded, the build goes on" in repr(handle)
    wait_for_build(client, handle.deployed.deployment)
    assert "f: active" in repr(run(shell, "%function f"))


def test_a_function_that_is_not_built_yet_says_so(shell: Any, client: Client) -> None:
    run(shell, "%%function f --no-activate\ndef f():\n    return 1\n")
    with pytest.raises(DeploymentNotFound, match="f has no active deployment yet; %deployments f shows"):
        run(shell, "f()")


def test_what_is_raised_shows_the_callers_lines_alone(
    shell: Any, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "%%function f\ndef f(n: int):\n    return n\n")
    for call in ("f()", "f.settings(colour=1)", "f.rollback()", "f.map([(1, 2)])", "f.delete(), f(1)"):
        shown = failure(shell, capsys, f"\n{call}").splitlines()
        assert shown[0] == "Traceback (most recent call last):"
        assert shown[2].strip() == call
        assert len(shown) == 4


def test_rollback_and_delete(shell: Any, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "%%function f\ndef f():\n    return 1\n")
    run(shell, "%%function f\ndef f():\n    return 2\n")
    run(shell, "%function_rollback f")
    assert run(shell, "f()") == 1
    shown = failure(shell, capsys, "%function_delete f")
    assert shown == ("UsageError: this deletes f with its deployments and executions: %function_delete f --yes")
    capsys.readouterr()
    assert run(shell, "%function_delete f --yes") is None
    assert capsys.readouterr().out == "f is deleted, with its deployments and executions\n"
    assert client.functions.list().total == 0


def test_connecting_says_where_and_never_shows_the_key(
    shell: Any, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(shell, "%functions_connect")
    assert isinstance(report, Connection)
    assert report.origin == "embedded server"
    assert report.pid
    shown = failure(shell, capsys, f"%functions_connect --endpoint {client.endpoint} --key top-secret-key")
    assert "missing scope" in shown
    assert "top-secret-key" not in shown.replace("--key top-secret-key", "")
    assert run(shell, "%functions_connect").origin == "embedded server"


BAD_INPUT = [
    (
        "%%function hello --timeuot 3\ndef main(req, res): ...",
        "%%function: there is no option '--timeuot'; did you mean --timeout?",
    ),
    (
        "%%function hello --timeout soon\ndef main(req, res): ...",
        "%%function: --timeout: expected a whole number, found 'soon'",
    ),
    ("%%function hello --timeout 0\ndef main(req, res): ...", "--timeout: expected a whole number above 0, found 0"),
    ("%%function hello --timeout 100000\ndef main(req, res): ...", "Invalid timeout: Value must be a valid range"),
    ("%%function hello --runtime cobol-85\ndef main(req, res): ...", "Invalid runtime: Value must be one of (python-"),
    ("%%function hello --schedule 'at noon'\ndef main(req, res): ...", "Invalid schedule: "),
    ("%%function hello --event users\ndef main(req, res): ...", "Invalid events: "),
    ("%%function hello --execute role:everyone\ndef main(req, res): ...", "Invalid execute: "),
    ("%%function hello --var GREETING\ndef main(req, res): ...", "--var: expected K=V, found 'GREETING'"),
    ("%%function hello --var my-name=1\ndef main(req, res): ...", "--var: 'my-name' can't be the name of a variable"),
    ("%%function hello --var 1A=1\ndef main(req, res): ...", "--var: '1A' can't be the name of a variable"),
    ("%%function hello --var-from a.b\ndef main(req, res): ...", "--var-from: 'a.b' can't be the name of a variable"),
    (
        "%function nowhere --var APPWRITE_FUNCTION_ID=x",
        "--var: APPWRITE_FUNCTION_ID is set by the service at each call",
    ),
    ("%%function hello --var 'A=b\ndef main(req, res): ...", "no closing quotation"),
    ("%%function hello --var-from NO_SUCH\ndef main(req, res): ...", "this kernel's environment has no such variable"),
    ("%%function hello --entrypoint other\ndef main(req, res): ...", "the cell has no function 'other'; found main"),
    (
        "%%function hello --requirements nowhere.txt\ndef main(req, res): ...",
        "--requirements nowhere.txt: No such file or directory; name another file, none or auto",
    ),
    ("%%function hello\nx = 1", "the cell has no function to call"),
    ("%%function hello\ndef main(req, res:\n  pass", "cell line 2: '(' was never closed"),
    ("%%function hello\ndef main(req, res):\n    return rates", "nothing in the cell defines 'rates' (cell line 3)"),
    ("%%function hello\n!ls\ndef main(req, res): ...", "cell line 2: '!ls' is an IPython command"),
    ("%%function hello\nimport no_such_module\ndef main(req, res): ...", "cell line 2: 'import no_such_module'"),
    ("%%function my/function\ndef main(req, res): ...", "'my/function' can't be a function id"),
    ("%%function class\ndef main(req, res): ...", "give the handle one with --out VAR"),
    ("%%function\ndef main(req, res): ...", "%%function needs a name; try %%function hello"),
    ("%%function hello\n", "cell body is empty"),
    ("%function hello --id other", "there is no function 'other'"),
    ("%function nowhere", "there is no function 'nowhere'; %functions lists those there are"),
    ("%function hello folder/", "folders, files and notebooks can't be deployed yet"),
    ("%function hello --no-wait", "--no-wait belongs to a deployment"),
    ("%execute", "%execute needs a name; try %execute hello"),
    ("%execute nowhere", "FunctionNotFound: there is no function 'nowhere'; %functions lists those there are"),
    ("%execute nowhere --asnyc", "there is no option '--asnyc'"),
    ("%execute nowhere --from-var nothing", "the notebook has no such variable"),
    ("%deployments", "%deployments needs a name; try %deployments hello"),
    ("%execute nowhere --timeout 0", "%execute: --timeout: expected a whole number above 0, found 0"),
    ("%deployments nowhere", "there is no function 'nowhere'"),
    ("%execute nowhere " + "x" * 8193, "nowhere: the data has 8,193 characters, 8,192 are the most: put larger inputs"),
    ("long = ['x' * 9000]\n%execute nowhere --from-var long", "nowhere: the data has 9,004 characters"),
    ("loop = []\nloop.append(loop)\n%execute nowhere --from-var loop", "--from-var loop: this can't be turned into"),
    ("loop = []\nloop.append(loop)\n%execute nowhere [{loop}]", "%execute: this can't be turned into JSON: the value"),
    ("half = '\\ud800'\n%execute nowhere {half}", "%execute: a text with '\\ud800', half of a surrogate pair"),
    ("%executions nowhere", "there is no function 'nowhere'"),
    ("%runtimes x", "%runtimes: one word too many: 'x'; %runtimes? explains its arguments"),
    ("%executions --status done", "status: expected one of waiting, processing, completed, failed, found 'done'"),
    ("%executions --since yesterday", "since: expected a span as 7d"),
    ("%executions --limit -1", "limit: expected 0 or more, found -1"),
    ("%functions --profile nowhere", "there is no profile 'nowhere'"),
    ("%functions_connect nowhere", "there is no profile 'nowhere'"),
    ("%functions_connect --endpoint ftp://x --key k", "the endpoint must begin with http:// or https://"),
    ("%function_delete nowhere --yes", "there is no function 'nowhere'"),
    ("%function_rollback nowhere", "there is no function 'nowhere'"),
]


ARGUMENTS = ["f('\\ud800')", "f(loop)", "f({'a': loop})", "f.execute(loop)", "f.map([loop])", "f.map(['\\ud800'])"]


@pytest.mark.parametrize("call", ARGUMENTS)
def test_arguments_that_cannot_be_sent_show_the_callers_line_and_nothing_of_ours(
    shell: Any, client: Client, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    run(shell, "%%function f\ndef f(x):\n    return x\n")
    shown = failure(shell, capsys, f"loop = []\nloop.append(loop)\n{call}")
    assert shown.startswith("Traceback (most recent call last):\n")
    assert len(shown.splitlines()) == 4
    assert shown.splitlines()[2].strip() == call
    assert shown.splitlines()[3].startswith("TypeError: ")
    assert client.executions.list("f").total == 0


def test_a_waiting_execution_says_how_to_get_the_finished_one(shell: Any, client: Client) -> None:
    run(shell, HELLO)
    waiting = run(shell, "waiting = %execute hello --async Ada\nwaiting")
    text = execution_text(waiting)
    assert "next: %executions hello\n" in text
    _, _, step = text.rpartition("next: ")
    assert step == f'nbfunctions.connect().executions.get("hello", "{waiting.id}")'
    assert run(shell, f"import nbfunctions\n{step}").id == waiting.id


def test_a_runtime_folder_that_cannot_be_used_is_one_line(
    shell: Any, no_server: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (no_server / "file").write_text("not a folder")
    folder = no_server / "file" / "runtime"
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
    shown = failure(shell, capsys, HELLO)
    assert shown.startswith(f"ConnectionFailed: Jupyter's runtime folder {folder} can't be used: ")
    assert "\n" not in shown


def test_an_address_without_v1_is_one_line_that_says_so(
    shell: Any, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    address = client.endpoint.removesuffix("/v1")
    shown = failure(shell, capsys, f"%functions_connect --endpoint {address} --key k")
    assert shown == f"ConnectionFailed: {address} has no such route (Not Found); the API's address usually ends in /v1"


@pytest.mark.parametrize(("cell", "said"), BAD_INPUT)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    shell: Any, client: Client, capsys: pytest.CaptureFixture[str], cell: str, said: str
) -> None:
    shown = failure(shell, capsys, cell)
    assert said in shown
    assert "Traceback" not in shown
    message = shown.partition("\n    ")[0]  # a syntax error shows the line and a caret below
    assert "\n" not in message
    assert client.functions.list().total == 0


def test_the_wrong_scope_is_one_line(shell: Any, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    import subprocess
    import sys

    made = subprocess.run(
        [sys.executable, "-m", "nbfunctions", "keys", "create", "--name", "r", "--scope", "functions.read", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    secret = re.search(r'"secret": "([^"]+)"', made.stdout)
    assert secret is not None
    run(shell, f"%functions_connect --endpoint {client.endpoint} --key {secret[1]}")
    try:
        shown = failure(shell, capsys, HELLO)
        assert "missing scope (functions.write)" in shown
        assert "\n" not in shown
    finally:
        run(shell, "%functions_connect")
    assert client.functions.list().total == 0


@pytest.mark.parametrize("name", magic_names())
def test_every_magic_has_help_and_takes_a_profile(shell: Any, capsys: pytest.CaptureFixture[str], name: str) -> None:
    for kind, prefix in (("line", "%"), ("cell", "%%")):
        method = NbfunctionsMagics.magics[kind].get(name)
        if method is None:
            continue
        parser = getattr(NbfunctionsMagics, method).parser
        capsys.readouterr()
        assert run(shell, f"{prefix}{name} --help" + ("\nx" if kind == "cell" else "")) is None
        shown = capsys.readouterr().out
        assert f"{prefix}{name} [" in shown
        assert all(flag in shown for action in parser._actions for flag in action.option_strings)
        assert parser.format_help() in getattr(NbfunctionsMagics, method).__doc__
        assert "--profile" in shown or name == "functions_connect"


def test_loading_prints_nothing_and_unloading_takes_everything_back(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "%load_ext nbfunctions")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (
        "The nbfunctions extension is already loaded. To reload it, use:\n  %reload_ext nbfunctions\n",
        "",
    )
    before = len(shell.Completer.custom_matchers)
    run(shell, "%unload_ext nbfunctions")
    assert all(name not in shell.magics_manager.magics["line"] for name in magic_names())
    assert "Execution(" in shell.display_formatter.format(Execution(id="x"))[0]["text/plain"]
    assert len(shell.Completer.custom_matchers) == before - 1
    capsys.readouterr()
    run(shell, "%load_ext nbfunctions")
    assert capsys.readouterr() == ("", "")


# -- completion ---------------------------------------------------------------------------------------------


def complete(shell: Any, line: str) -> list[str]:
    with provisionalcompleter():
        return [completion.text for completion in shell.Completer.completions(line, len(line))]


def test_names_options_and_values_are_completed(shell: Any, client: Client) -> None:
    run(shell, HELLO)
    from nbfunctions import completion

    completion._names = completion._Names()
    assert complete(shell, "%execute hel") == ["hello"]
    assert complete(shell, "x = %deployments ") == ["hello"]
    assert complete(shell, "%%function hello --ti") == ["--timeout"]
    assert complete(shell, "%executions --status f") == ["failed"]
    assert complete(shell, "%executions --trigger s") == ["schedule"]
    assert complete(shell, "%%function hello --execute role:a") == ["role:all"]
    assert all(name.startswith("python-") for name in complete(shell, "%%function hello --runtime python"))
    assert complete(shell, "%%function hello --runtime python")


def test_completion_never_starts_a_server(shell: Any, no_server: Path) -> None:
    from nbfunctions import completion, connection

    completion._names = completion._Names()
    complete(shell, "%execute hel")
    assert connection.find_embedded() is None
    assert not (no_server / "data").exists()


def test_every_magic_and_argument_is_explained_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "magics.md").read_text()
    doors = [("%%", name, method) for name, method in NbfunctionsMagics.magics["cell"].items()]
    doors += [("%", name, method) for name, method in NbfunctionsMagics.magics["line"].items()]
    for prefix, name, method in doors:
        section = page.partition(f"\n## {prefix}{name}\n")[2].partition("\n## ")[0].replace("\\|", "|")
        assert section, name
        for action in getattr(NbfunctionsMagics, method).parser._actions:
            assert (
                action.option_strings[-1] if action.option_strings else action.metavar or action.dest.upper()
            ) in section
            assert f"| {action.help.replace('%%', '%')} |" in section
