"""How long a connection may take for what it has begun: the limits are short here, the sockets are real."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest

from nbfunctions.server.http import HttpServer

LIMIT: Final = 0.4
"""Seconds that stand for all the limits."""
HEAD: Final = b"%b /%b HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
GET: Final = HEAD % (b"GET", b"", b"")
SLOW: Final = HEAD % (b"GET", b"slow", b"")
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
POST: Final = HEAD % (b"POST", b"", CHUNKED)
REFUSED: Final = HEAD % (b"POST", b"refused", CHUNKED)
UPGRADE: Final = HEAD % (b"POST", b"", CHUNKED + b"Connection: Upgrade\r\nUpgrade: h2c\r\n")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the size of the body; ``/refused`` doesn't read it, ``/slow`` takes longer than any limit."""
    size = 0
    if scope["path"] == "/slow":
        await asyncio.sleep(LIMIT * 2.5)
    if scope["path"] != "/refused":
        while (message := await receive()).get("more_body"):
            size += len(message["body"])
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
    body = b"%d bytes;" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Client:
    """A connection whose end is looked at."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, piece: bytes) -> None:
        self._writer.write(piece)

    async def answer(self) -> bytes:
        """Return the body of the next answer."""
        async with asyncio.timeout(10):
            return await self._reader.readuntil(b" bytes;")

    async def dribble(self, piece: bytes) -> None:
        """Send a piece again and again, in shorter intervals than any limit, until the server has enough."""
        with contextlib.suppress(ConnectionError):
            while not self._reader.at_eof() and not self._writer.is_closing():
                self.send(piece)
                await self._writer.drain()
                await asyncio.sleep(LIMIT / 10)

    async def ended(self) -> float:
        """Wait until the server closes; return after how many limits."""
        began = time.monotonic()
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while await self._reader.read(65_536):
                    pass
        return (time.monotonic() - began) / LIMIT


Connect = Callable[[], Awaitable[Client]]


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """What connects to a server of this process."""
    for name in ("HEAD_TIME", "BODY_TIME", "REST_TIME"):
        monkeypatch.setattr(f"nbfunctions.server.http_connection.{name}", LIMIT)
    listener = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(app, stop_timeout=5)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.001)
    writers = []

    async def one() -> Client:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writers.append(writer)
        return Client(reader, writer)

    yield one
    for writer in writers:
        writer.close()
    server.refuse()
    async with asyncio.timeout(5):
        await serving


STALLED = [
    b"G",
    b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    HEAD % (b"POST", b"", b"Content-Length: 100\r\n"),
    HEAD % (b"POST", b"", b"Content-Length: 100\r\n") + b"x" * 99,
    HEAD % (b"POST", b"", b"Content-Length: 100\r\nExpect: 100-continue\r\n"),
    HEAD % (b"POST", b"", b"Content-Length: 100\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n") + b"x" * 99,
    POST,
    POST + b"5",
    POST + b"5\r\n",
    POST + b"5\r\nabcde",
    POST + b"5\r\nabcde\r\n0\r\nX-A:",
    UPGRADE + b"5\r\nabcde\r\n0\r\nX-A:",
    REFUSED,
    REFUSED + b"5\r\nabc",
]


async def test_what_has_begun_and_stalls_is_ended(connect: Connect) -> None:
    async def ask(before: bytes, begun: bytes) -> tuple[bytes, bytes, bool]:
        client = await connect()
        if before:
            client.send(before)
            await client.answer()
        client.send(begun)
        return before, begun, 0.5 < await client.ended() < 8

    cases = [(before, begun) for before in (b"", GET, GET + GET) for begun in STALLED]
    for before, begun, is_good in await asyncio.gather(*(ask(*case) for case in [(b"", b""), *cases])):
        assert is_good, (before, begun)


async def test_a_connection_that_has_been_used_is_kept_for_longer(connect: Connect) -> None:
    client = await connect()
    for _ in range(2):
        client.send(GET)
        assert (await client.answer()).endswith(b"\r\n0 bytes;")
        await asyncio.sleep(LIMIT * 1.5)
    client.send(GET)
    assert await client.answer()


ENDLESS = [
    (b"GET / HTTP/1.1\r\nX-A: ", b"a"),
    (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n"),
    (b"", b"\r\n"),
    (GET, b"\r\n"),
    (POST + b"0\r\nX-A: ", b"a"),
    (POST + b"0\r\n", b"X-A: b\r\n"),
    (REFUSED, b"1\r\nx\r\n"),
    (REFUSED + b"ffffff\r\n", b"x"),
    (HEAD % (b"POST", b"refused", b"Content-Length: 100000\r\n"), b"x"),
]


async def test_what_must_end_at_some_time_is_ended_though_it_goes_on(connect: Connect) -> None:
    async def ask(begun: bytes, more: bytes) -> tuple[bytes, bytes, bool]:
        client = await connect()
        client.send(begun)
        dribbling = asyncio.create_task(client.dribble(more))
        limits = await client.ended()
        await dribbling
        return begun, more, 0.5 < limits < 8

    for begun, more, is_good in await asyncio.gather(*(ask(*case) for case in ENDLESS)):
        assert is_good, (begun, more)


async def test_a_body_may_take_its_time_while_it_comes(connect: Connect) -> None:
    async def ask(head: bytes) -> bytes:
        client = await connect()
        client.send(head)
        for _ in range(8):
            client.send(b"3\r\nabc\r\n")
            await asyncio.sleep(LIMIT / 4)
        client.send(b"0\r\n\r\n" + GET)
        return await client.answer() + await client.answer()

    for answers in await asyncio.gather(ask(POST), ask(UPGRADE)):
        assert b"\r\n24 bytes;HTTP" in answers


BEHIND = [
    (b"", GET, b"\r\n0 bytes;"),
    (GET[:20], GET[20:], b"\r\n0 bytes;"),
    (POST + b"3\r\nab", b"c\r\n0\r\n\r\n", b"\r\n3 bytes;"),
    (HEAD % (b"POST", b"", b"Content-Length: 3\r\n") + b"ab", b"c", b"\r\n3 bytes;"),
]


async def test_an_answer_may_take_its_time_whatever_has_begun_behind_it(connect: Connect) -> None:
    async def ask(behind: bytes, rest: bytes, said: bytes) -> tuple[bytes, bool]:
        client = await connect()
        client.send(SLOW + behind)
        first = await client.answer()
        client.send(rest)
        return behind, first.endswith(b"\r\n0 bytes;") and (await client.answer()).endswith(said)

    for behind, is_good in await asyncio.gather(*(ask(*case) for case in BEHIND)):
        assert is_good, behind


async def test_the_rest_of_a_body_that_was_answered_is_skipped(connect: Connect) -> None:
    client = await connect()
    client.send(REFUSED + b"3\r\nab")
    assert await client.answer()
    client.send(b"c\r\n0\r\n\r\n" + GET)
    assert await client.answer()
    await asyncio.sleep(LIMIT * 1.5)  # the limit of the rest is over, and not the connection
    client.send(GET)
    assert await client.answer()
