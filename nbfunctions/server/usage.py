"""What functions did, in half hours (spec, section 2.7): counted in memory as executions end, kept every few seconds.

A server that is killed loses the counts of its last seconds; the executions themselves are in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from nbfunctions.models import UsageFunctions, UsagePoint, UsageRange
from nbfunctions.server.store.protocol import ExecutionChange, Store, UsageCount

__all__ = ["Usage"]

HALF_HOUR: Final = 1800
DAY: Final = 86_400
RETENTION: Final = 100 * DAY
FLUSH: Final = 5.0
"""Seconds between two writes of counts."""

SPANS: Final[dict[UsageRange, tuple[int, int]]] = {
    "24h": (48, HALF_HOUR),
    "7d": (7, DAY),
    "30d": (30, DAY),
    "90d": (90, DAY),
}
"""Points of each range, and the seconds of one."""


class Usage:
    """Counts executions that end, and writes the counts down."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._counts: dict[tuple[str, str, int], list[float]] = {}
        self._flushing = asyncio.Lock()

    def on_change(self, change: ExecutionChange) -> None:
        """Count an execution that has ended."""
        execution = change.execution
        if execution.status not in ("completed", "failed") or change.action == "delete":
            return
        start = execution.updated_at // HALF_HOUR * HALF_HOUR
        counts = self._counts.setdefault((change.project_id, execution.function_id, start), [0, 0, 0.0])
        counts[0] += 1
        counts[1] += execution.status == "failed"
        counts[2] += execution.time

    async def keep(self) -> None:
        """Wait a while, then write down what was counted meanwhile."""
        await asyncio.sleep(FLUSH)
        await self.flush()

    async def flush(self) -> None:
        """Write down what was counted; when this returns, it is written."""
        async with self._flushing:
            counts, self._counts = self._counts, {}
            if not counts:
                return
            try:
                await self._store.add_usage(
                    [
                        UsageCount(*key, int(executions), int(failures), time)
                        for key, (executions, failures, time) in counts.items()
                    ]
                )
            except Exception:
                # Not when this is cancelled: the store writes what it was given.
                for key, added in counts.items():
                    held = self._counts.setdefault(key, [0, 0, 0.0])
                    self._counts[key] = [a + b for a, b in zip(held, added, strict=True)]
                raise

    def drop(self, project_id: str, function_id: str) -> None:
        """Forget what was counted of a function that is gone: another one may have its id."""
        for key in [key for key in self._counts if key[:2] == (project_id, function_id)]:
            del self._counts[key]

    async def forget(self) -> None:
        """Delete counts that no range shows any more."""
        await self._store.delete_usage(int(self._clock()) - RETENTION)

    async def of(self, project_id: str, function_id: str, range_: UsageRange) -> UsageFunctions:
        """Return a function's counts up to now; raises ``FunctionNotFound``."""
        await self.flush()
        number, span = SPANS[range_]
        last = int(self._clock()) // span * span
        dates = [last - span * back for back in reversed(range(number))]
        sums = {date: [0.0, 0.0, 0.0] for date in dates}
        for count in await self._store.get_usage(project_id, function_id, dates[0]):
            at = count.start // span * span
            if at in sums:
                for place, value in enumerate((count.executions, count.failures, count.compute * 1000)):
                    sums[at][place] += value
        points = [tuple(UsagePoint(value=round(sums[date][place]), date=date) for date in dates) for place in range(3)]
        return UsageFunctions(range=range_, executions=points[0], failures=points[1], compute=points[2])
