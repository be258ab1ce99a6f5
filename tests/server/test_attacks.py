"""Requests that mean harm or are broken: never a 500, never a hang, never a traceback in the log.

The last is looked at where the server ends (``tests/serving.py``).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.asking import create, deploy, execute, given, packed, raw, refused, upload, wait_for_build
from tests.server.listening import address
from tests.serving import RUNTIME, Serving

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(autouse=True)
def still_alive(server: Serving, api: httpx.Client) -> Iterator[None]:
    """Whatever a test did, the server answers as before."""
    yield
    assert server.process.poll() is None
    assert given(api.get("/health/version"))["version"]
    assert given(api.get("/functions"))["total"] < 100


def handled(answer: httpx.Response) -> int:
    """Look at an answer that may be good or a refusal, but nothing else."""
    assert answer.status_code < 500, (answer.status_code, answer.text[:500])
    if answer.status_code >= 400 and answer.text != "Invalid HTTP request received.":  # below the application
        assert list(answer.json()) == ["message", "code", "type", "version"]
    return answer.status_code


def nested(levels: int, form: str) -> bytes:
    opening, closing = {"array": (b"[", b"]"), "object": (b'{"a":', b"}")}[form]
    return opening * levels + b"1" + closing * levels


# -- bodies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [50, 64, 65, 500, 900, 950, 970, 980, 985, 990, 995, 1_000, 5_000, 100_000])
@pytest.mark.parametrize("form", ["array", "object"])
def test_json_nested_without_end_is_refused_or_kept(api: httpx.Client, levels: int, form: str) -> None:
    head = b'{"functionId":"f","name":"f","runtime":"%s","vars":{"v":' % RUNTIME.encode()
    status = handled(api.post("/functions", content=head + nested(levels, form) + b"}}", headers=JSON))
    assert status == (201 if levels <= 63 else 400)
    handled(api.get("/functions"))
    handled(api.post("/functions", content=nested(levels, form), headers=JSON))


@pytest.mark.parametrize("kind", [JSON, FORM, {}, {"Content-Type": "multipart/form-data; boundary=b"}])
@pytest.mark.parametrize(
    "body", [b"\xff" * 1000, b"\0" * 1000, b"%" * 1000, b'{"functionId":"\xff"}', b"\xef\xbb\xbf{}"]
)
def test_bytes_that_are_no_text_are_no_parameters(api: httpx.Client, kind: dict[str, str], body: bytes) -> None:
    assert handled(api.post("/functions", content=body, headers=kind)) == 400


@pytest.mark.parametrize(
    "body",
    [
        '{"functionId": "f", "name": "ä", "runtime": "%s"}'.encode("utf-16"),
        '{"functionId": "f", "name": "ä", "runtime": "%s"}'.encode("utf-16-le"),
        '{"functionId": "f", "name": "ä", "runtime": "%s"}'.encode("utf-32"),
        '{"functionId": "f", "name": "ä", "runtime": "%s"}'.encode("latin-1"),
        '{"functionId": "f", "name": "ä", "runtime": "%s"}'.encode("utf-8-sig"),
        b'{"functionId": "f", "name": "\xed\xa0\x80", "runtime": "%s"}',  # half of a pair
        b'{"functionId": "f", "name": "\xc0\x80", "runtime": "%s"}',  # a null, too long
        b'{"functionId": "f", "name": "\xf4\x90\x80\x80", "runtime": "%s"}',  # beyond Unicode
        b'{"functionId": "f", "name": "a\0b", "runtime": "%s"}',
        b'{"functionId": "f", "name": "f", "runtime": "%s"}\0',
        b'{"functionId": "f", "name": "f", "runtime": "%s"} {}',
        b'{"functionId": "f", "name": "f", "runtime": "%s",}',
        b"{'functionId': 'f', 'name': 'f', 'runtime': '%s'}",
        b'{"functionId": "f", "name": "f", "runtime": "%s", "timeout": NaN}',
        b'{"functionId": "f", "name": "f", "runtime": "%s", "timeout": 1e999}',
        b'{"functionId": "f", "name": "f", "runtime": "%s", "timeout": 0x10}',
        b'{"functionId": "f", "name": "f", "runtime": "%s", "timeout": 1}// comment',
        b'[{"functionId": "f", "name": "f", "runtime": "%s"}]',
        b'"{}"',
        b"1",
        b"true",
    ],
)
@pytest.mark.parametrize("charset", ["", "; charset=utf-16", "; charset=latin-1"])
def test_json_is_utf_8_and_nothing_else(api: httpx.Client, body: bytes, charset: str) -> None:
    content = body.replace(b"%s", RUNTIME.encode())
    answer = api.post("/functions", content=content, headers={"Content-Type": f"application/json{charset}"})
    refused(answer, 400, "general_argument_invalid")
    assert given(api.get("/functions"))["total"] == 0


@pytest.mark.parametrize("kind", ["application/json; charset=utf-16", "Application/JSON ;x", "application/json;;"])
def test_what_stands_behind_the_content_type_is_ignored(api: httpx.Client, kind: str) -> None:
    body = json.dumps({"functionId": "f", "name": "ä", "runtime": RUNTIME}).encode()
    assert given(api.post("/functions", content=body, headers={"Content-Type": kind}), 201)["name"] == "ä"


def test_of_fields_of_one_name_the_last_counts(api: httpx.Client) -> None:
    body = b'{"functionId": "f", "name": "first", "runtime": "%s", "name": "last"}' % RUNTIME.encode()
    assert given(api.post("/functions", content=body, headers=JSON), 201)["name"] == "last"
    assert (
        given(api.put("/functions/f", content=b"name=first&name=last&name[]=x&name=end", headers=FORM))["name"] == "end"
    )
    parts: Any = [("name", (None, "first")), ("name", (None, "last"))]
    assert given(api.put("/functions/f", files=parts))["name"] == "last"
    create(api, "g")
    assert [one["$id"] for one in given(api.get("/functions?limit=5&limit=1&offset=1"))["functions"]] == ["g"]
    refused(api.get("/functions?limit=5&limit=x"), 400, "general_argument_invalid")


def test_of_projects_in_the_query_the_last_counts(api: httpx.Client, server: Serving) -> None:
    given(api.get(f"/functions?project=nobody&project={server.project}"))
    refused(api.get(f"/functions?project={server.project}&project=nobody"), 404, "project_not_found")


def test_an_id_in_the_path_wins_over_one_in_the_body(api: httpx.Client) -> None:
    create(api, "f")
    create(api, "g", name="untouched")
    for request in ({"json": {"functionId": "g", "name": "x"}}, {"data": {"functionId": "g", "name": "x"}}):
        assert given(api.put("/functions/f?functionId=g", **request))["$id"] == "f"  # type: ignore[arg-type]
    assert given(api.get("/functions/g"))["name"] == "untouched"


@pytest.mark.parametrize("digits", [20, 309, 4_301, 6_000_000])
@pytest.mark.parametrize("before", [b"", b"-", b"1.", b"1e", b"1e-", b"0."])
@pytest.mark.parametrize("name", [b'"timeout":%s', b'"vars":{"a":%s}', b'"unknown":%s'])
def test_numbers_without_end_are_refused_or_kept(api: httpx.Client, name: bytes, before: bytes, digits: int) -> None:
    create(api)
    body = b'{"name":"f",' + name % (before + b"1" * digits) + b"}"
    began = time.monotonic()
    assert handled(api.put("/functions/f", content=body, headers=JSON)) in (200, 400)
    assert time.monotonic() - began < 2
    given(api.get("/functions/f"))


PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\nx\r\n'


@pytest.mark.parametrize(
    "body",
    [
        PART % (b"entry\0point", b"main.py") + FILE % (b"code", b"c.gz"),
        PART % (b"entrypoint", b"main\0.py") + FILE % (b"code", b"c.gz"),
        PART % (b"entrypoint", b"main.py") + FILE % (b"co\0de", b"c.gz"),
        PART % (b"entrypoint", b"main.py") + FILE % (b"code", b"c.gz\0.txt"),
        PART % (b"entrypoint", b"main.py") + FILE % (b"code", b"c\0.gz"),
        PART % (b"entrypoint", b"main.py") + FILE % (b"code", b"../../../c.gz"),
        PART % (b"entrypoint", b"main.py") + FILE % (b"code", b"x" * 10_000 + b".gz"),
        PART % (b"entrypoint", b"main.py") + FILE % (b"code", b"\xff.gz"),
        PART % (b"entrypoint", b"main.py") + FILE % (b"code", b""),
        PART % (b"entrypoint", b"main.py") + b'--b\r\nContent-Disposition: form-data; name="code"; filename*=x\r\n\r\n',
        PART % (b"x" * 100_000, b"main.py"),
        b"--b\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\nx\r\n",
        b"--b\r\nX-A: " + b"b" * 1_000_000 + b"\r\n\r\nx\r\n",
        b"--b\r\n" * 10_000,
        b"\r\n" * 100_000,
        b"--b--\r\n" + PART % (b"entrypoint", b"main.py"),
    ],
)
@pytest.mark.parametrize("end", [b"--b--\r\n", b"--b", b""])
def test_odd_parts_of_a_form_are_refused_or_kept(api: httpx.Client, body: bytes, end: bytes) -> None:
    create(api)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = api.post("/functions/f/deployments", content=body + end, headers=headers)
    if handled(answer) == 201:
        built = wait_for_build(api, answer.json())
        assert built["status"] == "failed"


@pytest.mark.parametrize(
    "text", [b"a\0b", b"a%00b", b"\xc0\x80", b"%c0%80", b"\r\nX-A: b", b"%0d%0aX-A:%20b", b"\xff", b"%ff", b"%", b"%zz"]
)
def test_odd_bytes_in_a_form_are_kept_and_do_no_harm(api: httpx.Client, text: bytes) -> None:
    create(api)
    for body in (b"name=" + text, b"name=f&" + text + b"=1", b"name=f&execute[" + text + b"]=role:all"):
        answer = api.put("/functions/f", content=body, headers=FORM)
        assert handled(answer) == 200
        assert "x-a" not in answer.headers
    assert given(api.get("/functions/f"))["execute"] == ["role:all"]


@pytest.mark.parametrize("kind", [JSON, FORM, {}])
def test_a_body_of_more_than_six_megabytes_is_refused(api: httpx.Client, kind: dict[str, str]) -> None:
    answer = api.post("/functions", content=b" " * (6 * 1024 * 1024 + 1), headers=kind)
    said = "The request is larger than 6291456 bytes"
    refused(answer, 400, "general_argument_invalid", said)


def test_a_body_without_a_length_is_read_and_limited(api: httpx.Client) -> None:
    body = json.dumps({"functionId": "f", "name": "f", "runtime": RUNTIME}).encode()
    given(api.post("/functions", content=(body[i : i + 7] for i in range(0, len(body), 7)), headers=JSON), 201)
    endless = (b" " * 65_536 for _ in range(200))
    with contextlib.suppress(httpx.WriteError):  # cut while it was still talking
        refused(api.post("/functions", content=endless, headers=JSON), 400, "general_argument_invalid")


@pytest.mark.parametrize("separator", ["&", "&&"])
def test_ten_thousand_fields_are_too_many(api: httpx.Client, separator: str) -> None:
    fields = separator.join(f"f{number}=x" for number in range(10_000))
    said = "There are more than 1000 parameters"
    refused(api.post("/functions", content=fields, headers=FORM), 400, "general_argument_invalid", said)
    parts: Any = [(f"f{number}", (None, "x")) for number in range(10_000)]
    assert handled(api.post("/functions", files=parts)) == 400
    files: Any = [("code", (f"{number}.gz", b"x")) for number in range(2_000)]
    create(api)
    assert handled(api.post("/functions/f/deployments", data={"entrypoint": "m"}, files=files)) == 400


def test_a_query_of_ten_thousand_fields_is_too_many(api: httpx.Client) -> None:
    query = "&".join(f"{number}" for number in range(5_000))
    refused(api.get(f"/functions?{query}"), 400, "general_argument_invalid")


@pytest.mark.parametrize(
    "text",
    [
        rb"\ud800",
        rb"\udfff\ud800",
        rb"\u0000",
        rb"a\u0000b",
        rb"\uffff",
        rb"\u202e",
        rb"\n\r\t",
        rb"'; DROP TABLE functions; --",
        rb"%s%n%x",
        rb"../../../etc/passwd",
        rb"${jndi:ldap://x}",
        rb"\u001b[31m",
    ],
)
@pytest.mark.parametrize(
    "parameter",
    ["functionId", "name", "execute", "runtime", "events", "schedule", "timeout", "varsname", "varsvalue", "varsdeep"],
)
def test_odd_characters_in_every_parameter_are_kept_or_refused(api: httpx.Client, parameter: str, text: bytes) -> None:
    fields = {"functionId": b'"f"', "name": b'"f"', "runtime": json.dumps(RUNTIME).encode()}
    quoted = b'"' + text + b'"'
    values = {
        "execute": b"[%s]" % quoted,
        "events": b"[%s]" % quoted,
        "varsname": b"{%s:1}" % quoted,
        "varsvalue": b'{"A":%s}' % quoted,
        "varsdeep": b'{"A":[{%s:[%s]}]}' % (quoted, quoted),
    }
    name = "vars" if parameter.startswith("vars") else parameter
    fields[name] = values.get(parameter, quoted)
    body = b"{%s}" % b",".join(b'"%s":%s' % (key.encode(), value) for key, value in fields.items())
    status = handled(api.post("/functions", content=body, headers=JSON))
    if status == 201:
        shown = given(api.get("/functions"))["functions"][0]
        if parameter == "name":
            assert shown["name"] == json.loads(quoted)
        assert handled(api.put("/functions/f", content=body, headers=JSON)) == 200
        handled(api.get("/functions", params={"search": json.loads(quoted)}))


def test_functions_with_odd_names_and_variables_still_run(api: httpx.Client) -> None:
    deploy(api, "environment")
    given(api.put("/functions/f", json={"name": "a\0b\uffff\x1b", "vars": {"A": "\x01\n", "B": {"deep": "\0"}}}))
    done = execute(api, "\0\x01")
    assert done["status"] == "completed", done["stderr"]
    found = json.loads(done["response"])["request"]
    assert (found["A"], json.loads(found["B"])) == ("\x01\n", {"deep": "\0"})


@pytest.mark.parametrize(
    "entrypoint", ["\0", "a\0.py", "\x1b[31m", "main.py:\0", "main.py:a b", "main.py:" + "é" * 900]
)
def test_odd_entry_points_fail_their_build_or_their_execution(api: httpx.Client, entrypoint: str) -> None:
    create(api)
    sent = given(upload(api, packed("sends"), entrypoint=entrypoint, activate=True), 201)
    built = wait_for_build(api, sent)
    if built["status"] == "ready":
        done = execute(api, "200 x")
        assert (done["status"], bool(done["stderr"])) == ("failed", True)


SEARCHES = [
    "'",
    '"',
    '"""',
    "\\",
    "*",
    "(",
    ")",
    "a AND",
    "NOT",
    "NEAR(a b)",
    "a:b",
    "^a",
    "{a b}",
    "\0",
    "a\0b",
    "-",
    "+",
]
SEARCHES += ["@", "%", "_", "\U0001f980", "\ufffd", " ", "é" * 256, "a " * 128, '" OR "1"="1', "name:*", "-a*", "\n"]


@pytest.mark.parametrize("search", SEARCHES)
def test_no_search_is_a_mistake(api: httpx.Client, search: str) -> None:
    create(api, name="findable")
    for path in ("/functions", "/functions/f/deployments", "/functions/f/executions"):
        assert handled(api.get(path, params={"search": search})) == 200


# -- paths, headers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/functions/%00",
        "/functions/%FF",
        "/functions/%ED%A0%80",
        "/functions/..%2f..%2fetc%2fpasswd",
        "/functions/../../etc/passwd",
        "/functions/%0A",
        "/functions/f%0A",
        "/functions/f%00/deployments",
        "/functions/'%20OR%201=1",
        "/functions/" + "x" * 8000,
        "/functions/f/deployments/%F0%9F%A6%80",
        "/" + "a/" * 3000,
        "//",
        "/functions?" + "x" * 8000,
        "/functions?%",
        "/functions?limit=%00",
        "/functions?cursor=%F0%9F%A6%80",
    ],
)
def test_odd_paths_are_refused(api: httpx.Client, path: str) -> None:
    for method in ("GET", "DELETE", "POST"):
        handled(api.request(method, path))


def line_of(server: Serving, method: str, target: bytes, *more: bytes, body: bytes = b"") -> bytes:
    """Return a request with the key, as bytes."""
    named = [f"{name}: {value}".encode() for name, value in server.headers.items()]
    return b"\r\n".join([method.encode() + b" " + target + b" HTTP/1.1", b"Host: localhost", *named, *more, b"", body])


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/v1//functions/f", 404),
        (b"//v1/functions/f", 404),
        (b"//localhost/v1/functions/f", 404),
        (b"/v1/./functions/f", 404),
        (b"/v1/functions/./f", 404),
        (b"/v1/x/../functions/f", 404),
        (b"/v1/functions/x/../f", 404),
        (b"/v1/functions/..", 400),
        (b"/v1/functions/%2e%2e", 400),
        (b"/v1/functions/%2e%2e/functions/f", 404),
        (b"/v1/functions/f%2f", 404),
        (b"/v1/functions%2ff", 404),
        (b"/v1%2Ffunctions/f", 404),
        (b"/v1/functions/f%5c", 400),
        (b"/v1/functions/f%252f", 400),
        (b"/v1/functions/f;x=y", 400),
        (b"/v1/functions;x/f", 404),
        (b"/v1/functions/f//", 404),
        (b"/v1/functions//", 400),
        (b"/v1/functions//f", 404),
        (b"/V1/functions/f", 404),
        (b"/v1/FUNCTIONS/f", 404),
        (b"/v1/functions/f%20", 400),
        (b"/v1/functions/f\\", 400),
        (b"/v1/functions/f\0", 400),
        (b"/v1/functions/\xc3\xa4", 400),
        (b"/v1/functions/f\x7f", 400),
        (b"/v1/functions/f\t", 400),
        (b"/v1/functions/f\x0bHTTP/1.1", 400),
        (b"v1/functions/f", 400),
        (b"http://localhost", 400),
        (b"http:///v1/functions/f", 400),
        (b"*", 404),
        (b"?", 400),
        (b"/v1/functions/" + b"f" * 60_000, 400),
        (b"/v1/functions?x=/functions/f", 404),
    ],
)
def test_a_path_is_taken_as_it_is_written(api: httpx.Client, server: Serving, target: bytes, status: int) -> None:
    create(api)
    answer = raw(server.port, line_of(server, "DELETE", target))
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:300]
    given(api.get("/functions/f"))


@pytest.mark.parametrize(
    "target", [b"/v1/functions/f", b"/v1/functions/%66", b"/v1/functions/f/", b"/v1/functions/f?x#y"]
)
def test_a_path_that_is_written_otherwise_is_the_same(api: httpx.Client, server: Serving, target: bytes) -> None:
    create(api)
    assert raw(server.port, line_of(server, "DELETE", target)).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize(
    "headers",
    [
        {b"Content-Type": b"\xff"},
        {b"Content-Type": b"application/json; charset=nonsense"},
        {b"Content-Type": b"multipart/form-data; boundary=" + b"x" * 10_000},
        {b"Content-Type": b";;;"},
        {b"X-Appwrite-Project": b"\xff\xfe"},
        {b"X-Appwrite-Key": b"\xff" * 1000},
        {b"X-Appwrite-Response-Format": b"\xff"},
        {b"X-Appwrite-Response-Format": b"0." + b"9" * 6000},
        {b"X-Appwrite-Response-Format": b"\xb2.\xb3"},
        {b"X-Appwrite-ID": b"\xff"},
        {b"Content-Range": b"\xff"},
        {b"Content-Range": b"bytes 0-0/0"},
        {b"Expect": b"100-continue"},
        {b"Expect": b"nonsense"},
        {b"Connection": b"Upgrade", b"Upgrade": b"websocket"},
        {b"Connection": b"Upgrade", b"Upgrade": b"h2c"},
        {b"X-Forwarded-For": b"x" * 5000},
        {b"Accept-Encoding": b"\xff"},
        {b"Range": b"bytes=0-1"},
        {b"Cookie": b"a_session_default=x"},
        {b"X-Appwrite-JWT": b"x.y.z"},
        {b"Host": b"\xff"},
    ],
)
def test_odd_headers_are_handled(api: httpx.Client, headers: dict[bytes, bytes]) -> None:
    create(api)
    handled(api.get("/functions", headers=headers))
    handled(
        api.put("/functions/f", content=b'{"name": "x"}', headers={b"Content-Type": b"application/json", **headers})
    )
    form = {"data": {"entrypoint": "main.py"}, "files": {"code": ("c.gz", b"")}}
    if b"Content-Type" not in headers:
        handled(api.post("/functions/f/deployments", headers=headers, **form))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [b"x" * 200_000, b"a," * 100_000, b":" * 200_000, b"[" * 200_000, b"1." * 100_000, b";q=0 " * 40_000]
)
@pytest.mark.parametrize("key", [True, False])
def test_long_headers_take_no_time(server: Serving, value: bytes, key: bool) -> None:
    began = time.monotonic()
    for name in (
        "Host",
        "Origin",
        "Referer",
        "Accept-Encoding",
        "Content-Type",
        "X-Forwarded-For",
        "X-Appwrite-Project",
        "X-Appwrite-JWT",
        "X-Appwrite-Response-Format",
        "Idempotency-Key",
        "Cookie",
    ):
        headers = {b"Host": b"localhost", b"X-Appwrite-Project": server.project.encode()}
        headers |= {own.encode(): text.encode() for own, text in address().items()}
        headers |= {b"X-Appwrite-Key": server.key.encode()} if key else {}
        headers[name.encode()] = value.strip()
        lines = [b"%b: %b" % header for header in headers.items()]
        start = b"POST /v1/functions/nothing/executions HTTP/1.1"
        answer = raw(server.port, b"\r\n".join([start, *lines, b"Content-Length: 0", b"Connection: close", b"", b""]))
        assert answer.startswith(b"HTTP/1.1 4"), (name, answer[:300])
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("body", ["content-length", "chunked"])
@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_a_wish_to_upgrade_is_ignored(api: httpx.Client, server: Serving, upgrade: str, apart: bool, body: str) -> None:
    create(api)
    content = b'{"name": "upgraded"}'
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    lines = [
        "PUT /v1/functions/f HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade, HTTP2-Settings",
        f"Upgrade: {upgrade}",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}" if body == "content-length" else "Transfer-Encoding: chunked",
        *(f"{name}: {value}" for name, value in server.headers.items()),
    ]
    head = "\r\n".join([*lines, "", ""]).encode()
    sent = content if body == "content-length" else chunked
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for _ in range(2):  # the second request on the same connection is whole as well
            for piece in [head, sent] if apart else [head + sent]:
                connection.sendall(piece)
                time.sleep(0.02 if apart else 0)
            answer = connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert b'"name":"upgraded"' in answer


def test_a_hundred_headers_of_one_name_are_handled(api: httpx.Client, server: Serving) -> None:
    lines = b"".join(b"X-Appwrite-Key: wrong\r\nX-Appwrite-Project: default\r\n" for _ in range(100))
    answer = raw(server.port, b"GET /v1/functions HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")


# -- the protocol itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 1000 + b"\r\n\r\n",
        b"\xff\xfe\xfd\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/functions\r\n\r\n",
        b"GET /v1/functions HTTP/9.9\r\n\r\n",
        b"get /v1/functions HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET v1/functions HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://[::1/v1/functions HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/functions HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v1/functions HTTP/1.1\r\n: empty\r\n\r\n",
        b"GET /v1/functions HTTP/1.1\r\nHost: localhost\r\nX-A: \0\r\n\r\n",
        b"POST /v1/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST /v1/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n",
        b"POST /v1/functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"POST /v1/functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_at_once(server: Serving, garbage: bytes) -> None:
    began = time.monotonic()
    answer = raw(server.port, garbage)
    assert time.monotonic() - began < 5
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:200]


CHUNKED = b"Transfer-Encoding: chunked"


def framed(*headers: bytes, body: bytes = b"") -> tuple[list[bytes], bytes]:
    return [*headers], body


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        framed(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\nHIDDEN"),
        framed(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\nHIDDEN"),
        framed(CHUNKED, b"Content-Length: 0", body=b"0\r\n\r\nHIDDEN"),
        framed(b"Content-Length: 0", CHUNKED, body=b"0\r\n\r\nHIDDEN"),
        framed(b"Content-Length: 0", b"Content-Length: 3", body=b"abcHIDDEN"),
        framed(b"Content-Length: 3", b"Content-Length: 3", body=b"abcHIDDEN"),
        framed(b"Content-Length: 0, 0", body=b"HIDDEN"),
        framed(b"Content-Length: +0", body=b"HIDDEN"),
        framed(b"Content-Length: -0", body=b"HIDDEN"),
        framed(b"Content-Length: -1", body=b"HIDDEN"),
        framed(b"Content-Length: 0x0", body=b"HIDDEN"),
        framed(b"Content-Length: 0 0", body=b"HIDDEN"),
        framed(b"Content-Length: 0.0", body=b"HIDDEN"),
        framed(b"Content-Length: 1_0", body=b"HIDDEN"),
        framed(b"Content-Length:", body=b"HIDDEN"),
        framed(b"Content-Length: \xd9\xa0", body=b"HIDDEN"),
        framed(b"Content-Length: 99999999999999999999", body=b"HIDDEN"),
        framed(b"Content-Length : 0", body=b"HIDDEN"),
        framed(b"Content-Length\t: 0", body=b"HIDDEN"),
        framed(b"Content\xadLength: 0", b"Content-Length : 3", body=b"HIDDEN"),
        framed(b"Transfer-Encoding : chunked", body=b"0\r\n\r\nHIDDEN"),
        framed(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\nHIDDEN"),
        framed(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\nHIDDEN"),
        framed(b"Transfer-Encoding: identity", body=b"0\r\n\r\nHIDDEN"),
        framed(b"Transfer-Encoding: identity", b"Content-Length: 0", body=b"HIDDEN"),
        framed(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\nHIDDEN"),
        framed(CHUNKED, CHUNKED, body=b"0\r\n\r\nHIDDEN"),
        framed(CHUNKED, b"Transfer-Encoding: identity", body=b"0\r\n\r\nHIDDEN"),
        framed(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\nHIDDEN"),
        framed(b"Transfer-Encoding: \xa0chunked", body=b"0\r\n\r\nHIDDEN"),
        framed(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\nHIDDEN"),
        framed(b"Transfer-Encoding:", body=b"0\r\n\r\nHIDDEN"),
        framed(b"X-A: b\r\n Transfer-Encoding: chunked", body=b"0\r\n\r\nHIDDEN"),
        framed(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\nHIDDEN"),
        framed(b"Transfer-Encoding\r\n: chunked", body=b"0\r\n\r\nHIDDEN"),
        framed(b"X-A: b\nTransfer-Encoding: chunked", body=b"0\r\n\r\nHIDDEN"),
        framed(b"X-A: b\rTransfer-Encoding: chunked", body=b"0\r\n\r\nHIDDEN"),
        framed(b"X-A: b\0Transfer-Encoding: chunked", body=b"0\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"0\n\nHIDDEN"),
        framed(CHUNKED, body=b"3\nabc\n0\n\nHIDDEN"),
        framed(CHUNKED, body=b"3\r\nabcXX0\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"3\r\nabcHIDDEN"),
        framed(CHUNKED, body=b"2\r\nabc\r\n0\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"0x0\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"+0\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"-1\r\nHIDDEN"),
        framed(CHUNKED, body=b" 0\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"0 \r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"0;a\nb\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b'0;a="\n"\r\n\r\nHIDDEN'),
        framed(CHUNKED, body=b"fffffffffffffffffffffffff\r\nHIDDEN"),
        framed(CHUNKED, body=b"1" + b"0" * 16 + b"\r\nHIDDEN"),
        framed(CHUNKED, body=b"0\r\nno colon\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"0\r\n X-A: b\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"0\r\nContent-Length : 9\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"0\r\nContent-Length: 9\r\n\r\nHIDDEN"),
        framed(CHUNKED, body=b"0\r\nTransfer-Encoding: chunked\r\n\r\nHIDDEN"),
    ],
)
@pytest.mark.parametrize("upgrade", [[], [b"Connection: Upgrade", b"Upgrade: h2c"]])
def test_no_request_hides_behind_a_length_that_is_read_in_two_ways(
    api: httpx.Client, server: Serving, headers: list[bytes], body: bytes, upgrade: list[bytes]
) -> None:
    create(api)
    hidden = line_of(server, "DELETE", b"/v1/functions/f")
    line = line_of(server, "POST", b"/v1/functions", *upgrade, *headers, body=body.replace(b"HIDDEN", hidden))
    answer = whole(server.port, line)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    given(api.get("/functions/f"))


def whole(port: int, *pieces: bytes) -> bytes:
    """Send bytes, and return everything that comes until the server closes the connection."""
    received = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        contextlib.suppress(ConnectionResetError, BrokenPipeError),
    ):
        for piece in pieces:
            connection.sendall(piece)
        while piece := connection.recv(65536):
            received += piece
    return received


CLOSE = b"Connection: close"
CONTENT = b'{"name": "sent"}'


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        framed(b"Content-Length: %d" % len(CONTENT), body=CONTENT),
        framed(b"Content-Length: 00000%d" % len(CONTENT), body=CONTENT),
        framed(b"content-LENGTH:%d \t " % len(CONTENT), body=CONTENT),
        framed(CHUNKED, body=b"10\r\n%b\r\n0\r\n\r\n" % CONTENT),
        framed(b"TRANSFER-encoding:\tChunked", body=b"10\r\n%b\r\n0\r\n\r\n" % CONTENT),
        framed(CHUNKED, body=b"0000000010\r\n%b\r\n000\r\n\r\n" % CONTENT),
        framed(CHUNKED, body=b'10;a=b;c="d e";f\r\n%b\r\n0;x\r\n\r\n' % CONTENT),
        framed(CHUNKED, body=b"10;%b\r\n%b\r\n0\r\n\r\n" % (b"x" * 100_000, CONTENT)),
        framed(CHUNKED, body=b"".join(b"1\r\n%c\r\n" % byte for byte in CONTENT) + b"0\r\n\r\n"),
        framed(CHUNKED, body=b"10\r\n%b\r\n0\r\nX-A: b\r\nHost: evil.example\r\n\r\n" % CONTENT),
    ],
)
@pytest.mark.parametrize("apart", [True, False])
def test_a_body_that_is_framed_well_is_read_however_it_comes(
    api: httpx.Client, server: Serving, headers: list[bytes], body: bytes, apart: bool
) -> None:
    create(api)
    line = line_of(server, "PUT", b"/v1/functions/f", b"Content-Type: application/json", CLOSE, *headers, body=body)
    pieces = [line[i : i + 1] for i in range(min(len(line), 2000))] + [line[2000:]] if apart else [line]
    answer = whole(server.port, *pieces)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert given(api.get("/functions/f"))["name"] == "sent"


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("upgrade", [[], [b"Connection: close, Upgrade", b"Upgrade: h2c"]])
def test_headers_behind_the_body_are_not_the_requests(
    api: httpx.Client, server: Serving, apart: bool, upgrade: list[bytes]
) -> None:
    create(api)
    lines = [b"PUT /v1/functions/f HTTP/1.1", b"Host: localhost", b"X-Appwrite-Project: default", CHUNKED]
    head = b"\r\n".join([*lines, *(upgrade or [CLOSE]), b"", b""])
    body = b"6\r\nname=x\r\n0\r\nX-Appwrite-Key: %b\r\n" % server.key.encode()
    end = b"Content-Type: application/json\r\nOrigin: https://evil.example\r\n\r\n"
    answer = whole(server.port, *([head, body, end] if apart else [head + body + end]))
    assert answer.startswith(b"HTTP/1.1 401 "), answer
    assert b"User (role: guest) missing scope (functions.write)" in answer
    without = head.replace(b"Host: localhost\r\n", b"") + b"0\r\nHost: localhost\r\n\r\n"
    assert whole(server.port, without).startswith(b"HTTP/1.1 400 ")
    assert given(api.get("/functions/f"))["name"] == "f"


@pytest.mark.parametrize("more", [b"X-A: b\r\n" * 1000, b"x" * 10_000])
def test_headers_behind_the_body_that_have_no_end_are_cut_off(server: Serving, more: bytes) -> None:
    before = memory(server.process.pid)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(line_of(server, "POST", b"/v1/functions", CHUNKED, body=b"0\r\nX-A: "))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(5_000):
                connection.sendall(more)
    assert memory(server.process.pid) - before < 10_000_000


@pytest.mark.parametrize("kind", ["content-length", "chunked"])
def test_a_request_in_a_body_is_no_request(api: httpx.Client, server: Serving, kind: str) -> None:
    create(api)
    hidden = line_of(server, "DELETE", b"/v1/functions/f")
    for method, target in [
        ("GET", b"/v1/functions"),
        ("POST", b"/v1/functions"),
        ("POST", b"/nothing"),
        ("OPTIONS", b"/"),
    ]:
        if kind == "chunked":
            line = line_of(server, method, target, CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden))
        else:
            line = line_of(server, method, target, b"Content-Length: %d" % len(hidden), body=hidden)
        last = line_of(server, "GET", b"/v1/health/version", CLOSE)
        answer = whole(server.port, line + last)
        assert answer.count(b"HTTP/1.1 ") == 2, answer
        assert b'{"version":' in answer
    given(api.get("/functions/f"))


def test_nothing_is_done_behind_a_request_that_closes(api: httpx.Client, server: Serving) -> None:
    create(api)
    hidden = line_of(server, "DELETE", b"/v1/functions/f")
    for first in (line_of(server, "GET", b"/v1/functions", CLOSE), b"GET /v1/health/version HTTP/1.0\r\n\r\n"):
        answer = whole(server.port, first + hidden)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1 ") == 1
    given(api.get("/functions/f"))


def test_a_hundred_thousand_headers_are_too_many_or_handled(server: Serving) -> None:
    head = b"GET /v1/health/version HTTP/1.1\r\nHost: localhost\r\n"
    assert raw(server.port, head + b"a:\r\n" * 50_000 + b"\r\n").startswith(b"HTTP/1.1 200 ")
    answer = whole(server.port, head, *[b"a:\r\n" * 10_000] * 20, b"\r\n")
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 99_999])
@pytest.mark.parametrize("framing", [b"Content-Length: 100000", CHUNKED, b"Transfer-Encoding: xchunked"])
def test_nothing_is_done_for_a_request_whose_body_never_ends(
    api: httpx.Client, server: Serving, framing: bytes, body: bytes
) -> None:
    create(api)
    content = b"%x\r\n%b\r\n" % (len(body), body) if framing == CHUNKED and body else body
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(line_of(server, "DELETE", b"/v1/functions/f", framing, body=content))
        given(api.get("/functions/f"))
    for _ in range(3):
        given(api.get("/functions/f"))


@pytest.mark.parametrize(
    ("framing", "size"),
    [
        (b"Content-Length: %d" % (6 * 1024 * 1024 + 1), b""),
        (b"Content-Length: %d" % 10**12, b""),
        (b"Content-Length: %d" % (2**63 - 1), b""),
        (CHUNKED, b"600001\r\n"),
        (CHUNKED, b"ffffffffffffffff\r\n"),
    ],
)
def test_a_body_that_is_announced_as_large_is_refused_when_it_is(server: Serving, framing: bytes, size: bytes) -> None:
    head = line_of(server, "POST", b"/v1/functions", framing, body=size)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head + b" " * (6 * 1024 * 1024 + 1))
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"The request is larger than 6291456 bytes" in answer


def test_requests_one_behind_the_other_are_all_answered(server: Serving) -> None:
    one = b"GET /v1/health/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /v1/health/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(one * 20 + last)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 21


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_ten_thousand_requests_at_once_are_answered_and_not_held_in_memory(server: Serving, method: str) -> None:
    length = b"Content-Length: 0\r\n" if method == "POST" else b""
    one = method.encode() + b" /v1/nothing HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % length
    highest = before = memory(server.process.pid)
    count, end = 0, b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        sending = threading.Thread(target=connection.sendall, args=(one * 20_000,))
        sending.start()
        while count < 20_000:
            received = connection.recv(1_000_000)
            assert received
            count += (end + received).count(b"HTTP/1.1 404 ")
            end = received[-12:]
            highest = max(highest, memory(server.process.pid))
        sending.join()
    assert highest - before < 25_000_000, f"grew by {(highest - before) / 1e6:.1f} MB"


def test_old_http_is_answered(server: Serving) -> None:
    assert raw(server.port, b"GET /v1/health/version HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("begun", [b"GET /v1/", b"GET /v1/functions HTTP/1.1\r\nHost: localhost\r\nX-A: "])
@pytest.mark.parametrize("more", [b"x" * 10_000, b"\r\nX-B: " + b"x" * 10_000])
def test_a_head_without_end_is_cut_off(server: Serving, begun: bytes, more: bytes) -> None:
    before = memory(server.process.pid)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(begun)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(5_000):
                connection.sendall(more)
    assert memory(server.process.pid) - before < 10_000_000


def memory(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- slow, interrupted, large -------------------------------------------------------------------------------


def head_of_upload(server: Serving, length: int) -> bytes:
    return (
        f"POST /v1/functions/f/deployments HTTP/1.1\r\nHost: localhost\r\nX-Appwrite-Project: {server.project}\r\n"
        f"X-Appwrite-Key: {server.key}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_slow_uploads_hold_nobody_up(api: httpx.Client, server: Serving) -> None:
    deploy(api, "sends")
    part = b'--b\r\nContent-Disposition: form-data; name="code"; filename="c.gz"\r\n\r\n'
    connections = []
    try:
        for _ in range(50):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            connections.append(connection)
            connection.sendall(head_of_upload(server, 1_000_000) + part + b"x" * 1000)
        began = time.monotonic()
        for number in range(10):
            assert execute(api, f"200 {number}")["response"] == str(number)
        assert time.monotonic() - began < 5
    finally:
        for connection in connections:
            connection.close()
    assert given(api.get("/functions/f/deployments"))["total"] == 1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_an_upload_that_breaks_off_leaves_nothing(api: httpx.Client, server: Serving, share: float) -> None:
    create(api)
    part = b'--b\r\nContent-Disposition: form-data; name="entrypoint"\r\n\r\nmain.py\r\n--b\r\n'
    part += (
        b'Content-Disposition: form-data; name="code"; filename="c.gz"\r\n\r\n' + b"x" * 3_000_000 + b"\r\n--b--\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head_of_upload(server, len(part)) + part[: int(len(part) * share)])
    assert given(api.get("/functions/f/deployments"))["total"] == 0
    assert list((server.data_dir / "artifacts").glob("*.tar.gz")) == []
    assert list((server.data_dir / "artifacts").glob(".new-*")) == []


def test_many_connections_that_say_nothing_are_borne(api: httpx.Client, server: Serving) -> None:
    connections = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(300)]
    try:
        assert given(api.get("/functions"))["total"] == 0
    finally:
        for connection in connections:
            connection.close()
