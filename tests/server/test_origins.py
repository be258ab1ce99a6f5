"""From where a server lets itself be called, and the headers of every answer (spec, sections 3.2, 12.1)."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nbfunctions.errors import GeneralUnknownOrigin
from nbfunctions.server.origins import Origins
from nbfunctions.server.routes import endpoints
from nbfunctions.server.server import Server
from nbfunctions.settings import Settings
from tests.server.asking import client, create, deploy, execute, given, raw, refused
from tests.serving import RUNTIME, Serving, serving

ALLOWED = (
    "Origin, Cookie, Set-Cookie, X-Requested-With, Content-Type, Access-Control-Allow-Origin, "
    "Access-Control-Request-Headers, Accept, X-Appwrite-Project, X-Appwrite-Key, X-Appwrite-Locale, X-Appwrite-Mode, "
    "X-Appwrite-JWT, X-Appwrite-Response-Format, X-SDK-Version, X-Appwrite-ID, Content-Range, Range, Cache-Control, "
    "Expires, Pragma"
)
"""The contract's list."""
COMMON = {
    "server": "Appwrite",
    "x-content-type-options": "nosniff",
    "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
    "access-control-allow-headers": f"{ALLOWED}, Idempotency-Key, Last-Event-ID",
    "access-control-expose-headers": "X-Fallback-Cookies",
    "access-control-allow-credentials": "true",
    "vary": "Origin, Accept-Encoding",
    "x-debug-fallback": "true",
}
EVIL = "https://evil.example"
EXECUTIONS = "/functions/f/executions"
ANY = "0.0.0.0"  # noqa: S104 - nothing listens there


def unregistered(host: str) -> str:
    return f"Invalid Origin. Register your new client ({host}) as a new Web platform on your project console dashboard"


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that pages of two platforms may call, and proxies by other names."""
    options = ("--origins", "app.example.org, *.Example.net", "--hosts", "proxy.example.org,*.proxies.example")
    with serving(tmp_path_factory.mktemp("origins") / "data", *options) as found:
        yield found


# -- headers of every answer --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/functions", 200),
        ("HEAD", "/functions", 200),
        ("POST", "/functions", 201),
        ("GET", "/functions/nothing", 404),
        ("GET", "/functions/-", 400),
        ("DELETE", "/functions/f", 204),
        ("GET", "/nothing", 404),
        ("TRACE", "/functions", 404),
        ("GET", "/health/version", 200),
    ],
)
def test_every_answer_has_the_common_headers(api: httpx.Client, method: str, path: str, status: int) -> None:
    if method == "DELETE":
        create(api)
    content = b'{"functionId": "f", "name": "f", "runtime": "%s"}' % RUNTIME.encode() if method == "POST" else None
    headers = {"Content-Type": "application/json", "Origin": "http://localhost:3000"}
    answer = api.request(method, path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    found = {name: answer.headers.get_list(name) for name in [*COMMON, "access-control-allow-origin"]}
    assert found == {name: [value] for name, value in COMMON.items()} | {
        "access-control-allow-origin": ["http://localhost:3000"]
    }
    assert 0 <= float(answer.headers["x-debug-speed"]) < 10
    assert answer.headers["content-type"] == (
        "text/html; charset=UTF-8" if status == 204 else "application/json; charset=UTF-8"
    )
    if status == 204:  # a length would be against RFC 9110
        assert answer.headers.keys().isdisjoint(("content-length", "transfer-encoding"))


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 401),
        ("GET", {"X-Appwrite-Project": "nobody"}, 404),
        ("POST", {"Origin": EVIL}, 403),
        ("GET", {"Host": "evil.example"}, 403),
        ("GET", {"X-Appwrite-JWT": "x"}, 401),
    ],
)
def test_every_refusal_has_the_common_headers(
    guest: httpx.Client, method: str, headers: dict[str, str], status: int
) -> None:
    answer = guest.request(method, "/functions", headers=headers)
    assert answer.status_code == status, answer.text
    assert {name: answer.headers[name] for name in COMMON} == COMMON
    assert float(answer.headers["x-debug-speed"]) >= 0


# -- preflight ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/functions", "/functions/f/executions", "/nothing", "/health/version", "/../x", "/"])
@pytest.mark.parametrize("origin", ["http://localhost:3000", EVIL, "null", ""])
def test_every_path_answers_what_a_browser_asks_first(guest: httpx.Client, path: str, origin: str) -> None:
    headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-appwrite-project"}
    answer = guest.options(path, headers={**headers, **({"Origin": origin} if origin else {})})
    given(answer, 204)
    expected = COMMON | {
        "access-control-allow-headers": f"{COMMON['access-control-allow-headers']}, X-Fallback-Cookies",
        "access-control-allow-origin": origin,
    }
    assert {name: answer.headers[name] for name in expected} == expected


def test_a_preflight_needs_no_project_and_changes_nothing(api: httpx.Client, server: Serving) -> None:
    create(api)
    with client(server, {}) as nobody:
        given(nobody.request("OPTIONS", "/functions/f", content=b"{}", headers={"Origin": EVIL}), 204)
    given(api.get("/functions/f"))


# -- which page reads what it asked for ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.org", "https://app.example.org"),
        ("http://app.example.org:8080", "http://app.example.org:8080"),
        ("https://APP.example.org", "https://app.example.org"),
        ("https://a.example.net", "https://a.example.net"),
        ("https://b.a.example.net", "https://b.a.example.net"),
        ("http://localhost", "http://localhost"),
        ("http://localhost:8888", "http://localhost:8888"),
        ("https://x.localhost:1", "https://x.localhost:1"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("https://evil.example", "https://localhost"),
        ("https://evil.example:444", "https://localhost:444"),
        ("http://example.org", "http://localhost"),
        ("http://example.net", "http://localhost"),
        ("http://x.app.example.org", "http://localhost"),
        ("http://app.example.org.evil.example", "http://localhost"),
        ("http://evilexample.net", "http://localhost"),
        ("http://localhost.evil.example", "http://localhost"),
        ("http://127.0.0.1.evil.example", "http://localhost"),
        ("http://app.example.org@evil.example", "http://localhost"),
        ("chrome-extension://app.example.org", "http://app.example.org"),
        ("null", "http://localhost"),
        ("nonsense", "http://localhost"),
        ("http://[::1", "http://localhost"),
        ("http://localhost:x", "http://localhost"),
        ("http://localhost:99999999", "http://localhost"),
        ("", "http://localhost"),
    ],
)
def test_answers_are_read_by_registered_pages_only(registered: Serving, origin: str, allowed: str) -> None:
    with client(registered) as api:
        answer = api.get("/health/version", headers={"Origin": origin} if origin else {})
    assert given(answer)
    assert answer.headers["access-control-allow-origin"] == allowed


@pytest.mark.parametrize("origin", ["https://proxy.example.org", "https://proxy.example.org:444"])
def test_a_page_of_the_server_itself_reads_its_answers(registered: Serving, origin: str) -> None:
    headers = {"Host": "proxy.example.org", "Origin": origin}
    with client(registered, {"X-Appwrite-Project": registered.project}) as guest:
        answer = guest.get("/health/version", headers=headers)
        assert answer.headers["access-control-allow-origin"] == origin
        refused(guest.post(EXECUTIONS, headers=headers), 404, "function_not_found")


# -- which page changes what --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Origin", "Referer"])
@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("https://evil.example", unregistered("evil.example")),
        ("http://evil.example:8400/page?q#f", unregistered("evil.example")),
        ("http://EVIL.example", unregistered("evil.example")),
        ("ws://evil.example", unregistered("evil.example")),
        ("http://localhost.evil.example", unregistered("localhost.evil.example")),
        ("http://app.example.org@evil.example/", unregistered("evil.example")),
        ("http://example.net", unregistered("example.net")),
        (f"http://{ANY}:8400", unregistered(ANY)),
        ("null", "Unsupported platform"),
        ("file:///home/x.html", "Unsupported platform"),
        ("ftp://localhost", "Unsupported platform"),
        ("chrome-extension://localhost/", "Unsupported platform"),
        ("about:blank", "Unsupported platform"),
        ("http://[::1", "Unsupported platform"),
    ],
)
def test_a_page_that_is_not_registered_changes_nothing(registered: Serving, name: str, page: str, message: str) -> None:
    with client(registered, {"X-Appwrite-Project": registered.project}) as guest:
        answer = guest.post(EXECUTIONS, json={}, headers={name: page})
        refused(answer, 403, "general_unknown_origin", message)
        assert "x-ratelimit-limit" not in answer.headers


@pytest.mark.parametrize("name", ["Origin", "Referer"])
@pytest.mark.parametrize(
    "page",
    [
        "https://app.example.org",
        "http://app.example.org:1/page",
        "https://a.b.example.net/",
        "http://localhost:8888/lab",
        "http://LOCALHOST",
        "http://localhost.",
        "http://127.0.0.1:1",
        "http://[::1]:1/",
        "http://[::ffff:127.0.0.1]:1/",
    ],
)
def test_a_registered_page_may_execute(registered: Serving, name: str, page: str) -> None:
    with client(registered, {"X-Appwrite-Project": registered.project}) as guest:
        refused(guest.post(EXECUTIONS, json={}, headers={name: page}), 404, "function_not_found")


def test_the_origin_counts_before_the_referer(registered: Serving) -> None:
    good, bad = "https://app.example.org", "https://evil.example/"
    with client(registered, {"X-Appwrite-Project": registered.project}) as guest:
        answer = guest.post(EXECUTIONS, headers={"Origin": good, "Referer": bad})
        refused(answer, 404, "function_not_found")
        answer = guest.post(EXECUTIONS, headers={"Origin": bad, "Referer": good})
        refused(answer, 403, "general_unknown_origin", unregistered("evil.example"))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_writes_are_refused_after_project_and_token_and_before_all_else(guest: httpx.Client, method: str) -> None:
    path = "/functions/-/deployments/-" if method == "PATCH" else "/functions" if method == "POST" else "/functions/-"
    headers = {"Origin": EVIL, "Content-Type": "application/json"}
    nobody = guest.request(method, path, content=b"\xff", headers={**headers, "X-Appwrite-Project": "nobody"})
    refused(nobody, 404, "project_not_found")
    liar = guest.request(method, path, content=b"\xff", headers={**headers, "X-Appwrite-JWT": "x.y.z"})
    refused(liar, 401, "user_jwt_invalid")
    answer = guest.request(method, path, content=b"\xff", headers=headers)
    refused(answer, 403, "general_unknown_origin", unregistered("evil.example"))
    del headers["Origin"]
    refused(guest.request(method, path, content=b"\xff", headers=headers), 401, "general_unauthorized_scope")
    lost = guest.request(method, "/nothing", headers={"Origin": EVIL})
    refused(lost, 404, "general_route_not_found")


def test_reading_is_not_refused_by_origin(guest: httpx.Client, api: httpx.Client) -> None:
    said = "User (role: guest) missing scope (functions.read)"
    refused(guest.get("/functions", headers={"Origin": EVIL}), 401, "general_unauthorized_scope", said)
    answer = api.get("/functions", headers={"Origin": EVIL})
    assert given(answer)["total"] == 0
    assert answer.headers["access-control-allow-origin"] == "https://localhost"  # no page of evil.example reads it
    assert api.head("/functions", headers={"Origin": EVIL}).status_code == 200


def test_a_key_is_not_asked_from_where_it_calls(api: httpx.Client) -> None:
    api.headers["Origin"] = EVIL
    create(api)
    given(api.put("/functions/f", json={"name": "x"}))
    given(api.delete("/functions/f"), 204)


@pytest.mark.parametrize("key", ["wrong", "0" * 256, "ä"])
def test_a_wrong_key_is_asked_all_the_same(guest: httpx.Client, key: str) -> None:
    headers = {b"X-Appwrite-Key": key.encode(), b"Origin": EVIL.encode()}
    answer = guest.post(EXECUTIONS, headers=headers)
    refused(answer, 403, "general_unknown_origin", unregistered("evil.example"))


def test_a_user_is_asked_from_where_it_calls(api: httpx.Client, guest: httpx.Client) -> None:
    guest.headers["X-Appwrite-JWT"] = given(api.post("/users/jane/jwts"), 201)["jwt"]
    answer = guest.post(EXECUTIONS, headers={"Origin": EVIL})
    refused(answer, 403, "general_unknown_origin", unregistered("evil.example"))
    refused(guest.post(EXECUTIONS, headers={"Origin": "http://localhost:3000"}), 404, "function_not_found")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("page", [{"Origin": EVIL}, {"Origin": "null"}, {"Referer": EVIL + "/page"}])
def test_no_page_executes_by_a_form_that_a_browser_sends_unasked(
    api: httpx.Client, server: Serving, kind: str, page: dict[str, str]
) -> None:
    deploy(api, "sends", execute=["role:all"])
    part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    bodies = {
        "text/plain": b'{"project": "default", "data": "200 x", "x": "="}',
        "application/x-www-form-urlencoded": b"project=default&data=200+x",
        "multipart/form-data; boundary=b": part % (b"project", b"default") + part % (b"data", b"200 x") + b"--b--\r\n",
    }
    with client(server, {"Content-Type": kind, **page}) as browser:
        for path in (EXECUTIONS, f"{EXECUTIONS}?project=default"):  # no header of ours, which a browser would ask about
            answer = browser.post(path, content=bodies[kind])
            assert answer.status_code in (403, 404), answer.text
        answer = browser.post(EXECUTIONS, content=bodies[kind], headers={"X-Appwrite-Project": server.project})
        refused(answer, 403, "general_unknown_origin")
    assert given(api.get(EXECUTIONS))["total"] == 0
    with client(server, {"X-Appwrite-Project": server.project}) as curl:  # which is no page
        assert execute(curl, "200 x")["status"] == "completed"


# -- under which name it is called --------------------------------------------------------------------------


def test_a_name_that_leads_here_from_elsewhere_reaches_no_route(api: httpx.Client, tmp_path: Path) -> None:
    foreign = {"Host": "evil.example:8400", "Origin": "http://evil.example:8400"}
    table = endpoints(Server(Settings(data_dir=tmp_path)))
    assert len(table) > 20
    said = "Invalid Host. This server is not called 'evil.example'; the setting `hosts` names further ones"
    for one in table:
        path = one.path.replace("{", "").replace("}", "")
        refused(api.request(one.method, path, headers=foreign), 403, "general_unknown_origin", said)
        if one.method == "GET":
            head = api.head(path, headers=foreign)
            assert (head.status_code, head.content) == (403, b"")
        answer = api.options(path, headers=foreign)
        refused(answer, 403, "general_unknown_origin", said)
        assert answer.headers["access-control-allow-origin"] == "http://localhost"
    refused(api.options("/nothing", headers=foreign), 403, "general_unknown_origin", said)
    refused(api.get("/nothing", headers=foreign), 404, "general_route_not_found")


GOOD_HOSTS = [
    "localhost",
    "localhost:80",
    "localhost:",
    "LOCALHOST:8400",
    "localhost.",
    "localhost.:8400",
    "x.localhost",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.1.2.3",
    "[::1]",
    "[::1]:8400",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]:8400",
]
BAD_HOSTS = [
    "",
    ":8400",
    "evil.example",
    "evil.example:8400",
    "evil.example.",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil-localhost",
    "localhost..",
    "localhost:80@evil.example",
    "localhost@evil.example",
    "evil.example@localhost",
    "evil.example\\@localhost",
    "evil.example/@localhost",
    "evil.example#@localhost",
    "localhost/../evil.example",
    "localhost?evil.example",
    "localhost#evil.example",
    "localhost\\evil.example",
    "localhost evil.example",
    "localhost, evil.example",
    "localhost:80:90",
    "localhost:evil",
    "localhost:-1",
    ANY,
    f"{ANY}:8400",
    "[::]",
    "[::ffff:10.0.0.1]",
    "10.0.0.1",
    "169.254.169.254",
    "[fe80::1]",
    "[::1",
    "::1",
    "[::1]evil.example",
    "[evil.example]",
    "[v1.localhost]",
    "http://localhost",
    "*",
    "*.localhost@evil.example",
    "loc\xe4lhost",
    "\xff",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_a_name_of_this_machine_is_good(host: str) -> None:
    Origins(Settings()).demand_host({"host": host})


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_name_that_is_not_this_machines_is_not(host: str) -> None:
    origins = Origins(Settings(hosts="proxy.example.org,*.proxies.example"))
    for _ in range(2):
        with pytest.raises(GeneralUnknownOrigin, match=r"^Invalid Host\. This server is not called "):
            origins.demand_host({"host": host})


@pytest.mark.parametrize("host", ["evil.example", "localhost:80@evil.example", "[::ffff:10.0.0.1]", "localhost/x", ANY])
def test_a_bad_name_is_bad_in_a_real_request(server: Serving, host: str) -> None:
    answer = raw(server.port, f"GET /v1/health/version HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 "), answer


@pytest.mark.parametrize(
    ("host", "is_good"),
    [
        ("proxy.example.org", True),
        ("PROXY.example.org:443", True),
        ("proxy.example.org.", True),
        ("a.proxies.example", True),
        ("b.a.proxies.example:1", True),
        ("proxies.example", False),
        ("xproxies.example", False),
        ("x.proxy.example.org", False),
        ("app.example.org", False),
        ("127.0.0.1", True),
    ],
)
def test_the_setting_hosts_names_further_ones(registered: Serving, host: str, is_good: bool) -> None:
    with client(registered) as api:
        answer = api.get("/functions", headers={"Host": host})
    if is_good:
        given(answer)
    else:
        refused(answer, 403, "general_unknown_origin")


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST", "::1", "127.1", "2130706433", "127.0.1.1", "localhost"])
def test_every_way_to_write_loopback_is_loopback(host: str) -> None:
    with pytest.raises(GeneralUnknownOrigin):
        Origins(Settings(host=host)).demand_host({"host": "evil.example"})
    Origins(Settings(host=host)).demand_host({"host": "localhost"})


@pytest.mark.parametrize("host", [ANY, "::", "10.1.2.3", "nowhere.invalid"])
def test_a_server_for_others_has_whatever_name_they_call_it(host: str) -> None:
    Origins(Settings(host=host)).demand_host({"host": "functions.example.org"})


def test_the_names_that_were_good_fill_no_memory() -> None:
    origins = Origins(Settings(host=ANY))
    for number in range(1000):
        origins.demand_host({"host": f"h{number}.example.org"})
    assert len(origins._known) <= 100


def test_a_proxy_says_nothing_about_the_name(api: httpx.Client) -> None:
    for name in ("X-Forwarded-Host", "X-Host", "Forwarded"):
        given(api.get("/functions", headers={name: "host=evil.example"}))
        answer = api.get("/functions", headers={"Host": "evil.example", name: "localhost"})
        refused(answer, 403, "general_unknown_origin")
    origin = {"Origin": EVIL, "X-Forwarded-Host": "evil.example", "X-Appwrite-Key": ""}
    refused(api.post(EXECUTIONS, headers=origin), 403, "general_unknown_origin")


VERSION = b"GET /v1/health/version HTTP/1.%d\r\n%b\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (VERSION % (1, b""), 400),
        (VERSION % (1, b"Host: localhost\r\nHost: localhost\r\n"), 400),
        (VERSION % (1, b"Host: localhost\r\nX-A: b\r\nHOST: evil.example\r\n"), 400),
        (VERSION % (1, b"Host: evil.example\r\nHost: localhost\r\n"), 400),
        (VERSION % (1, b"Host:\r\n"), 403),
        (VERSION % (1, b"Host: localhost\r\n"), 200),
        (VERSION % (0, b""), 200),
        (VERSION % (0, b"Host: localhost\r\n"), 200),
        (VERSION % (0, b"Host: evil.example\r\n"), 403),
        (VERSION % (0, b"Host: localhost\r\nHost: localhost\r\n"), 400),
        (b"OPTIONS /v1/functions HTTP/1.1\r\n\r\n", 400),
        (b"GET /nothing HTTP/1.1\r\n\r\n", 400),
        (b"POST /v1/functions/f/executions HTTP/1.1\r\nX-Appwrite-Project: default\r\nContent-Length: 0\r\n\r\n", 400),
    ],
)
def test_a_request_says_once_whom_it_asks(server: Serving, request_: bytes, status: int) -> None:
    answer = raw(server.port, request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer


SOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"GET /v1/realtime HTTP/1.1\r\n", 400),
        (b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", 400),
        (b"GET /v1/realtime HTTP/1.1\r\nHost: evil.example\r\n", 403),
        (b"GET /v1/realtime HTTP/1.1\r\nHost: localhost:80@evil.example\r\n", 403),
        (b"GET ws://evil.example/v1/realtime HTTP/1.1\r\nHost: localhost\r\n", 403),
        (b"GET /nothing HTTP/1.1\r\nHost: evil.example\r\n", 403),
        (b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\n", 101),
    ],
)
def test_so_does_who_wants_a_web_socket(server: Serving, start: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(start + SOCKET)
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://localhost/v1/health/version", b"localhost", 200),
        (b"http://127.0.0.1:1/v1/health/version", b"localhost", 200),
        (b"http://localhost/v1/health/version", b"evil.example", 200),  # the target is believed, as RFC 9112 says
        (b"http://evil.example/v1/health/version", b"localhost", 403),
        (b"http://evil.example:80/v1/health/version?x=http://localhost/", b"localhost", 403),
        (b"https://evil.example/v1/health/version", b"localhost", 403),
        (b"http://localhost@evil.example/v1/health/version", b"localhost", 403),
        (b"http://localhost:80@evil.example/v1/health/version", b"localhost", 403),
        (b"http://evil.example@localhost/v1/health/version", b"localhost", 403),
        (b"HTTP://EVIL.example/v1/health/version", b"localhost", 403),
    ],
)
def test_a_target_with_a_host_of_its_own_is_believed(server: Serving, target: bytes, host: bytes, status: int) -> None:
    answer = raw(server.port, b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    answer = raw(server.port, b"GET %b HTTP/1.0\r\n\r\n" % target)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    answer = raw(server.port, b"GET %b HTTP/1.1\r\n\r\n" % target)
    assert answer.startswith(b"HTTP/1.1 400 "), answer


@pytest.mark.parametrize("name", ["origins", "hosts"])
@pytest.mark.parametrize(
    "value", ["https://app.example.org", "app.example.org/", "app.example.org:8080", "a b", "*.*.x"]
)
def test_what_can_be_no_host_is_refused_at_the_start(tmp_path: Path, name: str, value: str) -> None:
    command = [sys.executable, "-m", "nbfunctions", "serve", "--port", "0", f"--{name}", f"ok.example.org,{value}"]
    ended = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "data")], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        f"nbfunctions: {name}: expected hosts, as app.example.org or *.example.org, without scheme, port and path, "
        f"found {value!r}\n"
    )
    assert not (tmp_path / "data").exists()
