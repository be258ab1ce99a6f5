"""What a function prints, how long it may take, and how its process may end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import pytest

from nbfunctions.models import OUTPUT_LIMIT
from tests.executor.deployments import Deployed

Deploy = Callable[..., Awaitable[Deployed]]
TIMED_OUT = "An internal curl error has occurred within the executor! Error Msg: Operation timed out"


async def test_everything_printed_belongs_to_its_call(deployed: Deploy) -> None:
    prints = await deployed("prints")
    first = await prints("one")
    assert sorted(first.stdout.splitlines()) == ["c code", "child", "loaded", "python one"]
    assert first.stderr == "mistake\n"
    second = await prints("two")
    assert sorted(second.stdout.splitlines()) == ["c code", "child", "python two"]


async def test_output_is_cut_at_the_limit_between_two_characters(deployed: Deploy) -> None:
    outcome = await (await deployed("prints_a_lot"))()
    assert outcome.status == "completed"
    assert OUTPUT_LIMIT - 2 < len(outcome.stdout.encode()) <= OUTPUT_LIMIT
    assert set(outcome.stdout) == {"é", "\n"}
    assert outcome.stderr == "x" * 999_999
    assert outcome.response == "é" * 500_000


async def test_a_call_that_takes_too_long_is_ended(deployed: Deploy) -> None:
    sleeps = await deployed("sleeps")
    began = time.monotonic()
    outcome = await sleeps("30", timeout=0.5)
    assert time.monotonic() - began < 3
    assert (outcome.status, outcome.status_code, outcome.response, outcome.layer) == ("failed", 500, "", "limit")
    assert outcome.stderr == TIMED_OUT
    assert outcome.stdout == "going to sleep\n"
    assert 0.5 <= outcome.time < 2
    again = await sleeps("0")
    assert (again.response, again.cold) == ("1", True)


@pytest.mark.parametrize(
    ("way", "sentence"),
    [
        ("sys.exit", "the function called exit(3) before it answered"),
        ("os._exit", "the function's process ended with exit status 3 before it answered"),
        ("kill", "the function's process was ended by SIGKILL before it answered"),
    ],
)
async def test_a_process_that_ends_fails_its_call_and_nothing_else(deployed: Deploy, way: str, sentence: str) -> None:
    function = await deployed("exits_early")
    outcome = await function(way)
    assert (outcome.status, outcome.status_code, outcome.layer) == ("failed", 500, "code")
    assert outcome.stderr == sentence
    assert (await function("nothing")).response == "alive"


async def test_only_the_first_copy_of_a_forked_handler_answers(deployed: Deploy) -> None:
    function = await deployed("exits_early")
    assert [(await function("fork")).response for _ in range(3)] == ["alive"] * 3


@pytest.mark.parametrize("way", ["close 1", "close 2", "close sys.stdout", "replace"])
async def test_a_process_whose_output_is_gone_gets_no_further_call(deployed: Deploy, way: str) -> None:
    function = await deployed("closes_output")
    assert (await function("nothing")).response == "1"
    closing, *after = await asyncio.gather(*(function(data, concurrency=1) for data in (way, "nothing", "nothing")))
    assert (closing.status, closing.response, closing.stdout) == ("completed", "2", "call 2\n")
    assert [outcome.response for outcome in after] == ["1", "2"]
    assert [outcome.stdout for outcome in after] == ["call 1\n", "call 2\n"]
    assert [outcome.stderr for outcome in after] == ["mistake 1\n", "mistake 2\n"]
    assert [outcome.cold for outcome in after] == [True, False]


async def test_a_process_that_restored_its_output_stays(deployed: Deploy) -> None:
    function = await deployed("closes_output")
    outcomes = [await function(way) for way in ("restore", "restore", "nothing")]
    assert [outcome.stdout for outcome in outcomes] == ["call 1\n", "call 2\n", "call 3\n"]


async def test_each_call_has_its_own_environment(deployed: Deploy) -> None:
    function = await deployed("environment")
    variables = {"OWN": "1", "TEXT": "é\n=x"}
    context = {"APPWRITE_FUNCTION_DATA": "a" * 200_000, "APPWRITE_FUNCTION_USER_ID": "u1", "OWN": "2"}
    outcome = await function("", variables=variables, context=context, headers={"x-a": "b"})
    seen = json.loads(outcome.response)
    assert seen["request"] == {**variables, **context}
    assert seen["headers"] == {"x-a": "b"}
    assert (seen["process"]["OWN"], seen["process"]["TEXT"]) == ("2", "é\n=x")
    # Too long for any process's environment: it would break every subprocess.
    assert "APPWRITE_FUNCTION_DATA" not in seen["process"]
    second = json.loads((await function("", variables=variables, context={"APPWRITE_FUNCTION_USER_ID": ""})).response)
    assert second["request"] == {**variables, "APPWRITE_FUNCTION_USER_ID": ""}
    assert second["process"]["APPWRITE_FUNCTION_USER_ID"] == ""
    assert {name for name in second["process"] if name.startswith(("NBFUNCTIONS", "SSL", "PIP"))} == set()


async def test_cancelling_a_call_ends_its_instance(deployed: Deploy) -> None:
    sleeps = await deployed("sleeps")
    assert (await sleeps("0")).response == "1"
    call = asyncio.create_task(sleeps("30"))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    after = await sleeps("0")
    assert (after.response, after.cold) == ("1", True)
