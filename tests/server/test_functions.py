"""``/v1/functions`` through the front door: settings, lists, activation, deletion (spec, section 1, routes 1 to 8)."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from tests.server.asking import activate, create, deploy, execute, given, packed, refused, upload, wait_for_build
from tests.serving import RUNTIME, Serving

FIELDS = [
    "$id",
    "$createdAt",
    "$updatedAt",
    "execute",
    "name",
    "status",
    "runtime",
    "deployment",
    "vars",
    "events",
    "schedule",
    "scheduleNext",
    "schedulePrevious",
    "timeout",
    "memory",
    "concurrency",
]
ID_SAID = (
    "Invalid functionId: Parameter must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, period, hyphen, and "
    "underscore. Can't start with a special char"
)
UID_SAID = (
    "UID must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, and underscore. "
    "Can't start with a leading underscore"
)


def ids(answer: httpx.Response) -> list[str]:
    return [function["$id"] for function in given(answer)["functions"]]


# -- create -------------------------------------------------------------------------------------------------


def test_a_function_is_made_of_an_id_a_name_and_a_runtime(api: httpx.Client) -> None:
    before = int(time.time())
    made = given(api.post("/functions", json={"functionId": "hello", "name": "Hello", "runtime": RUNTIME}), 201)
    assert list(made) == FIELDS
    assert before <= made["$createdAt"] == made["$updatedAt"] <= time.time()
    rest = {name: value for name, value in made.items() if name not in ("$createdAt", "$updatedAt", "status")}
    assert rest == {
        "$id": "hello",
        "execute": [],
        "name": "Hello",
        "runtime": RUNTIME,
        "deployment": "",
        "vars": {},
        "events": [],
        "schedule": "",
        "scheduleNext": 0,
        "schedulePrevious": 0,
        "timeout": 15,
        "memory": 0,
        "concurrency": 0,
    }
    assert given(api.get("/functions/hello")) == made


SETTINGS: dict[str, Any] = {
    "name": "Héllo 🦀 \\/ <b>",
    "execute": ["role:all", "user:u1"],
    "vars": {"GREETING": "Hellö", "N": 3, "deep": {"a": [1.5, None, True]}},
    "events": ["users.*.create", "users.*.delete"],
    "schedule": "0 0 1 1 *",
    "timeout": 10,
    "memory": 64,
    "concurrency": 2,
}


def test_every_setting_comes_back_as_it_was_given(api: httpx.Client) -> None:
    made = create(api, **SETTINGS)
    assert {name: made[name] for name in SETTINGS} == SETTINGS
    assert made["scheduleNext"] == 0  # nothing to run yet
    assert given(api.get("/functions/f")) == made
    assert given(api.get("/functions"))["functions"] == [made]


def test_unique_makes_an_id(api: httpx.Client) -> None:
    first, second = (create(api, "unique()")["$id"] for _ in range(2))
    assert first != second
    assert all(len(made) == 20 and set(made) <= set("0123456789abcdef") for made in (first, second))


def test_an_id_that_exists_is_refused(api: httpx.Client) -> None:
    create(api, name="first")
    again = api.post("/functions", json={"functionId": "f", "name": "second", "runtime": RUNTIME})
    refused(again, 409, "function_already_exists", "Function with the requested ID already exists")
    assert given(api.get("/functions/f"))["name"] == "first"


@pytest.mark.parametrize("void", [None, ""])
def test_null_and_empty_text_are_the_defaults(api: httpx.Client, void: Any) -> None:
    made = create(api, **dict.fromkeys(("execute", "vars", "events", "schedule", "timeout", "memory"), void))
    assert (made["execute"], made["vars"], made["events"], made["schedule"]) == ([], {}, [], "")
    assert (made["timeout"], made["memory"]) == (15, 0)


def test_empty_variables_may_be_an_empty_array(api: httpx.Client) -> None:
    made = api.post("/functions", json={"functionId": "f", "name": "f", "runtime": RUNTIME, "vars": []})
    assert '"vars":{}' in made.text


RUNTIMES_SAID = "Invalid runtime: Value must be one of ("
BAD_NAME = "Invalid name: Value must be a valid string and no longer than 128 chars"
BAD_ROLE = 'Invalid execute: Permission roles must contain one and only one ":" character.'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"functionId": None}, 'Param "functionId" is not optional.'),
        ({"functionId": ""}, 'Param "functionId" is not optional.'),
        ({"functionId": "_x"}, ID_SAID),
        ({"functionId": "x" * 37}, ID_SAID),
        ({"functionId": 7}, ID_SAID),
        ({"name": None}, 'Param "name" is not optional.'),
        ({"name": "x" * 129}, BAD_NAME),
        ({"name": ["x"]}, BAD_NAME),
        ({"execute": ["some-random-string"]}, BAD_ROLE),
        ({"execute": "role:all"}, "Invalid execute: Permissions roles must be an array of strings."),
        ({"runtime": None}, 'Param "runtime" is not optional.'),
        ({"vars": ["a"]}, "Invalid vars: Value must be a valid object."),
        ({"vars": {"A": "x" * 65_536}}, "Invalid vars: Value must be a valid object."),
        ({"events": ["unknown.*"]}, "Invalid events: Value must a valid array and Event is not valid."),
        ({"events": ["users.*"] * 101}, "Invalid events: Value must a valid array and Event is not valid."),
        ({"schedule": "every day"}, "Invalid schedule: String must be a valid cron expression"),
        ({"timeout": 0}, "Invalid timeout: Value must be a valid range between 1 and 900"),
        ({"timeout": 901}, "Invalid timeout: Value must be a valid range between 1 and 900"),
        ({"timeout": 1.5}, "Invalid timeout: Value must be a valid range between 1 and 900"),
        ({"memory": 15}, "Invalid memory: Value must be a valid range between 16 and 8,192, or 0 for the default"),
        ({"memory": False}, "Invalid memory: Value must be a valid range between 16 and 8,192, or 0 for the default"),
        ({"memory": -1}, "Invalid memory: Value must be a valid range between 16 and 8,192, or 0 for the default"),
        (
            {"concurrency": 65},
            "Invalid concurrency: Value must be a valid range between 1 and 64, or 0 for the default",
        ),
        ({"timeout": 0, "name": 1}, BAD_NAME),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(api: httpx.Client, change: dict[str, Any], message: str) -> None:
    body = {"functionId": "f", "name": "f", "runtime": RUNTIME, **change}
    refused(api.post("/functions", json=body), 400, "general_argument_invalid", message)
    assert given(api.get("/functions"))["total"] == 0


def test_a_runtime_that_is_not_here_is_refused_with_those_that_are(api: httpx.Client) -> None:
    answer = api.post("/functions", json={"functionId": "f", "name": "f", "runtime": "cobol-85"})
    message = refused(answer, 400, "general_argument_invalid")
    runtimes = [runtime["$id"] for runtime in given(api.get("/functions/runtimes"))["runtimes"]]
    assert message == f"{RUNTIMES_SAID}{', '.join(runtimes)})"
    assert RUNTIME in runtimes


# -- bodies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_a_body_may_be_json(api: httpx.Client, content_type: str) -> None:
    body = json.dumps({"functionId": "f", "name": "f", "runtime": RUNTIME})
    given(api.post("/functions", content=body, headers={"Content-Type": content_type}), 201)


FORM: dict[str, Any] = {
    "functionId": "f",
    "name": "Hellö & +",
    "runtime": RUNTIME,
    "execute[]": ["role:all", "user:u"],
    "events[0]": "users.*.create",
    "events[1]": "users.*.delete",
    "vars[GREETING]": "Hi",
    "vars[EMPTY]": "",
    "timeout": "20",
}
FROM_FORM: dict[str, Any] = {
    "name": "Hellö & +",
    "execute": ["role:all", "user:u"],
    "events": ["users.*.create", "users.*.delete"],
    "vars": {"GREETING": "Hi", "EMPTY": ""},
    "timeout": 20,
}


def test_a_body_may_be_a_form(api: httpx.Client) -> None:
    made = given(api.post("/functions", data=FORM), 201)
    assert {name: made[name] for name in FROM_FORM} == FROM_FORM


def test_a_body_may_be_a_form_of_parts(api: httpx.Client) -> None:
    parts = [
        (name, (None, one)) for name, value in FORM.items() for one in (value if isinstance(value, list) else [value])
    ]
    made = given(api.post("/functions", files=parts), 201)
    assert {name: made[name] for name in FROM_FORM} == FROM_FORM


def test_a_body_without_a_type_is_read_as_a_form(api: httpx.Client) -> None:
    content = httpx.Request("POST", "http://x", data=FORM).content
    assert given(api.post("/functions", content=content), 201)["name"] == "Hellö & +"


@pytest.mark.parametrize("body", [b"", b" ", b"[]", b"null", b"{}"])
def test_an_empty_body_is_no_parameters(api: httpx.Client, body: bytes) -> None:
    answer = api.post("/functions", content=body, headers={"Content-Type": "application/json"})
    refused(answer, 400, "general_argument_invalid", 'Param "functionId" is not optional.')


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON: Input data was truncated"),
        (b'"x"', "must be a JSON object, found '\"x\"'"),
        (b"[1]", "must be a JSON object, found '[1]'"),
        (b"\xff", "not JSON: "),
        (b'{"functionId": "f",}', "not JSON: JSON is malformed"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(api: httpx.Client, body: bytes, said: str) -> None:
    answer = api.post("/functions", content=body, headers={"Content-Type": "application/json"})
    assert said in refused(answer, 400, "general_argument_invalid")


def test_the_query_of_a_post_and_the_body_of_a_get_are_not_read(api: httpx.Client) -> None:
    answer = api.post("/functions", params={"functionId": "f", "name": "f", "runtime": RUNTIME}, json={})
    refused(answer, 400, "general_argument_invalid", 'Param "functionId" is not optional.')
    create(api)
    assert len(given(api.request("GET", "/functions", json={"limit": 0}))["functions"]) == 1


def test_a_parameter_of_the_path_wins_over_one_of_the_body(api: httpx.Client) -> None:
    create(api)
    create(api, "g")
    assert given(api.put("/functions/f", json={"functionId": "g", "name": "changed"}))["$id"] == "f"
    assert given(api.get("/functions/g"))["name"] == "g"


def test_unknown_parameters_are_ignored(api: httpx.Client) -> None:
    assert create(api, nonsense={"a": 1}, status="disabled", deployment="x")["deployment"] == ""
    assert given(api.get("/functions", params={"nonsense": "1", "nonsense[]": "2"}))["total"] == 1


# -- lists --------------------------------------------------------------------------------------------------


@pytest.fixture
def seven(api: httpx.Client) -> httpx.Client:
    """Seven functions whose ids are not in the order in which they were made."""
    for number in (4, 7, 1, 6, 3, 5, 2):
        create(api, f"n{number}", name=f"number {number} {'even' if number % 2 == 0 else 'odd'}")
    return api


ALL = ["n4", "n7", "n1", "n6", "n3", "n5", "n2"]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, ALL),
        ({"orderType": "ASC"}, ALL),
        ({"orderType": "DESC"}, ALL[::-1]),
        ({"limit": 2}, ALL[:2]),
        ({"limit": "2", "offset": "3"}, ALL[3:5]),
        ({"limit": 0}, []),
        ({"limit": ""}, ALL),
        ({"offset": 7}, []),
        ({"offset": 5000}, []),
        ({"cursor": "n7"}, ALL[2:]),
        ({"cursor": "n7", "limit": 2}, ALL[2:4]),
        ({"cursor": "n7", "limit": 2, "offset": 1}, ALL[3:5]),
        ({"cursor": "n2"}, []),
        ({"cursor": "n3", "cursorDirection": "before"}, ALL[:4]),
        ({"cursor": "n3", "cursorDirection": "before", "limit": 2}, ALL[2:4]),
        ({"cursor": "n3", "cursorDirection": "before", "limit": 2, "offset": 1}, ALL[1:3]),
        ({"cursor": "n3", "cursorDirection": "BEFORE", "limit": 1}, ["n6"]),
        ({"cursor": "n4", "cursorDirection": "before"}, []),
        ({"cursor": "n7", "orderType": "DESC"}, ["n4"]),
        ({"cursor": "n7", "orderType": "DESC", "cursorDirection": "before", "limit": 2}, ["n6", "n1"]),
    ],
)
def test_a_page_is_a_piece_of_the_order_of_creation(seven: httpx.Client, params: Any, found: list[str]) -> None:
    answer = seven.get("/functions", params=params)
    assert ids(answer) == found
    assert list(answer.json()) == ["total", "functions"]
    assert answer.json()["total"] == 7


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("n4", ["n4"]),
        ("N4", ["n4"]),
        ("even", ["n4", "n6", "n2"]),
        ("EVEN", ["n4", "n6", "n2"]),
        ("odd even", ALL),
        ("n4 n6", ["n4", "n6"]),
        ("nothing even", ["n4", "n6", "n2"]),
        ("num", ALL),
        ("eve", ["n4", "n6", "n2"]),
        ("eve nothing", []),
        ("+even -odd", ALL),
        ("nothing", []),
        ("ven", []),
    ],
)
def test_search_finds_whole_words_and_the_beginning_of_the_last(
    seven: httpx.Client, search: str, found: list[str]
) -> None:
    answer = seven.get("/functions", params={"search": search})
    assert ids(answer) == found
    assert answer.json()["total"] == len(found)


def test_search_finds_by_runtime_and_pages(seven: httpx.Client) -> None:
    answer = seven.get("/functions", params={"search": RUNTIME, "limit": 2, "cursor": "n1", "orderType": "ASC"})
    assert ids(answer) == ["n6", "n3"]
    assert answer.json()["total"] == 7


def test_what_was_renamed_is_found_by_its_new_name(api: httpx.Client) -> None:
    create(api, name="before")
    given(api.put("/functions/f", json={"name": "afterwards"}))
    assert ids(api.get("/functions", params={"search": "afterwards"})) == ["f"]
    assert ids(api.get("/functions", params={"search": "before"})) == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"limit": 101}, "Invalid limit: Value must be a valid range between 0 and 100"),
        ({"limit": "1.5"}, "Invalid limit: Value must be a valid range between 0 and 100"),
        ({"limit[]": "1"}, "Invalid limit: Value must be a valid range between 0 and 100"),
        ({"offset": 5001}, "Invalid offset: Value must be a valid range between 0 and 5,000"),
        ({"offset": -1}, "Invalid offset: Value must be a valid range between 0 and 5,000"),
        ({"cursor": "-"}, f"Invalid cursor: {UID_SAID}"),
        ({"cursorDirection": "up"}, "Invalid cursorDirection: Value must be one of (after, before)"),
        ({"orderType": "asc"}, "Invalid orderType: Value must be one of (ASC, DESC)"),
        ({"search": "x" * 257}, "Invalid search: Value must be a valid string and no longer than 256 chars"),
    ],
)
def test_a_page_that_can_not_be_is_refused(api: httpx.Client, params: Any, message: str) -> None:
    refused(api.get("/functions", params=params), 400, "general_argument_invalid", message)


def test_a_cursor_that_is_not_there_is_refused(api: httpx.Client) -> None:
    said = "Function 'unknown' for the 'cursor' value not found."
    refused(api.get("/functions", params={"cursor": "unknown"}), 400, "general_cursor_not_found", said)


def test_runtimes_are_all_listed(api: httpx.Client) -> None:
    listed = given(api.get("/functions/runtimes"))
    assert list(listed) == ["total", "runtimes"]
    assert listed["total"] == len(listed["runtimes"]) > 0
    for runtime in listed["runtimes"]:
        assert list(runtime)[:7] == ["$id", "name", "version", "base", "image", "logo", "supports"]
    mine = next(runtime for runtime in listed["runtimes"] if runtime["$id"] == RUNTIME)
    assert (mine["name"], mine["version"], mine["logo"]) == ("Python", RUNTIME.partition("-")[2], "python.png")


# -- update -------------------------------------------------------------------------------------------------


def test_an_update_resets_what_it_leaves_out(api: httpx.Client) -> None:
    made = create(api, **SETTINGS)
    changed = given(api.put("/functions/f", json={"name": "only a name"}))
    assert list(changed) == FIELDS
    assert {name: changed[name] for name in SETTINGS} == {
        "name": "only a name",
        "execute": [],
        "vars": {},
        "events": [],
        "schedule": "",
        "timeout": 15,
        "memory": 0,
        "concurrency": 0,
    }
    assert changed["$createdAt"] == made["$createdAt"]
    assert changed["$updatedAt"] >= made["$updatedAt"]
    assert given(api.get("/functions/f")) == changed


def test_an_update_keeps_runtime_and_active_deployment(api: httpx.Client) -> None:
    deploy(api, "adds")
    before = given(api.get("/functions/f"))
    after = given(api.put("/functions/f", json={"name": "x", "runtime": "cobol-85", "deployment": ""}))
    assert before["deployment"]
    assert (after["runtime"], after["deployment"]) == (RUNTIME, before["deployment"])


def test_an_update_counts_for_the_next_execution(api: httpx.Client) -> None:
    deploy(api, "environment", vars={"COLOUR": "red"})
    assert '"red"' in execute(api)["response"]
    given(api.put("/functions/f", json={"name": "renamed", "vars": {"COLOUR": "blue"}}))
    after = json.loads(execute(api)["response"])["request"]
    assert (after["COLOUR"], after["APPWRITE_FUNCTION_NAME"]) == ("blue", "renamed")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, 'Param "name" is not optional.'),
        ({"name": "x", "timeout": 10_000}, "Invalid timeout: Value must be a valid range between 1 and 900"),
        ({"name": "x", "schedule": "x"}, "Invalid schedule: String must be a valid cron expression"),
    ],
)
def test_an_update_that_does_not_fit_changes_nothing(api: httpx.Client, body: Any, message: str) -> None:
    made = create(api, **SETTINGS)
    refused(api.put("/functions/f", json=body), 400, "general_argument_invalid", message)
    assert given(api.get("/functions/f")) == made


# -- activation ---------------------------------------------------------------------------------------------


def test_activation_switches_the_next_execution(api: httpx.Client) -> None:
    create(api)
    first = activate(api, packed("asynchronous"))
    second = wait_for_build(api, given(upload(api, packed("sends")), 201))
    assert given(api.get("/functions/f"))["deployment"] == first["$id"]
    assert execute(api, "200 x")["response"] == "awaited 200 x"
    switched = given(api.patch(f"/functions/f/deployments/{second['$id']}", json={}))
    assert list(switched) == FIELDS
    assert switched["deployment"] == second["$id"]
    assert execute(api, "200 x")["response"] == "x"
    given(api.patch(f"/functions/f/deployments/{first['$id']}"))
    assert execute(api, "200 x")["response"] == "awaited 200 x"


def test_only_a_ready_deployment_can_be_active(api: httpx.Client) -> None:
    create(api)
    create(api, "g")
    others = given(upload(api, packed("adds"), "g"), 201)["$id"]
    broken = wait_for_build(api, given(upload(api, packed("syntax_error"), activate=True), 201))
    begun = given(upload(api, b"12345", headers={"Content-Range": "bytes 0-4/10"}), 201)
    assert broken["status"] == "failed"
    path = "/functions/{}/deployments/{}".format
    refused(api.patch(path("nothing", others)), 404, "function_not_found", "Function not found")
    refused(api.patch(path("f", "nothing")), 404, "deployment_not_found", "Deployment not found")
    refused(api.patch(path("f", others)), 404, "deployment_not_found", "Deployment not found")
    refused(api.patch(path("f", begun["$id"])), 404, "build_not_found", "Build not found")
    refused(api.patch(path("f", broken["$id"])), 400, "build_not_ready", "Build not ready")
    assert given(api.get("/functions/f"))["deployment"] == ""


# -- deletion -----------------------------------------------------------------------------------------------


def test_a_deleted_function_is_gone_with_all_it_had(api: httpx.Client, server: Serving) -> None:
    deploy(api, "needs_a_package")
    digest = given(api.get("/functions/f/deployments"))["deployments"][0]["digest"]
    archive, code = server.data_dir / "artifacts" / f"{digest}.tar.gz", server.data_dir / "code" / digest
    execution = execute(api)
    assert archive.is_file()
    assert code.is_dir()
    given(api.delete("/functions/f"), 204)
    refused(api.get("/functions/f"), 404, "function_not_found", "Function not found")
    refused(api.delete("/functions/f"), 404, "function_not_found", "Function not found")
    refused(api.get(f"/functions/f/executions/{execution['$id']}"), 404, "function_not_found")
    assert not archive.exists()
    assert not code.exists()
    create(api)  # the id is free again, and nothing of the old one shows
    assert given(api.get("/functions/f/deployments"))["total"] == 0
    assert given(api.get("/functions/f/executions"))["total"] == 0


# -- routes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/"),
        ("GET", "/nothing"),
        ("PATCH", "/functions"),
        ("DELETE", "/functions"),
        ("POST", "/functions/f"),
        ("PUT", "/functions/f/deployments/d"),
        ("POST", "/functions/f/deployments/d/builds"),
        ("GET", "/functions/f/deployments/d/builds/b"),
        ("PATCH", "/functions/f/executions/e"),
        ("GET", "/functions/f/nothing"),
        ("GET", "/functions/f/executions/e/more"),
        ("GET", "/functions%0A"),
        ("GET", "/FUNCTIONS"),
        ("TRACE", "/functions"),
        ("PROPFIND", "/functions"),
    ],
)
def test_what_is_no_route_is_not_found(guest: httpx.Client, method: str, path: str) -> None:
    refused(guest.request(method, path), 404, "general_route_not_found", "Not Found")


@pytest.mark.parametrize("slashes", ["", "/"])
def test_a_trailing_slash_makes_no_difference(api: httpx.Client, slashes: str) -> None:
    create(api)
    assert given(api.get(f"/functions{slashes}"))["total"] == 1
    assert given(api.get(f"/functions/f{slashes}"))["$id"] == "f"
    assert given(api.get(f"/functions/f/deployments{slashes}"))["total"] == 0
    given(api.delete(f"/functions/f{slashes}"), 204)


@pytest.mark.parametrize(
    "path", ["/functions", "/functions/f", "/functions/f/executions", "/health", "/health/version"]
)
def test_head_is_get_without_a_body(api: httpx.Client, path: str) -> None:
    create(api)
    got, head = api.get(path), api.head(path)
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    refusal = api.head("/functions/nothing")
    assert (refusal.status_code, refusal.content) == (404, b"")


def test_every_answer_says_who_gives_it_and_how_to_read_it(api: httpx.Client) -> None:
    create(api)
    for answer in (api.get("/functions"), api.get("/functions/nothing"), api.delete("/functions/f")):
        assert answer.headers["server"] == "Appwrite"
        assert answer.headers["x-content-type-options"] == "nosniff"


# -- generations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["0.14.0", "0.13.9"])
def test_a_client_of_0_14_gets_the_dates_it_knows(api: httpx.Client, format_: str) -> None:
    deploy(api, "sends")
    execute(api, "200 x")
    new = {name: given(api.get(path)) for name, path in PATHS.items()}
    api.headers["X-Appwrite-Response-Format"] = format_
    old = {name: given(api.get(path)) for name, path in PATHS.items()}
    for name, kind in (("functions", "function"), ("deployments", "deployment"), ("executions", "execution")):
        expected = []
        for record in new[name][name]:
            dates = {"dateCreated": record.pop("$createdAt"), "dateUpdated": record.pop("$updatedAt")}
            if kind == "execution":
                del dates["dateUpdated"]
            expected.append({**record, **dates})
        assert old[name] == {"total": 1, name: expected}
    assert "dateUpdated" in old["function"]
    assert "$createdAt" not in json.dumps(old)
    assert old["runtimes"] == new["runtimes"]
    one = create(api, "g")
    assert isinstance(one["dateCreated"], int)
    assert one["vars"] == {}


PATHS = {
    "functions": "/functions",
    "function": "/functions/f",
    "deployments": "/functions/f/deployments",
    "executions": "/functions/f/executions",
    "runtimes": "/functions/runtimes",
}


@pytest.mark.parametrize("format_", ["", "0.14.1", "0.15.0", "0.15.3", "1.0.0", "nonsense", "-", "0.15", "9" * 5000])
def test_a_newer_or_unreadable_format_changes_nothing(api: httpx.Client, format_: str) -> None:
    made = create(api)
    assert given(api.get("/functions/f", headers={"X-Appwrite-Response-Format": format_})) == made
    assert "$createdAt" in made


def test_variables_named_like_dates_stay_as_they_are(api: httpx.Client) -> None:
    names = {"$createdAt": "1", "$updatedAt": "2", "trigger": "3"}
    create(api, vars=names)
    shown = given(api.get("/functions/f", headers={"X-Appwrite-Response-Format": "0.14.0"}))
    assert shown["vars"] == names
