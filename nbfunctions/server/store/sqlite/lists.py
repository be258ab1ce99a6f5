"""Pages of lists (spec, section 1.2).

A page is found in two steps, first the ``seq`` of its rows, then the rows: skipping and sorting move no big texts.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from sqlite3 import Connection
from typing import Any, Final, Literal

from nbfunctions.errors import GeneralCursorNotFound
from nbfunctions.models import DeploymentList, ExecutionList, FunctionList
from nbfunctions.server.store import search
from nbfunctions.server.store.protocol import Page
from nbfunctions.server.store.sqlite import rows
from nbfunctions.server.store.sqlite.sql import SQL

__all__ = ["list_deployments", "list_executions", "list_functions"]

LAST: Final = 2**63 - 1
AFTER_ALL_LETTERS: Final = chr(sys.maxunicode)

Scope = Mapping[str, Any]
Row = tuple[Any, ...]


def list_functions(db: Connection, project_id: str, page: Page) -> FunctionList:
    """Raises ``GeneralCursorNotFound``."""
    scope = {"project_id": project_id, **_needles(page)}
    kind = "found_functions" if page.search else "functions"
    with _snapshot(db):
        cursor = _cursor(db, "Function", "find_function", page, (project_id, page.cursor))
        found = _page(db, "functions", kind, scope, page, page.order, cursor)
        total = _count(db, kind, scope)
    return FunctionList(total=total, functions=tuple(map(rows.function, found)))


def list_deployments(db: Connection, project_id: str, function_id: str, page: Page) -> DeploymentList:
    """Raises ``GeneralCursorNotFound``."""
    scope = {"project_id": project_id, "function_id": function_id, **_needles(page)}
    kind = "found_deployments" if page.search else "deployments"
    with _snapshot(db):
        # The reference still uses the word that deployments had before.
        cursor = _cursor(db, "Tag", "find_deployment_cursor", page, (project_id, function_id, page.cursor))
        found = _page(db, "deployments", kind, scope, page, page.order, cursor)
        total = _count(db, kind, scope)
    return DeploymentList(
        total=total, deployments=tuple(rows.deployment(row, *row[rows.DEPLOYMENT :]) for row in found)
    )


def list_executions(db: Connection, project_id: str, function_id: str, page: Page, reader: str | None) -> ExecutionList:
    """Raises ``GeneralCursorNotFound``.

    A search looks at the function's id and the execution's. The first is the same for all; the second is one word
    (``new_id``), which the index of ids finds.
    """
    scope = {
        "project_id": project_id,
        "function_id": function_id,
        "read": None if reader is None else rows.encode((reader,)),
    }
    kind = "executions" if reader is None else "own_executions"
    if page.search and not search.finds(page.search, search.searchable(function_id)):
        kind = "found_executions"
        scope |= _ids(search.words(page.search))
    with _snapshot(db):
        cursor = _cursor(db, "Execution", "find_execution_cursor", page, {**scope, "cursor": page.cursor})
        found = _page(db, "executions", kind, scope, page, "DESC", cursor)
        total = _count(db, kind, scope)
    return ExecutionList(total=total, executions=tuple(map(rows.execution, found)))


@contextlib.contextmanager
def _snapshot(db: Connection) -> Iterator[None]:
    """Have everything inside see the same state of the database."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


def _needles(page: Page) -> dict[str, str | None]:
    """Return what the part ``matches`` looks for."""
    needles = search.needles(page.search)
    return {
        "needle_0": needles[0] if needles else None,
        "needle_1": needles[1] if needles[1:] else None,
        "further": json.dumps(needles[2:]) if needles[2:] else None,
    }


def _ids(words: Sequence[str]) -> dict[str, str | None]:
    if not words:
        return {"words": "[]", "prefix": None, "prefix_end": None}
    return {"words": json.dumps(words), "prefix": words[-1], "prefix_end": words[-1] + AFTER_ALL_LETTERS}


def _cursor(db: Connection, word: str, question: str, page: Page, values: Any) -> int | None:
    """Return where the page begins; None when it has no cursor."""
    if not page.cursor:
        return None
    row = db.execute(SQL[question], values).fetchone()
    if row is None:
        raise GeneralCursorNotFound(f"{word} '{page.cursor}' for the 'cursor' value not found.")
    seq: int = row[0]
    return seq


def _page(
    db: Connection,
    table: str,
    kind: str,
    scope: Scope,
    page: Page,
    order: Literal["ASC", "DESC"],
    cursor: int | None,
) -> list[Row]:
    """Return the rows of a page in its order; what stands before a cursor is looked for backwards from it."""
    rising = (order == "ASC") is (page.direction == "after")
    bound = cursor if cursor is not None else (0 if rising else LAST)
    values = {**scope, "bound": bound, "limit": page.limit, "offset": page.offset}
    found = db.execute(SQL[f"{kind}_{'after' if rising else 'before'}"], values)
    seqs = json.dumps([seq for (seq,) in found.fetchall()])
    rows_found = db.execute(SQL[f"{table}_of_page"], (seqs,)).fetchall()
    return rows_found if order == "ASC" else rows_found[::-1]


def _count(db: Connection, kind: str, scope: Scope) -> int:
    total: int = db.execute(SQL[f"count_{kind}"], scope).fetchone()[0]
    return total
