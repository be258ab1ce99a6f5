"""A server in the tests' own process, with its store, its loops and its executor; only the clock is the test's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from nbfunctions.server.administration import first_access
from nbfunctions.server.app import App
from nbfunctions.server.server import Server
from nbfunctions.settings import Settings
from tests.server.asking import given, packed
from tests.serving import RUNTIME

__all__ = ["START", "Clock", "Place", "resting", "running"]

START: Final = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC).timestamp()


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Place:
    """A server in this process, with a clock of its own, and a client of it."""

    def __init__(self, server: Server, clock: Clock, api: httpx.AsyncClient) -> None:
        self.server, self.clock, self.api = server, clock, api

    async def deploy(
        self, folder: str = "environment", function_id: str = "f", *, activate: bool = True, **settings: Any
    ) -> str:
        """Make a function; return its deployment, which is built."""
        body = {"functionId": function_id, "name": function_id, "runtime": RUNTIME, **settings}
        given(await self.api.post("/functions", json=body), 201)
        return await self.upload(folder, function_id, activate=activate)

    async def upload(self, folder: str = "environment", function_id: str = "f", *, activate: bool = True) -> str:
        fields, files = (
            {"entrypoint": "main.py", "activate": str(activate).lower()},
            {"code": ("c.gz", packed(folder))},
        )
        sent = given(await self.api.post(f"/functions/{function_id}/deployments", data=fields, files=files), 201)
        path = f"/functions/{function_id}/deployments/{sent['$id']}"
        await self.eventually(lambda: self.get(path), lambda shown: shown["status"] == "ready")
        return str(sent["$id"])

    async def get(self, path: str) -> Any:
        return given(await self.api.get(path))

    async def function(self) -> dict[str, Any]:
        return dict(await self.get("/functions/f"))

    async def ticks(self) -> list[dict[str, Any]]:
        """Return the executions made so far, oldest first."""
        listed = await self.get("/functions/f/executions")
        return list(reversed(listed["executions"]))

    async def at(self, now: float) -> None:
        """Set the clock, and let the loop look at it: as often as it likes."""
        self.clock.now = now
        self.server.schedules.wake()
        await self.looked()

    async def looked(self) -> None:
        """Wait until nothing is due any more."""
        async with asyncio.timeout(10):
            while await self.server.store.due_schedules(self.clock.now, 1):  # noqa: ASYNC110 - the store has no event
                await asyncio.sleep(0.005)

    async def eventually(self, question: Callable[[], Awaitable[Any]], condition: Callable[[Any], object]) -> Any:
        async with asyncio.timeout(30):
            while not condition(answer := await question()):  # noqa: ASYNC110 - nor has the API
                await asyncio.sleep(0.005)
        return answer


@contextlib.asynccontextmanager
async def running(data_dir: Path, clock: Clock) -> AsyncIterator[Place]:
    """Yield a server that runs."""
    async with Server(Settings(data_dir=data_dir), clock=clock) as server, _place(server, clock) as place:
        yield place


@contextlib.asynccontextmanager
async def resting(data_dir: Path, clock: Clock) -> AsyncIterator[Place]:
    """Yield a server that answers and does nothing else: neither its loops nor its sandbox have started."""
    server = Server(Settings(data_dir=data_dir), clock=clock)
    await server.store.open()
    async with _place(server, clock) as place:
        yield place
    await server.store.close()


@contextlib.asynccontextmanager
async def _place(server: Server, clock: Clock) -> AsyncIterator[Place]:
    project, key = await first_access(server.store, server.settings.data_dir)
    transport = httpx.ASGITransport(App(server))
    headers = {"X-Appwrite-Project": project, "X-Appwrite-Key": key}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/v1", headers=headers) as api:
        yield Place(server, clock, api)
