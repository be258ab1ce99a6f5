"""How long a page of a list takes, anywhere in a long walk, beside a request that reads nothing.

The rows are made through the store's own questions; the pages are asked of a real server.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from nbfunctions.executor.executor import Outcome
from nbfunctions.models import Execution, Function, new_id
from nbfunctions.server.store.protocol import Acceptance
from nbfunctions.server.store.sqlite import SqliteStore
from tests.serving import RUNTIME, clean_environment, serving

__all__ = ["EXECUTIONS", "FUNCTIONS", "Walk", "walks"]

FUNCTIONS: Final = 10_000
EXECUTIONS: Final = 1_000_000
OWN: Final = 1000
"""Every so many-th execution is the user's."""
PLACES: Final = 5
"""Places of a list at which pages are asked for, from its first row to its last."""
PAGES: Final = 20
"""Pages asked for from each place on."""
AT_ONCE: Final = 2000

DONE: Final = Outcome(status="completed", status_code=200, response='{"ok":true}', time=0.001)
BEGIN: Final = int(time.time()) - 1000
"""They are not older than what is kept."""


class Walk(msgspec.Struct, frozen=True):
    """Milliseconds of a page, each place by itself."""

    what: str
    medians: tuple[float, ...]
    bare: float
    """Of a request that reads nothing: what the way to the server and back takes."""


def walks(place: Path) -> Iterator[Walk]:
    """Yield what each kind of list takes."""
    environment = clean_environment(place / "home")
    data = place / "lists"
    with serving(data, environment=environment):  # the project and its key
        pass
    marks = asyncio.run(_fill(data))
    with (
        serving(data, environment=environment) as server,
        httpx.Client(base_url=server.endpoint, trust_env=False, headers={"X-Appwrite-Project": server.project}) as api,
    ):
        key = {"X-Appwrite-Key": server.key}
        user = {"X-Appwrite-JWT": api.post("/users/ada/jwts", json={"duration": 3600}, headers=key).json()["jwt"]}
        executions = "/functions/f0/executions"
        yield _walk(api, f"{FUNCTIONS:,} functions", "/functions", "functions", marks["functions"], key, {})
        yield _walk(
            api, "the same, descending", "/functions", "functions", marks["functions"][::-1], key, {"orderType": "DESC"}
        )
        yield _walk(
            api, "the same, searched", "/functions", "functions", marks["functions"], key, {"search": "number 7"}
        )
        yield _walk(api, f"{EXECUTIONS:,} executions", executions, "executions", marks["executions"], key, {})
        yield _walk(
            api,
            "the same, backwards",
            executions,
            "executions",
            marks["executions"][::-1],
            key,
            {"cursorDirection": "before"},
        )
        yield _walk(api, f"a user's {EXECUTIONS // OWN:,} of them", executions, "executions", marks["own"], user, {})


def _walk(
    api: httpx.Client,
    what: str,
    path: str,
    name: str,
    marks: list[str],
    headers: dict[str, str],
    params: dict[str, Any],
) -> Walk:
    """Ask for pages from each mark on, by cursor."""
    medians, bare = [], []
    for mark in marks:
        times, cursor = [], mark
        for _ in range(PAGES):
            began = time.perf_counter()
            answer = api.get(path, params={**params, "cursor": cursor, "limit": 25}, headers=headers)
            times.append((time.perf_counter() - began) * 1000)
            answer.raise_for_status()
            items = answer.json()[name]
            if not items:
                break
            cursor = items[0 if params.get("cursorDirection") == "before" else -1]["$id"]
        medians.append(statistics.median(times))
        for _ in range(PAGES):
            began = time.perf_counter()
            api.get("/health/version")
            bare.append((time.perf_counter() - began) * 1000)
    return Walk(what, tuple(medians), statistics.median(bare))


async def _fill(data: Path) -> dict[str, list[str]]:
    """Make the rows; return the ids at which a walk begins."""
    store = SqliteStore(data)
    await store.open()
    try:
        for start in range(0, FUNCTIONS, AT_ONCE):
            await asyncio.gather(
                *(
                    store.create_function(
                        "default", Function(id=f"f{number}", name=f"Number {number}", runtime=RUNTIME, created_at=BEGIN)
                    )
                    for number in range(start, min(start + AT_ONCE, FUNCTIONS))
                )
            )
        ids: list[str] = []
        for start in range(0, EXECUTIONS, AT_ONCE):
            made = [_execution(number) for number in range(start, min(start + AT_ONCE, EXECUTIONS))]
            ids += [one.execution.id for one in made]
            await asyncio.gather(*(store.record_execution(one, DONE, ended=one.created) for one in made))
    finally:
        await store.close()
    newest_first = ids[::-1]
    return {
        "functions": [f"f{number}" for number in _spread(range(FUNCTIONS))],
        "executions": list(_spread(newest_first)),
        "own": list(_spread(newest_first[EXECUTIONS - 1 - (EXECUTIONS - 1) // OWN * OWN :: OWN])),
    }


def _execution(number: int) -> Acceptance:
    read = ("user:ada",) if number % OWN == 0 else ()
    execution = Execution(id=new_id(), created_at=BEGIN, updated_at=BEGIN, read=read, function_id="f0")
    return Acceptance(project_id="default", execution=execution, created=BEGIN, synchronous=True)


def _spread(items: Any) -> Iterator[Any]:
    """Yield items from the first to one page before the last."""
    last = len(items) - 1 - 30
    for place in range(PLACES):
        yield items[last * place // (PLACES - 1)]
