"""Moves executions on: waiting -> processing -> completed or failed.

A synchronous one is accepted as already claimed, so it waits for nobody. Whatever becomes of an execution is recorded
once, by whoever holds its lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from nbfunctions.errors import ExecutionNotFound, FunctionNotFound
from nbfunctions.executor.executor import Call, Executor, Outcome
from nbfunctions.models import Deployment, Execution, Function, new_id
from nbfunctions.server.store.protocol import Acceptance, ExecutionChange, ExecutionClaim, Idempotency, Store, finished
from nbfunctions.settings import Settings

__all__ = ["LEASE", "Dispatch", "Wake", "keep_going"]

LEASE: Final = 30.0
"""Seconds a claim counts without being renewed."""
SHORT: Final = 0.02
"""Seconds that a synchronous execution may take without a row before its end: half the writing, and nobody could have
looked in that time."""
LOOK: Final = 1.0
"""Seconds after which the end of an execution is looked for in the store: another server may run it."""
PAUSE: Final = 1.0
"""Seconds until a loop whose step failed tries again."""

log = logging.getLogger("nbfunctions")


class Wake:
    """Lets a loop sleep until there may be something to do."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __call__(self) -> None:
        """There may be something to do."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Sleep until called, at most ``seconds``; calls since the last wait count."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()


async def keep_going(name: str, step: Callable[[], Any]) -> None:
    """Repeat a step of a loop for ever; one that fails is said in the log and tried again after a pause."""
    while True:
        try:
            await step()
        except Exception:
            log.exception("the %s loop failed; it goes on in %g s", name, PAUSE)
            await asyncio.sleep(PAUSE)


class Dispatch:
    """Runs executions: those it claims, and at once those that a caller waits for."""

    def __init__(self, settings: Settings, store: Store, executor: Executor, clock: Callable[[], float]) -> None:
        self.owner = new_id()
        self.wake = Wake()
        self._settings = settings
        self._store = store
        self._executor = executor
        self._clock = clock
        self._running: set[asyncio.Task[None]] = set()
        self._claiming: set[asyncio.Task[int]] = set()
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        """What runs each execution here."""
        self._cancelled: set[str] = set()
        """Executions that were cancelled and whose task has been told."""
        self._ends: weakref.WeakValueDictionary[str, asyncio.Event] = weakref.WeakValueDictionary()
        """Set when the execution ends: there as long as somebody waits for that."""
        self._can_record = True

    async def claim(self) -> None:
        """Take waiting executions and begin them, as many as there can be instances of each; then wait for more."""
        room = self._settings.instances - len(self._running)
        # Whoever stops this loop leaves no execution claimed that nobody runs.
        claiming = asyncio.create_task(self._claim(room))
        self._claiming.add(claiming)
        claiming.add_done_callback(self._claiming.discard)
        if await asyncio.shield(claiming) < room or room <= 0:
            await self.wake.wait(LEASE)

    async def _claim(self, room: int) -> int:
        """Begin up to ``room`` executions; return how many."""
        now = self._clock()
        claims = await self._store.claim_executions(self.owner, room, self._settings.concurrency, now + LEASE, now)
        for claim in claims:
            execution_id = claim.accepted.execution.id
            task = asyncio.create_task(self._run_claim(claim))
            # Known before it has begun: it may be cancelled as soon as it is claimed.
            self._tasks[execution_id] = task
            self._running.add(task)
            task.add_done_callback(functools.partial(self._on_end, execution_id))
        return len(claims)

    async def renew(self) -> None:
        """Say that this owner lives; end what a dead one left."""
        await asyncio.sleep(LEASE / 3)
        now = self._clock()
        await self._store.renew_leases(self.owner, now + LEASE)
        if await self._store.expire_leases(now):
            self.wake()

    async def run_now(
        self,
        accepted: Acceptance,
        function: Function,
        deployment: Deployment,
        output: str,
        idempotency: Idempotency | None = None,
    ) -> Execution:
        """Run an execution while its caller waits; return the finished record.

        One that is over within :data:`SHORT` seconds is written once, finished; of one that takes longer there is a row
        from then on. With an idempotency key, and after one that could not be recorded, nothing runs before its row is
        there; a request that was made before gets the record of its first execution. The caller is answered though the
        function was deleted meanwhile. Raises ``ExecutionAlreadyExists``.
        """
        execution = accepted.execution
        rows: list[asyncio.Future[Execution]] = []

        def accept() -> None:
            lease = accepted.created + LEASE
            accepting = self._store.create_execution(
                accepted, owner=self.owner, lease_until=lease, idempotency=idempotency
            )
            rows.append(asyncio.ensure_future(accepting))

        timer = None
        self._tasks[execution.id] = _current_task()
        try:
            if idempotency is None and self._can_record:
                timer = asyncio.get_running_loop().call_later(SHORT, accept)
            else:
                accept()
                first = await rows[0]
                if first.id != execution.id:
                    return await self._end_of(accepted.project_id, function.id, first.id)
            outcome = await self._executor.run(self._call(accepted, function, deployment, output))
        except asyncio.CancelledError:
            if execution.id not in self._cancelled:
                raise
            _current_task().uncancel()
            return await self._store.get_execution(accepted.project_id, function.id, execution.id)
        finally:
            if timer is not None:
                timer.cancel()
            self._forget(execution.id)
        return await self._record(accepted, outcome, rows)

    async def _record(
        self, accepted: Acceptance, outcome: Outcome, rows: Sequence[asyncio.Future[Execution]]
    ) -> Execution:
        """Record the end of an execution whose caller waits."""
        execution = accepted.execution
        ended = self._clock()
        recorded: Execution | None = None
        try:
            if not rows:
                recorded = await self._store.record_execution(accepted, outcome, ended=ended)
            else:
                await rows[0]
                recorded = await self._store.finish_execution(execution.id, self.owner, outcome, ended)
                if recorded is None:  # cancelled just now, or gone
                    recorded = await self._store.get_execution(accepted.project_id, execution.function_id, execution.id)
        except (FunctionNotFound, ExecutionNotFound):
            recorded = None
        except Exception:
            self._can_record = False
            raise
        self._can_record = True
        return recorded if recorded is not None else finished(execution, outcome, int(ended))

    async def _end_of(self, project_id: str, function_id: str, execution_id: str) -> Execution:
        """Return an execution that somebody else runs when it has ended."""
        ended = self._ends.setdefault(execution_id, asyncio.Event())
        while True:
            execution = await self._store.get_execution(project_id, function_id, execution_id)
            if execution.status not in ("waiting", "processing"):
                return execution
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await ended.wait()

    def on_change(self, change: ExecutionChange) -> None:
        """Look for work when an execution waits, end the call of one that was cancelled, tell who waits for its end."""
        execution = change.execution
        if execution.status == "waiting":
            self.wake()
            return
        if execution.layer == "cancelled" and execution.id in self._tasks:
            self._cancelled.add(execution.id)
            self._tasks[execution.id].cancel()
        if self._ends and execution.status != "processing" and (ended := self._ends.get(execution.id)) is not None:
            ended.set()

    async def drain(self) -> None:
        """Wait for the executions that run."""
        while under_way := self._running | self._claiming:
            await asyncio.wait(under_way)

    def _on_end(self, execution_id: str, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._forget(execution_id)
        self.wake()

    def _forget(self, execution_id: str) -> None:
        del self._tasks[execution_id]
        self._cancelled.discard(execution_id)

    async def _run_claim(self, claim: ExecutionClaim) -> None:
        try:
            await self._finish(claim)
        except Exception:
            # The row stays as it is while this server lives; the next start ends it as failed.
            log.exception("execution %s could not be recorded", claim.accepted.execution.id)

    async def _finish(self, claim: ExecutionClaim) -> None:
        execution = claim.accepted.execution
        waited = max(0.0, self._clock() - claim.accepted.created)
        if claim.deployment is None:
            gone = "the deployment this execution was accepted for has been deleted"
            outcome = Outcome(status="failed", status_code=500, stderr=gone, layer="platform", queued=waited)
        else:
            call = self._call(claim.accepted, claim.function, claim.deployment, claim.output)
            outcome = await self._executor.run(call)
            if not outcome.called:
                await self._store.release_execution(execution.id, self.owner, self._clock())
                return
            outcome = msgspec.structs.replace(outcome, queued=outcome.queued + waited)
        await self._store.finish_execution(execution.id, self.owner, outcome, self._clock())

    def _call(self, accepted: Acceptance, function: Function, deployment: Deployment, output: str) -> Call:
        settings = self._settings
        runtime = self._executor.runtimes.get(function.runtime)
        context = {
            # Every key is there, empty where there is no value (spec, section 7.2).
            "APPWRITE_FUNCTION_ID": function.id,
            "APPWRITE_FUNCTION_NAME": function.name,
            "APPWRITE_FUNCTION_DEPLOYMENT": deployment.id,
            "APPWRITE_FUNCTION_TRIGGER": accepted.execution.trigger,
            "APPWRITE_FUNCTION_RUNTIME_NAME": runtime.name if runtime else "",
            "APPWRITE_FUNCTION_RUNTIME_VERSION": runtime.version if runtime else "",
            "APPWRITE_FUNCTION_EVENT": accepted.event,
            "APPWRITE_FUNCTION_EVENT_DATA": accepted.event_data,
            "APPWRITE_FUNCTION_DATA": accepted.data,
            "APPWRITE_FUNCTION_PROJECT_ID": accepted.project_id,
            "APPWRITE_FUNCTION_USER_ID": accepted.user_id,
            "APPWRITE_FUNCTION_JWT": "",  # for those who came with a session, of which there are none
        }
        return Call(
            execution_id=accepted.execution.id,
            function_id=function.id,
            deployment_id=deployment.id,
            digest=deployment.digest,
            runtime=function.runtime,
            entrypoint=deployment.entrypoint,
            output=output,
            variables={name: _text(value) for name, value in function.vars.items()},
            context=context,
            data=accepted.data,
            headers={},
            timeout=function.timeout,
            memory=function.memory or settings.memory,
            concurrency=function.concurrency or settings.concurrency,
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    return task
