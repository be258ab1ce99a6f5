"""Moves executions on: waiting -> processing -> completed or failed.

A synchronous one is accepted as already claimed, so it waits for nobody. Whatever becomes of an execution is recorded
once, by whoever holds its lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from nbfunctions.errors import FunctionNotFound
from nbfunctions.executor.executor import Call, Executor, Outcome
from nbfunctions.models import Deployment, Execution, Function, new_id
from nbfunctions.server.store.protocol import ExecutionClaim, Store, finished
from nbfunctions.settings import Settings

__all__ = ["LEASE", "Dispatch", "Wake", "keep_going"]

LEASE: Final = 30.0
"""Seconds a claim counts without being renewed."""
SHORT: Final = 0.02
"""Seconds that a synchronous execution may take without a row before its end: half the writing, and nobody could have
looked in that time."""
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
        self._can_record = True

    async def claim(self) -> None:
        """Take waiting executions and begin them, as many as there can be instances of each; then wait for more."""
        settings = self._settings
        room = settings.instances - len(self._running)
        now = self._clock()
        claims = await self._store.claim_executions(self.owner, room, settings.concurrency, now + LEASE, now)
        for claim in claims:
            task = asyncio.create_task(self._run_claim(claim))
            self._running.add(task)
            task.add_done_callback(self._on_end)
        if len(claims) < room or room <= 0:
            await self.wake.wait(LEASE)

    async def renew(self) -> None:
        """Say that this owner lives; end what a dead one left."""
        await asyncio.sleep(LEASE / 3)
        now = self._clock()
        await self._store.renew_leases(self.owner, now + LEASE)
        if await self._store.expire_leases(now):
            self.wake()

    async def run_now(
        self, project_id: str, execution: Execution, function: Function, deployment: Deployment, output: str, data: str
    ) -> Execution:
        """Run an execution while its caller waits; return the finished record.

        One that is over within :data:`SHORT` seconds is written once, finished; of one that takes longer there is a row
        from then on. After one that could not be recorded, nothing runs before its row is there. The caller is answered
        though the function was deleted meanwhile.
        """
        now = self._clock()
        accepted: list[asyncio.Task[Execution]] = []

        def accept() -> None:
            lease = now + LEASE
            accepting = self._store.create_execution(
                project_id, execution, data=data, now=now, owner=self.owner, lease_until=lease
            )
            accepted.append(asyncio.ensure_future(accepting))

        timer = None
        if self._can_record:
            timer = asyncio.get_running_loop().call_later(SHORT, accept)
        else:
            accept()
            await accepted[0]
        try:
            outcome = await self._executor.run(
                self._call(project_id, execution, function, deployment, output, data, {})
            )
        finally:
            if timer is not None:
                timer.cancel()
        ended = self._clock()
        recorded: Execution | None
        try:
            if accepted:
                await accepted[0]
                recorded = await self._store.finish_execution(execution.id, self.owner, outcome, ended)
            else:
                recorded = await self._store.record_execution(
                    project_id, execution, outcome, data=data, now=now, ended=ended
                )
        except FunctionNotFound:
            recorded = None
        except Exception:
            self._can_record = False
            raise
        self._can_record = True
        return recorded if recorded is not None else finished(execution, outcome, int(ended))

    async def drain(self) -> None:
        """Wait for the executions that run."""
        while self._running:
            await asyncio.wait(self._running)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.wake()

    async def _run_claim(self, claim: ExecutionClaim) -> None:
        try:
            await self._finish(claim)
        except Exception:
            # The row stays as it is while this server lives; the next start ends it as failed.
            log.exception("execution %s could not be recorded", claim.execution.id)

    async def _finish(self, claim: ExecutionClaim) -> None:
        execution = claim.execution
        waited = max(0.0, self._clock() - claim.created)
        if claim.deployment is None:
            gone = "the deployment this execution was accepted for has been deleted"
            outcome = Outcome(status="failed", status_code=500, stderr=gone, layer="platform", queued=waited)
        else:
            triggered = {"APPWRITE_FUNCTION_EVENT": claim.event, "APPWRITE_FUNCTION_EVENT_DATA": claim.event_data}
            if claim.user_id:
                triggered["APPWRITE_FUNCTION_USER_ID"] = claim.user_id
            call = self._call(
                claim.project_id, execution, claim.function, claim.deployment, claim.output, claim.data, triggered
            )
            outcome = await self._executor.run(call)
            if not outcome.called:
                await self._store.release_execution(execution.id, self.owner, self._clock())
                return
            outcome = msgspec.structs.replace(outcome, queued=outcome.queued + waited)
        await self._store.finish_execution(execution.id, self.owner, outcome, self._clock())

    def _call(
        self,
        project_id: str,
        execution: Execution,
        function: Function,
        deployment: Deployment,
        output: str,
        data: str,
        triggered: Mapping[str, str],
    ) -> Call:
        settings = self._settings
        runtime = self._executor.runtimes.get(function.runtime)
        context = {
            # Every key is there, empty where there is no value (spec, section 7.2).
            "APPWRITE_FUNCTION_ID": function.id,
            "APPWRITE_FUNCTION_NAME": function.name,
            "APPWRITE_FUNCTION_DEPLOYMENT": deployment.id,
            "APPWRITE_FUNCTION_TRIGGER": execution.trigger,
            "APPWRITE_FUNCTION_RUNTIME_NAME": runtime.name if runtime else "",
            "APPWRITE_FUNCTION_RUNTIME_VERSION": runtime.version if runtime else "",
            "APPWRITE_FUNCTION_EVENT": "",
            "APPWRITE_FUNCTION_EVENT_DATA": "",
            "APPWRITE_FUNCTION_DATA": data,
            "APPWRITE_FUNCTION_PROJECT_ID": project_id,
            "APPWRITE_FUNCTION_USER_ID": "",
            "APPWRITE_FUNCTION_JWT": "",
            **triggered,
        }
        return Call(
            execution_id=execution.id,
            function_id=function.id,
            deployment_id=deployment.id,
            digest=deployment.digest,
            runtime=function.runtime,
            entrypoint=deployment.entrypoint,
            output=output,
            variables={name: _text(value) for name, value in function.vars.items()},
            context=context,
            data=data,
            headers={},
            timeout=function.timeout,
            memory=function.memory or settings.memory,
            concurrency=function.concurrency or settings.concurrency,
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
