"""``python -m tests.notebook.tutorials``: executes every tutorial as a new user and stores its outputs in the file.

A reader on a code host sees what a user would see, and nothing of the machine: no timing, no kernel's details, no path.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import nbformat
from nbclient import NotebookClient

from tests.notebook.conftest import user
from tests.serving import ROOT

__all__ = ["NOTEBOOKS", "main", "store_outputs"]

NOTEBOOKS: Final = sorted((ROOT / "notebooks").glob("*.ipynb"))

INTERPRETER: Final = re.compile(r"Using CPython [\d.]+ interpreter at: [^\n]*\n")
"""What a build's log says of the server's machine."""


def store_outputs(file: Path, folder: Path) -> None:
    """Execute a notebook with ``folder`` as its working directory and write it back with its outputs."""
    notebook = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    metadata = dict(notebook.metadata)
    options: dict[str, Any] = {"timeout": 120, "record_timing": False, "resources": {"metadata": {"path": str(folder)}}}
    NotebookClient(notebook, **options).execute()
    notebook.metadata = metadata
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind, text in output.get("data", {}).items():
                output.data[kind] = INTERPRETER.sub("", text)
    nbformat.write(notebook, file)  # type: ignore[no-untyped-call]


def main() -> int:
    """Store the outputs of every tutorial, each for a user who has nothing yet."""
    for file in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as place, user(Path(place) / "user"):
            folder = Path(place) / "folder"
            folder.mkdir()
            store_outputs(file, folder)
        print(file.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
