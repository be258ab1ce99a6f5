"""The client against the real server: every endpoint, typed answers, and one class for each refusal."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from nbfunctions import errors
from nbfunctions.archive import pack
from nbfunctions.client import CHUNK, Client, _chunks
from nbfunctions.models import Deployment, Emitted, Execution, Function
from tests.notebook.conftest import packed, wait_for_build
from tests.serving import RUNTIME

Deploy = Callable[..., Function]


def test_functions_are_made_listed_changed_and_deleted(client: Client) -> None:
    made = client.functions.create(
        "shop", "Shop", ["role:all"], RUNTIME, vars={"A": "1"}, schedule="0 6 * * *", timeout=20
    )
    assert isinstance(made, Function)
    assert (made.id, made.execute, made.vars, made.timeout) == ("shop", ("role:all",), {"A": "1"}, 20)
    assert client.functions.get("shop") == made
    generated = client.functions.create("unique()", "Another", runtime=RUNTIME)
    assert [f.id for f in client.functions.list().functions] == ["shop", generated.id]
    assert [f.id for f in client.functions.list(limit=1, cursor="shop").functions] == [generated.id]
    assert [f.id for f in client.functions.list(order_type="DESC", limit=1).functions] == [generated.id]
    assert client.functions.list(search="shop", limit=1).total == 1
    changed = client.functions.update("shop", "Shop", memory=256, concurrency=2)
    assert (changed.execute, changed.vars, changed.schedule, changed.timeout) == ((), {}, "", 15)
    assert (changed.memory, changed.concurrency) == (256, 2)
    client.functions.delete("shop")
    with pytest.raises(errors.FunctionNotFound, match="Function not found"):
        client.functions.get("shop")


def test_deployments_are_uploaded_activated_and_deleted(client: Client) -> None:
    client.functions.create("hello", "hello", runtime=RUNTIME, vars={"GREETING": "Hi"})
    first = wait_for_build(client, client.deployments.create("hello", "main.py", packed("hello"), activate=True))
    second = wait_for_build(client, client.deployments.create("hello", "main.py", packed("hello")))
    assert isinstance(first, Deployment)
    assert first.digest == second.digest != ""
    assert client.functions.get("hello").deployment == first.id
    assert client.functions.update_deployment("hello", second.id).deployment == second.id
    assert [d.id for d in client.deployments.list("hello").deployments] == [first.id, second.id]
    assert client.executions.create("hello", "Ada", asynchronous=False).json() == {"message": "Hi, Ada"}
    with pytest.raises(errors.BuildInProgress):
        client.deployments.retry_build("hello", second.id, second.build_id)
    client.deployments.delete("hello", second.id)
    assert client.functions.get("hello").deployment == ""


def test_executions_are_made_at_once_or_waited_for(client: Client, deployed: Deploy) -> None:
    deployed("hello", vars={"GREETING": "Hi"})
    done = client.executions.create("hello", "Ada", asynchronous=False)
    assert isinstance(done, Execution)
    assert (done.status, done.status_code, done.trigger, done.function_id) == ("completed", 200, "http", "hello")
    waiting = client.executions.create("hello", "Bob")
    assert waiting.status == "waiting"
    for _ in range(200):
        waiting = client.executions.get("hello", waiting.id)
        if waiting.status in ("completed", "failed"):
            break
        time.sleep(0.02)
    assert waiting.json() == {"message": "Hi, Bob"}
    assert [e.id for e in client.executions.list("hello", limit=5).executions] == [waiting.id, done.id]


def test_executions_are_asked_for_once_cancelled_and_deleted(client: Client, deployed: Deploy) -> None:
    deployed("hello", vars={"GREETING": "Hi"})
    first = client.executions.create("hello", "Ada", asynchronous=False, idempotency_key="one")
    assert client.executions.create("hello", "Ada", asynchronous=False, idempotency_key="one") == first
    with pytest.raises(errors.ExecutionAlreadyExists):
        client.executions.create("hello", "Bob", asynchronous=False, idempotency_key="one")
    with pytest.raises(errors.ExecutionEnded):
        client.executions.cancel("hello", first.id)
    client.executions.delete("hello", first.id)
    with pytest.raises(errors.ExecutionNotFound):
        client.executions.get("hello", first.id)


def test_events_execute_and_usage_counts(client: Client, deployed: Deploy) -> None:
    deployed("environment", events=["users.*.create"])
    assert client.events.create("users.jane.create", {"name": "Jane"}) == Emitted(
        event="users.jane.create", executions=1
    )
    assert client.events.create("users.jane.delete").executions == 0
    with pytest.raises(errors.GeneralArgumentInvalid, match="one thing that happened"):
        client.events.create("users.*.create")
    for _ in range(200):
        (execution,) = client.executions.list("environment").executions
        if execution.status in ("completed", "failed"):
            break
        time.sleep(0.02)
    assert (execution.status, execution.trigger) == ("completed", "event")
    day = client.functions.usage("environment", "24h")
    assert (len(day.executions), day.executions[-1].value + day.executions[-2].value) == (48, 1)


def test_a_deployment_can_be_had_back(client: Client, deployed: Deploy) -> None:
    deployed("hello")
    deployment = client.functions.get("hello").deployment
    archive = client.deployments.download("hello", deployment)
    assert hashlib.sha256(archive).hexdigest() == client.deployments.get("hello", deployment).digest


def test_tokens_are_made_for_users(client: Client, deployed: Deploy) -> None:
    deployed("environment", execute=["team:t/owner"])
    token = client.users.create_jwt("jane", duration=60, teams=["t/owner"])
    answer = httpx.post(
        f"{client.endpoint}/functions/environment/executions",
        json={"async": False},
        headers={"X-Appwrite-Project": client.project, "X-Appwrite-JWT": token},
        trust_env=False,
    )
    assert (answer.status_code, answer.json()["$read"]) == (201, ["user:jane"])
    assert answer.json()["$id"] in [one.id for one in client.executions.list("environment").executions]
    with pytest.raises(errors.GeneralArgumentInvalid, match="between 1 and 86,400"):
        client.users.create_jwt("jane", duration=0)


def test_archives_above_a_chunk_are_announced_by_the_contracts_ranges() -> None:
    ranges = [headers.get("Content-Range") for _, _, headers in _chunks(2 * CHUNK)]
    assert ranges == ["bytes 0-5242879/10485760", "bytes 5242880-10485759/10485760"]
    assert [headers.get("Content-Range") for _, _, headers in _chunks(CHUNK + 1)] == [
        "bytes 0-5242879/5242881",
        "bytes 5242880-5242881/5242881",
    ]
    assert list(_chunks(CHUNK)) == [(0, CHUNK, {})]
    assert [end - start for start, end, _ in _chunks(CHUNK + 1)] == [CHUNK, 1]


def test_each_refusal_is_the_class_of_its_type(client: Client) -> None:
    client.functions.create("hello", "hello", runtime=RUNTIME)
    with pytest.raises(errors.FunctionAlreadyExists):
        client.functions.create("hello", "hello", runtime=RUNTIME)
    with pytest.raises(errors.GeneralArgumentInvalid, match="Invalid runtime: Value must be one of"):
        client.functions.create("other", "other", runtime="cobol-85")
    with pytest.raises(errors.DeploymentNotFound, match="Create a deployment before trying to execute"):
        client.executions.create("hello")
    with pytest.raises(errors.GeneralCursorNotFound):
        client.functions.list(cursor="nowhere")
    with pytest.raises(errors.ExecutionNotFound):
        client.executions.get("hello", "nowhere")
    with pytest.raises(errors.StorageFileTypeUnsupported):
        client.deployments.create("hello", "main.py", b"", file_name="code.zip")
    with pytest.raises(errors.StorageInvalidFileSize):
        client.deployments.create("hello", "main.py", pack({"main.py": os.urandom(31_000_000)}))


def test_a_wrong_key_and_a_wrong_project_are_refused(client: Client) -> None:
    with Client(client.endpoint, client.project, "wrong") as stranger:
        assert stranger.health_version() == client.health_version() != ""
        with pytest.raises(errors.GeneralUnauthorizedScope, match="missing scope"):
            stranger.functions.list()
        with pytest.raises(errors.GeneralUnauthorizedScope, match="missing scope"):
            stranger.check_key()
    client.check_key()
    with Client(client.endpoint, "nowhere", "wrong") as stranger, pytest.raises(errors.ProjectNotFound):
        stranger.functions.list()


def test_path_parts_are_quoted(client: Client) -> None:
    with pytest.raises(errors.ApiError) as raised:
        client.functions.get("../runtimes")
    assert raised.value.code in (400, 404)


def test_threads_share_a_client(client: Client, deployed: Deploy) -> None:
    deployed("hello", vars={"GREETING": "Hi"})
    answers: list[str] = []

    def ask(number: int) -> None:
        answers.append(client.executions.create("hello", str(number), asynchronous=False).json()["message"])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted(f"Hi, {number}" for number in range(12))


# -- servers that aren't one --------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def answering() -> Iterator[Callable[[bytes | None], str]]:
    """Starts a peer that answers every connection with the same bytes, or with nothing; returns its endpoint."""
    listeners: list[socket.socket] = []
    taken: list[socket.socket] = []

    def start(answer: bytes | None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def loop() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                taken.append(peer)
                peer.recv(65536)
                if answer is not None:
                    peer.sendall(answer)
                    peer.close()

        threading.Thread(target=loop, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    yield start
    for one in [*taken, *listeners]:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        finally:
            one.close()


def http(status: str, kind: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_nobody_there_is_one_line_with_the_endpoint_and_what_to_do() -> None:
    endpoint = f"http://127.0.0.1:{free_port()}/v1"
    with Client(endpoint, "default", "secret-key") as client, pytest.raises(errors.ConnectionFailed) as raised:
        client.functions.list()
    assert f"no server answers at {endpoint}" in str(raised.value)
    assert "%functions_connect" in str(raised.value)
    assert "secret-key" not in f"{raised.value} {client!r}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("200 OK", "text/html", b"<html>hi"), "answered 200 with text/html instead of JSON"),
        (http("502 Bad Gateway", "text/html", b"bad"), "answered 502 with text/html"),
        (http("200 OK", "application/json", b'{"total": "many"}'), "answered something else than the Functions API"),
        (http("200 OK", "application/json", b"{"), "answered something else than the Functions API"),
        (http("400 Bad Request", "application/json", b'{"oops": 1}'), "answered something else"),
        (b"nonsense\r\n\r\n", "no server answers"),
    ],
)
def test_answers_of_something_else_are_one_line(
    answering: Callable[[bytes | None], str], answer: bytes, said: str
) -> None:
    with Client(answering(answer), "default", "key") as client, pytest.raises(errors.ConnectionFailed) as raised:
        client.functions.list()
    assert said in str(raised.value)


def test_a_server_that_does_not_answer_in_time_is_one_line(answering: Callable[[bytes | None], str]) -> None:
    with Client(answering(None), "default", "key") as client, pytest.raises(errors.ConnectionFailed) as raised:
        client.request("GET", "/functions", dict, timeout=0.2)
    assert "within 0.2 s" in str(raised.value)


def test_a_server_that_breaks_off_may_have_done_what_was_asked(answering: Callable[[bytes | None], str]) -> None:
    with Client(answering(b""), "default", "key") as client:
        with pytest.raises(
            errors.ConnectionFailed, match=r"broke off before it answered \(.*look before you ask again"
        ):
            client.executions.create("f")
        with pytest.raises(errors.ConnectionFailed, match="no server answers at"):
            client.functions.list()


def test_an_unknown_error_type_keeps_its_code(answering: Callable[[bytes | None], str]) -> None:
    body = b'{"message": "Nope", "code": 418, "type": "teapot_short", "version": "9"}'
    endpoint = answering(http("418 Teapot", "application/json", body))
    with Client(endpoint, "default", "key") as client, pytest.raises(errors.ApiError, match="Nope") as raised:
        client.functions.list()
    assert (raised.value.code, raised.value.type) == (418, "teapot_short")


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    with Client(client.endpoint, client.project, "wrong") as direct:
        assert direct.health_version()
