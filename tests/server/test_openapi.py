"""The OpenAPI document says what the server does: every route, every answer, every refusal."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import httpx
import jsonschema
import openapi_spec_validator
import pytest

from nbfunctions.archive import pack
from nbfunctions.server import api_page
from nbfunctions.server.openapi import document, operation_id
from nbfunctions.server.params import (
    FLAG,
    Rule,
    array,
    between,
    one_of,
    text,
    zero_or,
)
from nbfunctions.server.permissions import PUBLIC
from nbfunctions.server.routes import Endpoint
from nbfunctions.server.rules import (
    CUSTOM_ID,
    EVENT,
    HAPPENED,
    IDEMPOTENCY_KEY,
    ROLES,
    TEAMS,
    UID,
    VARIABLES,
)
from tests.routing import all_routes
from tests.server.asking import (
    PYTHON,
    activate,
    client,
    create,
    eventually,
    execute,
    given,
    packed,
    refused,
    upload,
    wait_for_build,
)
from tests.server.listening import user
from tests.serving import RUNTIME, Serving

ROUTES: Final = all_routes()
SMALLEST: Final = pack({"main.py": PYTHON})
SDK: Final = {
    "functions": {
        *("create", "list", "listRuntimes", "get", "getUsage", "update", "updateDeployment", "delete"),
        *("createDeployment", "listDeployments", "getDeployment", "deleteDeployment"),
        *("createExecution", "listExecutions", "getExecution", "retryBuild"),
    },
    "health": {"get", "getDB", "getQueueFunctions", "getStorageLocal"},
}
"""The official SDKs' methods that this server answers (spec, section 1)."""


def named(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


@pytest.fixture(scope="module")
def described(server: Serving) -> dict[str, Any]:
    """The document, as anybody gets it."""
    with client(server, {}) as anybody:
        return dict(given(anybody.get("/openapi.json")))


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


# -- the table ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ROUTES, ids=named)
def test_a_route_says_what_it_does_takes_and_answers(endpoint: Endpoint) -> None:
    assert re.match(r"[A-Z].+[.]$", (endpoint.action.__doc__ or "").strip().splitlines()[0]), "the action's docstring"
    for param in (*endpoint.params, *endpoint.headers):
        assert re.fullmatch(r"[A-Z].+[.]", param.help), f"{param.name}: help"
        assert param.rule.schema.get("type"), f"{param.name}: schema"
        if param.must_be_given and param.name != "runtime":
            assert param.example is not None, f"{param.name}: example"
        if param.example is not None:
            assert is_valid(param.rule, param.example), f"{param.name}: example"
            param.rule.read(param.example)
    kinds = [endpoint.answer is not None, endpoint.media != "", endpoint.status == 204]
    assert kinds.count(True) == 1, "answer, media or status 204"


@pytest.mark.parametrize("endpoint", ROUTES, ids=named)
def test_an_answer_says_what_each_field_is(endpoint: Endpoint) -> None:
    for name, record in document([endpoint])["components"]["schemas"].items():
        assert record["description"], name
        for field, schema in record["properties"].items():
            assert re.fullmatch(r"[A-Z].+[.]", schema.get("description", "")), f"{name}.{field}"


# -- the document -----------------------------------------------------------------------------------------------


def test_the_document_is_valid(described: dict[str, Any]) -> None:
    assert described["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(described)


def test_the_document_has_every_route_and_nothing_else(described: dict[str, Any]) -> None:
    assert [base["url"] for base in described["servers"]] == ["/v1"]
    found = {(method, path): operation for method, path, operation in operations(described)}
    assert found.keys() == {(endpoint.method, endpoint.path) for endpoint in ROUTES}
    for endpoint in ROUTES:
        operation = found[endpoint.method, endpoint.path]
        parameters = {one["name"] for one in operation.get("parameters", ())}
        for content in operation.get("requestBody", {}).get("content", {}).values():
            parameters |= content["schema"]["properties"].keys()
        wanted = {param.name for param in (*endpoint.params, *endpoint.headers)}
        assert parameters == wanted | ({"code"} if endpoint.takes_file else set()), named(endpoint)
        assert operation.get("x-scope", PUBLIC) == endpoint.scope
        assert operation.get("x-addition", False) is endpoint.addition
        assert (operation["security"] == []) is (endpoint.scope == PUBLIC)


def test_operations_are_called_what_sdks_call_them(described: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(ids) == len(set(ids))
    ours = {operation_id(endpoint) for endpoint in ROUTES if not endpoint.addition}
    theirs = {service + method[0].upper() + method[1:] for service, methods in SDK.items() for method in methods}
    assert ours == theirs | {"healthGetVersion"}


def test_anybody_gets_the_document_and_the_page(server: Serving) -> None:
    with client(server, {}) as anybody:
        for path in ("/openapi.json", "/docs"):
            whole, head = anybody.get(path), anybody.head(path)
            assert (whole.status_code, head.status_code) == (200, 200)
            assert head.content == b""
            assert whole.headers["content-type"] == head.headers["content-type"]
            assert whole.headers["content-encoding"] == "gzip"
            for answer in (whole, head):
                assert len(answer.headers.get_list("x-content-type-options")) == 1
        older = anybody.get("/openapi.json", headers={"X-Appwrite-Response-Format": "0.14.0"})
        assert older.json() == anybody.get("/openapi.json").json()


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (text(3), ["", "abc", "🦀🦀🦀"], ["abcd", 1, None]),
        (array(text(3), 2), [[], ["a", "b"]], [["a", "b", "c"], ["abcd"], [1], "a"]),
        (one_of("ASC", "DESC"), ["ASC"], ["asc", "", 1]),
        (between(0, 100), [0, 100], [-1, 101, 2.5, "x"]),
        (zero_or(between(16, 100)), [0, 16, 100], [1, 15, 101, -1, "x"]),
        (FLAG, [True, False], ["true", 1, 0]),
        (CUSTOM_ID, ["unique()", "A.b-c_9", "9" * 36], ["_x", "-x", "x" * 37, "x y", "unique() ", "ä", 1]),
        (UID, ["A.b-c_9", "9" * 36], ["unique()", "_x", "x" * 37, "ä", 1, ""]),
        (
            VARIABLES,
            [{}, {"A": "b", "n": 3, "deep": {"x": [None]}}],
            ["a", ["a"], {"": "x"}, {"A=B": "x"}, {"A": "\0"}],
        ),
        (EVENT, ["users.*", "users.*.create", "databases.a.collections.b.documents.c.create"], ["users", "x.y", 1]),
        (HAPPENED, ["users.jane.create", "teams.t.update"], ["users.*.create", "users", "functions.f.create", 1]),
        (IDEMPOTENCY_KEY, ["a", " ~" * 100], ["", "x" * 256, "ä", "\n", 1]),
        (
            ROLES,
            [[], ["role:all", "user:u.1", "member:m", "team:t", "team:t/owner"]],
            [["role:x"], ["x"], [1], "role:all"],
        ),
        (TEAMS, [[], ["t", "t/r"]], [["_t"], ["t/"], ["/r"], ["a/b/c"], [1], "t"]),
    ],
)
def test_a_schema_says_what_the_rule_takes(rule: Rule, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert is_valid(rule, value), value
        rule.read(value)
    for value in bad:
        assert not is_valid(rule, value), value
        with pytest.raises(ValueError):
            rule.read(value)


def is_valid(rule: Rule, value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(rule.schema).is_valid(value))


# -- answers ----------------------------------------------------------------------------------------------------


class Watched:
    """Holds every answer of a client against the document."""

    def __init__(self, described: dict[str, Any]) -> None:
        self._described = described
        self._paths = {
            path: re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)) + "/?") for path in described["paths"]
        }
        self.seen: set[tuple[str, int]] = set()
        """Operations and statuses."""
        self.types: set[str] = set()

    def watch(self, api: httpx.Client) -> None:
        api.event_hooks = {"response": [self._look]}

    def _look(self, answer: httpx.Response) -> None:
        path = answer.request.url.path.removeprefix("/v1")
        # The table's order decides between a name and a parameter, as in the server.
        found = [one for one, pattern in self._paths.items() if pattern.fullmatch(path)]
        operation = next(
            self._described["paths"][one][answer.request.method.lower()]
            for one in sorted(found, key=lambda one: one.count("{"))
            if answer.request.method.lower() in self._described["paths"][one]
        )
        said = operation["responses"].get(str(answer.status_code))
        assert said is not None, f"{operation['operationId']} answers {answer.status_code}: {answer.read()!r}"
        self.seen.add((operation["operationId"], answer.status_code))
        kind = answer.headers["content-type"].partition(";")[0]
        if "content" not in said:
            assert answer.read() == b""
            return
        assert list(said["content"]) == [kind]
        if kind == "application/json":
            answer.read()
            self.check(said["content"][kind]["schema"], answer.json())
            if answer.status_code >= 400:
                self.types.add(answer.json()["type"])

    def check(self, schema: dict[str, Any], value: Any) -> None:
        whole = {**schema, "components": self._described["components"]}
        jsonschema.Draft202012Validator(closed(whole)).validate(value)


def closed(schema: Any) -> Any:
    """Return a schema whose records have no fields that it doesn't name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(one) for name, one in schema.items()}
    if "properties" in schema and "required" in schema and "additionalProperties" not in schema:
        found["additionalProperties"] = False
    return found


@pytest.fixture
def watched(described: dict[str, Any], api: httpx.Client) -> Watched:
    found = Watched(described)
    found.watch(api)
    return found


def test_every_route_answers_as_the_document_says(
    server: Serving, api: httpx.Client, described: dict[str, Any], watched: Watched
) -> None:
    everything: dict[str, Any] = {"vars": {"A": "b"}, "events": ["users.*.create"], "schedule": "0 0 1 1 *"}
    create(api, "f", execute=["role:all"], memory=128, concurrency=1, **everything)
    given(api.put("/functions/f", json={"name": "f", "execute": ["role:all"], **everything}))
    built = activate(api, SMALLEST)
    failed = given(upload(api, b"no archive"), 201)
    at = f"/functions/f/deployments/{failed['$id']}"
    shown = eventually(lambda: given(api.get(at)), lambda one: one["status"] == "failed")
    given(api.post(f"{at}/builds/{shown['buildId']}"), 204)
    eventually(lambda: given(api.get(at)), lambda one: one["status"] == "failed")
    given(api.patch(f"/functions/f/deployments/{built['$id']}"))
    assert api.get(f"/functions/f/deployments/{built['$id']}/download").content == SMALLEST
    given(api.get("/functions/f/deployments"))
    given(api.delete(at), 204)
    execution = execute(api, "Ada")
    with user(server, api, "jane") as jane:
        watched.watch(jane)
        execute(jane)
    given(api.get(f"/functions/f/executions/{execution['$id']}"))
    given(api.get("/functions/f/executions"))
    given(api.delete(f"/functions/f/executions/{execution['$id']}"), 204)
    with api.stream("GET", "/functions/executions/stream") as stream:
        assert stream.status_code == 200
    given(api.post("/events", json={"event": "users.jane.create", "payload": {"a": [1]}, "userId": "jane"}), 201)
    given(api.get("/functions/f/usage", params={"range": "24h"}))
    create(api, "sleeper")
    activate(api, packed("sleeps"), "sleeper")
    waiting = given(api.post("/functions/sleeper/executions", json={"data": "60"}), 201)
    given(api.post(f"/functions/sleeper/executions/{waiting['$id']}/cancel"), 200)
    for path in ("/functions", "/functions/f", "/functions/runtimes", "/openapi.json", "/docs"):
        assert api.get(path).status_code == 200
    for path in ("", "/db", "/queue/functions", "/storage/local", "/version"):
        given(api.get("/health" + path))
    given(api.delete("/functions/f"), 204)
    good = {(operation_id(endpoint), endpoint.status) for endpoint in ROUTES}
    assert watched.seen == good


def test_refusals_are_those_of_the_document(
    server: Serving, api: httpx.Client, guest: httpx.Client, watched: Watched
) -> None:
    watched.watch(guest)
    create(api)
    refused(
        api.post("/functions", json={"functionId": "f", "name": "f", "runtime": RUNTIME}),
        409,
        "function_already_exists",
    )
    refused(api.post("/functions", json={"functionId": "_"}), 400, "general_argument_invalid")
    refused(api.get("/functions", params={"cursor": "none"}), 400, "general_cursor_not_found")
    refused(api.get("/functions/none"), 404, "function_not_found")
    refused(api.get("/functions", headers={"X-Appwrite-Project": "none"}), 404, "project_not_found")
    refused(api.get("/functions", headers={"X-Appwrite-JWT": "none"}), 401, "user_jwt_invalid")
    refused(guest.get("/functions"), 401, "general_unauthorized_scope")
    refused(guest.delete("/functions/f", headers={"Origin": "https://example.org"}), 403, "general_unknown_origin")
    refused(api.get("/docs", headers={"Host": "example.org"}), 403, "general_unknown_origin")
    refused(api.post("/functions/f/executions"), 404, "deployment_not_found")
    refused(api.get("/functions/f/executions/none"), 404, "execution_not_found")
    refused(api.post("/functions/f/deployments", data={"entrypoint": "x"}), 400, "storage_file_empty")
    refused(upload(api, b"x", name="code.zip"), 400, "storage_file_type_unsupported")
    refused(upload(api, b"x", headers={"Content-Range": "x"}), 400, "storage_invalid_content_range")
    large = {"Content-Range": "bytes 0-0/999999999"}
    refused(upload(api, b"x", headers=large), 400, "storage_invalid_file_size")
    unbuilt = given(upload(api, b"no archive"), 201)
    at = f"/functions/f/deployments/{unbuilt['$id']}"
    shown = eventually(lambda: given(api.get(at)), lambda one: one["status"] == "failed")
    refused(api.patch(at), 400, "build_not_ready")
    refused(api.post(f"{at}/builds/none"), 404, "build_not_found")
    built = activate(api, SMALLEST)
    good = f"/functions/f/deployments/{built['$id']}/builds/{built['buildId']}"
    assert shown["buildId"] != built["buildId"]
    refused(api.post(good), 400, "build_in_progress")
    refused(guest.post("/functions/f/executions"), 401, "user_unauthorized")
    once = {"Idempotency-Key": "openapi"}
    execution = given(api.post("/functions/f/executions", json={"data": "1", "async": False}, headers=once), 201)
    refused(api.post("/functions/f/executions", json={"data": "2"}, headers=once), 409, "execution_already_exists")
    refused(api.post(f"/functions/f/executions/{execution['$id']}/cancel"), 400, "execution_ended")
    with user(server, api, "jane") as jane:
        watched.watch(jane)
        for _ in range(61):
            answer = jane.post("/functions/f/executions")
        refused(answer, 429, "general_rate_limit_exceeded")
    types = {
        type_
        for endpoint in ROUTES
        for code, said in document([endpoint])["paths"][endpoint.path][endpoint.method.lower()]["responses"].items()
        if code >= "400"
        for type_ in said["content"]["application/json"]["schema"]["allOf"][1]["properties"]["type"]["enum"]
    }
    # Those that take a damaged disk, an old key, a removed runtime, or a moment that can't be held.
    rare = {
        *("general_server_error", "general_unknown", "project_key_expired", "function_runtime_unsupported"),
        "execution_in_progress",
    }
    assert watched.types == types - rare


# -- the page -----------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page has: texts, ids, links and whatever a browser would fetch or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            elif name in ("href", "src"):
                self.links.append(str(value))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_shows_every_route_parameter_and_field(server: Serving, described: dict[str, Any]) -> None:
    with client(server, {}) as anybody:
        html = anybody.get("/docs").text
    for method, path, operation in operations(described):
        start = html.index(f'id="{operation["operationId"]}"')
        section = Page(html[start : html.index("</section>", start)])
        shown = " ".join(section.texts)
        assert {method, path, operation.get("x-scope", "none")} <= set(section.texts)
        assert operation["summary"].replace("`", "") in "".join(section.texts)
        assert "curl" in shown
        names = [one["name"] for one in operation.get("parameters", ())]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            names += content["schema"]["properties"]
        assert set(names) <= set(section.texts), operation["operationId"]
        assert set(operation["responses"]) <= set(section.texts)
    page = Page(html)
    for name, record in described["components"]["schemas"].items():
        assert {name, *(f"{name}.{field}" for field in record["properties"])} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_the_pages_examples_can_be_pasted_into_a_shell(server: Serving, api: httpx.Client, tmp_path: Path) -> None:
    with client(server, {}) as anybody:
        html = anybody.get("/docs").text
    examples = {}
    for endpoint in ROUTES:
        start = html.index(f'id="{operation_id(endpoint)}"')
        shown = re.search(r"<pre><code>(.*?)</code></pre>", html[start:], re.DOTALL)
        assert shown is not None
        examples[operation_id(endpoint)] = unescape(shown[1])
    (tmp_path / "code.tar.gz").write_bytes(SMALLEST)
    place = {"api": server.endpoint, "project": server.project, "key": server.key, "PATH": os.environ["PATH"]}
    ids: dict[str, str] = {}

    def paste(operation: str) -> str:
        shell = examples.pop(operation)
        for sample, real in ids.items():
            shell = shell.replace(sample, real)
        seconds = 1 if operation == "functionsStreamExecutions" else 20
        limited = shell.replace("curl ", f"curl --silent --show-error --max-time {seconds} --noproxy '*' ", 1)
        done = subprocess.run(
            ["bash", "-c", limited], env=place, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0 or operation == "functionsStreamExecutions", (shell, done.stderr)
        return done.stdout

    assert json.loads(paste("functionsCreate"))["$id"] == "hello"
    sent = json.loads(paste("functionsCreateDeployment"))
    built = wait_for_build(api, sent)
    assert (built["status"], built["activate"]) == ("ready", True)
    ids["6610b41fd5c49dcbecbf"], ids["6610b41fe2a7d04c1b83"] = built["$id"], built["buildId"]
    eventually(lambda: given(api.get("/functions/hello")), lambda one: one["deployment"] == built["$id"])
    execution = json.loads(paste("functionsCreateExecution"))
    assert (execution["status"], execution["statusCode"]) == ("completed", 200), execution
    ids["6610b42042f8a7b6fa5a"] = execution["$id"]
    assert json.loads(paste("functionsCancelExecution"))["type"] == "execution_ended"
    assert json.loads(paste("functionsRetryBuild"))["type"] == "build_in_progress"
    assert paste("functionsStreamExecutions").startswith("retry: 1000")
    paste("functionsDownloadDeployment")
    assert (tmp_path / f"hello-{built['$id']}.tar.gz").read_bytes() == SMALLEST
    assert paste("docsGet") == html
    for operation in [one for one in examples if "Delete" not in one]:
        assert "code" not in json.loads(paste(operation)), operation
    for what in ("Execution", "Deployment", ""):
        assert paste(f"functionsDelete{what}") == ""
    assert examples == {}
    refused(api.get("/functions/hello"), 404, "function_not_found")


def test_the_page_asks_for_nothing_and_runs_nothing(server: Serving) -> None:
    with client(server, {}) as anybody:
        answer = anybody.get("/docs")
    page = Page(answer.text)
    assert {link for link in page.links if not link.startswith("#")} == {"/v1/openapi.json", "data:,"}
    assert page.tags.isdisjoint({"script", "img", "iframe", "object", "embed", "form", "base"})
    assert not [name for name in page.attributes if name.startswith("on") or name == "style"]
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_the_page_escapes_whatever_the_document_says() -> None:
    def spoiled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: spoiled(one) if name not in ("type", "$ref", "in") else one for name, one in value.items()}
        if isinstance(value, list):
            return [spoiled(one) for one in value]
        return value + "<script>\"'&" if isinstance(value, str) and " " in value else value

    clean = document(ROUTES)
    html = api_page.render(spoiled(clean))
    assert html != api_page.render(clean)
    assert "script" not in Page(html).tags
    assert Page(html).attributes == Page(api_page.render(clean)).attributes
