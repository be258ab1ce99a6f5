"""Makes executions of functions whose scheduled time has come (spec, section 10.3).

A tick is claimed by the commit that records it, so that any number of servers fire it once. A tick that was missed
while no server ran fires once, late; the next time is counted from now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nbfunctions.errors import FunctionNotFound
from nbfunctions.models import Execution, new_id
from nbfunctions.server.cron import next_time
from nbfunctions.server.dispatch import Wake
from nbfunctions.server.store.protocol import Acceptance, DueSchedule, Store

__all__ = ["Schedules"]

AT_ONCE: Final = 100
LONGEST: Final = 30.0
"""Seconds the loop sleeps at most: a clock that was set is noticed after that."""


class Schedules:
    """Looks for due functions and fires them."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.wake = Wake()
        self._store = store
        self._clock = clock

    async def fire(self) -> None:
        """Fire what is due; when nothing is, sleep until something will be."""
        now = self._clock()
        due = await self._store.due_schedules(now, AT_ONCE)
        for one in due:
            await self._fire(one, now)
        if due:
            return
        following = await self._store.next_schedule()
        await self.wake.wait(min(max(following - self._clock(), 0.0), LONGEST) if following else LONGEST)

    async def _fire(self, due: DueSchedule, now: float) -> None:
        function = due.function
        try:
            active = await self._store.get_active(due.project_id, function.id)
        except FunctionNotFound:  # deleted since
            return
        accepted = None
        if active.deployment is not None and active.build_status == "ready":
            execution = Execution(
                id=new_id(),
                created_at=int(now),
                updated_at=int(now),
                function_id=function.id,
                trigger="schedule",
                deployment_id=active.deployment.id,
            )
            accepted = Acceptance(project_id=due.project_id, execution=execution, created=now)
        await self._store.fire_schedule(due, accepted, next_time(function.schedule, now), now)
