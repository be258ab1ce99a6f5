"""Cancelling and deleting executions (additions; docs/api.md)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbfunctions.models import Execution, new_id
from nbfunctions.server.store.protocol import Acceptance, ExecutionChange
from tests.executor.deployments import processes_with
from tests.server.asking import client, deploy, eventually, execute, given, refused, wait_for_execution
from tests.server.inside import Clock, Place, running
from tests.serving import serving

PATH = "/functions/f/executions"
LONG = "30"
REASON = "Cancelled by an API key."


def later(api: httpx.Client, data: str = "") -> dict[str, Any]:
    """Have the function run some time, and return the waiting execution."""
    return dict(given(api.post(PATH, json={"data": data}), 201))


def one(api: httpx.Client, made: dict[str, Any]) -> dict[str, Any]:
    return dict(given(api.get(f"{PATH}/{made['$id']}")))


def cancel(api: httpx.Client, made: dict[str, Any]) -> dict[str, Any]:
    return dict(given(api.post(f"{PATH}/{made['$id']}/cancel")))


def processing(api: httpx.Client, made: dict[str, Any]) -> None:
    """Wait until an execution runs."""
    eventually(lambda: one(api, made)["status"], lambda status: status == "processing")


def is_cancelled(record: dict[str, Any]) -> bool:
    return (record["status"], record["statusCode"], record["layer"], record["stderr"], record["response"]) == (
        "failed",
        500,
        "cancelled",
        REASON,
        "",
    )


# -- cancelling ---------------------------------------------------------------------------------------------


def test_an_execution_that_waits_never_runs(api: httpx.Client) -> None:
    deploy(api, "waits", concurrency=1)
    first, second, third = later(api, LONG), later(api), later(api)
    processing(api, first)
    cancelled = cancel(api, second)
    assert list(cancelled) == list(second)
    assert is_cancelled(cancelled)
    assert (cancelled["stdout"], cancelled["cold"]) == ("", False)
    assert one(api, second) == cancelled
    assert [one(api, made)["status"] for made in (first, third)] == ["processing", "waiting"]
    cancel(api, first)
    assert wait_for_execution(api, third)["response"] == "1"
    assert one(api, second) == cancelled


def test_an_execution_that_runs_ends_with_its_process(api: httpx.Client) -> None:
    deploy(api, "waits")
    assert execute(api)["response"] == "1"
    mark = f"6{os.getpid()}"  # this run's own
    made = later(api, mark)
    eventually(lambda: processes_with(mark))
    began = time.monotonic()
    cancelled = cancel(api, made)
    assert is_cancelled(cancelled)
    eventually(lambda: not processes_with(mark))
    assert time.monotonic() - began < 5
    assert execute(api)["response"] == "1"  # by a new process
    assert one(api, made) == cancelled


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}])
def test_who_waits_for_an_execution_is_answered_when_it_is_cancelled(
    api: httpx.Client, headers: dict[str, str]
) -> None:
    deploy(api, "waits")
    mark = f"5{os.getpid()}{len(headers)}"
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        body = {"data": mark, "async": False}
        waiting = threads.submit(api.post, PATH, json=body, headers=headers)
        eventually(lambda: processes_with(mark))
        [made] = given(api.get(PATH))["executions"]
        cancelled = cancel(api, made)
        assert given(waiting.result(10), 201) == cancelled == one(api, made)
    assert is_cancelled(cancelled)
    eventually(lambda: not processes_with(mark))
    assert execute(api)["response"] == "1"


def test_an_execution_that_waits_for_an_instance_is_cancelled(api: httpx.Client) -> None:
    deploy(api, "waits", concurrency=1)
    first = later(api, LONG)
    processing(api, first)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(api.post, PATH, json={"async": False})
        second, _ = eventually(lambda: given(api.get(PATH))["executions"], lambda found: len(found) == 2)
        cancelled = cancel(api, second)
        assert given(waiting.result(10), 201) == cancelled
    assert is_cancelled(cancelled)
    assert one(api, first)["status"] == "processing"
    cancel(api, first)


def test_an_execution_that_has_ended_is_not_cancelled(api: httpx.Client) -> None:
    deploy(api, "sends")
    for status in (200, 500):
        done = execute(api, f"{status} x")
        said = "The execution has ended already"
        refused(api.post(f"{PATH}/{done['$id']}/cancel"), 400, "execution_ended", said)
        assert one(api, done) == done
    made = later(api, "200 x")
    done = wait_for_execution(api, made)
    for _ in range(2):
        refused(api.post(f"{PATH}/{made['$id']}/cancel"), 400, "execution_ended", said)
    assert one(api, made) == done


def test_an_execution_is_cancelled_once(api: httpx.Client) -> None:
    deploy(api, "waits")
    made = later(api, LONG)
    cancelled = cancel(api, made)
    refused(api.post(f"{PATH}/{made['$id']}/cancel"), 400, "execution_ended")
    assert one(api, made) == cancelled


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_what_is_not_there_is_neither_cancelled_nor_deleted(api: httpx.Client, method: str) -> None:
    deploy(api, "waits")
    deploy(api, "sends", "g")
    made = later(api, LONG)
    end = "/cancel" if method == "POST" else ""
    for path, type_ in (
        (f"{PATH}/nothing{end}", "execution_not_found"),
        (f"/functions/g/executions/{made['$id']}{end}", "execution_not_found"),
        (f"/functions/nothing/executions/{made['$id']}{end}", "function_not_found"),
    ):
        refused(api.request(method, path), 404, type_)
    refused(api.request(method, f"{PATH}/_odd{end}"), 400, "general_argument_invalid")
    assert one(api, made)["status"] in ("waiting", "processing")
    cancel(api, made)


def test_a_scheduled_or_triggered_execution_is_cancelled_alike(api: httpx.Client) -> None:
    deploy(api, "waits", events=["users.*.create"], concurrency=1)
    first = later(api, LONG)
    processing(api, first)
    given(api.post("/events", json={"event": "users.ada.create"}), 201)
    [second] = [made for made in given(api.get(PATH))["executions"] if made["trigger"] == "event"]
    assert is_cancelled(cancel(api, second))
    cancel(api, first)


# -- deleting -----------------------------------------------------------------------------------------------


def test_an_execution_that_has_ended_is_deleted(api: httpx.Client) -> None:
    deploy(api, "waits")
    kept, done, cancelled = execute(api), execute(api), cancel(api, later(api, LONG))
    for made in (done, cancelled):
        given(api.delete(f"{PATH}/{made['$id']}"), 204)
        refused(api.delete(f"{PATH}/{made['$id']}"), 404, "execution_not_found", "Execution not found")
        refused(api.get(f"{PATH}/{made['$id']}"), 404, "execution_not_found", "Execution not found")
    assert given(api.get(PATH)) == {"total": 1, "executions": [kept]}


def test_an_execution_that_waits_or_runs_is_not_deleted(api: httpx.Client) -> None:
    deploy(api, "waits", concurrency=1)
    first, second = later(api, LONG), later(api, LONG)
    processing(api, first)
    said = "Can't delete an ongoing execution: cancel it, or wait for its end"
    for made in (first, second):
        refused(api.delete(f"{PATH}/{made['$id']}"), 400, "execution_in_progress", said)
        cancel(api, made)
        given(api.delete(f"{PATH}/{made['$id']}"), 204)


# -- at the same time ---------------------------------------------------------------------------------------


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with running(tmp_path, Clock()) as found:
        yield found


async def accept(place: Place, deployment_id: str, data: str = LONG) -> Execution:
    """Accept an execution in the shortest way there is."""
    now = place.clock.now
    made = Execution(
        id=new_id(), created_at=int(now), updated_at=int(now), function_id="f", deployment_id=deployment_id
    )
    return await place.server.store.create_execution(
        Acceptance(project_id="default", execution=made, created=now, data=data)
    )


async def nothing_runs(place: Place) -> None:
    async with asyncio.timeout(10):
        await place.server.dispatch.drain()


async def test_an_execution_may_be_cancelled_while_it_is_claimed(place: Place) -> None:
    deployment_id = await place.deploy("waits")
    for turns in range(20):
        made = await accept(place, deployment_id)
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = await place.server.store.cancel_execution("default", "f", made.id, REASON, place.clock.now)
        await nothing_runs(place)
        assert await place.server.store.get_execution("default", "f", made.id) == cancelled


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_an_execution_may_be_cancelled_as_soon_as_it_is_seen_to_run(
    place: Place, asynchronous: bool, headers: dict[str, str]
) -> None:
    await place.deploy("waits")
    cancelling: list[asyncio.Task[httpx.Response]] = []

    def on_change(change: ExecutionChange) -> None:
        if change.execution.status == "processing":
            path = f"{PATH}/{change.execution.id}/cancel"
            cancelling.append(asyncio.create_task(place.api.post(path)))

    place.server.store.listen(on_change)
    body = {"data": LONG, "async": asynchronous}
    async with asyncio.timeout(10):
        made = given(await place.api.post(PATH, json=body, headers=headers), 201)
        await place.eventually(lambda: place.get(f"{PATH}/{made['$id']}"), lambda shown: shown["status"] == "failed")
        [answer] = [await one for one in cancelling]
    await nothing_runs(place)
    cancelled = given(answer)
    assert is_cancelled(cancelled)
    assert await place.get(f"{PATH}/{made['$id']}") == cancelled
    assert asynchronous or made == cancelled


@pytest.mark.parametrize("turns", range(0, 16, 3))
async def test_a_server_that_stops_leaves_no_execution_claimed(tmp_path: Path, turns: int) -> None:
    async with running(tmp_path, Clock()) as place:
        deployment_id = await place.deploy("waits")
        made = await accept(place, deployment_id)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await place.server.stop(0)
        await place.server.store.open()
        shown = await place.server.store.get_execution("default", "f", made.id)
        await place.server.store.close()
    assert shown.status in ("waiting", "failed")
    assert shown.status == "waiting" or "server stopped" in shown.stderr


def in_parallel(number: int, step: Callable[[int], Any]) -> list[Any]:
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        return list(threads.map(step, range(number)))


def test_of_an_end_and_its_cancelling_one_counts_however_close_they_are(tmp_path: Path) -> None:
    chance = random.Random(1)
    moments = [chance.uniform(0, 0.04) for _ in range(200)]
    with serving(tmp_path / "data") as server, client(server) as api:
        deploy(api, "sleeps", concurrency=4)

        def asynchronous(number: int) -> tuple[bool, dict[str, Any]]:
            made = later(api, "0.01")
            time.sleep(moments[number])
            answer = api.post(f"{PATH}/{made['$id']}/cancel")
            if answer.status_code != 200:
                refused(answer, 400, "execution_ended")
            record = wait_for_execution(api, made)
            assert answer.status_code != 200 or answer.json() == record
            return answer.status_code == 200, record

        def synchronous(number: int) -> tuple[bool, dict[str, Any]]:
            key = {"Idempotency-Key": f"k{number}"}
            with concurrent.futures.ThreadPoolExecutor(1) as threads:
                body = {"data": "0.01", "async": False}
                waiting = threads.submit(api.post, PATH, json=body, headers=key)
                time.sleep(moments[number])
                listed = given(api.get(PATH, params={"limit": 1}))["executions"]
                answers = [api.post(f"{PATH}/{one['$id']}/cancel") for one in listed]
                record = given(waiting.result(30), 201)
            was_cancelled = [answer.json()["$id"] for answer in answers if answer.status_code == 200]
            return record["$id"] in was_cancelled or record["layer"] == "cancelled", record

        ends = in_parallel(150, asynchronous) + [synchronous(number) for number in range(50)]
        for was_cancelled, record in ends:
            assert is_cancelled(record) if was_cancelled else record["status"] == "completed", record
            assert one(api, record) == record
        number_cancelled = sum(was_cancelled for was_cancelled, _ in ends)
        assert 0 < number_cancelled < 200
        usage = given(api.get("/functions/f/usage", params={"range": "7d"}))
        assert sum(point["value"] for point in usage["functionsExecutions"]) == 200
        assert sum(point["value"] for point in usage["functionsFailures"]) == number_cancelled
        assert execute(api, "0")["status"] == "completed"
    log = (tmp_path / "data.log").read_text()
    assert "never retrieved" not in log
    assert log.strip() == ""
