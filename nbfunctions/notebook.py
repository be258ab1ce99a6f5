"""What a cell's magic can find out about the notebook it stands in."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Any

from nbfunctions.capture.package import Origin

__all__ = ["origin_of_cell"]


def origin_of_cell(shell: Any) -> Origin:
    """Return notebook and cell as far as this front end tells, and the line on which the magic stands."""
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    code = (parent.get("content") or {}).get("code", "")
    path = shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or ""
    return Origin(
        notebook=PurePath(str(path)).name if str(path).endswith(".ipynb") else "",
        cell=str((parent.get("metadata") or {}).get("cellId") or ""),
        first_line=_first_line(code),
    )


def _first_line(code: str) -> int:
    stripped = code.lstrip()
    if not stripped.startswith("%%function"):
        return 1
    return code[: len(code) - len(stripped)].count("\n") + 1
