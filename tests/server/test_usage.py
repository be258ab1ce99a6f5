"""``GET /v1/functions/{functionId}/usage`` (spec, sections 1 and 2.7): the clock is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nbfunctions.executor.executor import Outcome
from nbfunctions.models import Function, Project
from nbfunctions.server.store.protocol import StoreFailed, UsageCount
from nbfunctions.server.store.sqlite import SqliteStore
from nbfunctions.server.usage import Usage
from tests.server.asking import given, refused
from tests.server.inside import START, Clock, Place, resting, running
from tests.server.store.conftest import accepted, execution
from tests.serving import RUNTIME

HALF_HOUR = 1800
DAY = 86_400
NOON = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp())
MIDNIGHT = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
METRICS = ("functionsExecutions", "functionsFailures", "functionsCompute")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with running(tmp_path, Clock()) as found:
        yield found


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Place]:
    """A server that executes nothing, and the function ``f``."""
    async with resting(tmp_path, Clock()) as found:
        await found.server.store.create_function("default", Function(id="f"))
        yield found


async def usage(place: Place, range_: str = "24h", function_id: str = "f") -> dict[str, Any]:
    return dict(given(await place.api.get(f"/functions/{function_id}/usage", params={"range": range_})))


async def counted(place: Place, range_: str = "24h") -> list[dict[int, int]]:
    """Return each metric's points that are not zero."""
    found = await usage(place, range_)
    return [{point["date"]: point["value"] for point in found[metric] if point["value"]} for metric in METRICS]


async def call(place: Place, data: str, **body: Any) -> dict[str, Any]:
    answer = await place.api.post("/functions/f/executions", json={"data": data, "async": False, **body})
    return dict(given(answer, 201))


async def ended(place: Place, made: dict[str, Any]) -> dict[str, Any]:
    path = f"/functions/f/executions/{made['$id']}"
    return dict(await place.eventually(lambda: place.get(path), lambda one: one["status"] in ("completed", "failed")))


@pytest.mark.parametrize(
    ("range_", "number", "span", "last"),
    [
        ("24h", 48, HALF_HOUR, NOON),
        ("7d", 7, DAY, MIDNIGHT),
        ("30d", 30, DAY, MIDNIGHT),
        ("90d", 90, DAY, MIDNIGHT),
    ],
)
async def test_a_range_has_a_point_for_each_of_its_times_oldest_first(
    idle: Place, range_: str, number: int, span: int, last: int
) -> None:
    found = await usage(idle, range_)
    assert list(found) == ["range", *METRICS]
    assert found["range"] == range_
    for metric in METRICS:
        assert found[metric] == [{"value": 0, "date": last - span * back} for back in reversed(range(number))]
    await idle.server.store.add_usage([UsageCount("default", "f", NOON, 3, 2, 0.25)])
    assert await counted(idle, range_) == [{last: 3}, {last: 2}, {last: 250}]
    assert len((await usage(idle, range_))[METRICS[0]]) == number


@pytest.mark.parametrize("clock", [NOON - 0.5, NOON, NOON + 0.5, NOON + HALF_HOUR - 0.001])
async def test_the_last_point_is_the_half_hour_it_is(idle: Place, clock: float) -> None:
    idle.clock.now = clock
    dates = [point["date"] for point in (await usage(idle))[METRICS[0]]]
    assert dates[-1] <= clock < dates[-1] + HALF_HOUR
    assert dates[-1] % HALF_HOUR == 0


@pytest.mark.parametrize("asked", ["24h", "24H", "7D", "30d", "90D"])
async def test_a_range_may_be_written_in_capitals(idle: Place, asked: str) -> None:
    assert (await usage(idle, asked))["range"] == asked.lower()


@pytest.mark.parametrize("query", ["", "?range=", "?other=24h"])
async def test_without_a_range_it_is_thirty_days(idle: Place, query: str) -> None:
    assert (await idle.get(f"/functions/f/usage{query}"))["range"] == "30d"


@pytest.mark.parametrize("query", ["range=1h", "range=24", "range=24h+", "range[]=24h", "range=24h%00"])
async def test_another_range_is_refused(idle: Place, query: str) -> None:
    said = "Invalid range: Value must be one of (24h, 7d, 30d, 90d)"
    refused(await idle.api.get(f"/functions/nothing/usage?{query}"), 400, "general_argument_invalid", said)


async def test_a_function_that_is_not_there_has_no_usage(idle: Place) -> None:
    refused(await idle.api.get("/functions/nothing/usage"), 404, "function_not_found", "Function not found")


async def test_usage_needs_the_scope_of_reading_functions(idle: Place) -> None:
    answer = await idle.api.get("/functions/f/usage", headers={"X-Appwrite-Key": "wrong"})
    refused(answer, 401, "general_unauthorized_scope")


async def test_every_end_is_counted_with_its_time(place: Place) -> None:
    await place.deploy("sends")
    done = [await call(place, f"{status} x") for status in (200, 404, 500, 503)]
    done.append(await ended(place, await call(place, "200 x", **{"async": True})))
    assert [one["status"] for one in done] == ["completed", "completed", "failed", "failed", "completed"]
    executions, failures, compute = await counted(place)
    assert (executions, failures) == ({NOON: 5}, {NOON: 2})
    assert compute == {NOON: round(sum(one["time"] for one in done) * 1000)}
    days = await counted(place, "7d")
    assert days == [{MIDNIGHT: 5}, {MIDNIGHT: 2}, {MIDNIGHT: compute[NOON]}]


async def test_compute_is_in_milliseconds(place: Place) -> None:
    await place.deploy("sleeps")
    done = await call(place, "0.2")
    assert 200 <= (await counted(place))[2][NOON] == round(done["time"] * 1000) < 1500


async def test_an_execution_counts_where_it_ended(place: Place) -> None:
    await place.deploy("sends")
    for now in (NOON + HALF_HOUR - 0.01, NOON + HALF_HOUR, MIDNIGHT + DAY - 0.01, MIDNIGHT + DAY):
        place.clock.now = now
        await call(place, "200 x")
    expected = {NOON: 1, NOON + HALF_HOUR: 1, MIDNIGHT + DAY - HALF_HOUR: 1, MIDNIGHT + DAY: 1}
    assert (await counted(place))[0] == expected
    assert (await counted(place, "7d"))[0] == {MIDNIGHT: 3, MIDNIGHT + DAY: 1}


async def test_what_is_older_than_the_range_is_not_shown(place: Place) -> None:
    await place.deploy("sends")
    await call(place, "200 x")
    place.clock.now = NOON + 47 * HALF_HOUR
    assert (await counted(place))[0] == {NOON: 1}
    place.clock.now = NOON + 48 * HALF_HOUR
    assert (await counted(place))[0] == {}
    for range_, days in (("7d", 7), ("30d", 30), ("90d", 90)):
        place.clock.now = MIDNIGHT + days * DAY - 1
        assert (await counted(place, range_))[0] == {MIDNIGHT: 1}
        place.clock.now += 1
        assert (await counted(place, range_))[0] == {}


async def test_an_execution_that_is_cancelled_is_a_failure(place: Place) -> None:
    await place.deploy("sleeps", concurrency=1)
    made = [await call(place, "30", **{"async": True}) for _ in range(2)]
    for one in reversed(made):
        given(await place.api.post(f"/functions/f/executions/{one['$id']}/cancel"))
    assert (await counted(place))[:2] == [{NOON: 2}, {NOON: 2}]


async def test_an_execution_that_is_deleted_stays_counted(place: Place) -> None:
    await place.deploy("sends")
    done = await call(place, "200 x")
    given(await place.api.delete(f"/functions/f/executions/{done['$id']}"), 204)
    assert (await counted(place))[0] == {NOON: 1}


async def test_each_function_is_counted_alone(place: Place) -> None:
    await place.deploy("sends")
    given(await place.api.post("/functions", json={"functionId": "g", "name": "g", "runtime": RUNTIME}), 201)
    await call(place, "200 x")
    assert {point["value"] for point in (await usage(place, "24h", "g"))[METRICS[0]]} == {0}


async def test_a_function_made_anew_begins_at_zero(place: Place) -> None:
    await place.deploy("sends")
    await call(place, "200 x")
    given(await place.api.delete("/functions/f"), 204)
    await place.deploy("sends")
    assert await counted(place) == [{}, {}, {}]
    await call(place, "200 x")
    assert (await counted(place))[0] == {NOON: 1}


async def test_counts_survive_the_end_of_the_server(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as place:
        await place.deploy("sends")
        for status in (200, 500):
            await call(place, f"{status} x")
    async with running(tmp_path, clock) as place:
        before = await counted(place)
        assert before[:2] == [{NOON: 2}, {NOON: 1}]
        await call(place, "200 x")
        assert (await counted(place))[:2] == [{NOON: 3}, {NOON: 1}]


# -- below the front door -------------------------------------------------------------------------------------


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path)
    await opened.open()
    await opened.create_project(Project(id="default"))
    await opened.create_function("default", Function(id="hello"))
    yield opened
    await opened.close()


async def counting(store: SqliteStore, number: int) -> Usage:
    """Return counts of so many executions that nobody has written down yet."""
    found = Usage(store, lambda: START)
    store.listen(found.on_change)
    for _ in range(number):
        done = Outcome(status="completed", status_code=200, time=0.25)
        await store.record_execution(accepted(execution(), synchronous=True), done, ended=START)
    return found


@pytest.mark.parametrize("turns", range(4))
async def test_counts_are_written_once_though_their_writer_is_cancelled(store: SqliteStore, turns: int) -> None:
    found = await counting(store, 3)
    writing = asyncio.create_task(found.flush())
    for _ in range(turns):
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    await found.flush()
    await store.delete_usage(0)  # a write behind all others
    assert await store.get_usage("default", "hello", 0) == [UsageCount("default", "hello", NOON, 3, 0, 0.75)]


async def test_who_asks_while_counts_are_written_sees_them(store: SqliteStore) -> None:
    found = await counting(store, 3)
    writing = asyncio.create_task(found.flush())
    await asyncio.sleep(0)
    shown = await found.of("default", "hello", "24h")
    assert shown.executions[-1].value == 3
    await writing


async def test_counts_that_could_not_be_written_are_kept(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    found = await counting(store, 3)

    async def fail(_: object) -> None:
        raise StoreFailed("full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "add_usage", fail)
        with pytest.raises(StoreFailed):
            await found.flush()
    assert (await found.of("default", "hello", "24h")).executions[-1].value == 3


async def test_counts_that_no_range_shows_are_deleted(store: SqliteStore) -> None:
    found = Usage(store, lambda: START)
    counts = [UsageCount("default", "hello", int(START) - days * DAY, 1, 0, 0.0) for days in (101, 99)]
    await store.add_usage(counts)
    await found.forget()
    assert await store.get_usage("default", "hello", 0) == counts[1:]
