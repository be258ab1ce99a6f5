"""Reads SQL out of ``.sql`` files: one name a question.

``-- name: find_key`` begins a query, ``-- part: key`` a piece of SQL that queries include as ``{key}``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

__all__ = ["load"]

_HEAD: Final = re.compile(r"^-- (name|part): (\w+)$", re.MULTILINE)
_INCLUDE: Final = re.compile(r"\{(\w+)\}")


def load(folder: Path) -> dict[str, str]:
    """Return the queries of all ``.sql`` files in a folder by name, their parts filled in.

    Raises ``ValueError`` for a name given twice and ``KeyError`` for a part that is nowhere.
    """
    found: dict[str, dict[str, str]] = {"name": {}, "part": {}}
    for file in sorted(folder.glob("*.sql")):
        _, *pieces = _HEAD.split(file.read_text())
        for kind, name, sql in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
            if name in found[kind]:
                raise ValueError(f"{file}: the {kind} {name} is there twice")
            found[kind][name] = sql.strip().removesuffix(";")
    return {name: _INCLUDE.sub(lambda part: found["part"][part[1]], sql) for name, sql in found["name"].items()}
