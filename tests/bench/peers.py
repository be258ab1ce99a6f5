"""The servers that are compared: ours with key, log row and sandbox, and a bare framework with none of them."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from nbfunctions.archive import pack
from nbfunctions.client import Client
from tests.serving import RUNTIME, Serving

__all__ = ["deployed_request", "framework", "post"]

HANDLER: Final = """
def main(req, res):
    return res.json({"message": "Hello, " + req.payload})
"""
SAME_HANDLER: Final = """
import json

def main(request):
    data = request.get_json()["data"]
    return json.dumps({"message": "Hello, " + data}), 200, {"Content-Type": "application/json"}
"""
PATIENCE: Final = 60.0


def deployed_request(server: Serving) -> bytes:
    """Deploy the handler and return the bytes of a request that executes it and waits."""
    with Client(server.endpoint, server.project, server.key) as client:
        client.functions.create("hello", "hello", runtime=RUNTIME)
        deployment = client.deployments.create("hello", "main.py", pack({"main.py": HANDLER.encode()}), activate=True)
        until = time.monotonic() + PATIENCE
        while client.deployments.get("hello", deployment.id).status != "ready":
            if time.monotonic() > until:
                raise RuntimeError("the handler was not built")
            time.sleep(0.01)
        answered = client.executions.create("hello", "Ada", asynchronous=False)
        if answered.json() != {"message": "Hello, Ada"}:
            raise RuntimeError(f"unexpected answer: {answered}")
    return post("/v1/functions/hello/executions", {"data": "Ada", "async": False}, server.headers)


@contextlib.contextmanager
def framework(place: Path, environment: dict[str, str]) -> Iterator[int]:
    """Start ``functions-framework`` with its default server on the same handler; give its port."""
    source = place / "framework.py"
    source.write_text(SAME_HANDLER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    program = Path(sys.executable).parent / "functions-framework"
    command = [str(program), "--target", "main", "--source", str(source), "--port", str(port), "--host", "127.0.0.1"]
    log = (place / "framework.log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE)


def post(path: str, body: dict[str, Any], headers: dict[str, str]) -> bytes:
    """Return the bytes of a POST with a JSON body."""
    content = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def _wait_for(port: int) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
