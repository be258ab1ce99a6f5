"""A load generator for HTTP/1.1: connections that each send the next request when the answer to the last has come.

Run as a program: ``python -m tests.bench.load PORT CONNECTIONS SECONDS STATUS``, the request's bytes on stdin; prints
JSON with the requests per second and the latencies in milliseconds. An answer with another status ends it with an
error. It runs in a process of its own, and costs both sides of a comparison the same.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from typing import Any, Final

import msgspec
import uvloop

__all__ = ["Measured", "measure"]

LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Measured(msgspec.Struct, frozen=True):
    """What a load found."""

    requests_per_second: float
    p50: float
    """Milliseconds."""
    p99: float
    """Milliseconds."""


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, status: bytes, latencies: list[float], until: float) -> None:
        self._request = request
        self._status = b"HTTP/1.1 " + status
        self._latencies = latencies
        self._until = until
        self._received = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = LENGTH.search(self._received, 0, end + 2)
        if length is None or not self._received.startswith(self._status):
            self._fail(f"unexpected answer: {self._received[:300]!r}")
            return
        if len(self._received) < end + 4 + int(length[1]):
            return
        now = time.perf_counter()
        self._latencies.append(now - self._began)
        self._received = b""
        if now < self._until:
            self._send()
        elif not self.done.done():
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was lost: {exc}")

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def _fail(self, message: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(message))


async def _load(request: bytes, port: int, connections: int, seconds: float, status: bytes) -> Measured:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    began = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda: _Connection(request, status, latencies, began + seconds), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    took = time.perf_counter() - began
    latencies.sort()
    return Measured(
        requests_per_second=len(latencies) / took,
        p50=latencies[len(latencies) // 2] * 1000,
        p99=latencies[len(latencies) * 99 // 100] * 1000,
    )


def measure(request: bytes, port: int, *, connections: int, seconds: float, status: int) -> Measured:
    """Send ``request`` again and again for ``seconds``, from a process of its own."""
    command = [sys.executable, "-m", "tests.bench.load", str(port), str(connections), str(seconds), str(status)]
    found = subprocess.run(command, input=request, capture_output=True, timeout=seconds + 60, check=False)
    if found.returncode != 0:
        raise RuntimeError(found.stderr.decode()[-2000:])
    return msgspec.json.decode(found.stdout, type=Measured)


def main() -> None:
    """Measure as the command line says."""
    port, connections, seconds, status = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measured = runner.run(
            _load(sys.stdin.buffer.read(), int(port), int(connections), float(seconds), status.encode())
        )
    print(json.dumps(msgspec.to_builtins(measured)))


if __name__ == "__main__":
    main()
