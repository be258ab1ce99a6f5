"""Who may ask for what, in which order it is checked, and one shape of refusal (spec, sections 0.1, 3, 4)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
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
    wait_for_execution,
)
from tests.serving import Serving, clean_environment

ENDPOINTS = [
    ("POST", "/functions", "functions.write"),
    ("GET", "/functions", "functions.read"),
    ("GET", "/functions/runtimes", "functions.read"),
    ("GET", "/functions/f", "functions.read"),
    ("PUT", "/functions/f", "functions.write"),
    ("PATCH", "/functions/f/deployments/d", "functions.write"),
    ("DELETE", "/functions/f", "functions.write"),
    ("POST", "/functions/f/deployments", "functions.write"),
    ("GET", "/functions/f/deployments", "functions.read"),
    ("GET", "/functions/f/deployments/d", "functions.read"),
    ("DELETE", "/functions/f/deployments/d", "functions.write"),
    ("POST", "/functions/f/executions", "execution.write"),
    ("GET", "/functions/f/executions", "execution.read"),
    ("GET", "/functions/f/executions/e", "execution.read"),
    ("POST", "/functions/f/deployments/d/builds/b", "functions.write"),
    ("GET", "/functions/f/usage", "functions.read"),
    ("GET", "/functions/f/deployments/d/download", "functions.read"),
    ("POST", "/functions/f/executions/e/cancel", "execution.write"),
    ("DELETE", "/functions/f/executions/e", "execution.write"),
    ("POST", "/events", "events.write"),
    ("POST", "/users/u/jwts", "users.write"),
    ("GET", "/health", "health.read"),
    ("GET", "/health/db", "health.read"),
    ("GET", "/health/queue/functions", "health.read"),
    ("GET", "/health/storage/local", "health.read"),
]
SCOPES = ["functions.read", "functions.write", "execution.read", "execution.write"]
OF_A_FUNCTION = [(method, path) for method, path, _ in ENDPOINTS if path.startswith("/functions/f")]


def command(server: Serving, *arguments: str) -> Any:
    """Return what the command line answers in JSON, beside the running server."""
    line = [sys.executable, "-m", "nbfunctions", *arguments, "--data-dir", str(server.data_dir), "--json"]
    done = subprocess.run(
        line, env=clean_environment(server.data_dir.parent), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout else None


@pytest.fixture(scope="module")
def other(server: Serving) -> dict[str, str]:
    """A second project, and a key of it."""
    command(server, "projects", "create", "other", "--name", "The other one")
    [key] = command(server, "keys", "create", "--project", "other", "--scope", *SCOPES)
    return {"X-Appwrite-Project": "other", "X-Appwrite-Key": key["secret"]}


@pytest.fixture
def elsewhere(server: Serving, other: dict[str, str]) -> Iterator[httpx.Client]:
    """A client of the second project."""
    with client(server, other) as found:
        yield found
        for function in found.get("/functions").json()["functions"]:
            found.delete(f"/functions/{function['$id']}")


@pytest.mark.parametrize(("method", "path", "scope"), ENDPOINTS)
def test_every_endpoint_refuses_in_one_shape_and_one_order(
    api: httpx.Client, guest: httpx.Client, method: str, path: str, scope: str
) -> None:
    def ask(caller: httpx.Client, **headers: str) -> httpx.Response:
        return caller.request(method, path, content=b"\xff", headers={"Content-Type": "multipart/form-data", **headers})

    refused(ask(guest, **{"X-Appwrite-Project": "nobody"}), 404, "project_not_found", "Project not found")
    if scope != "execution.write":  # which guests have
        said = f"User (role: guest) missing scope ({scope})"
        refused(ask(guest), 401, "general_unauthorized_scope", said)
    if method in ("POST", "PUT", "PATCH", "DELETE"):
        assert refused(ask(api), 400, "general_argument_invalid").startswith("The form can't be read: ")


@pytest.mark.parametrize(("method", "path"), OF_A_FUNCTION)
def test_every_endpoint_of_a_function_misses_it_first(api: httpx.Client, method: str, path: str) -> None:
    body: dict[str, Any] = {"json": {"name": "x", "entrypoint": "x"}} if method in ("PUT", "POST") else {}
    refused(api.request(method, path, **body), 404, "function_not_found", "Function not found")


@pytest.mark.parametrize(("method", "path"), OF_A_FUNCTION)
def test_parameters_are_checked_before_anything_is_looked_for(api: httpx.Client, method: str, path: str) -> None:
    answer = api.request(method, path.replace("/functions/f", "/functions/-"))
    assert refused(answer, 400, "general_argument_invalid").startswith("Invalid functionId: UID must contain")


@pytest.mark.parametrize("project", ["nobody", "", "default.", "DEFAULT", "ä", "'; --", "a" * 5000])
def test_a_project_that_is_not_there_is_not_found(api: httpx.Client, project: str) -> None:
    answer = api.get("/functions", headers={b"X-Appwrite-Project": project.encode()})
    refused(answer, 404, "project_not_found", "Project not found")


def test_without_a_project_there_is_none(api: httpx.Client) -> None:
    del api.headers["X-Appwrite-Project"]
    refused(api.get("/functions"), 404, "project_not_found", "Project not found")


def test_a_route_that_is_not_there_comes_before_the_project(api: httpx.Client) -> None:
    refused(api.get("/nothing", headers={"X-Appwrite-Project": "nobody"}), 404, "general_route_not_found", "Not Found")


@pytest.mark.parametrize("name", ["project", "project[]", "project[a]"])
def test_the_project_of_a_query_wins_or_is_none(api: httpx.Client, name: str) -> None:
    refused(api.get("/functions", params={name: "nobody"}), 404, "project_not_found", "Project not found")


@pytest.mark.parametrize("key", ["wrong", "0" * 256, "ä", "'; --", "x" * 10_000])
def test_a_wrong_key_makes_a_guest(guest: httpx.Client, key: str) -> None:
    answer = guest.get("/functions", headers={b"X-Appwrite-Key": key.encode()})
    refused(answer, 401, "general_unauthorized_scope", "User (role: guest) missing scope (functions.read)")


def test_headers_are_found_however_they_are_spelt(server: Serving) -> None:
    with client(server, {"x-APPWRITE-project": server.project, "X-appwrite-KEY": server.key}) as api:
        assert api.get("/functions").status_code == 200


def test_anybody_may_ask_for_the_version(guest: httpx.Client) -> None:
    del guest.headers["X-Appwrite-Project"]
    answer = given(guest.get("/health/version"))
    assert list(answer) == ["version", "nbfunctions"]
    assert answer["version"] == "0.15.3"


@pytest.mark.parametrize("path", ["/health", "/health/db", "/health/storage/local"])
def test_every_key_may_ask_for_the_health(server: Serving, api: httpx.Client, path: str) -> None:
    [key] = command(server, "keys", "create", "--scope", "execution.read")
    answer = given(api.get(path, headers={"X-Appwrite-Key": key["secret"]}))
    assert list(answer) == ["ping", "status"]
    assert answer["status"] == "pass"
    assert isinstance(answer["ping"], int)
    assert 0 <= answer["ping"] < 1000


def test_the_queue_is_as_long_as_what_waits(api: httpx.Client) -> None:
    assert given(api.get("/health/queue/functions")) == {"size": 0}
    deploy(api, "sleeps", concurrency=1)
    made = [given(api.post("/functions/f/executions", json={"data": "30"}), 201)["$id"] for _ in range(3)]
    eventually(lambda: given(api.get("/health/queue/functions")), lambda found: found == {"size": 2})
    for one in reversed(made):
        given(api.post(f"/functions/f/executions/{one}/cancel"))
    assert given(api.get("/health/queue/functions")) == {"size": 0}


def test_asking_for_the_storage_leaves_no_file(server: Serving, api: httpx.Client) -> None:
    before = sorted((server.data_dir / "artifacts").iterdir())
    given(api.get("/health/storage/local"))
    assert sorted((server.data_dir / "artifacts").iterdir()) == before
    assert given(api.get("/health/db"))["status"] == "pass"


# -- scopes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", SCOPES)
def test_a_key_does_what_its_scopes_say_and_nothing_else(server: Serving, api: httpx.Client, held: str) -> None:
    deploy(api, "sends")
    [key] = command(server, "keys", "create", "--scope", held)
    headers = {"X-Appwrite-Key": key["secret"]}
    host = server.endpoint.partition("://")[2].partition(":")[0]
    for method, path, scope in ENDPOINTS:
        if scope == "health.read":  # which every key has
            continue
        answer = api.request(method, path.replace("/functions/f", "/functions/nothing"), headers=headers)
        if scope == held:
            assert answer.status_code in (200, 400, 404), (method, path, answer.text)
        else:
            said = f"app.default@service.{host} (role: application) missing scope ({scope})"
            refused(answer, 401, "general_unauthorized_scope", said)


def test_a_key_with_the_scope_executes_what_is_open_to_nobody(server: Serving, api: httpx.Client) -> None:
    deploy(api, "sends", execute=[])
    [key] = command(server, "keys", "create", "--scope", "execution.write")
    api.headers["X-Appwrite-Key"] = key["secret"]
    assert execute(api, "200 yes")["response"] == "yes"


# -- guests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("execute_", [["role:all"], ["role:guest"], ["user:u", "role:all"]])
def test_a_guest_executes_what_is_open_to_guests(api: httpx.Client, guest: httpx.Client, execute_: list[str]) -> None:
    deploy(api, "sends", execute=execute_)
    done = execute(guest, "200 welcome")
    assert (done["response"], done["$read"]) == ("welcome", [])
    later = given(guest.post("/functions/f/executions", json={"data": "200 later"}), 201)
    assert later["status"] == "waiting"
    said = "User (role: guest) missing scope (execution.read)"
    refused(guest.get(f"/functions/f/executions/{later['$id']}"), 401, "general_unauthorized_scope", said)
    assert wait_for_execution(api, later)["response"] == "later"


GUEST_HOLDS = 'Only this scopes "["role:all","role:guest"]" are given and only this are allowed '


@pytest.mark.parametrize(
    ("execute_", "message"),
    [
        ([], "No permissions provided for action 'execute'"),
        (
            ["role:member"],
            f'Missing "execute" permission for role "role:member". {GUEST_HOLDS}"["role:member"]".',
        ),
        (
            ["team:t/owner", "user:u"],
            f'Missing "execute" permission for role "user:u". {GUEST_HOLDS}"["team:t/owner","user:u"]".',
        ),
    ],
)
def test_a_guest_is_refused_last_of_all(
    api: httpx.Client, guest: httpx.Client, execute_: list[str], message: str
) -> None:
    path = "/functions/f/executions"
    said = "Invalid async: Value must be a valid boolean"
    refused(guest.post(path, json={"async": "no"}), 400, "general_argument_invalid", said)
    refused(guest.post(path, json={}), 404, "function_not_found", "Function not found")
    create(api, execute=execute_)
    said = "Deployment not found. Create a deployment before trying to execute a function"
    refused(guest.post(path, json={}), 404, "deployment_not_found", said)
    activate(api, packed("sends"))
    refused(guest.post(path, json={"data": "200 x", "async": False}), 401, "user_unauthorized", message)
    assert given(api.get(path))["total"] == 0


# -- keys that come and go ----------------------------------------------------------------------------------


def test_a_key_that_has_expired_is_refused(server: Serving, api: httpx.Client) -> None:
    [key] = command(server, "keys", "create", "--scope", "functions.read", "--expires", "1")
    api.headers["X-Appwrite-Key"] = key["secret"]
    answer = eventually(lambda: api.get("/functions"), lambda answer: answer.status_code != 200)
    refused(answer, 401, "project_key_expired", "Project key expired")
    refused(api.post("/functions/f/executions"), 401, "project_key_expired", "Project key expired")


def test_a_revoked_key_counts_no_more_from_the_next_request_on(server: Serving, api: httpx.Client) -> None:
    [key] = command(server, "keys", "create", "--scope", "functions.read", "--name", "short")
    headers = {"X-Appwrite-Key": key["secret"]}
    assert api.get("/functions", headers=headers).status_code == 200
    assert key["id"] in [row["id"] for row in command(server, "keys", "list")]
    command(server, "keys", "revoke", key["id"])
    refused(api.get("/functions", headers=headers), 401, "general_unauthorized_scope")
    assert key["id"] not in [row["id"] for row in command(server, "keys", "list")]


def test_the_secret_of_a_key_is_256_hex_digits_and_nowhere_on_disk(server: Serving) -> None:
    [key] = command(server, "keys", "create", "--scope", "functions.read")
    secret = key["secret"]
    assert len(secret) == 256
    assert set(secret) <= set("0123456789abcdef")
    for file in server.data_dir.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file


def test_only_its_owner_can_read_what_the_server_keeps(server: Serving) -> None:
    assert server.data_dir.stat().st_mode & 0o077 == 0
    assert (server.data_dir / "default.key").stat().st_mode & 0o077 == 0
    assert (server.data_dir / "default.key").read_text().strip() == server.key


# -- projects -----------------------------------------------------------------------------------------------


def test_a_key_of_another_project_makes_a_guest(api: httpx.Client, elsewhere: httpx.Client) -> None:
    said = "User (role: guest) missing scope (functions.read)"
    for stranger, project in ((api, "other"), (elsewhere, "default")):
        answer = stranger.get("/functions", headers={"X-Appwrite-Project": project})
        refused(answer, 401, "general_unauthorized_scope", said)


def test_two_projects_never_see_each_others_rows(api: httpx.Client, elsewhere: httpx.Client) -> None:
    deploy(api, "sends")
    deployment = given(api.get("/functions/f/deployments"))["deployments"][0]
    execution = execute(api, "200 mine")
    one = f"/functions/f/deployments/{deployment['$id']}"
    for method, path in [
        ("GET", "/functions/f"),
        ("PUT", "/functions/f"),
        ("DELETE", "/functions/f"),
        ("GET", "/functions/f/deployments"),
        ("GET", one),
        ("PATCH", one),
        ("DELETE", one),
        ("POST", f"{one}/builds/{deployment['buildId']}"),
        ("POST", "/functions/f/executions"),
        ("GET", "/functions/f/executions"),
        ("GET", f"/functions/f/executions/{execution['$id']}"),
    ]:
        body: dict[str, Any] = {"json": {"name": "stolen"}} if method in ("PUT", "POST") else {}
        refused(elsewhere.request(method, path, **body), 404, "function_not_found", "Function not found")
    refused(upload(elsewhere, packed("adds")), 404, "function_not_found", "Function not found")
    assert given(elsewhere.get("/functions"))["total"] == 0
    assert given(elsewhere.get("/functions", params={"search": "f"}))["total"] == 0
    refused(elsewhere.get("/functions", params={"cursor": "f"}), 400, "general_cursor_not_found")
    # The same id is free there, and what is there stays apart.
    create(elsewhere, name="theirs")
    activate(elsewhere, packed("asynchronous"))
    theirs = given(elsewhere.get("/functions/f/deployments"))["deployments"][0]
    for one_of_them, foreign in ((elsewhere, deployment), (api, theirs)):
        path = f"/functions/f/deployments/{foreign['$id']}"
        refused(one_of_them.get(path), 404, "deployment_not_found")
        refused(one_of_them.patch(path), 404, "deployment_not_found")
        refused(one_of_them.delete(path), 404, "deployment_not_found")
    refused(elsewhere.get(f"/functions/f/executions/{execution['$id']}"), 404, "execution_not_found")
    assert execute(api, "200 x")["response"] == "x"
    assert execute(elsewhere, "200 x")["response"] == "awaited 200 x"
    assert given(api.get("/functions/f/executions"))["total"] == 2
    assert given(elsewhere.get("/functions/f/executions"))["total"] == 1
    given(elsewhere.delete("/functions/f"), 204)
    assert given(api.get("/functions/f"))["name"] == "f"
    assert execute(api, "200 still")["response"] == "still"
