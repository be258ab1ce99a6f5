"""WebSockets that are told the events of executions (spec, section 11)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket as sockets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from nbfunctions.models import Execution
from nbfunctions.server import permissions
from nbfunctions.server.patterns import expand
from nbfunctions.server.realtime import WAITING, Realtime, Socket
from nbfunctions.server.store.protocol import ExecutionChange
from tests.server.asking import client, deploy, eventually, execute, given, raw, wait_for_execution
from tests.server.listening import address, connected, said, socket_url, token, user
from tests.serving import Serving, serving

PATH = "/functions/f/executions"


@pytest.fixture
def jane(server: Serving, api: httpx.Client) -> Iterator[httpx.Client]:
    with user(server, api, "jane") as found:
        yield found


@pytest.fixture
def joe(server: Serving, api: httpx.Client) -> Iterator[httpx.Client]:
    with user(server, api, "joe") as found:
        yield found


@pytest.fixture
def function(api: httpx.Client) -> str:
    """A function that every user may execute."""
    return deploy(api, "sends", execute=["role:member"])


def as_user(api: httpx.Client, user_id: str) -> dict[str, str]:
    return {"X-Appwrite-JWT": token(api, user_id)}


def refused(url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Connect where that isn't taken, and return code and message: said once, then the connection's end."""
    with connect(url, additional_headers={**address(), **(headers or {})}, proxy=None) as socket:
        error = said(socket)
        assert list(error) == ["type", "data"]
        assert error["type"] == "error", error
        assert list(error["data"]) == ["code", "message"]
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == error["data"]["code"]
        return error["data"]["code"], error["data"]["message"]


def problem(socket: ClientConnection, message: str | bytes) -> tuple[int, str]:
    """Send what is refused, and return code and message; the connection stays open."""
    socket.send(message)
    error = said(socket)
    assert error["type"] == "error", error
    return error["data"]["code"], error["data"]["message"]


def hears_nothing(socket: ClientConnection) -> bool:
    """Return whether nothing was told by now: messages come in order."""
    return problem(socket, "anything") == (1003, "Message format is not valid.")


# -- connecting ---------------------------------------------------------------------------------------------

ORIGIN = (
    "Invalid Origin. Register your new client (evil.example) as a new Web platform on your project console dashboard"
)
UNKNOWN = (1008, "Missing or unknown project ID")


@pytest.mark.parametrize(
    ("query", "headers", "error"),
    [
        ("channels[]=executions", {}, UNKNOWN),
        ("project=&channels[]=executions", {}, UNKNOWN),
        ("project=nobody&channels[]=executions", {}, UNKNOWN),
        ("project[]=default&channels[]=executions", {}, UNKNOWN),
        ("project=nobody", {"Origin": "http://evil.example"}, UNKNOWN),
        ("project=default", {"Origin": "http://evil.example"}, (1008, ORIGIN)),
        ("project=default&channels[]=executions", {"Origin": "https://evil.example:8443"}, (1008, ORIGIN)),
        ("project=default&channels[]=executions", {"Origin": "ftp://localhost"}, (1008, "Unsupported platform")),
        ("project=default", {}, (1008, "Missing channels")),
        ("project=default&channels[]=", {}, (1008, "Missing channels")),
        ("project=default&channels=", {}, (1008, "Missing channels")),
        ("project=default&channels[]=account.jane", {}, (1008, "Missing channels")),
        (
            "project=default",
            {"X-Appwrite-JWT": "x"},
            (1008, "Failed to verify JWT. Invalid token: Incomplete segments"),
        ),
        ("project=default&" + "&".join(["x"] * 2000), {}, (1008, "There are more than 1000 parameters")),
    ],
)
def test_a_connection_that_is_not_taken_is_told_why(
    server: Serving, query: str, headers: dict[str, str], error: tuple[int, str]
) -> None:
    url = socket_url(server, project=None).partition("?")[0]
    assert refused(f"{url}?{query}", headers) == error


@pytest.mark.parametrize("origin", ["http://localhost", "https://localhost:3000", "http://127.0.0.1", "localhost"])
def test_pages_of_this_machine_may_connect(server: Serving, origin: str) -> None:
    with connected(server, "executions", headers={"Origin": origin}) as (_, told):
        assert told["user"] is None


def test_an_address_may_connect_128_times_a_minute(server: Serving) -> None:
    here = address()
    url = socket_url(server, "executions")
    refusals: list[dict[str, Any]] = []
    for _ in range(2 * 128 + 1):  # a new minute may begin meanwhile
        with connect(url, additional_headers=here, proxy=None) as socket:
            first = said(socket)
        if first["type"] == "error":
            refusals.append(first["data"])
            break
    assert refusals == [{"code": 1013, "message": "Too many requests"}]
    assert refused(url, here) == (1013, "Too many requests")
    assert refused(socket_url(server, "executions", project="nobody"), here) == UNKNOWN
    with connected(server, "executions"):
        pass  # others may


def test_without_limits_connections_are_not_counted(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--rate-limit", "0") as free:
        here = address()
        for _ in range(2 * 128 + 1):
            with connected(free, "executions", headers=here):
                pass


@pytest.mark.parametrize("path", ["/", "/functions", "/realtime/more", "/health/version"])
def test_other_paths_have_no_websocket(server: Serving, path: str) -> None:
    with pytest.raises(InvalidStatus) as refusal, connect(socket_url(server, "executions", path=path), proxy=None):
        pass
    assert refusal.value.response.status_code == 404
    assert json.loads(refusal.value.response.body or b"")["type"] == "general_route_not_found"


def test_a_page_that_calls_the_server_by_another_name_is_refused(server: Serving) -> None:
    lines = handshake(server, host="evil.example")
    answer = raw(server.port, lines)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"general_unknown_origin" in answer


def test_without_an_upgrade_it_is_no_route(api: httpx.Client) -> None:
    assert api.get("/realtime", params={"channels[]": "executions"}).json()["type"] == "general_route_not_found"


@pytest.mark.parametrize(
    ("channels", "who", "expected"),
    [
        (["executions"], None, ["executions"]),
        (["executions", "executions"], None, ["executions"]),
        (["what.ever", "functions.f", "console"], None, ["what.ever", "functions.f", "console"]),
        (["account", "executions"], None, ["account", "executions"]),
        (["account.jane", "executions"], "jane", ["executions"]),
        (["account", "account.joe", "executions"], "jane", ["account", "executions", "account.jane"]),
    ],
)
def test_a_connection_is_told_its_channels_and_its_user(
    server: Serving, api: httpx.Client, channels: list[str], who: str | None, expected: list[str]
) -> None:
    with connected(server, *channels, headers=as_user(api, who) if who else None) as (socket, told):
        assert told == {"channels": expected, "user": {"$id": who} if who else None}
        assert socket.response is not None
        assert socket.response.headers["Server"] == "Appwrite"
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


def test_the_project_may_be_named_by_a_header_and_the_path_end_in_a_slash(server: Serving) -> None:
    url = socket_url(server, "executions", project=None, path="/realtime/")
    with connect(url, additional_headers={"X-Appwrite-Project": "default"}, proxy=None) as socket:
        assert said(socket)["type"] == "connected"


# -- events -------------------------------------------------------------------------------------------------


def test_a_synchronous_execution_is_one_event_with_its_result(
    server: Serving, api: httpx.Client, jane: httpx.Client, function: str
) -> None:
    with connected(server, "executions", headers=as_user(api, "jane")) as (socket, _):
        before = int(time.time())
        done = execute(jane, "200 x")
        event = said(socket)
        assert list(event) == ["type", "data"]
        assert event["type"] == "event"
        data = event["data"]
        assert list(data) == ["events", "channels", "timestamp", "payload"]
        assert data["events"] == list(expand(f"functions.f.executions.{done['$id']}.create"))
        assert len(data["events"]) == 10
        assert data["channels"] == ["console", "executions", f"executions.{done['$id']}", "functions.f"]
        assert before <= data["timestamp"] <= time.time()
        assert isinstance(data["timestamp"], int)
        assert data["payload"] == done
        assert hears_nothing(socket)


def test_an_asynchronous_execution_is_two_events(
    server: Serving, api: httpx.Client, jane: httpx.Client, function: str
) -> None:
    with connected(server, "functions.f", headers=as_user(api, "jane")) as (socket, _):
        accepted = given(jane.post(PATH, json={"data": "200 later"}), 201)
        first, second = said(socket)["data"], said(socket)["data"]
        assert first["payload"] == accepted
        assert first["payload"]["status"] == "waiting"
        assert first["events"] == list(expand(f"functions.f.executions.{accepted['$id']}.create"))
        assert second["payload"] == wait_for_execution(jane, accepted)
        assert (second["payload"]["status"], second["payload"]["response"]) == ("completed", "later")
        assert second["events"] == list(expand(f"functions.f.executions.{accepted['$id']}.update"))
        assert second["channels"] == first["channels"]
        assert hears_nothing(socket)


def test_each_of_the_four_channels_hears_it_and_no_other(
    server: Serving, api: httpx.Client, jane: httpx.Client
) -> None:
    deploy(api, "sleeps", execute=["role:member"])
    headers = as_user(api, "jane")
    accepted = given(jane.post(PATH, json={"data": "0.5"}), 201)
    with contextlib.ExitStack() as stack:
        hearing = ["console", "executions", f"executions.{accepted['$id']}", "functions.f"]
        deaf = ["executions.other", "functions.g", "functions", "functions.f.executions", "account", "*"]
        ears, others = (
            [stack.enter_context(connected(server, one, headers=headers))[0] for one in names]
            for names in (hearing, deaf)
        )
        both = stack.enter_context(connected(server, *hearing, headers=headers))[0]
        for socket in (*ears, both):
            assert said(socket)["data"]["payload"]["$id"] == accepted["$id"]
        assert all(hears_nothing(socket) for socket in others)
        assert hears_nothing(both)  # once, however many channels it has


def test_ids_with_dots_are_told_as_they_are(server: Serving, api: httpx.Client, jane: httpx.Client) -> None:
    deploy(api, "sends", "my.func", execute=["role:member"])
    with connected(server, "functions.my.func", headers=as_user(api, "jane")) as (socket, _):
        done = execute(jane, "200 x", "my.func")
        data = said(socket)["data"]
        assert data["events"][0] == f"functions.my.func.executions.{done['$id']}.create"
        assert data["events"][-2:] == ["functions.my.func", "functions.*"]
        assert data["channels"][-1] == "functions.my.func"


def test_users_hear_of_their_own_executions_only(
    server: Serving, api: httpx.Client, jane: httpx.Client, joe: httpx.Client, function: str
) -> None:
    with (
        connected(server, "executions", headers=as_user(api, "jane")) as (hers, _),
        connected(server, "executions", headers=as_user(api, "joe")) as (his, _),
        connected(server, "executions", "console") as (nobodys, _),
        connected(server, "executions", "console", headers={"X-Appwrite-Key": server.key}) as (of_a_key, _),
    ):
        of_jane, of_joe = execute(jane, "200 hers"), execute(joe, "200 his")
        assert said(hers)["data"]["payload"] == of_jane
        assert said(his)["data"]["payload"] == of_joe
        for socket in (hers, his, nobodys, of_a_key):
            assert hears_nothing(socket)


def test_executions_started_by_a_key_are_told_to_nobody(
    server: Serving, api: httpx.Client, jane: httpx.Client, function: str
) -> None:
    with connected(server, "executions", "console", headers=as_user(api, "jane")) as (socket, _):
        assert execute(api, "200 by a key")["$read"] == []
        wait_for_execution(api, given(api.post(PATH, json={}), 201))
        own = execute(jane, "200 own")
        assert said(socket)["data"]["payload"] == own


def test_the_same_user_of_another_project_hears_nothing(tmp_path: Path) -> None:
    from tests.server.test_serve import command

    with serving(tmp_path / "data") as server, client(server) as api:
        where = ("--data-dir", server.data_dir)
        assert command(tmp_path, "projects", "create", "other", *where).returncode == 0
        scopes = ("functions.read", "functions.write", "users.write", "execution.write", "execution.read")
        [key] = json.loads(
            command(tmp_path, "keys", "create", "--project", "other", "--scope", *scopes, "--json", *where).stdout
        )
        headers = {"X-Appwrite-Project": "other", "X-Appwrite-Key": key["secret"]}
        deploy(api, "sends", execute=["role:member"])
        with client(server, headers) as other, user(server, api, "jane") as jane:
            url = socket_url(server, "executions", project="other")
            theirs = {"X-Appwrite-JWT": token(other, "jane")}
            with connect(url, additional_headers=theirs, proxy=None) as socket:
                assert said(socket)["data"]["user"] == {"$id": "jane"}
                execute(jane, "200 x")
                assert hears_nothing(socket)
                # And a token is one of its project only.
                assert problem(socket, session(token(api, "jane"))) == (1003, "Session is not valid.")


def test_an_old_client_is_told_old_records(
    server: Serving, api: httpx.Client, jane: httpx.Client, function: str
) -> None:
    headers = {**as_user(api, "jane"), "X-Appwrite-Response-Format": "0.14.0"}
    with connected(server, "executions", headers=headers) as (socket, _):
        done = execute(jane, "200 x")
        payload = said(socket)["data"]["payload"]
        assert payload["dateCreated"] == done["$createdAt"]
        assert "$createdAt" not in payload


# -- messages -----------------------------------------------------------------------------------------------


def session(value: object) -> str:
    return json.dumps({"type": "authentication", "data": {"session": value}})


def test_a_connection_becomes_a_users_by_a_message(
    server: Serving, api: httpx.Client, jane: httpx.Client, joe: httpx.Client, function: str
) -> None:
    with connected(server, "executions", "account") as (socket, told):
        assert told["user"] is None
        execute(jane, "200 before")
        for who, own, others in (("jane", jane, joe), ("joe", joe, jane)):
            socket.send(session(token(api, who)))
            data = {"to": "authentication", "success": True, "user": {"$id": who}}
            assert said(socket) == {"type": "response", "data": data}
            execute(others, "200 not theirs")
            done = execute(own, "200 x")
            assert said(socket)["data"]["payload"] == done
        assert problem(socket, session("x.y.z")) == (1003, "Session is not valid.")
        done = execute(joe, "200 still his")
        assert said(socket)["data"]["payload"] == done


FORMAT, TYPE = (1003, "Message format is not valid."), (1003, "Message type is not valid.")
PAYLOAD, SESSION = (1003, "Payload is not valid."), (1003, "Session is not valid.")


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("", FORMAT),
        ("no JSON", FORMAT),
        ("null", FORMAT),
        ("1", FORMAT),
        ("[]", FORMAT),
        ('"type"', FORMAT),
        ("{}", FORMAT),
        ('{"kind": "authentication"}', FORMAT),
        ("[" * 60_000, FORMAT),
        ('{"type": "authentication", "data": {"session": "\\ud800"}}', FORMAT),
        (b"\xff", FORMAT),
        ('{"data": {}}', TYPE),
        ('{"type": null}', TYPE),
        ('{"type": "ping"}', TYPE),
        ('{"type": "subscribe", "data": {}}', TYPE),
        ('{"type": ["authentication"], "data": {}}', TYPE),
        (b'{"type": "ping"}', TYPE),
        ('{"type": "authentication"}', PAYLOAD),
        ('{"type": "authentication", "data": {}}', PAYLOAD),
        ('{"type": "authentication", "data": "session"}', PAYLOAD),
        ('{"type": "authentication", "data": null}', PAYLOAD),
        (session(""), SESSION),
        (session(None), SESSION),
        (session(1), SESSION),
        (session({"id": "jane"}), SESSION),
        (session("x"), SESSION),
        (session("é.é.é"), SESSION),
        (session("eyJhbGciOiJub25lIn0.eyJ1c2VySWQiOiJqYW5lIn0."), SESSION),
    ],
)
def test_a_message_that_can_not_be_followed_is_told_why(
    server: Serving, message: str | bytes, error: tuple[int, str]
) -> None:
    with connected(server, "executions") as (socket, _):
        assert problem(socket, message) == error
        assert hears_nothing(socket)  # and the connection goes on


def test_a_connection_may_say_32_things_a_minute(
    server: Serving, api: httpx.Client, jane: httpx.Client, function: str
) -> None:
    with connected(server, "executions", headers=as_user(api, "jane")) as (socket, _):
        for _ in range(100):  # a new minute may begin meanwhile
            socket.send('{"type": "ping"}')
        errors = [tuple(said(socket)["data"].values()) for _ in range(100)]
        assert errors[:32] == [TYPE] * 32
        assert errors.count(TYPE) in (32, 64)
        assert errors.count((1013, "Too many messages")) == 100 - errors.count(TYPE)
        done = execute(jane, "200 still heard")
        assert said(socket)["data"]["payload"] == done


def closed_with(socket: ClientConnection) -> int:
    """Wait for a connection's end, and return the server's code."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            socket.recv(20)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_a_message_has_64000_bytes_at_most(server: Serving) -> None:
    with connected(server, "executions") as (socket, _):
        assert problem(socket, "x" * 64_000) == FORMAT
        assert problem(socket, "é" * 32_000) == FORMAT
        socket.send("x" * 64_001)
        assert closed_with(socket) == 1009


@pytest.mark.parametrize(
    ("message", "code"),
    [(["x" * 1000] * 65, 1009), ([""] * 5000, 1009), ([b"{", b"}"] * 3, None), (["\u00e9"] * 20, None)],
)
def test_a_message_may_come_in_pieces(server: Serving, message: list[Any], code: int | None) -> None:
    with connected(server, "executions") as (socket, _):
        with contextlib.suppress(ConnectionClosedError):
            socket.send(message)
        if code is None:
            assert tuple(said(socket)["data"].values()) == FORMAT
            assert hears_nothing(socket)
        else:
            assert closed_with(socket) == code


@pytest.mark.parametrize("text", [b"\xff", b'{"type": "\xed\xa0\x80"}', b"\xc3"])
def test_a_text_that_is_none_ends_the_connection(server: Serving, text: bytes) -> None:
    with connected(server, "executions") as (socket, _):
        socket.send(text, text=True)
        assert closed_with(socket) == 1007


# -- what means harm ----------------------------------------------------------------------------------------


def handshake(server: Serving, *more: str, host: str = "localhost", channels: str = "executions") -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET /v1/realtime?project=default&channels[]={channels} HTTP/1.1",
        f"Host: {host}",
        "Connection: keep-alive, Upgrade",
        "Upgrade: WebSocket",
        f"Sec-WebSocket-Key: {key}",
        *(f"{name}: {value}" for name, value in address().items()),
        *more,
    ]
    if not any(line.startswith("Sec-WebSocket-Version") for line in more):
        lines.append("Sec-WebSocket-Version: 13")
    return "\r\n".join([*lines, "", ""]).encode()


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame of less than 126 bytes, masked with zeros."""
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + b"\0\0\0\0" + payload


@pytest.mark.parametrize(
    ("more", "status"),
    [
        (["Sec-WebSocket-Version: 12"], b"400"),
        (["Sec-WebSocket-Key: short"], b"400"),
        ([f"X-{number}: x" for number in range(200)], b"(431|400)"),  # what it is depends on websockets' release
        (["X-Long: " + "x" * 9000], b"(431|400)"),
    ],
)
def test_a_handshake_that_is_none_is_answered(server: Serving, more: list[str], status: bytes) -> None:
    answer = raw(server.port, handshake(server, *more))
    assert re.match(b"HTTP/1.1 " + status + b" ", answer), answer


def test_a_url_without_end_is_answered(server: Serving) -> None:
    answer = raw(server.port, handshake(server, channels="x" * 9000))
    assert answer.startswith((b"HTTP/1.1 414 ", b"HTTP/1.1 400 ")), answer


@pytest.mark.parametrize("more", [["Content-Length: 2"], ["Transfer-Encoding: chunked"]])
def test_a_handshake_with_a_body_is_a_request_like_others(server: Serving, more: list[str]) -> None:
    body = b"{}" if "Length" in more[0] else b"0\r\n\r\n"
    answer = raw(server.port, handshake(server, *more) + body)
    assert answer.startswith(b"HTTP/1.1 404 "), answer
    assert b"general_route_not_found" in answer


def test_a_handshake_behind_a_request_on_its_way_is_a_request_like_others(server: Serving, api: httpx.Client) -> None:
    one = f"GET /v1/functions HTTP/1.1\r\nHost: localhost\r\nX-Appwrite-Key: {server.key}\r\n".encode()
    one += b"X-Appwrite-Project: default\r\n\r\n"
    with sockets.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(one + handshake(server))
        received = b""
        while received.count(b"HTTP/1.1 ") < 2 or not received.endswith(b"}"):
            received += connection.recv(65_536)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 404 " in received


def test_a_handshake_behind_answers_that_nobody_reads_is_a_request_like_others(
    server: Serving, api: httpx.Client
) -> None:
    deploy(api, "prints_a_lot")
    for _ in range(5):  # 3 MB each
        execute(api)
    one = f"GET /v1{PATH} HTTP/1.1\r\nHost: localhost\r\nX-Appwrite-Key: {server.key}\r\n".encode()
    one += b"X-Appwrite-Project: default\r\n\r\n"
    with sockets.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(one)
        received = connection.recv(12)
        connection.sendall(handshake(server))
        while b"general_route_not_found" not in received[-1000:]:
            piece = connection.recv(1_000_000)
            assert piece, received[-1000:]
            received += piece
    assert received.startswith(b"HTTP/1.1 200")


def test_a_connection_that_had_requests_may_become_a_websocket(server: Serving) -> None:
    with sockets.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(b"GET /v1/health/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        # What comes behind the handshake is not lost.
        connection.sendall(handshake(server) + frame(1, b'{"type":"ping"}') + frame(9, b"here"))
        received = b""
        while b"Message type is not valid." not in received or b"\x8a\x04here" not in received:
            piece = connection.recv(65_536)
            assert piece, received
            received += piece
    assert received.startswith(b"HTTP/1.1 101 ")
    assert b'{"type":"connected"' in received


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100])
@pytest.mark.parametrize("apart", [True, False])
def test_what_is_no_frame_ends_the_connection(server: Serving, garbage: bytes, apart: bool) -> None:
    with sockets.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(handshake(server) + (b"" if apart else garbage))
        received = b""
        if apart:
            while b"connected" not in received:
                received += connection.recv(65_536)
            connection.sendall(garbage)
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65_536):
                received += piece
    assert b"\x03\xea" in received  # 1002: a broken rule


def memory(server: Serving) -> int:
    """Return a server's resident memory in bytes."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_answers_to_pings_that_nobody_reads_do_not_pile_up(server: Serving) -> None:
    with sockets.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(handshake(server))
        before = memory(server)
        pings = frame(9, b"x" * 125) * 1000
        for _ in range(250):  # 33 MB
            connection.sendall(pings)
        assert memory(server) - before < 15_000_000


def test_who_does_not_read_is_sent_away_and_holds_nobody_up(
    server: Serving, api: httpx.Client, jane: httpx.Client
) -> None:
    deploy(api, "prints_a_lot", execute=["role:member"])
    headers = as_user(api, "jane")
    with (
        connected(server, "executions", headers=headers, max_queue=1, max_size=None) as (deaf, _),
        connected(server, "executions", headers=headers, max_size=None) as (hearing, _),
    ):
        for number in range(20):  # 3 MB of JSON each
            done = execute(jane, str(number))
            assert said(hearing)["data"]["payload"] == done
        assert memory(server) < 400_000_000
        assert closed_with(deaf) == 1013
        assert hears_nothing(hearing)


def test_it_ends_with_open_connections(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, client(server) as api:
        deploy(api, "prints_a_lot", execute=["role:member"])
        headers = as_user(api, "jane")
        with (
            user(server, api, "jane") as jane,
            connected(server, "executions") as (idle, _),
            connected(server, "executions", headers=headers, max_size=None) as (told, _),
            sockets.create_connection(("127.0.0.1", server.port), timeout=10) as silent,
        ):
            silent.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
            silent.sendall(handshake(server, f"X-Appwrite-JWT: {headers['X-Appwrite-JWT']}"))
            for _ in range(6):
                execute(jane)
                said(told)
            began = time.monotonic()
            server.process.terminate()
            assert server.process.wait(20) == 0
            assert time.monotonic() - began < 10
            assert closed_with(idle) == closed_with(told) == 1012
        assert server.data_dir.with_name("data.log").read_text() == ""


# -- without a server ---------------------------------------------------------------------------------------


def change(
    number: int = 0, *, user_id: str = "jane", event: Literal["", "create"] = "create", response: str = ""
) -> ExecutionChange:
    read = (f"user:{user_id}",) if user_id else ()
    execution = Execution(id=f"e{number}", function_id="f", read=read, response=response)
    return ExecutionChange(project_id="p", execution=execution, action="create", event=event)


def waiting(socket: Socket) -> int:
    return len(socket.outbox._waiting)


async def test_a_token_that_has_ended_hears_nothing_more() -> None:
    now = 100.0
    realtime = Realtime(lambda: now)
    socket = Socket(permissions.member("p", "jane", expires_at=200.0), ("executions",), "")
    with realtime.connected(socket):
        realtime.on_change(change())
        assert waiting(socket) == 1
        now = 200.0
        realtime.on_change(change())
        assert waiting(socket) == 1


async def test_what_is_no_event_and_what_is_nobodys_is_not_told() -> None:
    realtime = Realtime(lambda: 0.0)
    socket = Socket(permissions.member("p", "jane"), ("executions",), "")
    with realtime.connected(socket):
        realtime.on_change(change(event=""))
        realtime.on_change(change(user_id=""))
        realtime.on_change(change(user_id="joe"))
        assert waiting(socket) == 0
        realtime.on_change(change())
        assert waiting(socket) == 1
    realtime.on_change(change())
    assert waiting(socket) == 1


@pytest.mark.parametrize(("number", "size"), [(WAITING, 10), (7, 1_100_000)])
async def test_what_waits_for_a_reader_has_an_end(number: int, size: int) -> None:
    realtime = Realtime(lambda: 0.0)
    socket = Socket(permissions.member("p", "jane"), ("executions",), "")
    with realtime.connected(socket):
        for one in range(number):
            realtime.on_change(change(one, response="x" * size))
        assert waiting(socket) == number
        assert not socket.outbox.overflowed
        realtime.on_change(change(response="x" * size))
        assert socket.outbox.overflowed
        assert await socket.outbox.take() is None


async def test_a_single_message_may_be_of_any_size() -> None:
    realtime = Realtime(lambda: 0.0)
    socket = Socket(permissions.member("p", "jane"), ("executions",), "")
    with realtime.connected(socket):
        realtime.on_change(change(response="x" * 20_000_000))
        assert await socket.outbox.take() is not None
        realtime.on_change(change())
        assert waiting(socket) == 1


def test_the_server_is_still_there(server: Serving, api: httpx.Client) -> None:
    """After all of the above: no connection is left open, and its log is looked at at its end."""
    assert given(api.get("/health/version"))["version"]
    eventually(lambda: established(server), lambda number: number <= 2)


def established(server: Serving) -> int:
    """Return how many connections a server has."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == "01" and int(row[1].partition(":")[2], 16) == server.port for row in rows)
