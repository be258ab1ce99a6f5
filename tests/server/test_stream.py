"""Streams of every change of an execution that a caller may see (docs/api.md, "Stream")."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbfunctions.models import Execution
from nbfunctions.server import permissions
from nbfunctions.server.realtime import RECENT, WAITING, Realtime, Stream
from nbfunctions.server.store.protocol import ExecutionChange
from tests.server.asking import client, deploy, eventually, execute, given, refused, wait_for_execution
from tests.server.listening import Event, next_event, streamed, user
from tests.server.test_identity import command
from tests.server.test_realtime import memory
from tests.serving import Serving, serving

PATH = "/functions/f/executions"
STREAM = "/functions/executions/stream"


@pytest.fixture
def function(api: httpx.Client) -> str:
    return deploy(api, "sends", execute=["role:member"])


def until_ended(found: Iterator[Event], execution: dict[str, Any]) -> list[Event]:
    """Return events up to the one that shows an execution's end."""
    seen = []
    for event in found:
        seen.append(event)
        if event.data.get("$id") == execution["$id"] and event.data.get("status") in ("completed", "failed"):
            return seen
    raise AssertionError(seen)


def number(event: Event) -> int:
    return int(event.id.rpartition("-")[2])


# -- live ---------------------------------------------------------------------------------------------------


def test_every_change_of_an_execution_is_sent_as_it_happens(api: httpx.Client, function: str) -> None:
    with streamed(api) as found:
        opened = next_event(found, "open")
        assert opened.data == {}
        assert re.fullmatch(r"[0-9a-f]{20}-[0-9]+", opened.id)
        accepted = given(api.post(PATH, json={"data": "200 x"}), 201)
        created, claimed, ended = (next(found) for _ in range(3))
        assert (created.name, created.data) == ("create", accepted)
        assert (claimed.name, claimed.data["status"]) == ("update", "processing")
        assert (ended.name, ended.data) == ("update", wait_for_execution(api, accepted))
        assert [number(one) for one in (created, claimed, ended)] == [number(opened) + more for more in (1, 2, 3)]
        done = execute(api, "200 y")
        assert until_ended(found, done)[-1].data == done
        given(api.delete(f"{PATH}/{done['$id']}"), 204)
        deleted = next_event(found, "delete")
        assert (deleted.data["$id"], deleted.data["functionId"]) == (done["$id"], "f")


def test_the_wire_is_what_the_standard_says(api: httpx.Client, function: str) -> None:
    with api.stream("GET", STREAM) as answer:
        lines = answer.iter_lines()
        run = ""
        for wanted in ("retry: 1000", "", r"id: ([0-9a-f]{20})-\d+", "event: open", "data: {}", ""):
            match = re.fullmatch(wanted, next(lines))
            assert match
            run = match[1] if match.groups() else run
        execute(api, "200 line\nbreak\r\u2028x")
        for wanted in (rf"id: {run}-\d+", "event: (create|update)", r'data: \{"\$id":.*\}', ""):
            assert re.fullmatch(wanted, next(lines))


def test_a_stream_may_be_of_one_function(api: httpx.Client, function: str) -> None:
    deploy(api, "sends", "g")
    with streamed(api, functionId="g") as found:
        next_event(found, "open")
        execute(api, "200 x")
        done = execute(api, "200 y", "g")
        seen = until_ended(found, done)
        assert {one.data["functionId"] for one in seen} == {"g"}
    refused(api.get(STREAM, params={"functionId": "nothing"}), 404, "function_not_found")
    refused(api.get(STREAM, params={"functionId": "_"}), 400, "general_argument_invalid")


def test_users_see_their_own_executions_only(server: Serving, api: httpx.Client, function: str) -> None:
    with (
        user(server, api, "jane") as jane,
        user(server, api, "joe") as joe,
        streamed(jane) as hers,
        streamed(joe) as his,
        streamed(api) as all_,
    ):
        start = next_event(hers, "open")
        next_event(his, "open")
        next_event(all_, "open")
        of_key, of_joe, of_jane = execute(api, "200 x"), execute(joe, "200 his"), execute(jane, "200 hers")
        assert {one.data["$id"] for one in until_ended(hers, of_jane)} == {of_jane["$id"]}
        assert {one.data["$id"] for one in until_ended(his, of_joe)} == {of_joe["$id"]}
        assert {one.data["$id"] for one in until_ended(all_, of_jane)} == {
            one["$id"] for one in (of_key, of_joe, of_jane)
        }
        given(api.delete(f"{PATH}/{of_joe['$id']}"), 204)
        with streamed(jane, {"Last-Event-ID": start.id}) as again:
            assert next_event(again, "create").data == of_jane
            next_event(again, "open")


def test_an_old_client_is_sent_old_records(api: httpx.Client, function: str) -> None:
    with streamed(api, {"X-Appwrite-Response-Format": "0.14.0"}) as found:
        start = next_event(found, "open")
        done = execute(api, "200 x")
        last = until_ended(found, done)[-1].data
        assert last["dateCreated"] == done["$createdAt"]
        assert "$createdAt" not in last
    with streamed(api, {"X-Appwrite-Response-Format": "0.14.0", "Last-Event-ID": start.id}) as found:
        assert next(found).data == last


def test_who_may_not_see_executions_gets_no_stream(guest: httpx.Client) -> None:
    refused(guest.get(STREAM), 401, "general_unauthorized_scope", "User (role: guest) missing scope (execution.read)")


def test_its_head_can_be_asked_for(api: httpx.Client) -> None:
    answer = api.head(STREAM)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_it_is_never_compressed(api: httpx.Client) -> None:
    with streamed(api, {"Accept-Encoding": "gzip"}) as found:
        next_event(found, "open")


def test_a_function_named_executions_is_no_stream(api: httpx.Client) -> None:
    deploy(api, "sends", "executions")
    done = execute(api, "200 x", "executions")
    assert given(api.get("/functions/executions/executions"))["total"] == 1
    assert given(api.get(f"/functions/executions/executions/{done['$id']}")) == done


# -- again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["header", "query", "both"])
def test_a_reader_that_was_cut_off_is_told_what_it_missed(api: httpx.Client, function: str, how: str) -> None:
    deploy(api, "sleeps", "slow")
    with streamed(api) as found:
        next_event(found, "open")
        known = execute(api, "200 known")
        start = until_ended(found, known)[-1]
    missed = [execute(api, f"200 {one}") for one in range(3)]
    gone = execute(api, "200 gone")
    given(api.delete(f"{PATH}/{gone['$id']}"), 204)
    running = given(api.post("/functions/slow/executions", json={"data": "1"}), 201)
    headers = {"Last-Event-ID": start.id} if how != "query" else None
    query = {"lastEventId": start.id if how == "query" else "other-1"} if how != "header" else {}
    with streamed(api, headers, **query) as found:
        again = [next(found) for _ in range(5)]
        assert [one.data for one in again[:3]] == missed
        assert [one.name for one in again] == ["create", "create", "create", "delete", "create"]
        assert again[3].data == {"$id": gone["$id"], "functionId": "f"}
        assert again[4].data["$id"] == running["$id"]
        assert {one.id for one in again} == {""}  # who is cut off here begins again
        opened = next_event(found, "open")
        assert number(opened) > number(start)
        seen = until_ended(found, running)
        assert {one.data["$id"] for one in seen} == {running["$id"]}
        assert min(number(one) for one in seen) > number(opened)
    with streamed(api, {"Last-Event-ID": seen[-1].id}) as found:
        assert number(next_event(found, "open")) == number(seen[-1])  # nothing was missed


def test_what_changed_while_nobody_listened_is_one_event_for_each_execution(api: httpx.Client, function: str) -> None:
    with streamed(api) as found:
        start = next_event(found, "open")
        accepted = given(api.post(PATH, json={"data": "200 x"}), 201)
        ended = until_ended(found, accepted)
    with streamed(api, {"Last-Event-ID": start.id}, functionId="f") as found:
        assert next_event(found, "create").data == ended[-1].data
        next_event(found, "open")
    with streamed(api, {"Last-Event-ID": ended[0].id}) as found:
        assert next_event(found, "update").data == ended[-1].data
        next_event(found, "open")


def test_executions_of_a_deleted_function_are_gone(api: httpx.Client, function: str) -> None:
    with streamed(api) as found:
        start = next_event(found, "open")
    done = execute(api, "200 x")
    given(api.delete("/functions/f"), 204)
    with streamed(api, {"Last-Event-ID": start.id}) as found:
        assert next_event(found, "delete").data == {"$id": done["$id"], "functionId": "f"}
        next_event(found, "open")


def test_nothing_is_lost_between_a_list_and_the_stream_and_between_two_streams(
    server: Serving, api: httpx.Client, function: str
) -> None:
    def run() -> list[str]:
        with client(server) as other:
            return [given(other.post(PATH, json={"data": "200 x"}), 201)["$id"] for _ in range(300)]

    shown: dict[str, str] = {}
    position = ""
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        running = threads.submit(run)
        eventually(lambda: given(api.get(PATH))["total"], lambda total: total > 20)
        while not running.done() or set(shown) < set(running.result()) or set(shown.values()) != {"completed"}:
            with streamed(api, {"Last-Event-ID": position}) as found:
                for one in itertools.islice(found, 60):
                    assert one.name != "reset"
                    position = one.id or position
                    if one.name == "open" and not shown:
                        pages = [given(api.get(PATH, params={"limit": 100, "offset": at})) for at in (0, 100, 200)]
                        shown = {listed["$id"]: listed["status"] for page in pages for listed in page["executions"]}
                    elif one.name != "open":
                        shown[one.data["$id"]] = one.data["status"]
                    if running.done() and set(shown.values()) == {"completed"} and len(shown) == 300:
                        break
    assert set(shown) == set(running.result())


@pytest.mark.parametrize(
    "position", ["x", "-1", "other-0", "{run}-", "{run}-99999999", "{run}--1", "{run}-x", "{run}-1_0", "{run}-²"]
)
def test_a_position_that_is_not_known_means_to_read_all_anew(api: httpx.Client, position: str) -> None:
    with streamed(api) as found:
        run = next_event(found, "open").id.partition("-")[0]
    with streamed(api, lastEventId=position.format(run=run)) as found:
        assert next_event(found, "reset").data == {}
        assert next_event(found, "open").id.startswith(run)


def test_another_run_of_the_server_is_not_known(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, client(server) as api, streamed(api) as found:
        start = next_event(found, "open")
    again = {"Last-Event-ID": start.id}
    with serving(tmp_path / "data") as server, client(server) as api, streamed(api, again) as found:
        next_event(found, "reset")
        next_event(found, "open")


# -- ends ---------------------------------------------------------------------------------------------------


def test_a_stream_shows_that_it_is_alive_and_ends_with_its_users_token(
    server: Serving, api: httpx.Client, function: str
) -> None:
    body = {"duration": 8}  # and 10 seconds that clocks may differ by
    token = given(api.post("/users/jane/jwts", json=body), 201)["jwt"]
    with client(server, {"X-Appwrite-Project": server.project, "X-Appwrite-JWT": token}) as jane:
        began = time.monotonic()
        with jane.stream("GET", STREAM, timeout=30) as answer:
            lines = answer.iter_lines()
            opened = next(line for line in lines if line.startswith("id: "))
            execute(api, "200 for others")
            assert [next(lines) for _ in range(4)] == ["event: open", "data: {}", "", ": alive"]
            assert 14 < time.monotonic() - began < 17
            later = next(lines)
            assert int(later.rpartition("-")[2]) > int(opened.rpartition("-")[2])
            assert set(lines) <= {"", ": alive", later}
        assert 16 < time.monotonic() - began < 22


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_a_stream_ends_with_its_key(server: Serving, api: httpx.Client, function: str, end: str) -> None:
    life = ["--expires", "2"] if end == "expired" else []
    [key] = command(server, "keys", "create", "--scope", "execution.read", *life)
    expires = time.monotonic() + 2
    with client(server, {"X-Appwrite-Project": server.project, "X-Appwrite-Key": key["secret"]}) as reader:
        with streamed(reader) as found:
            next_event(found, "open")
            done = execute(api, "200 before")
            assert until_ended(found, done)[-1].data == done
            if end == "revoked":
                command(server, "keys", "revoke", key["id"])
            else:
                time.sleep(max(0.0, expires - time.monotonic()) + 0.5)
            execute(api, "200 after")
            assert list(found) == []
        types = {"revoked": "general_unauthorized_scope", "expired": "project_key_expired"}
        refused(reader.get(STREAM), 401, types[end])


def test_a_reader_that_is_too_slow_reads_all_anew(server: Serving, api: httpx.Client) -> None:
    deploy(api, "prints_a_lot")
    with streamed(api) as slow, streamed(api) as quick:
        next_event(slow, "open")
        next_event(quick, "open")
        for _ in range(20):  # 3 MB of JSON each
            done = execute(api)
            assert until_ended(quick, done)[-1].data == done
        assert memory(server) < 400_000_000
        seen = list(slow)
        assert seen[-1].name == "reset"
        assert len(seen) < 20


def test_it_ends_with_the_server(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, client(server) as api:
        deploy(api, "prints_a_lot")
        with (
            streamed(api) as idle,
            contextlib.closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as silent,
        ):
            lines = [f"GET /v1{STREAM} HTTP/1.1", "Host: localhost", *map(": ".join, server.headers.items()), "", ""]
            silent.sendall("\r\n".join(lines).encode())
            next_event(idle, "open")
            for _ in range(6):
                until_ended(idle, execute(api))
            began = time.monotonic()
            server.process.terminate()
            assert list(idle) == []  # ended in good order
            assert time.monotonic() - began < 3
            assert server.process.wait(20) == 0
            assert time.monotonic() - began < 10
        assert server.data_dir.with_name("data.log").read_text() == ""


def test_it_ends_with_its_reader(server: Serving, api: httpx.Client, function: str) -> None:
    for _ in range(20):
        with streamed(api) as found:
            next_event(found, "open")
    execute(api, "200 x")


# -- without a server ---------------------------------------------------------------------------------------


def change(number: int = 0, *, project_id: str = "p", function_id: str = "f") -> ExecutionChange:
    execution = Execution(id=f"e{number}", function_id=function_id)
    return ExecutionChange(project_id=project_id, execution=execution, action="update")


def stream(function_id: str = "") -> Stream:
    return Stream(permissions.application("p", "here", ["execution.read"]), function_id, "")


async def test_the_last_ten_thousand_changes_are_known() -> None:
    realtime = Realtime(lambda: 0.0)
    first = realtime.position
    for one in range(RECENT):
        realtime.on_change(change(one))
    missed = realtime.since(first)
    assert missed is not None
    assert [execution_id for _, _, execution_id, _, _ in missed] == [f"e{one}" for one in range(RECENT)]
    assert realtime.since(realtime.position) == []
    realtime.on_change(change())
    assert realtime.since(first) is None


async def test_a_stream_is_of_one_project_and_maybe_one_function() -> None:
    realtime = Realtime(lambda: 0.0)
    all_, one = stream(), stream("g")
    with realtime.streaming(all_), realtime.streaming(one):
        realtime.on_change(change())
        realtime.on_change(change(project_id="other", function_id="g"))
        realtime.on_change(change(function_id="g"))
        assert len(await all_.outbox.take() or []) == 2
        assert len(await one.outbox.take() or []) == 1


async def test_a_stream_that_falls_behind_ends() -> None:
    realtime = Realtime(lambda: 0.0)
    slow = stream()
    with realtime.streaming(slow):
        for one in range(WAITING + 1):
            realtime.on_change(change(one))
        assert slow.outbox.overflowed
        assert await slow.outbox.take() is None


async def test_who_comes_when_everybody_was_sent_away_is_sent_away_too() -> None:
    realtime = Realtime(lambda: 0.0)
    early, late = stream(), stream()
    with realtime.streaming(early):
        realtime.on_change(change())
        realtime.end()
        assert len(await early.outbox.take() or []) == 1
        assert await early.outbox.take() is None
    with realtime.streaming(late):
        assert await late.outbox.take() is None


async def test_a_take_that_has_nothing_returns_after_a_while() -> None:
    assert await stream().outbox.take(0.01) == []
