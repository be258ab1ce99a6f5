"""``make demo``: executes a tutorial in a real kernel and prints each cell and what came back.

It stands here, and not beside the notebooks, because it is their acceptance test as well: ``test_tutorials.py``
executes every tutorial by the same function. The kernel's user is one of their own, in a folder that goes away with
their server.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode, read

__all__ = ["NotebookFailed", "execute", "main", "own_user"]

CELL_TIMEOUT: Final = 300
"""Seconds one cell may take; the first one that needs pandas installs it."""
WIDE: Final = """
import pandas
pandas.set_option("display.expand_frame_repr", False, "display.max_columns", 8, "display.max_colwidth", 32)
del pandas
"""
"""What the demo's kernel does first: a terminal has no cells that scroll, so a row stays in one line."""
ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class NotebookFailed(Exception):
    """A cell failed that should not, or did not fail that should."""


@contextlib.contextmanager
def own_user(place: Path) -> Iterator[None]:
    """Be a user whose functions, settings and server are below ``place``; the server ends with the context.

    The home stays: pip's settings and the caches of packages are in it.
    """
    changed = {
        "XDG_DATA_HOME": str(place / "data"),
        "IPYTHONDIR": str(place / "ipython"),
        "JUPYTER_CONFIG_DIR": str(place / "config"),
        "JUPYTER_DATA_DIR": str(place / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(place / "runtime"),
    }
    place.mkdir(parents=True, exist_ok=True)
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("NBFUNCTIONS_")]:
        del os.environ[name]
    os.environ.update(changed)
    try:
        yield
    finally:
        from nbfunctions.connection import stop_embedded

        try:
            stop_embedded()
        finally:
            os.environ.clear()
            os.environ.update(before)


def execute(notebook: Path, folder: Path, out: TextIO) -> tuple[int, int]:
    """Execute a notebook with ``folder`` as its working directory and print it cell by cell.

    Return how many cells were executed and how many of them failed as they were meant to. Raises
    :class:`NotebookFailed`.
    """
    document = read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    printer = Printer(out)
    client = NotebookClient(
        document,
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
        on_cell_start=printer.begin,
        on_cell_executed=printer.end,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise NotebookFailed(f"cell {printer.number} failed: {error.ename}: {error.evalue}") from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise NotebookFailed(f"cell {printer.number}: {str(error).strip().splitlines()[0]}") from None
    return printer.number, printer.failed


class Printer:
    """Writes headings, code and what came back, as the cells are executed."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colours = out.isatty()
        self._began = 0.0
        self.number = 0
        self.failed = 0

    def begin(self, cell: NotebookNode, cell_index: int) -> None:
        """Write a heading, or the code that is about to be executed."""
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if line.startswith("#"):
                    self._write(f"\n{line.lstrip('# ')}\n{'=' * len(line.lstrip('# '))}")
        elif cell.source.strip():
            self.number += 1
            self._began = time.monotonic()
            self._write(f"\n[{self.number}] " + textwrap.indent(cell.source, "    ").lstrip())

    def end(self, cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
        """Write what a cell gave back and how long it took."""
        for output in cell.outputs:
            self._write(textwrap.indent(as_text(output).rstrip("\n"), "  │ ", lambda _: True))
        self._write(f"  └ {time.monotonic() - self._began:.2f} s")
        failed = any(output.output_type == "error" for output in cell.outputs)
        if "raises-exception" in cell.metadata.get("tags", ()):
            if not failed:
                raise NotebookFailed(f"cell {self.number} was meant to fail and did not")
            self.failed += 1

    def _write(self, text: str) -> None:
        self._out.write((text if self._colours else ANSI.sub("", text)) + "\n")
        self._out.flush()


def as_text(output: NotebookNode) -> str:
    """Return one output of a cell as text."""
    if output.output_type == "stream":
        return str(output.text)
    if output.output_type == "error":
        return "\n".join(output.traceback)
    return str(output.data.get("text/plain", f"({', '.join(sorted(output.data))})"))


def main(argv: Sequence[str] | None = None) -> int:
    """Execute the notebooks that are named; return the exit status."""
    parser = argparse.ArgumentParser(description="Execute notebooks and print each cell and what came back.")
    parser.add_argument("notebooks", nargs="+", type=Path)
    notebooks: list[Path] = parser.parse_args(argv).notebooks
    began = time.monotonic()
    cells = failed = 0
    try:
        with tempfile.TemporaryDirectory(prefix="nbfunctions-demo-") as place, own_user(Path(place)):
            startup = Path(place, "ipython", "profile_default", "startup")
            startup.mkdir(parents=True)
            (startup / "wide.py").write_text(WIDE)
            for notebook in notebooks:
                executed, meant = execute(notebook, Path(place), sys.stdout)
                cells, failed = cells + executed, failed + meant
    except NotebookFailed as error:
        print(f"\ndemo: {error}")
        return 1
    seconds = time.monotonic() - began
    print(f"\ndemo: {cells} cells executed in {seconds:.0f} s, {failed} of them failed as they were meant to")
    return 0


if __name__ == "__main__":
    sys.exit(main())
