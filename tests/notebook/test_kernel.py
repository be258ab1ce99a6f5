"""A real kernel: progress and card as a notebook shows them, Run All stops, and the server survives the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from nbfunctions import connection
from nbfunctions.client import Client
from tests.notebook.tutorials import NOTEBOOKS
from tests.serving import ROOT

LOAD = "%load_ext nbfunctions"
HELLO = "%%function hello\ndef main(req, res):\n    return res.send('hello ' + req.payload)\n"


@contextlib.contextmanager
def kernel() -> Iterator[tuple[Any, Any]]:
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def execute(client: Any, code: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run code; return the reply and what was shown, in order."""
    shown: list[dict[str, Any]] = []
    reply = client.execute_interactive(code, timeout=60, allow_stdin=False, output_hook=shown.append)
    return reply["content"], [m for m in shown if m["msg_type"] not in ("status", "execute_input")]


def run_notebook(cells: list[str], place: Path, **options: Any) -> Any:
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=made)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(place)}}, **options).execute()
    return notebook


def test_the_progress_line_makes_way_for_the_card(client: Client, home: Path) -> None:
    notebook = run_notebook([LOAD, HELLO, "hello('Ada')"], home)
    assert notebook.cells[0].outputs == []
    (output,) = notebook.cells[1].outputs
    assert output.output_type == "execute_result"
    assert "hello: active" in output.data["text/plain"]
    assert "what was packed, and why" in output.data["text/html"]
    assert notebook.cells[2].outputs[0].data["text/plain"] == "'hello Ada'"


def test_progress_is_one_display_replaced_in_place(client: Client) -> None:
    with kernel() as (_, notebook):
        execute(notebook, LOAD)
        _, shown = execute(notebook, HELLO)
    kinds = [message["msg_type"] for message in shown]
    assert kinds[0] == "display_data"
    assert kinds[-2:] == ["clear_output", "execute_result"]
    assert set(kinds[1:-2]) == {"update_display_data"}
    lines = [message["content"]["data"]["text/plain"] for message in shown[:-2]]
    assert lines[0] == "hello: packaging …"
    assert any(line.startswith("hello: building") for line in lines)


def test_what_else_a_cell_shows_stays_beside_the_decorators_card(client: Client, home: Path) -> None:
    source = "import nbfunctions\nprint('before')\n@nbfunctions.function\ndef f():\n    return 1\nprint('after')"
    notebook = run_notebook([source, "print('before')\n%load_ext nbfunctions\ndef g(): ...\n%function g"], home)
    before, card, after = notebook.cells[0].outputs
    assert (before.text, after.text) == ("before\n", "after\n")
    assert card.data["text/plain"].startswith("f: active")
    assert "what was packed, and why" in card.data["text/html"]
    before, line, result = notebook.cells[1].outputs
    assert (before.text, line.data["text/plain"]) == ("before\n", "g: deployed")
    assert result.data["text/plain"].startswith("g: active")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%function hello\ndef main(req, res):\n    return nothing", "'nothing' (cell line 3)"),
        ("\n\n%%function hello\ndef main(req, res:\n  pass", "cell line 4: '(' was never closed"),
        (
            "%%function hello --tiemout 3\ndef main(req, res): ...",
            "there is no option '--tiemout'; did you mean --timeout?",
        ),
        ("%execute nowhere", "there is no function 'nowhere'"),
    ],
)
def test_run_all_stops_at_bad_input(client: Client, home: Path, cell: str, said: str) -> None:
    with pytest.raises(CellExecutionError) as raised:
        run_notebook([LOAD, cell, "open('went_on', 'w').close()"], home)
    assert said in str(raised.value)
    assert not (home / "went_on").exists()
    assert client.functions.list().total == 0


def test_a_failing_function_shows_the_cells_line_and_not_our_insides(client: Client, home: Path) -> None:
    cells = [LOAD, "%%function breaks\ndef breaks(n: int):\n    return 1 / n", "breaks(0)"]
    notebook = run_notebook(cells, home, allow_errors=True)
    (output,) = notebook.cells[2].outputs
    assert output.ename == "FunctionFailed"
    assert output.evalue.startswith("breaks failed in your code, cell line 3: ZeroDivisionError: division by zero")
    shown = "\n".join(output.traceback)
    assert 'File "%%function breaks", line 3, in breaks' in shown
    assert "nbfunctions/handle.py" not in shown
    assert "breaks(0)" in shown


def test_the_server_and_its_functions_survive_the_kernel(client: Client) -> None:
    with kernel() as (manager, notebook):
        execute(notebook, LOAD)
        reply, _ = execute(notebook, HELLO)
        assert reply["status"] == "ok"
        _, shown = execute(notebook, "import os; print(os.getpid())")
        pid = int(shown[0]["content"]["text"])
        before = connection.find_embedded()
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while asyncio.run(manager._async_is_alive()) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert connection.find_embedded() == before
    assert client.executions.create("hello", "again", asynchronous=False).response == "hello again"


def test_a_server_started_by_a_kernel_survives_it(no_server: Path) -> None:
    with kernel() as (_, notebook):
        execute(notebook, LOAD)
        reply, _ = execute(notebook, HELLO)
        assert reply["status"] == "ok"
    assert connection.find_embedded() is not None
    assert connection.connect().executions.create("hello", "Ada", asynchronous=False).response == "hello Ada"


def test_an_interrupt_leaves_the_cell(client: Client) -> None:
    with kernel() as (manager, notebook):
        execute(notebook, LOAD)
        execute(notebook, "%%function slow\nimport time\ndef slow():\n    time.sleep(10)\n")
        message = notebook.execute("slow()", stop_on_error=False)  # what follows is no Run All
        deadline = time.monotonic() + 10
        while client.executions.list("slow").total == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        started = time.monotonic()
        manager.interrupt_kernel()
        reply = notebook.get_shell_msg(timeout=20)
        assert reply["parent_header"]["msg_id"] == message
        assert (reply["content"]["status"], reply["content"]["ename"]) == ("error", "KeyboardInterrupt")
        assert time.monotonic() - started < 5
        said = "KeyboardInterrupt: the execution goes on; %executions slow shows it"
        assert reply["content"]["traceback"] == [said]
        assert execute(notebook, "1 + 1")[0]["status"] == "ok"


def test_help_is_the_magics_own(home: Path) -> None:
    with kernel() as (_, notebook):
        execute(notebook, LOAD)
        reply, _ = execute(notebook, "%%function?")
        text = reply["payload"][0]["data"]["text/plain"]
    assert "%%function [--id ID]" in text
    assert "--dry-run" in text


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: str(file.name))
def test_stored_outputs_are_whole_and_name_no_place_of_the_machine_they_were_made_on(file: Path) -> None:
    text = file.read_text()
    for word in (str(ROOT), "/root", "/home/", "/tmp/", "/var/", "127.0.0.1", "site-packages", "X-Appwrite-Key"):  # noqa: S108
        assert word not in text
    cells = [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]  # type: ignore[no-untyped-call]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    failed = [any(output.output_type == "error" for output in cell.outputs) for cell in cells]
    assert failed == ["raises-exception" in cell.metadata.get("tags", []) for cell in cells]
    assert all(output.output_type != "stream" or output.name != "stderr" for cell in cells for output in cell.outputs)
    assert any(cell.outputs for cell in cells)
