"""Events (spec, section 9) through the front door: what causes one, who is run for it, with what, and how it ends."""

from __future__ import annotations

import concurrent.futures
import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.asking import (
    activate,
    client,
    create,
    deploy,
    eventually,
    execute,
    given,
    packed,
    refused,
    upload,
    wait_for_build,
    wait_for_execution,
)
from tests.server.inside import START, Clock, running
from tests.server.listening import user
from tests.serving import RUNTIME, Serving, serving

HAPPENED = "users.ada.create"


def emit(api: httpx.Client, event: str = HAPPENED, **body: Any) -> dict[str, Any]:
    return dict(given(api.post("/events", json={"event": event, **body}), 201))


def executions(api: httpx.Client, function_id: str = "ear") -> list[dict[str, Any]]:
    """Return a function's executions, oldest first."""
    return list(reversed(given(api.get(f"/functions/{function_id}/executions", params={"limit": 100}))["executions"]))


def ended(api: httpx.Client, number: int, function_id: str = "ear") -> list[dict[str, Any]]:
    """Wait until a function has been executed so often."""

    def all_ended(found: list[dict[str, Any]]) -> bool:
        return len(found) == number and all(one["status"] in ("completed", "failed") for one in found)

    return eventually(lambda: executions(api, function_id), all_ended)


def heard(api: httpx.Client, number: int, function_id: str = "ear") -> list[dict[str, Any]]:
    """Return what the function ``listens`` was told, so many times."""
    found = ended(api, number, function_id)
    assert {one["status"] for one in found} == {"completed"}, found
    return [json.loads(one["response"]) for one in found]


def events(api: httpx.Client, number: int) -> list[tuple[str, Any]]:
    """Return what happened, and the data of it."""
    return [(one["EVENT"], json.loads(one["EVENT_DATA"])) for one in heard(api, number)]


# -- who is run, with what --------------------------------------------------------------------------------------


def test_a_function_is_run_with_the_event_and_no_payload(api: httpx.Client, server: Serving) -> None:
    deploy(api, "listens", "ear", events=["functions.*.executions.*.create"], name="An ear")
    deploy(api, "sends")
    done = execute(api, "200 x")
    [told] = heard(api, 1)
    assert json.loads(told.pop("EVENT_DATA")) == done
    assert told == {
        "payload": "",
        "ID": "ear",
        "NAME": "An ear",
        "DEPLOYMENT": given(api.get("/functions/ear"))["deployment"],
        "TRIGGER": "event",
        "RUNTIME_NAME": "Python",
        "RUNTIME_VERSION": RUNTIME.partition("-")[2],
        "EVENT": f"functions.f.executions.{done['$id']}.create",
        "DATA": "",
        "PROJECT_ID": server.project,
        "USER_ID": "",
        "JWT": "",
    }
    [made] = executions(api)
    assert (made["trigger"], made["$read"], made["statusCode"]) == ("event", [], 200)
    assert made["deploymentId"] == told["DEPLOYMENT"]


def test_an_asynchronous_execution_is_heard_of_twice_and_a_synchronous_one_once(api: httpx.Client) -> None:
    deploy(api, "sends")
    deploy(api, "listens", "ear", events=["functions.f"])
    waiting = given(api.post("/functions/f/executions", json={"data": "200 x"}), 201)
    completed = wait_for_execution(api, waiting)
    prefix = f"functions.f.executions.{waiting['$id']}"
    assert events(api, 2) == [(f"{prefix}.create", waiting), (f"{prefix}.update", completed)]
    failed = execute(api, "500 x")
    assert events(api, 3)[2] == (f"functions.f.executions.{failed['$id']}.create", failed)


def test_an_event_from_outside_runs_who_listens(api: httpx.Client) -> None:
    for function_id, event in (("ear", "users.*.create"), ("ada", "users.ada"), ("other", "users.*.delete")):
        deploy(api, "listens", function_id, events=[event])
    payload = {"name": "Ada", "prefs": {"deep": [1, 2.5, None, True]}, "ünïcode": "🚀\n"}
    assert emit(api, payload=payload) == {"event": HAPPENED, "executions": 2}
    for function_id in ("ear", "ada"):
        [told] = heard(api, 1, function_id)
        assert (told["EVENT"], json.loads(told["EVENT_DATA"]), told["TRIGGER"]) == (HAPPENED, payload, "event")
    assert executions(api, "other") == []
    assert emit(api, "users.grace.delete") == {"event": "users.grace.delete", "executions": 1}
    [told] = heard(api, 1, "other")
    assert told["EVENT_DATA"] == "{}"


def test_an_event_names_its_user(api: httpx.Client, server: Serving) -> None:
    deploy(api, "listens", "ear", events=["users.*"])
    emit(api, userId="jane")
    [told] = heard(api, 1)
    assert told["USER_ID"] == "jane"
    [made] = executions(api)
    assert made["$read"] == ["user:jane"]
    with user(server, api, "jane") as jane, user(server, api, "joe") as joe:
        assert executions(jane) == [made]
        assert executions(joe) == []


def test_who_executes_a_function_is_the_user_of_what_that_triggers(api: httpx.Client, server: Serving) -> None:
    deploy(api, "sends", execute=["role:member"])
    deploy(api, "listens", "ear", events=["functions.f.executions.*.create"])
    deploy(api, "listens", "next", events=["functions.ear.executions.*.update"])
    with user(server, api, "jane") as jane:
        done = execute(jane, "200 x")
        [told] = heard(jane, 1)
        assert (told["USER_ID"], told["EVENT"]) == ("jane", f"functions.f.executions.{done['$id']}.create")
        [told] = heard(jane, 1, "next")
        assert told["USER_ID"] == "jane"


def test_a_function_without_code_is_passed_over(api: httpx.Client) -> None:
    create(api, "bare", events=["users.*"])
    deploy(api, "listens", "ear", events=["users.*"])
    assert emit(api)["executions"] == 1
    assert len(heard(api, 1)) == 1
    assert executions(api, "bare") == []


def test_an_event_of_more_than_an_environment_holds_is_a_failure(api: httpx.Client) -> None:
    deploy(api, "prints_a_lot")
    deploy(api, "listens", "ear", events=["functions.f.executions.*.create"])
    done = execute(api)
    [made] = ended(api, 1)
    assert (made["status"], made["statusCode"], made["layer"]) == ("failed", 400, "platform")
    assert made["stderr"].startswith(
        f"Invalid vars: Value must be a valid object. The event functions.f.executions.{done['$id']}.create carries "
    )
    assert made["stderr"].endswith("APPWRITE_FUNCTION_EVENT_DATA holds 65535.")


def test_the_largest_event_arrives(api: httpx.Client) -> None:
    deploy(api, "listens", "ear", events=["users.*"])
    for letter, number in (("x", 65_000), ("\\", 32_000), ("é", 32_000)):
        emit(api, payload={"a": letter * number})
    for told, letter in zip(heard(api, 3), "x\\é", strict=True):
        assert set(json.loads(told["EVENT_DATA"])["a"]) == {letter}


# -- POST /events -----------------------------------------------------------------------------------------------

NOT_VALID = "Invalid event: Event is not valid."
NOT_ONE = f"{NOT_VALID} Expected one thing that happened, as users.jane.create, found "
BAD_OBJECT = "Invalid payload: Value must be a valid object."
BAD_USER = (
    "Invalid userId: UID must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, and underscore. "
    "Can't start with a leading underscore"
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, 'Param "event" is not optional.'),
        ({"event": ""}, 'Param "event" is not optional.'),
        ({"event": None}, 'Param "event" is not optional.'),
        ({"event": "users.*.create"}, f"{NOT_ONE}'users.*.create'."),
        ({"event": "users.ada.sessions.*.create"}, f"{NOT_ONE}'users.ada.sessions.*.create'."),
        ({"event": "users.ada"}, f"{NOT_ONE}'users.ada'."),
        ({"event": "users.ada.sessions"}, f"{NOT_ONE}'users.ada.sessions'."),
        ({"event": "users.ada.sessions.s"}, f"{NOT_ONE}'users.ada.sessions.s'."),
        ({"event": "users"}, NOT_VALID),
        ({"event": "unknown.ada.create"}, NOT_VALID),
        ({"event": "users.ada.explode"}, NOT_VALID),
        ({"event": "users.ada.delete.email"}, NOT_VALID),
        ({"event": "users..create"}, NOT_VALID),
        ({"event": "users.ada.create "}, NOT_VALID),
        ({"event": "users." + "a" * 300 + ".create"}, NOT_VALID),
        ({"event": 7}, NOT_VALID),
        ({"event": ["users.ada.create"]}, NOT_VALID),
        ({"event": {"a": 1}}, NOT_VALID),
        ({"event": HAPPENED, "payload": "text"}, BAD_OBJECT),
        ({"event": HAPPENED, "payload": 7}, BAD_OBJECT),
        ({"event": HAPPENED, "payload": True}, BAD_OBJECT),
        ({"event": HAPPENED, "payload": ["a"]}, BAD_OBJECT),
        ({"event": HAPPENED, "payload": {"a": "x" * 65_535}}, BAD_OBJECT),
        ({"event": HAPPENED, "userId": "_ada"}, BAD_USER),
        ({"event": HAPPENED, "userId": "a" * 37}, BAD_USER),
        ({"event": HAPPENED, "userId": 7}, BAD_USER),
        ({"event": "nonsense", "payload": 7, "userId": 7}, NOT_VALID),
        (
            {"event": "functions.f.create"},
            f"{NOT_VALID} What functions do is said by this service itself, found 'functions.f.create'.",
        ),
    ],
)
def test_an_event_that_can_not_be_is_refused(api: httpx.Client, body: dict[str, Any], message: str) -> None:
    refused(api.post("/events", json=body), 400, "general_argument_invalid", message)


@pytest.mark.parametrize(
    "event",
    [
        "users.ada.update.email",
        "users.ada.sessions.s1.create",
        "teams.t.memberships.m.update.status",
        "collections.c.documents.d.update",
        "databases.d.collections.c.documents.e.delete",
        "buckets.b.files.f.create",
    ],
)
def test_everything_that_can_happen_is_taken(api: httpx.Client, event: str) -> None:
    deploy(api, "listens", "ear", events=[event])
    assert emit(api, event, payload=[]) == {"event": event, "executions": 1}
    [told] = heard(api, 1)
    assert (told["EVENT_DATA"], told["EVENT"] in event) == ("{}", True)


@pytest.mark.parametrize("id_", ["a\0b", "a\nb", "\x1b[31m", "ä 🚀", "{0}", "%s", "'; --", '"', "$HOME"])
def test_odd_ids_of_events_arrive_or_are_refused(api: httpx.Client, id_: str) -> None:
    deploy(api, "listens", "ear", events=["users.*.create", f"users.{id_}"] if "\0" not in id_ else ["users.*.create"])
    answer = api.post("/events", json={"event": f"users.{id_}.create", "payload": {id_: id_}})
    if answer.status_code == 400:
        refused(answer, 400, "general_argument_invalid", NOT_VALID)
        return
    assert given(answer, 201)["executions"] == 1
    [told] = heard(api, 1)
    assert (told["EVENT"], json.loads(told["EVENT_DATA"])) == (f"users.{id_}.create", {id_: id_})


# -- what causes an event -----------------------------------------------------------------------------------------


def test_what_becomes_of_a_function_is_heard(api: httpx.Client) -> None:
    deploy(api, "listens", "ear", events=["functions.f"])
    create(api)
    made = given(api.get("/functions/f"))
    sent = given(upload(api, packed("sends"), activate=True), 201)
    built = wait_for_build(api, sent)
    deployment = f"functions.f.deployments.{sent['$id']}"
    (created, (uploaded, sent_data), (building, building_data)) = events(api, 3)
    assert created == ("functions.f.create", made)
    assert (uploaded, sent_data) == (f"{deployment}.create", sent)
    assert (building, building_data["status"], building_data["buildId"]) == (
        f"{deployment}.update",
        "building",
        built["buildId"],
    )
    updated = given(api.put("/functions/f", json={"name": "New"}))
    activated = given(api.patch(f"/functions/f/deployments/{sent['$id']}"))
    failed = wait_for_build(api, given(upload(api, b"x"), 201))
    given(api.post(f"/functions/f/deployments/{failed['$id']}/builds/{failed['buildId']}"), 204)
    eventually(lambda: len(executions(api)) == 9)
    given(api.delete(f"/functions/f/deployments/{sent['$id']}"), 204)
    given(api.delete("/functions/f"), 204)
    broken = f"functions.f.deployments.{failed['$id']}"
    found = events(api, 11)[3:]
    assert [event for event, _ in found] == [
        "functions.f.update",
        f"{deployment}.update",
        f"{broken}.create",
        f"{broken}.update",
        f"{broken}.update",
        f"{broken}.update",
        f"{deployment}.delete",
        "functions.f.delete",
    ]
    assert found[0][1] == updated
    assert found[1][1] == activated
    assert [data == [] for _, data in found[2:]] == [False, False, True, False, True, True]


def test_an_upload_in_chunks_is_heard_of_when_it_is_complete(api: httpx.Client) -> None:
    deploy(api, "listens", "ear", events=["functions.*.deployments.*.create"])
    create(api)
    code = packed("sends")
    first = given(upload(api, code[:100], headers={"Content-Range": f"bytes 0-99/{len(code)}"}), 201)
    assert executions(api) == []
    headers = {"Content-Range": f"bytes 100-{len(code)}/{len(code)}", "X-Appwrite-ID": first["$id"]}
    complete = given(upload(api, code[100:], headers=headers), 201)
    assert events(api, 1) == [(f"functions.f.deployments.{first['$id']}.create", complete)]


def test_what_is_refused_is_not_heard_of(api: httpx.Client) -> None:
    deploy(api, "listens", "ear", events=["functions.f", "functions.g"])
    deploy(api, "sends")
    before = len(executions(api))
    refused(
        api.post("/functions", json={"functionId": "f", "name": "f", "runtime": RUNTIME}),
        409,
        "function_already_exists",
    )
    refused(api.delete("/functions/g"), 404, "function_not_found")
    refused(api.put("/functions/f", json={}), 400, "general_argument_invalid")
    refused(api.patch("/functions/f/deployments/nothing"), 404, "deployment_not_found")
    refused(api.post("/functions/g/executions", json={}), 404, "function_not_found")
    assert len(executions(api)) == before


async def test_a_scheduled_execution_is_heard_of_at_its_end(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as place:
        await place.deploy("environment", schedule="* * * * *")
        await place.deploy("listens", "ear", events=["functions.f"])
        await place.at(START + 60)
        path = "/functions/ear/executions"
        await place.eventually(
            lambda: place.get(path), lambda found: [one["status"] for one in found["executions"]] == ["completed"]
        )
        [made] = (await place.get(path))["executions"]
        [tick] = await place.ticks()
    told = json.loads(made["response"])
    assert told["EVENT"] == f"functions.f.executions.{tick['$id']}.update"
    assert json.loads(told["EVENT_DATA"]) == tick
    assert (tick["trigger"], told["USER_ID"]) == ("schedule", "")


# -- chains -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "depth"), [((), 3), (("--event-depth", "2"), 2)])
def test_functions_that_trigger_themselves_or_each_other_are_stopped(
    tmp_path: Path, options: tuple[str, ...], depth: int
) -> None:
    with serving(tmp_path / "data", *options) as server, client(server) as api:
        deploy(api, "listens", "loop", events=["users.*", "functions.loop.executions.*"])
        emit(api)
        *ran, cut = ended(api, depth + 1, "loop")
        assert [one["status"] for one in ran] == ["completed"] * depth
        assert (cut["status"], cut["statusCode"], cut["layer"], cut["trigger"]) == ("failed", 500, "platform", "event")
        last = f"functions.loop.executions.{ran[-1]['$id']}.update"
        said = cut["stderr"]
        for word in (last, f"{depth} executions", "event_depth"):
            assert word in said
        given(api.delete("/functions/loop"), 204)

        deploy(api, "listens", "ping", events=["users.*", "functions.pong.executions.*"])
        deploy(api, "listens", "pong", events=["functions.ping.executions.*"])
        emit(api)
        names = ["ping" if number % 2 == 0 else "pong" for number in range(depth + 1)]
        found = {name: ended(api, names.count(name), name) for name in ("ping", "pong")}
        cut = found[names[-1]][-1]
        assert (cut["status"], cut["layer"]) == ("failed", "platform")
        assert [one["status"] for name in found for one in found[name]].count("failed") == 1
    lines = (tmp_path / "data.log").read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(f" WARNING function loop of project default is not called: {said}")
    assert f"function {names[-1]} of project default is not called: Stopped: " in lines[1]


def test_a_function_that_listens_to_all_functions_comes_to_rest(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--event-depth", "3") as server, client(server) as api:
        deploy(api, "listens", "all", events=["functions.*"])
        given(api.put("/functions/all", json={"name": "all", "events": ["functions.*"]}))
        *ran, cut = ended(api, 4, "all")
        assert [one["status"] for one in ran] == ["completed"] * 3
        assert cut["status"] == "failed"
        # Two chains: of its acceptance, and of its end.
        given(api.post("/functions/all/executions", json={}), 201)
        found = ended(api, 4 + 1 + 2 * 4, "all")
        assert [one["status"] for one in found].count("failed") == 3


# -- attacks ----------------------------------------------------------------------------------------------------


def test_a_server_that_is_killed_has_triggered_all_that_its_executions_cause(tmp_path: Path) -> None:
    answered: dict[str, set[str]] = {"waited": set(), "queued": set()}

    def go_on(api: httpx.Client, function_id: str) -> None:
        body = {"data": "200 x", "async": function_id == "queued"}
        try:
            while True:
                made = given(api.post(f"/functions/{function_id}/executions", json=body), 201)
                answered[function_id].add(made["$id"])
        except httpx.TransportError:
            pass

    with serving(tmp_path / "data", status=None) as server, client(server) as api:
        for function_id in answered:
            deploy(api, "sends", function_id)
            deploy(api, "sends", f"ear-{function_id}", events=[f"functions.{function_id}"])
        threads = [threading.Thread(target=go_on, args=(api, function_id)) for function_id in [*answered] * 2]
        for thread in threads:
            thread.start()
        eventually(lambda: min(map(len, answered.values())) > 20)
        server.process.kill()
        for thread in threads:
            thread.join()

    with serving(tmp_path / "data") as server, client(server) as api:

        def ids(function_id: str) -> set[str]:
            found: set[str] = set()
            page: dict[str, Any] = {"limit": 100, "offset": 0}
            path = f"/functions/{function_id}/executions"
            while shown := given(api.get(path, params=page))["executions"]:
                assert "waiting" not in {one["status"] for one in shown}
                found |= {one["$id"] for one in shown}
                page["offset"] += 100
            return found

        def newest() -> set[str]:
            names = ("waited", "queued", "ear-waited", "ear-queued")
            return {one["status"] for name in names for one in executions(api, name)}

        eventually(newest, lambda statuses: statuses <= {"completed", "failed"})
        # One event of each that was waited for; two of the others, at their acceptance and at their end.
        for function_id, number in (("waited", 1), ("queued", 2)):
            found = ids(function_id)
            assert answered[function_id] <= found
            assert len(ids(f"ear-{function_id}")) == number * len(found)


def test_functions_may_be_deleted_while_their_events_trigger_others(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, client(server) as api:
        deploy(api, "listens", "ear", events=["functions.f"])
        deploy(api, "listens", "gone", events=["functions.f"])
        for round_ in range(3):
            deploy(api, "sends")

            def go_on(number: int) -> set[int]:
                codes = set()
                body = {"data": "200 x", "async": number % 2 == 0}
                until = time.monotonic() + 20
                while 404 not in codes and time.monotonic() < until:
                    codes.add(api.post("/functions/f/executions", json=body).status_code)
                return codes

            with concurrent.futures.ThreadPoolExecutor(3) as threads:
                going = [threads.submit(go_on, number) for number in range(3)]
                before = len(executions(api))
                eventually(lambda: len(executions(api)) > before or before == 100)  # noqa: B023
                if round_ == 1:
                    given(api.delete("/functions/gone"), 204)
                given(api.delete("/functions/f"), 204)
                assert [one.result() for one in going] == [{201, 404}] * 3
        eventually(lambda: {one["status"] for one in executions(api)} == {"completed"})
        deletions = 0
        offset = 0
        while page := given(api.get("/functions/ear/executions", params={"limit": 100, "offset": offset}))[
            "executions"
        ]:
            offset += len(page)
            assert {one["status"] for one in page} == {"completed"}
            deletions += sum(json.loads(one["response"])["EVENT"] == "functions.f.delete" for one in page)
        assert deletions == 3
    assert (tmp_path / "data.log").read_text() == ""


def test_an_event_may_run_many_functions(api: httpx.Client) -> None:
    code = packed("sends")
    for number in range(10):
        create(api, f"ear{number}", name=f"{number:02}", events=["users.*"])
        activate(api, code, f"ear{number}")
    began = time.monotonic()
    assert emit(api)["executions"] == 10
    assert time.monotonic() - began < 1
    made = [executions(api, f"ear{number}")[0]["$id"] for number in range(10)]
    assert made == sorted(made)  # in the order of their names
    for number in range(10):
        ended(api, 1, f"ear{number}")
