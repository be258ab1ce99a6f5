"""Which instance answers which call, and when instances come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from nbfunctions.executor.executor import Outcome
from nbfunctions.executor.local import LocalExecutor
from tests.executor.deployments import Deployed, deploy, running

Deploy = Callable[..., Awaitable[Deployed]]


async def test_an_instance_stays_warm_and_keeps_its_globals(deployed: Deploy) -> None:
    sleeps = await deployed("sleeps")
    outcomes = [await sleeps("0") for _ in range(3)]
    assert [(outcome.response, outcome.cold) for outcome in outcomes] == [("1", True), ("2", False), ("3", False)]
    assert outcomes[0].queued > outcomes[1].queued


async def test_long_calls_get_further_instances_up_to_the_concurrency(executor: LocalExecutor, tmp_path: Path) -> None:
    sleeps = await deploy(executor, tmp_path, "sleeps")
    began = time.monotonic()
    await asyncio.gather(*(sleeps("0.4", concurrency=3) for _ in range(6)))
    assert executor.describe()["instances"] == 3
    assert 0.8 <= time.monotonic() - began < 1.6


async def test_a_burst_of_short_calls_shares_one_instance_in_order(executor: LocalExecutor, tmp_path: Path) -> None:
    sleeps = await deploy(executor, tmp_path, "sleeps")
    await sleeps("0")
    outcomes = await asyncio.gather(*(sleeps("0") for _ in range(20)))
    assert [outcome.response for outcome in outcomes] == [str(number) for number in range(2, 22)]
    assert executor.describe()["instances"] == 1


async def test_changed_variables_count_from_the_next_call_on(executor: LocalExecutor, tmp_path: Path) -> None:
    hello = await deploy(executor, tmp_path, "hello")
    assert "Hi, world" in (await hello(variables={"GREETING": "Hi"})).response
    assert "Ho, world" in (await hello(variables={"GREETING": "Ho"})).response
    assert executor.describe()["instances"] == 1


async def test_projects_with_the_same_ids_share_nothing(deployed: Deploy) -> None:
    sleeps = await deployed("sleeps")
    answers = [(await sleeps("0", context={"APPWRITE_FUNCTION_PROJECT_ID": p})).response for p in ("a", "b")]
    assert answers == ["1", "1"]


async def test_an_instance_that_died_idle_is_not_given_a_call(deployed: Deploy) -> None:
    function = await deployed("dies_later")
    for _ in range(2):
        assert (await function()).response == "ok"
        await asyncio.sleep(0.15)


async def test_idle_instances_end_after_a_while(tmp_path: Path) -> None:
    async with running(tmp_path, idle_timeout=1) as executor:
        sleeps = await deploy(executor, tmp_path, "sleeps")
        await sleeps("0")
        await asyncio.sleep(0.5)
        await sleeps("0")
        await asyncio.sleep(0.7)
        assert executor.describe()["instances"] == 1
        await asyncio.sleep(0.6)
        assert executor.describe()["instances"] == 0


async def test_the_longest_idle_instance_makes_room(tmp_path: Path) -> None:
    async with running(tmp_path, instances=2) as executor:
        one, two, three = [await deploy(executor, tmp_path, "sleeps", deployment_id=str(n)) for n in range(3)]
        await one("0")
        await two("0")
        await one("0")
        assert (await three("0")).response == "1"
        assert executor.describe()["instances"] == 2
        assert (await one("0")).response == "3"
        assert (await two("0")).response == "1"


async def test_a_function_without_an_instance_gets_its_turn(tmp_path: Path) -> None:
    async with running(tmp_path, instances=1) as executor:
        busy, patient = [await deploy(executor, tmp_path, "sleeps", deployment_id=str(n)) for n in range(2)]
        await busy("0")
        ended: list[str] = []

        async def ending(name: str, call: Awaitable[Outcome]) -> None:
            outcome = await call
            assert outcome.status == "completed", outcome
            ended.append(name)

        # In this order they come: one that runs, one that waits before the other function's, and more after it.
        names = ["runs", "before", "patient", "after", "after", "after"]
        async with asyncio.TaskGroup() as calls:
            for name in names:
                calls.create_task(ending(name, patient("0") if name == "patient" else busy("0.1")))
        assert ended == names


async def test_code_that_can_not_be_loaded_fails_all_who_wait_at_once(deployed: Deploy) -> None:
    broken = await deployed("fails_to_load")
    began = time.monotonic()
    outcomes = await asyncio.gather(*(broken() for _ in range(50)))
    assert {(outcome.status, outcome.layer) for outcome in outcomes} == {("failed", "code")}
    assert time.monotonic() - began < 1


async def test_code_that_takes_too_long_to_load_is_ended(tmp_path: Path) -> None:
    async with running(tmp_path, start_timeout=1) as executor:
        function = await deploy(executor, tmp_path, "slow", files={"main.py": b"import time\ntime.sleep(60)\n"})
        outcome = await function()
        assert (outcome.status, outcome.layer) == ("failed", "limit")
        assert outcome.stderr == "the code was not loaded within 1 seconds"


async def test_a_waiting_call_that_is_cancelled_leaves_the_queue(executor: LocalExecutor, tmp_path: Path) -> None:
    sleeps = await deploy(executor, tmp_path, "sleeps")
    first = asyncio.create_task(sleeps("0.3", concurrency=1))
    await asyncio.sleep(0.1)
    waiting = asyncio.create_task(sleeps("0", concurrency=1))
    last = asyncio.create_task(sleeps("0", concurrency=1))
    await asyncio.sleep(0.05)
    waiting.cancel()
    assert [(await first).response, (await last).response] == ["1", "2"]


async def test_stopping_ends_running_and_waiting_calls(executor: LocalExecutor, tmp_path: Path) -> None:
    sleeps = await deploy(executor, tmp_path, "sleeps")
    calls = [asyncio.create_task(sleeps("60", concurrency=1, timeout=60)) for _ in range(3)]
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await executor.stop()
    outcomes = await asyncio.gather(*calls)
    assert time.monotonic() - began < 2
    assert [outcome.status for outcome in outcomes] == ["failed"] * 3
    assert outcomes[0].layer == outcomes[1].layer == "platform"
    assert outcomes[0].stderr == "the function's process was ended: the server stopped"
    assert (await sleeps("0")).stderr == "the server stopped before the function was called"


async def test_a_forgotten_deployment_is_not_kept_warm(executor: LocalExecutor, tmp_path: Path) -> None:
    hello = await deploy(executor, tmp_path, "hello")
    await hello(variables={"GREETING": "Hi"})
    await executor.forget({hello.call.digest})
    assert executor.describe()["instances"] == 0
    assert not (tmp_path / "code" / hello.call.digest).exists()
    outcome = await hello(variables={"GREETING": "Hi"})
    assert (outcome.status, outcome.layer) == ("failed", "start")
    assert outcome.stderr == "the code of this deployment are not on this machine; build it again"
