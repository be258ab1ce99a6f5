"""Moves deployments on: processing -> building -> ready or failed (spec, section 6)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

from nbfunctions.errors import Error
from nbfunctions.executor.executor import BuildOrder, Executor, Log
from nbfunctions.server.artifacts import Artifacts
from nbfunctions.server.dispatch import LEASE, Wake
from nbfunctions.server.store.protocol import BuildClaim, Store

__all__ = ["Builds"]

AT_ONCE: Final = max(2, os.cpu_count() or 2)
FLUSH: Final = 0.2
"""Seconds between two additions to a live log."""

log = logging.getLogger("nbfunctions")


class Builds:
    """Takes deployments that wait and has the executor prepare them."""

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        executor: Executor,
        owner: str,
        clock: Callable[[], float],
        on_ready: Callable[[], None],
    ) -> None:
        self.wake = Wake()
        self._store = store
        self._artifacts = artifacts
        self._executor = executor
        self._owner = owner
        self._clock = clock
        self._on_ready = on_ready
        self._running: set[asyncio.Task[None]] = set()

    async def claim(self) -> None:
        """Begin the oldest build that waits, if there is room; else wait."""
        now = self._clock()
        claim = None
        if len(self._running) < AT_ONCE:
            claim = await self._store.claim_build(self._owner, now + LEASE, now)
        if claim is None:
            await self.wake.wait(LEASE)
            return
        task = asyncio.create_task(self._build(claim))
        self._running.add(task)
        task.add_done_callback(self._on_end)

    async def stop(self) -> None:
        """Leave builds that run to the next start."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.wake()

    async def _build(self, claim: BuildClaim) -> None:
        try:
            await self._prepare(claim)
        except Exception:
            log.exception("build %s could not be recorded", claim.build_id)

    async def _prepare(self, claim: BuildClaim) -> None:
        deployment = claim.deployment
        order = BuildOrder(
            archive=self._artifacts.path(deployment.digest),
            digest=deployment.digest,
            runtime=claim.function.runtime,
            entrypoint=deployment.entrypoint,
        )
        status: Literal["ready", "failed"] = "failed"
        output = reason = ""
        async with _live_log(self._store, claim.build_id, self._owner) as write:
            try:
                output = await self._executor.prepare(order, write)
                status = "ready"
            except Error as error:
                reason = str(error)
            except Exception as error:
                if order.archive.exists():  # else it was deleted just now
                    log.exception("build %s failed", claim.build_id)
                reason = f"Something went wrong during the build process: {error or type(error).__name__}"
        recorded = await self._store.finish_build(
            claim.build_id, self._owner, status, stderr=reason, output=output, now=self._clock()
        )
        if not recorded:
            async with self._artifacts.lock:
                if not order.archive.exists():  # no deployment names it any more, so nobody else forgets its code
                    await self._executor.forget({deployment.digest})
        self._on_ready()


@contextlib.asynccontextmanager
async def _live_log(store: Store, build_id: str, owner: str) -> AsyncIterator[Log]:
    """Give a log to write to; what is written reaches the store within :data:`FLUSH` seconds, all of it at the end."""
    pieces: list[tuple[str, str]] = []

    def write(stream: Literal["stdout", "stderr"], piece: str) -> None:
        pieces.append((stream, piece))

    async def flush() -> None:
        taken = pieces[:]
        del pieces[: len(taken)]
        if taken:
            stdout, stderr = (
                "".join(text for name, text in taken if name == stream) for stream in ("stdout", "stderr")
            )
            await store.append_build_log(build_id, owner, stdout, stderr)

    async def keep_flushing() -> None:
        while True:
            await asyncio.sleep(FLUSH)
            await flush()

    flushing = asyncio.create_task(keep_flushing())
    try:
        yield write
    finally:
        flushing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flushing
        await flush()
