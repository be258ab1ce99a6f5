"""``Idempotency-Key``: what is asked for again is executed once (an addition; docs/api.md)."""

from __future__ import annotations

import concurrent.futures
import time
from pathlib import Path

import httpx
import pytest

from tests.server.asking import client, deploy, eventually, execute, given, refused, wait_for_execution
from tests.server.listening import user
from tests.server.test_identity import command
from tests.serving import Serving, serving

PATH = "/functions/f/executions"
OTHERWISE = "An execution with this Idempotency-Key was asked for with other parameters"
BAD = "Invalid Idempotency-Key: Value must be at most 255 printable ASCII characters"


def ask(
    api: httpx.Client, data: str = "", key: str = "once", function_id: str = "f", *, wait: bool = False
) -> httpx.Response:
    body = {"data": data, "async": not wait}
    return api.post(f"/functions/{function_id}/executions", json=body, headers={"Idempotency-Key": key})


def total(api: httpx.Client, function_id: str = "f") -> int:
    return int(given(api.get(f"/functions/{function_id}/executions"))["total"])


def calls(api: httpx.Client) -> int:
    """Return how often the function ``sleeps`` has run in its one instance."""
    return int(execute(api, "0")["response"]) - 1


def test_what_is_waited_for_is_executed_once_and_answered_alike(api: httpx.Client) -> None:
    deploy(api, "sleeps", concurrency=1)
    first = given(ask(api, "0.01", wait=True), 201)
    assert (first["status"], first["response"], first["trigger"]) == ("completed", "1", "http")
    for _ in range(3):
        assert given(ask(api, "0.01", wait=True), 201) == first
    assert total(api) == 1
    assert calls(api) == 1


def test_what_is_not_waited_for_is_executed_once_and_shown_as_it_is(api: httpx.Client) -> None:
    deploy(api, "sleeps", concurrency=1)
    first = given(ask(api, "0.2"), 201)
    assert first["status"] == "waiting"
    again = given(ask(api, "0.2"), 201)
    assert again["$id"] == first["$id"]
    done = wait_for_execution(api, first)
    assert given(ask(api, "0.2"), 201) == done
    assert total(api) == 1
    assert calls(api) == 1


def test_a_failure_is_answered_again_and_not_tried_again(api: httpx.Client) -> None:
    deploy(api, "sends")
    first = given(ask(api, "500 x", wait=True), 201)
    assert first["status"] == "failed"
    assert given(ask(api, "500 x", wait=True), 201) == first
    assert total(api) == 1


def test_who_asks_again_while_it_runs_waits_for_the_same_end(api: httpx.Client) -> None:
    deploy(api, "sleeps", concurrency=1)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        first = threads.submit(ask, api, "0.3", wait=True)
        eventually(lambda: given(api.get(PATH))["executions"])
        began = time.monotonic()
        again = [threads.submit(ask, api, "0.3", wait=True) for _ in range(3)]
        answers = [given(one.result(), 201) for one in (first, *again)]
        took = time.monotonic() - began
    assert answers == [answers[0]] * 4
    assert answers[0]["status"] == "completed"
    assert took < 1.0  # told at once when it ends
    assert total(api) == 1
    assert calls(api) == 1


def test_who_asks_again_is_answered_when_it_is_cancelled(api: httpx.Client) -> None:
    deploy(api, "sleeps")
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(ask, api, "30", wait=True) for _ in range(2)]
        [made] = eventually(lambda: given(api.get(PATH))["executions"])
        cancelled = given(api.post(f"{PATH}/{made['$id']}/cancel"))
        assert [given(one.result(10), 201) for one in asking] == [cancelled] * 2


@pytest.mark.parametrize("wait", [True, False])
def test_requests_that_come_at_once_are_one_execution(api: httpx.Client, wait: bool) -> None:
    deploy(api, "sleeps", concurrency=1)

    def race(number: int) -> None:
        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            asking = [threads.submit(ask, api, "0", f"k{number}", wait=wait) for _ in range(6)]
            answers = [given(one.result(), 201) for one in asking]
        assert len({one["$id"] for one in answers}) == 1
        assert not wait or answers == [answers[0]] * 6

    for number in range(15):
        race(number)
    assert total(api) == 15
    for made in given(api.get(PATH))["executions"]:
        assert wait_for_execution(api, made)["status"] == "completed"
    assert calls(api) == 15


@pytest.mark.parametrize("wait", [True, False])
def test_the_same_key_with_other_parameters_is_refused(api: httpx.Client, wait: bool) -> None:
    deploy(api, "sends")
    first = given(ask(api, "200 x", wait=wait), 201)
    for data, way in (("200 y", wait), ("", wait), ("200 x", not wait)):
        answer = ask(api, data, wait=way)
        refused(answer, 409, "execution_already_exists", OTHERWISE)
    assert total(api) == 1
    assert wait_for_execution(api, first)["response"] == "x"
    assert given(ask(api, "200 x", wait=wait), 201)["$id"] == first["$id"]


def test_a_key_is_one_functions_own(api: httpx.Client) -> None:
    deploy(api, "sends")
    deploy(api, "sends", "g")
    answers = [given(ask(api, f"200 {name}", function_id=name, wait=True), 201) for name in "fg"]
    assert [one["response"] for one in answers] == ["f", "g"]
    assert [total(api, name) for name in "fg"] == [1, 1]


def test_another_key_and_none_are_executed_anew(api: httpx.Client) -> None:
    deploy(api, "sends")
    made = [given(ask(api, "200 x", key, wait=True), 201)["$id"] for key in ("a", "A", "a b", "", "")]
    made += [execute(api, "200 x")["$id"] for _ in range(2)]
    assert len(set(made)) == 7


def test_a_key_is_free_again_when_its_execution_is_deleted(api: httpx.Client) -> None:
    deploy(api, "sends")
    first = given(ask(api, "200 x", wait=True), 201)
    given(api.delete(f"{PATH}/{first['$id']}"), 204)
    second = given(ask(api, "200 y", wait=True), 201)
    assert second["response"] == "y"
    given(api.delete("/functions/f"), 204)
    deploy(api, "sends")
    assert given(ask(api, "200 z", wait=True), 201)["response"] == "z"


@pytest.mark.parametrize("key", [b"x" * 256, b"x" * 5000, b"\xff", "é".encode(), b"a\tb"])
def test_a_key_that_can_not_be_is_refused(api: httpx.Client, key: bytes) -> None:
    deploy(api, "sends")
    answer = api.post(PATH, json={"data": "200 x", "async": False}, headers={b"Idempotency-Key": key})
    refused(answer, 400, "general_argument_invalid", BAD)
    assert total(api) == 0


@pytest.mark.parametrize("key", ["x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "~", "' OR 1=1 --", "{}"])
def test_any_other_key_is_taken(api: httpx.Client, key: str) -> None:
    deploy(api, "sends")
    made = [given(ask(api, "200 x", key, wait=True), 201) for _ in range(2)]
    assert made[0] == made[1]


def test_every_caller_has_keys_of_its_own(server: Serving, api: httpx.Client) -> None:
    deploy(api, "sends", execute=["role:all"])
    [other] = command(server, "keys", "create", "--scope", "execution.write")
    with (
        client(server, {**server.headers, "X-Appwrite-Key": other["secret"]}) as second,
        user(server, api, "ada") as ada,
        user(server, api, "bob") as bob,
    ):
        callers = [api, second, ada, bob]
        made = [given(ask(caller, "200 x", wait=True), 201)["$id"] for caller in callers]
        assert len(set(made)) == 4
        assert [given(ask(caller, "200 x", wait=True), 201)["$id"] for caller in callers] == made


def test_a_guest_has_no_key(server: Serving, api: httpx.Client, guest: httpx.Client) -> None:
    deploy(api, "sends", execute=["role:guest"])
    said = "Invalid Idempotency-Key: A guest can't have one. Send an API key or a token."
    refused(ask(guest, "200 x"), 400, "general_argument_invalid", said)
    assert total(api) == 0


def test_a_request_that_is_refused_uses_no_key(api: httpx.Client) -> None:
    refused(ask(api, "200 x"), 404, "function_not_found")
    deploy(api, "sends")
    refused(ask(api, "x" * 8193), 400, "general_argument_invalid")
    assert given(ask(api, "200 x", wait=True), 201)["response"] == "x"


def test_keys_are_known_after_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path / "data", status=None) as server, client(server) as api:
        deploy(api, "sends")
        synchronous = given(ask(api, "200 x", "s", wait=True), 201)
        asynchronous = wait_for_execution(api, given(ask(api, "200 y", "a"), 201))
        deploy(api, "sleeps", "g")
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            broken = threads.submit(ask, api, "30", "b", "g", wait=True)
            eventually(lambda: total(api, "g"))
            server.process.kill()
            with pytest.raises(httpx.RemoteProtocolError):
                broken.result(10)
    with serving(tmp_path / "data") as server, client(server) as api:
        assert given(ask(api, "200 x", "s", wait=True), 201) == synchronous
        assert given(ask(api, "200 y", "a"), 201) == asynchronous
        refused(ask(api, "200 z", "a"), 409, "execution_already_exists", OTHERWISE)
        ended = given(ask(api, "30", "b", "g", wait=True), 201)
        assert (ended["status"], ended["layer"]) == ("failed", "platform")
        assert [total(api, name) for name in "fg"] == [2, 1]
