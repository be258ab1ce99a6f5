"""Every notebook in ``notebooks/`` works, from the first cell to the last, for a user who has just installed this."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.acceptance.demo import execute, own_user

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[notebook.stem for notebook in NOTEBOOKS])
def test_a_tutorial_executes(notebook: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    with own_user(tmp_path / "user"):
        (tmp_path / "folder").mkdir()
        cells, _ = execute(notebook, tmp_path / "folder", out)
    assert cells > 0, out.getvalue()
