"""Schedules (spec, section 10): the clock is the test's; the server, its store and its loops are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.server.asking import given, packed
from tests.server.inside import START, Clock, Place, running
from tests.serving import RUNTIME

MINUTE = 60
NEXT = int(START) + 30
"""The next full minute."""


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with running(tmp_path, Clock()) as found:
        yield found


async def test_a_tick_makes_exactly_one_execution(place: Place) -> None:
    deployment = await place.deploy(schedule="* * * * *")
    assert await place.ticks() == []
    await place.at(NEXT - 0.001)
    assert await place.ticks() == []
    await place.at(NEXT)
    for _ in range(3):  # looking again and again makes no more
        await place.at(NEXT + 1)
    [tick] = await place.ticks()
    assert (tick["trigger"], tick["$read"], tick["deploymentId"]) == ("schedule", [], deployment)
    assert tick["$createdAt"] == NEXT
    function = await place.function()
    assert (function["schedulePrevious"], function["scheduleNext"]) == (NEXT, NEXT + MINUTE)
    await place.at(NEXT + MINUTE)
    assert len(await place.ticks()) == 2


async def test_a_scheduled_function_is_told_so_and_given_nothing(place: Place) -> None:
    import json

    await place.deploy(schedule="* * * * *")
    await place.at(NEXT)
    done = await place.eventually(place.ticks, lambda ticks: ticks[0]["status"] == "completed")
    environment = json.loads(done[0]["response"])["request"]
    assert environment["APPWRITE_FUNCTION_TRIGGER"] == "schedule"
    for name in ("DATA", "EVENT", "EVENT_DATA", "USER_ID", "JWT"):
        assert environment[f"APPWRITE_FUNCTION_{name}"] == ""


async def test_a_schedule_begins_with_the_first_active_deployment(place: Place) -> None:
    deployment = await place.deploy(activate=False, schedule="* * * * *")
    assert (await place.function())["scheduleNext"] == 0
    await place.at(NEXT + 5 * MINUTE)
    assert await place.ticks() == []
    switched = given(await place.api.patch(f"/functions/f/deployments/{deployment}"))
    assert switched["scheduleNext"] == NEXT + 6 * MINUTE
    await place.at(NEXT + 6 * MINUTE)
    assert len(await place.ticks()) == 1


async def test_a_second_activation_keeps_the_schedule_going(place: Place) -> None:
    await place.deploy(schedule="* * * * *")
    second = await place.upload(activate=True)
    assert (await place.function())["scheduleNext"] == NEXT
    await place.at(NEXT)
    [tick] = await place.ticks()
    assert tick["deploymentId"] == second


async def test_ticks_that_were_missed_fire_once_late(place: Place) -> None:
    await place.deploy(schedule="*/10 * * * *")
    first = int(datetime(2026, 1, 1, 12, 10, tzinfo=UTC).timestamp())
    assert (await place.function())["scheduleNext"] == first
    await place.at(first + 47 * MINUTE + 11)
    assert len(await place.ticks()) == 1
    function = await place.function()
    assert function["schedulePrevious"] == first + 47 * MINUTE + 11
    assert function["scheduleNext"] == first + 50 * MINUTE


async def test_a_tick_missed_while_no_server_ran_fires_once(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as place:
        await place.deploy(schedule="* * * * *")
    clock.now = START + 86_400
    async with running(tmp_path, clock) as place:
        await place.looked()
        assert len(await place.ticks()) == 1
        assert (await place.function())["scheduleNext"] == NEXT + 86_400


async def test_a_changed_schedule_counts_at_once_and_alone(place: Place) -> None:
    await place.deploy(schedule="* * * * *")
    changed = given(await place.api.put("/functions/f", json={"name": "f", "schedule": "0 13 * * *"}))
    one_o_clock = int(datetime(2026, 1, 1, 13, tzinfo=UTC).timestamp())
    assert changed["scheduleNext"] == one_o_clock
    await place.at(NEXT + 5 * MINUTE)
    assert await place.ticks() == []
    await place.at(one_o_clock)
    assert len(await place.ticks()) == 1
    assert (await place.function())["scheduleNext"] == one_o_clock + 86_400


@pytest.mark.parametrize("nothing", ["", "0", None])
async def test_a_removed_schedule_fires_no_more(place: Place, nothing: str | None) -> None:
    await place.deploy(schedule="* * * * *")
    await place.at(NEXT)
    changed = given(await place.api.put("/functions/f", json={"name": "f", "schedule": nothing}))
    assert changed["scheduleNext"] == 0
    assert changed["schedulePrevious"] == NEXT
    await place.at(NEXT + 10 * MINUTE)
    assert len(await place.ticks()) == 1


async def test_without_an_active_deployment_a_tick_makes_no_execution(place: Place) -> None:
    deployment = await place.deploy(schedule="* * * * *")
    given(await place.api.delete(f"/functions/f/deployments/{deployment}"), 204)
    await place.at(NEXT + 3 * MINUTE)
    assert await place.ticks() == []
    again = await place.upload()
    await place.at((await place.function())["scheduleNext"])
    [tick] = await place.ticks()
    assert tick["deploymentId"] == again


async def test_a_deleted_function_fires_no_more(place: Place) -> None:
    await place.deploy(schedule="* * * * *")
    given(await place.api.delete("/functions/f"), 204)
    await place.at(NEXT + MINUTE)
    assert await place.server.store.next_schedule() == 0
    await place.deploy()
    assert await place.ticks() == []


async def test_each_due_function_fires_though_there_are_more_than_one_look_takes(place: Place) -> None:
    await place.deploy(schedule="* * * * *")
    archive = given(await place.api.get("/functions/f/deployments"))["deployments"][0]
    for number in range(5):
        body = {"functionId": f"n{number}", "name": "n", "runtime": RUNTIME, "schedule": "* * * * *"}
        given(await place.api.post("/functions", json=body), 201)
        fields, files = {"entrypoint": "main.py", "activate": "true"}, {"code": ("c.gz", packed("environment"))}
        sent = given(await place.api.post(f"/functions/n{number}/deployments", data=fields, files=files), 201)
        assert sent["digest"] == archive["digest"]
        path = f"/functions/n{number}/deployments/{sent['$id']}"
        await place.eventually(lambda path=path: place.get(path), lambda shown: shown["status"] == "ready")  # type: ignore[misc]
    await place.at(NEXT)
    for number in range(5):
        assert given(await place.api.get(f"/functions/n{number}/executions"))["total"] == 1


async def test_two_servers_on_one_store_fire_a_tick_once(place: Place, tmp_path: Path) -> None:
    from nbfunctions.server.schedule import Schedules
    from nbfunctions.server.store.sqlite import SqliteStore

    await place.deploy(schedule="* * * * *")
    store = SqliteStore(tmp_path)
    await store.open()
    try:
        second = Schedules(store, place.clock)
        place.clock.now = NEXT
        place.server.schedules.wake()
        await asyncio.gather(*(second.fire() for _ in range(3)), place.looked(), return_exceptions=False)
    finally:
        await store.close()
    assert len(await place.ticks()) == 1


async def test_a_clock_that_was_set_back_makes_nothing_twice(place: Place) -> None:
    await place.deploy(schedule="* * * * *")
    await place.at(NEXT)
    await place.at(NEXT - 3600)
    await place.at(NEXT)
    assert len(await place.ticks()) == 1
