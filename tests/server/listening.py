"""What the tests of this folder hear of executions with: WebSockets, server-sent events, users."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

import httpx
import msgspec
from websockets.sync.client import ClientConnection, connect

from tests.server.asking import client, given
from tests.serving import Serving

__all__ = ["Event", "address", "connected", "events", "next_event", "said", "socket_url", "streamed", "token", "user"]

PATIENCE: Final = 20.0
_numbers: Final = itertools.count(1)


def address() -> dict[str, str]:
    """Return a header with an address that nobody else calls from: limits are counted by it."""
    number = next(_numbers)
    return {"X-Forwarded-For": f"198.51.{number // 250}.{number % 250 + 1}"}


def token(api: httpx.Client, user_id: str, **body: Any) -> str:
    """Return a token of a user."""
    return str(given(api.post(f"/users/{user_id}/jwts", json=body), 201)["jwt"])


@contextlib.contextmanager
def user(server: Serving, api: httpx.Client, user_id: str) -> Iterator[httpx.Client]:
    """Yield an HTTP client that is a user."""
    headers = {"X-Appwrite-Project": server.project, "X-Appwrite-JWT": token(api, user_id), **address()}
    with client(server, headers) as found:
        yield found


# -- WebSockets ---------------------------------------------------------------------------------------------


def socket_url(server: Serving, *channels: str, project: str | None = "default", path: str = "/realtime") -> str:
    """Return where a WebSocket is opened."""
    query = [f"channels[]={channel}" for channel in channels]
    if project is not None:
        query.insert(0, f"project={project}")
    return f"{server.endpoint.replace('http', 'ws', 1)}{path}?{'&'.join(query)}"


@contextlib.contextmanager
def connected(
    server: Serving, *channels: str, headers: dict[str, str] | None = None, **options: Any
) -> Iterator[tuple[ClientConnection, dict[str, Any]]]:
    """Yield a WebSocket and what it was told first."""
    sent = {**address(), **(headers or {})}
    with connect(socket_url(server, *channels), additional_headers=sent, proxy=None, **options) as socket:
        first = said(socket)
        assert list(first) == ["type", "data"]
        assert first["type"] == "connected", first
        yield socket, first["data"]


def said(socket: ClientConnection) -> dict[str, Any]:
    """Return the next message."""
    return dict(json.loads(socket.recv(PATIENCE)))


# -- streams ------------------------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True):
    """One server-sent event, read as the standard says; ``id`` is the last one that was named."""

    name: str
    data: Any
    id: str


@contextlib.contextmanager
def streamed(api: httpx.Client, headers: dict[str, str] | None = None, **query: str) -> Iterator[Iterator[Event]]:
    """Yield the events of a stream; the first is looked at."""
    with api.stream("GET", "/functions/executions/stream", params=query, headers=headers, timeout=PATIENCE) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in answer.headers
        yield events(answer)


def events(answer: httpx.Response) -> Iterator[Event]:
    """Yield the events of an answer."""
    name, last = "message", ""
    data: list[str] = []
    for line in answer.iter_lines():
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                yield Event(name, json.loads("\n".join(data)), last)
            name, data = "message", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last = value


def next_event(found: Iterator[Event], name: str) -> Event:
    """Return the next event, which must have this name."""
    event = next(found)
    assert event.name == name, event
    return event
