"""What the tests of this folder ask a server: plain HTTP, none of our own client."""

from __future__ import annotations

import functools
import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from nbfunctions.archive import pack
from tests.serving import RUNTIME, Serving

__all__ = [
    "FUNCTIONS",
    "PYTHON",
    "activate",
    "client",
    "create",
    "deploy",
    "eventually",
    "execute",
    "given",
    "packed",
    "raw",
    "refused",
    "upload",
    "wait_for_build",
    "wait_for_execution",
]

FUNCTIONS: Final = Path(__file__).parents[1] / "functions"
PATIENCE: Final = 30.0
PYTHON: Final = f"def main(req, res):\n    res.send({RUNTIME!r})\n".encode()
"""The smallest function."""

T = TypeVar("T")


TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing here speaks TLS; without this, each client reads every certificate of the host."""


def client(server: Serving, headers: dict[str, str] | None = None) -> httpx.Client:
    """Return a client of a server, with project and key unless other headers are given."""
    headers = server.headers if headers is None else headers
    return httpx.Client(base_url=server.endpoint, headers=headers, timeout=60, trust_env=False, verify=TLS)


def given(answer: httpx.Response, code: int = 200) -> Any:
    """Return what an answer that must be good holds."""
    assert answer.status_code == code, (answer.status_code, answer.text)
    if code == 204:
        assert answer.content == b""
        assert answer.headers["content-type"].startswith("text/html")
        return None
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    return answer.json()


def refused(answer: httpx.Response, code: int, type_: str, message: str | None = None) -> str:
    """Look at a refusal's shape (spec, section 3.1) and return its message."""
    assert answer.status_code == code, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"
    assert (answer.headers["expires"], answer.headers["pragma"]) == ("0", "no-cache")
    pairs = json.loads(answer.text, object_pairs_hook=list)
    assert [name for name, _ in pairs] == ["message", "code", "type", "version"]
    body = dict(pairs)
    assert (body["code"], body["type"], body["version"]) == (code, type_, "0.15.3"), body
    assert isinstance(body["code"], int)
    if message is not None:
        assert body["message"] == message
    return str(body["message"])


def eventually(question: Callable[[], T], condition: Callable[[T], object] = bool) -> T:
    """Ask until the answer is as it should be."""
    deadline = time.monotonic() + PATIENCE
    while not condition(answer := question()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.01)
    return answer


@functools.cache
def packed(name: str) -> bytes:
    """Return the archive of a folder of ``tests/functions``."""
    folder = FUNCTIONS / name
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return pack({str(path.relative_to(folder)): path.read_bytes() for path in files})


def create(api: httpx.Client, function_id: str = "f", **settings: Any) -> dict[str, Any]:
    """Make a function."""
    body = {"functionId": function_id, "name": function_id, "runtime": RUNTIME, **settings}
    return dict(given(api.post("/functions", json=body), 201))


def upload(
    api: httpx.Client,
    code: bytes,
    function_id: str = "f",
    *,
    entrypoint: str = "main.py",
    activate: object = "false",
    name: str = "code.tar.gz",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Send an archive, or a chunk of one."""
    fields = {"entrypoint": entrypoint, "activate": str(activate).lower()}
    return api.post(f"/functions/{function_id}/deployments", data=fields, files={"code": (name, code)}, headers=headers)


def wait_for_build(api: httpx.Client, deployment: dict[str, Any]) -> dict[str, Any]:
    """Wait until a build has ended, either way."""
    path = f"/functions/{deployment['resourceId']}/deployments/{deployment['$id']}"
    return eventually(lambda: given(api.get(path)), lambda shown: shown["status"] in ("ready", "failed"))


def activate(api: httpx.Client, code: bytes, function_id: str = "f", entrypoint: str = "main.py") -> dict[str, Any]:
    """Send an archive that is activated once it is built, and wait for that."""
    sent = given(upload(api, code, function_id, entrypoint=entrypoint, activate=True), 201)
    built = wait_for_build(api, sent)
    assert built["status"] == "ready", built
    return built


def deploy(api: httpx.Client, folder: str, function_id: str = "f", entrypoint: str = "main.py", **settings: Any) -> str:
    """Make a function of a folder of ``tests/functions``; return its id."""
    create(api, function_id, **settings)
    activate(api, packed(folder), function_id, entrypoint)
    return function_id


def execute(api: httpx.Client, data: str = "", function_id: str = "f", **body: Any) -> dict[str, Any]:
    """Run a function and return the finished execution."""
    answer = api.post(f"/functions/{function_id}/executions", json={"data": data, "async": False, **body})
    return dict(given(answer, 201))


def wait_for_execution(api: httpx.Client, execution: dict[str, Any]) -> dict[str, Any]:
    """Wait until an execution has ended, either way."""
    path = f"/functions/{execution['functionId']}/executions/{execution['$id']}"
    return eventually(lambda: given(api.get(path)), lambda shown: shown["status"] in ("completed", "failed"))


def raw(port: int, *pieces: bytes, seconds: float = 10.0) -> bytes:
    """Send bytes as they are, and return what comes back until the server closes or has answered once."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        received = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            while piece := connection.recv(65536):
                received += piece
                head, end, body = received.partition(b"\r\n\r\n")
                is_empty = head.startswith(b"HTTP/1.1 204 ")
                if end and (is_empty or f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n"):
                    break
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received
