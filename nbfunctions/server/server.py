"""The server without its HTTP side: store, archives, executor, and the loops that move rows on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

from nbfunctions.errors import SettingInvalid
from nbfunctions.executor.executor import Executor
from nbfunctions.executor.local import LocalExecutor
from nbfunctions.server.artifacts import Artifacts, Upload
from nbfunctions.server.build import Builds
from nbfunctions.server.dispatch import Dispatch, keep_going
from nbfunctions.server.issuer import Issuer
from nbfunctions.server.realtime import Realtime
from nbfunctions.server.schedule import Schedules
from nbfunctions.server.store.protocol import Store
from nbfunctions.server.store.sqlite import SqliteStore
from nbfunctions.server.usage import Usage
from nbfunctions.settings import Settings

__all__ = ["Server"]

log = logging.getLogger("nbfunctions")

CLEANING: Final = 3600.0
"""Seconds between two removals of what is too old."""
UPLOAD_RETENTION: Final = 86_400.0
"""Seconds an upload may take from its first chunk to its last."""


class Server:
    """Everything that routes need. An asynchronous context manager: inside it, the loops run.

    ``clock`` gives seconds since the epoch; only loops and the beginning of a request read it.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        self.issuer = Issuer.of(settings)
        self.store: Store = SqliteStore(settings.data_dir, event_depth=settings.event_depth)
        self.artifacts = Artifacts(settings.data_dir / "artifacts")
        self.executor: Executor = LocalExecutor(settings)
        self.dispatch = Dispatch(settings, self.store, self.executor, clock)
        self.schedules = Schedules(self.store, clock)
        self.builds = Builds(self.store, self.artifacts, self.executor, self.dispatch.owner, clock, self.schedules.wake)
        self.usage = Usage(self.store, clock)
        self.store.listen(self.dispatch.on_change)
        self.store.listen(self.usage.on_change)
        self.realtime = Realtime(clock)
        self.store.listen(self.realtime.on_change)
        self._loops: list[asyncio.Task[None]] = []
        self._stopped = False

    async def __aenter__(self) -> Server:
        """Start; raises ``SandboxUnavailable`` or ``SettingInvalid`` when this host or directory can't do it."""
        try:
            await self.executor.start()
            await self.store.open()
            self.artifacts.open()
            # Nobody else has this data directory: whoever held a lease is dead.
            await self.store.expire_leases(math.inf)
        except OSError as error:
            await self.executor.stop()
            raise SettingInvalid(f"--data-dir: {error.filename} can't be used: {error.strerror}") from None
        except BaseException:
            await self.executor.stop()
            raise
        steps = {
            "dispatch": self.dispatch.claim,
            "lease": self.dispatch.renew,
            "build": self.builds.claim,
            "schedule": self.schedules.fire,
            "usage": self.usage.keep,
            "cleaning": self._clean,
        }
        self._loops = [asyncio.create_task(keep_going(name, step)) for name, step in steps.items()]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(0)

    async def stop(self, seconds: float, answered: Callable[[], Awaitable[None]] | None = None) -> None:
        """Take no more work, let executions finish for so long, then end them; what became of them is recorded.

        ``answered`` returns when nobody waits for an answer any more. Stopping again does nothing.
        """
        if self._stopped:
            return
        self._stopped = True
        self.realtime.end()
        for loop in self._loops:
            loop.cancel()
        if self._loops:
            await asyncio.wait(self._loops)
        await self.builds.stop()

        async def settled() -> None:
            await self.dispatch.drain()
            if answered is not None:
                await answered()

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await settled()
        await self.executor.stop()
        await settled()
        try:
            await self.usage.flush()
        except OSError as error:
            log.warning("the usage of the last seconds is not counted: %s", error)
        await self.store.close()

    async def forget(self, digests: list[str]) -> None:
        """Remove archives and prepared code that no deployment names any more; under the archives' lock."""
        if digests:
            await self.artifacts.remove(digests)
            await self.executor.forget(set(digests))

    async def _clean(self) -> None:
        now = self.clock()
        await self.store.delete_executions(now - self.settings.execution_retention)
        await self.store.delete_idempotency_keys(now)
        await self.usage.forget()
        for upload in await self.store.expire_uploads(now - UPLOAD_RETENTION):
            await self.artifacts.forget_uploads(Upload(*upload))
        await asyncio.sleep(CLEANING)
