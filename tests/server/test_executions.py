"""``/v1/functions/{functionId}/executions`` through the front door (spec, sections 1, 2.4 and 7)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import time
from typing import Any

import httpx
import msgspec
import pytest

from nbfunctions.models import Function
from nbfunctions.server.administration import open_store
from nbfunctions.settings import Settings
from tests.server.asking import (
    activate,
    create,
    deploy,
    eventually,
    execute,
    given,
    packed,
    refused,
    wait_for_execution,
)
from tests.serving import RUNTIME, Serving

FIELDS = [
    "$id",
    "$createdAt",
    "$updatedAt",
    "$read",
    "functionId",
    "trigger",
    "status",
    "statusCode",
    "response",
    "stderr",
    "time",
    "deploymentId",
    "stdout",
    "responseType",
    "layer",
    "cold",
    "queued",
]
PATH = "/functions/f/executions"
TIMED_OUT = "An internal curl error has occurred within the executor! Error Msg: Operation timed out"


def later(api: httpx.Client, data: str = "", function_id: str = "f") -> dict[str, Any]:
    """Have a function run some time, and return the waiting execution."""
    return dict(given(api.post(f"/functions/{function_id}/executions", json={"data": data}), 201))


def either_way(api: httpx.Client, way: str, data: str) -> dict[str, Any]:
    """Run the function ``f`` and return the finished execution, by the one or the other way."""
    return execute(api, data) if way == "sync" else wait_for_execution(api, later(api, data))


both_ways = pytest.mark.parametrize("way", ["sync", "async"])


# -- accepted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"async": True}, {"async": None}, {"data": None}, {"data": ""}])
def test_an_execution_is_accepted_and_finished_later(api: httpx.Client, body: dict[str, Any]) -> None:
    deploy(api, "asynchronous")
    before = int(time.time())
    accepted = given(api.post(PATH, json=body), 201)
    assert list(accepted) == FIELDS
    assert before <= accepted["$createdAt"] == accepted["$updatedAt"] <= time.time()
    assert (accepted["functionId"], accepted["trigger"], accepted["$read"]) == ("f", "http", [])
    assert accepted["deploymentId"] == given(api.get("/functions/f"))["deployment"]
    shown = {name: accepted[name] for name in ("status", "statusCode", "response", "stderr", "stdout", "time")}
    assert shown == {"status": "waiting", "statusCode": 0, "response": "", "stderr": "", "stdout": "", "time": 0}
    done = wait_for_execution(api, accepted)
    assert list(done) == FIELDS
    assert (done["status"], done["statusCode"], done["response"]) == ("completed", 200, "awaited ")
    assert 0 < done["time"] < 5
    assert done["queued"] >= 0
    assert {name: done[name] for name in FIELDS[:2]} == {name: accepted[name] for name in FIELDS[:2]}


def test_an_execution_that_is_waited_for_is_returned_finished(api: httpx.Client) -> None:
    deploy(api, "asynchronous")
    done = execute(api, "Ada êä")
    assert list(done) == FIELDS
    assert (done["status"], done["statusCode"], done["response"]) == ("completed", 200, "awaited Ada êä")
    assert (done["stderr"], done["layer"], done["trigger"]) == ("", "", "http")
    assert done["cold"] is True
    assert given(api.get(f"{PATH}/{done['$id']}")) == done
    assert execute(api, "again")["cold"] is False


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_can_not_wait_for_its_execution(api: httpx.Client, content_type: str) -> None:
    deploy(api, "sends")
    fields = {"data": "200 x", "async": "false"}
    sent: dict[str, Any] = (
        {"data": fields} if "url" in content_type else {"files": {k: (None, v) for k, v in fields.items()}}
    )
    refused(api.post(PATH, **sent), 400, "general_argument_invalid", "Invalid async: Value must be a valid boolean")
    done = wait_for_execution(api, given(api.post(PATH, data={"data": "200 x"}), 201))
    assert done["response"] == "x"


@both_ways
@pytest.mark.parametrize("data", ["x" * 8192, "é" * 8192, "🦀" * 8192, "\\\"'\n\t</script>", "\x7f\x01", " "])
def test_data_arrives_as_it_was_sent(api: httpx.Client, way: str, data: str) -> None:
    deploy(api, "environment")
    done = either_way(api, way, data)
    assert done["status"] == "completed", done["stderr"]
    assert json.loads(done["response"])["request"]["APPWRITE_FUNCTION_DATA"] == data


@both_ways
def test_data_with_a_nul_arrives_in_the_request_at_least(api: httpx.Client, way: str) -> None:
    deploy(api, "sends")
    done = either_way(api, way, "200 a\0b")
    assert (done["status"], done["response"]) == ("completed", "a\0b")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"data": "x" * 8193}, "Invalid data: Value must be a valid string and no longer than 8192 chars"),
        ({"data": {"a": 1}}, "Invalid data: Value must be a valid string and no longer than 8192 chars"),
        ({"async": "false"}, "Invalid async: Value must be a valid boolean"),
        ({"async": 0}, "Invalid async: Value must be a valid boolean"),
    ],
)
def test_an_execution_that_can_not_be_is_refused(api: httpx.Client, body: Any, message: str) -> None:
    # Before anything is looked for: the function isn't there either.
    refused(api.post(PATH, json=body), 400, "general_argument_invalid", message)


# -- ends (spec, section 7.4) -------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("status", [200, 204, 299, 301, 400, 404, 499])
def test_up_to_499_is_completed_with_a_response(api: httpx.Client, way: str, status: int) -> None:
    deploy(api, "sends")
    done = either_way(api, way, f"{status} some text")
    assert (done["status"], done["statusCode"]) == ("completed", status)
    assert (done["response"], done["stderr"], done["layer"]) == ("some text", "", "")


@both_ways
@pytest.mark.parametrize("status", [500, 503, 599])
def test_from_500_on_it_failed_and_the_text_is_in_stderr(api: httpx.Client, way: str, status: int) -> None:
    deploy(api, "sends")
    done = either_way(api, way, f"{status} some text")
    assert (done["status"], done["statusCode"]) == ("failed", status)
    assert (done["response"], done["layer"]) == ("", "code")
    assert "some text" in done["stderr"]


@both_ways
def test_an_exception_is_shown_with_its_traceback(api: httpx.Client, way: str) -> None:
    deploy(api, "raises")
    done = either_way(api, way, "")
    assert (done["status"], done["statusCode"], done["response"]) == ("failed", 500, "")
    assert (done["layer"], done["stdout"]) == ("code", "before\n")
    assert done["stderr"].startswith("Traceback")
    assert "ValueError: no luck" in done["stderr"]


@both_ways
@pytest.mark.parametrize("how", ["sys.exit", "os._exit", "kill"])
def test_a_function_that_ends_its_process_fails_alone(api: httpx.Client, way: str, how: str) -> None:
    deploy(api, "exits_early")
    done = either_way(api, way, how)
    assert (done["status"], done["statusCode"], done["response"]) == ("failed", 500, "")
    assert done["layer"] == "code"
    assert done["stderr"]
    assert either_way(api, way, "nothing")["response"] == "alive"


@both_ways
def test_a_function_that_takes_too_long_is_ended(api: httpx.Client, way: str) -> None:
    deploy(api, "sleeps", timeout=1)
    done = either_way(api, way, "30")
    assert (done["status"], done["statusCode"], done["response"]) == ("failed", 500, "")
    assert done["stderr"].endswith(TIMED_OUT)
    assert done["layer"] == "limit"
    assert 1 <= done["time"] < 4
    assert either_way(api, way, "0")["response"] == "1"  # a new process


def test_a_function_that_answers_nothing_fails(api: httpx.Client) -> None:
    deploy(api, "answers_nothing")
    done = execute(api)
    assert (done["status"], done["statusCode"], done["response"]) == ("failed", 500, "")
    assert done["stderr"]


@both_ways
def test_what_is_too_long_is_cut_between_two_characters(api: httpx.Client, way: str) -> None:
    deploy(api, "prints_a_lot")
    done = either_way(api, way, "")
    assert done["response"] == "é" * 500_000
    assert len(done["stdout"].encode()) <= 1_000_000
    assert len(done["stderr"].encode()) <= 1_000_000
    assert done["stdout"].startswith("é" * 1000 + "\n")


def test_what_a_function_writes_is_kept_apart_from_what_it_answers(api: httpx.Client) -> None:
    deploy(api, "prints")
    done = execute(api, "!")
    assert (done["response"], done["stderr"]) == ("", "mistake\n")
    assert done["stdout"].startswith("loaded\npython !\n")
    assert "child\n" in done["stdout"]


# -- environment (spec, section 7.2) ------------------------------------------------------------------------


@both_ways
def test_a_function_finds_every_variable_of_the_contract(api: httpx.Client, server: Serving, way: str) -> None:
    deploy(api, "environment", name="Ünder tëst", vars={"GREETING": "Hellö", "N": 3, "LIST": [1, "a"], "T": True})
    deployment = given(api.get("/functions/f"))["deployment"]
    done = either_way(api, way, '{"a": "ü"}')
    found = json.loads(done["response"])
    expected = {
        "APPWRITE_FUNCTION_ID": "f",
        "APPWRITE_FUNCTION_NAME": "Ünder tëst",
        "APPWRITE_FUNCTION_DEPLOYMENT": deployment,
        "APPWRITE_FUNCTION_TRIGGER": "http",
        "APPWRITE_FUNCTION_RUNTIME_NAME": "Python",
        "APPWRITE_FUNCTION_RUNTIME_VERSION": RUNTIME.partition("-")[2],
        "APPWRITE_FUNCTION_EVENT": "",
        "APPWRITE_FUNCTION_EVENT_DATA": "",
        "APPWRITE_FUNCTION_DATA": '{"a": "ü"}',
        "APPWRITE_FUNCTION_PROJECT_ID": server.project,
        "APPWRITE_FUNCTION_USER_ID": "",
        "APPWRITE_FUNCTION_JWT": "",
        "GREETING": "Hellö",
        "N": "3",
        "LIST": '[1,"a"]',
        "T": "true",
    }
    assert found["request"] == expected
    assert found["headers"] == {}
    assert {name: found["process"].get(name) for name in ("GREETING", "N", "LIST", "T")} == {
        name: expected[name] for name in ("GREETING", "N", "LIST", "T")
    }
    assert server.key not in done["response"]
    assert str(server.data_dir) not in json.dumps(found["process"])


def test_the_contracts_variables_win_over_the_functions_own(api: httpx.Client) -> None:
    deploy(api, "environment", vars={"APPWRITE_FUNCTION_ID": "mine", "APPWRITE_FUNCTION_OTHER": "kept"})
    found = json.loads(execute(api)["response"])["request"]
    assert (found["APPWRITE_FUNCTION_ID"], found["APPWRITE_FUNCTION_OTHER"]) == ("f", "kept")


# -- checks (spec, section 3.3) -----------------------------------------------------------------------------


def test_what_an_execution_needs_is_looked_for_in_order(api: httpx.Client, server: Serving) -> None:
    refused(api.post(PATH, json={}), 404, "function_not_found", "Function not found")
    function = Function(id="f", name="f", runtime="cobol-85")

    async def put_beside() -> None:
        async with open_store(Settings(data_dir=server.data_dir)) as store:
            await store.create_function(server.project, function)

    asyncio.run(put_beside())
    refused(api.post(PATH, json={}), 400, "function_runtime_unsupported", 'Runtime "cobol-85" is not supported')
    given(api.delete("/functions/f"), 204)
    create(api)
    said = "Deployment not found. Create a deployment before trying to execute a function"
    refused(api.post(PATH, json={}), 404, "deployment_not_found", said)
    activate(api, packed("sends"))
    given(api.post(PATH, json={"data": "200 x"}), 201)


# -- lists --------------------------------------------------------------------------------------------------


def test_executions_are_listed_the_newest_first(api: httpx.Client) -> None:
    deploy(api, "sends")
    made = [execute(api, f"200 {number}")["$id"] for number in range(4)][::-1]

    def page(**params: Any) -> list[str]:
        listed = given(api.get(PATH, params=params))
        assert list(listed) == ["total", "executions"]
        assert listed["total"] == (4 if "search" not in params else len(listed["executions"]))
        return [one["$id"] for one in listed["executions"]]

    assert page() == made
    assert page(orderType="ASC") == made  # no such parameter here
    assert page(orderType="nonsense") == made
    assert page(limit=2) == made[:2]
    assert page(limit=2, offset=1) == made[1:3]
    assert page(limit=0) == []
    assert page(cursor=made[1]) == made[2:]
    assert page(cursor=made[1], limit=1) == made[2:3]
    assert page(cursor=made[2], cursorDirection="before") == made[:2]
    assert page(cursor=made[3], cursorDirection="before", limit=1) == made[2:3]
    assert page(search=made[2]) == made[2:3]
    assert page(search="nothing") == []
    said = "Execution 'unknown' for the 'cursor' value not found."
    refused(api.get(PATH, params={"cursor": "unknown"}), 400, "general_cursor_not_found", said)
    refused(api.get("/functions/nothing/executions?cursor=unknown"), 404, "function_not_found")


def test_search_finds_executions_by_their_function(api: httpx.Client) -> None:
    deploy(api, "sends", "findable")
    made = execute(api, "200 x", "findable")["$id"]
    listed = given(api.get("/functions/findable/executions", params={"search": "findable"}))
    assert [one["$id"] for one in listed["executions"]] == [made]


def test_an_execution_of_another_function_is_not_found(api: httpx.Client) -> None:
    deploy(api, "sends")
    deploy(api, "sends", "g")
    mine = execute(api, "200 x")["$id"]
    refused(api.get(f"/functions/g/executions/{mine}"), 404, "execution_not_found", "Execution not found")
    refused(api.get(f"{PATH}/nothing"), 404, "execution_not_found", "Execution not found")
    refused(api.get(f"/functions/nothing/executions/{mine}"), 404, "function_not_found", "Function not found")
    refused(api.get("/functions/g/executions", params={"cursor": mine}), 400, "general_cursor_not_found")
    assert given(api.get("/functions/g/executions"))["total"] == 0


# -- many at once -------------------------------------------------------------------------------------------


def test_many_executions_at_once_all_get_their_own_answer(api: httpx.Client) -> None:
    deploy(api, "sends")
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: execute(api, f"200 {number}")["response"], range(40)))
    assert answers == [str(number) for number in range(40)]
    accepted = [later(api, f"200 {number}") for number in range(40)]
    assert [wait_for_execution(api, one)["response"] for one in accepted] == answers
    assert given(api.get(PATH))["total"] == 80


def test_executions_run_side_by_side_up_to_the_functions_concurrency(api: httpx.Client) -> None:
    deploy(api, "sleeps", concurrency=2)
    began = time.monotonic()
    accepted = [later(api, "0.4") for _ in range(4)]
    done = [wait_for_execution(api, one) for one in accepted]
    took = time.monotonic() - began
    assert [one["status"] for one in done] == ["completed"] * 4
    assert took > 0.8  # two and two
    assert sorted(one["response"] for one in done) == ["1", "1", "2", "2"]  # by two processes
    assert max(one["queued"] for one in done) > 0.4


def test_a_waiting_execution_shows_that_it_is_processed(api: httpx.Client) -> None:
    deploy(api, "sleeps")
    accepted = later(api, "0.5")
    path = f"{PATH}/{accepted['$id']}"
    shown = eventually(lambda: given(api.get(path)), lambda one: one["status"] != "waiting")
    assert (shown["status"], shown["statusCode"]) == ("processing", 0)
    assert wait_for_execution(api, accepted)["status"] == "completed"


def test_a_function_deleted_in_the_middle_still_answers_who_waits(api: httpx.Client, server: Serving) -> None:
    deploy(api, "sleeps")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(execute, api, "0.5")
        eventually(lambda: given(api.get(PATH))["executions"])
        given(api.delete("/functions/f"), 204)
        done = waiting.result()
    assert done["status"] in ("completed", "failed")
    assert list(done) == FIELDS
    refused(api.get(f"{PATH}/{done['$id']}"), 404, "function_not_found")
    eventually(lambda: list((server.data_dir / "code").iterdir()), lambda found: not found)


def test_an_execution_accepted_for_a_deleted_deployment_fails_and_says_so(api: httpx.Client) -> None:
    deploy(api, "sleeps", concurrency=1)
    deployment = given(api.get("/functions/f"))["deployment"]
    execute(api, "0")  # its instance is warm
    first, second = later(api, "0.5"), later(api, "0")
    eventually(lambda: given(api.get(f"{PATH}/{first['$id']}"))["status"] == "processing")
    given(api.delete(f"/functions/f/deployments/{deployment}"), 204)
    assert wait_for_execution(api, first)["status"] == "completed"
    done = wait_for_execution(api, second)
    assert (done["status"], done["statusCode"], done["layer"]) == ("failed", 500, "platform")
    assert done["deploymentId"] == deployment
    assert "deployment" in done["stderr"]


def test_a_body_with_a_typing_error_runs_nothing(api: httpx.Client) -> None:
    deploy(api, "sends")
    answer = api.post(PATH, content=b'{"data": "200 x", "async": false', headers={"Content-Type": "application/json"})
    assert "not JSON" in refused(answer, 400, "general_argument_invalid")
    assert given(api.get(PATH))["total"] == 0


def test_a_function_with_a_long_queue_leaves_the_others_alone(api: httpx.Client) -> None:
    deploy(api, "sleeps", concurrency=1)
    queue = [later(api, "0.3") for _ in range(70)]  # more than there are instances
    deploy(api, "sends", function_id="quick")
    quick = given(api.post("/functions/quick/executions", json={"data": "200 x"}), 201)
    assert wait_for_execution(api, quick)["status"] == "completed"
    statuses = [given(api.get(f"{PATH}/{one['$id']}"))["status"] for one in queue]
    assert statuses.count("processing") <= 1
    assert statuses.count("waiting") > 50


def test_a_client_that_goes_away_leaves_a_recorded_execution(api: httpx.Client) -> None:
    deploy(api, "sleeps")
    with pytest.raises(httpx.ReadTimeout):
        api.post(PATH, json={"data": "0.4", "async": False}, timeout=0.15)
    [shown] = eventually(lambda: given(api.get(PATH))["executions"])
    assert wait_for_execution(api, shown)["status"] == "completed"


def test_the_record_is_the_models(api: httpx.Client) -> None:
    from nbfunctions.models import Execution

    deploy(api, "sends")
    answer = api.post(PATH, json={"data": "200 x", "async": False})
    assert msgspec.to_builtins(msgspec.json.decode(answer.content, type=Execution)).keys() == answer.json().keys()
