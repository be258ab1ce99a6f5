"""The warm pool: which instance answers which call, when a further one is started, and when one has to go.

* Calls of one *group* (same deployment, code, variables and memory) share instances and wait in the order they came.
* A group's first instance is started at once; a further one when its oldest waiter has waited :data:`PATIENCE` and none
  is just being started, up to the call's ``concurrency``: a burst of short calls doesn't start eight processes.
* When all places are taken, the instance that was idle longest, of any group, makes room; without an idle one, groups
  that have none wait in the order of their oldest waiter.
* A call with other variables makes another group; the group it replaces retires.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from nbfunctions.executor.executor import Call
from nbfunctions.executor.instance import Instance, StartFailed

__all__ = ["PATIENCE", "Pool", "PoolStopped", "Starter"]

PATIENCE: Final = 0.02
"""Seconds the oldest waiter waits before a further instance is started for its group."""
RECOVERY: Final = 1.0
"""Seconds before a group that has instances tries again after a further one could not be started."""

Starter = Callable[[Call, Callable[[Instance], None]], Awaitable[Instance]]
"""Starts an instance for calls like this one; told what to call when it has ended. Raises :class:`StartFailed`."""


class PoolStopped(Exception):
    """The pool takes no more calls."""


class Waiter:
    """A call that waits for an instance."""

    __slots__ = ("call", "future", "since", "started")

    def __init__(self, call: Call, future: asyncio.Future[Instance], since: float) -> None:
        self.call = call
        self.future = future
        self.since = since
        self.started = False
        """Whether an instance was started for it."""


class Group:
    """The instances that can answer the same calls, and the calls that wait for them."""

    def __init__(self, key: Hashable, digest: str) -> None:
        self.key = key
        self.digest = digest
        self.idle: list[Instance] = []
        self.busy: set[Instance] = set()
        self.starting = 0
        self.waiters: deque[Waiter] = deque()
        self.timer: asyncio.TimerHandle | None = None
        self.not_before = 0.0
        self.retired = False

    @property
    def size(self) -> int:
        """Places taken."""
        return len(self.idle) + len(self.busy) + self.starting

    @property
    def oldest(self) -> float:
        """When its oldest waiter came; later than anything when nobody waits."""
        return self.waiters[0].since if self.waiters else float("inf")


class Pool:
    """All instances of an executor. Used from one event loop."""

    def __init__(self, start: Starter, *, places: int, idle_timeout: float) -> None:
        self._start = start
        self._places = places
        self._idle_timeout = idle_timeout
        self._groups: dict[Hashable, Group] = {}
        self._current: dict[Hashable, Group] = {}
        self._home: dict[Instance, Group] = {}
        self._idle_since: dict[Instance, float] = {}
        self._hungry: set[Group] = set()
        self._ending: set[Instance] = set()
        self._starts: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._stopped = False

    async def acquire(self, call: Call) -> tuple[Instance, bool]:
        """Return an instance for the call and whether it was started for it.

        Raises :class:`StartFailed`, :class:`PoolStopped`. Every instance is given back by :meth:`release`.
        """
        if self._stopped:
            raise PoolStopped
        group = self._group(call)
        if not group.waiters:
            instance = self._take_idle(group)
            if instance is not None:
                return instance, False
        loop = asyncio.get_running_loop()
        waiter = Waiter(call, loop.create_future(), loop.time())
        group.waiters.append(waiter)
        self._grow(group)
        try:
            return await waiter.future, waiter.started
        except asyncio.CancelledError:
            if waiter in group.waiters:
                group.waiters.remove(waiter)
            elif waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                self.release(waiter.future.result())
            self._drop_if_empty(group)
            raise

    def release(self, instance: Instance) -> None:
        """Take an instance back after its call, whatever became of it."""
        group = self._home.get(instance)
        if group is None or instance not in group.busy:
            return
        group.busy.discard(instance)
        group.idle.append(instance)
        self._idle_since[instance] = asyncio.get_running_loop().time()
        if (
            not instance.alive
            or (group.retired and not group.waiters)
            or ((hungry := self._hungriest()) is not None and hungry.oldest < group.oldest)
        ):
            self._discard(instance)
        else:
            self._serve(group)
            self._watch_idle()

    def count(self) -> int:
        """Return how many places are taken."""
        return sum(group.size for group in self._groups.values())

    def forget(self, digests: set[str]) -> None:
        """End the idle instances of this code now, and those that are busy after their call."""
        for group in [group for group in self._groups.values() if group.digest in digests]:
            self._retire(group)

    async def stop(self, seconds: float = 2.0) -> None:
        """End all instances and refuse all waiters; wait until the processes are gone, at most ``seconds``."""
        self._stopped = True
        if self._reaper is not None:
            self._reaper.cancel()
        for group in list(self._groups.values()):
            if group.timer is not None:
                group.timer.cancel()
            while group.waiters:
                _refuse(group.waiters.popleft(), PoolStopped())
        for start in list(self._starts):
            start.cancel()
        instances = [*self._home, *self._ending]
        for instance in instances:
            instance.kill("the server stopped")
        ends: list[asyncio.Future[int] | asyncio.Task[None]] = [*(i.ended for i in instances), *self._starts]
        if ends:
            await asyncio.wait(ends, timeout=seconds)

    # -- choosing -----------------------------------------------------------------------------------------

    def _group(self, call: Call) -> Group:
        project = call.context.get("APPWRITE_FUNCTION_PROJECT_ID", "")
        place = (project, call.function_id, call.deployment_id)
        code = (call.digest, call.output, call.runtime, call.entrypoint)
        key = (place, code, call.memory, frozenset(call.variables.items()))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key, call.digest)
        current = self._current.get(place)
        if current is not group:
            self._current[place] = group
            group.retired = False
            if current is not None:
                self._retire(current)
        return group

    def _take_idle(self, group: Group) -> Instance | None:
        while group.idle:
            instance = group.idle[-1]
            if instance.is_usable():
                group.idle.pop()
                group.busy.add(instance)
                self._idle_since.pop(instance, None)
                return instance
            self._discard(instance)
        return None

    def _serve(self, group: Group) -> None:
        """Give idle instances to waiters."""
        while group.waiters:
            instance = self._take_idle(group)
            if instance is None:
                return
            waiter = group.waiters.popleft()
            if waiter.future.done():
                self.release(instance)
                return
            waiter.future.set_result(instance)

    def _hungriest(self) -> Group | None:
        """Return the group without any instance whose waiter came first."""
        if not self._hungry:
            return None
        return min(self._hungry, key=lambda group: group.oldest)

    # -- growing ------------------------------------------------------------------------------------------

    def _grow(self, group: Group) -> None:
        """Start a further instance if it is time; else come back when it will be."""
        if self._stopped or not group.waiters:
            return
        if group.size:
            if group.starting or group.size >= max(1, group.waiters[0].call.concurrency):
                return
            now = asyncio.get_running_loop().time()
            due = max(group.oldest + PATIENCE, group.not_before)
            if due > now:
                self._grow_later(group, due - now)
                return
        if self.count() >= self._places and not self._make_room():
            if group.size == 0:
                self._hungry.add(group)
            return
        self._begin(group)

    def _grow_later(self, group: Group, delay: float) -> None:
        def again() -> None:
            group.timer = None
            self._grow(group)

        if group.timer is None:
            group.timer = asyncio.get_running_loop().call_later(delay, again)

    def _make_room(self) -> bool:
        if not self._idle_since:
            return False
        self._discard(min(self._idle_since, key=self._idle_since.__getitem__))
        return True

    def _begin(self, group: Group) -> None:
        self._hungry.discard(group)
        group.starting += 1
        waiter = group.waiters[0]
        start = asyncio.get_running_loop().create_task(self._begun(group, waiter))
        self._starts.add(start)
        start.add_done_callback(self._starts.discard)

    async def _begun(self, group: Group, waiter: Waiter) -> None:
        first = group.size == 1
        instance: Instance | None = None
        failure: StartFailed | None = None
        try:
            instance = await self._start(waiter.call, self._on_end)
        except StartFailed as error:
            failure = error
        except Exception as error:
            # A fault of ours: the calls that wait for this start must hear of it.
            failure = StartFailed(f"the instance could not be started: {type(error).__name__}: {error}", "platform")
        finally:
            group.starting -= 1
        if instance is not None:
            self._home[instance] = group
            if group.waiters and group.waiters[0] is waiter:
                waiter.started = True
            group.busy.add(instance)
            self.release(instance)
        elif failure is not None:
            self._on_start_failed(group, failure, first)
        self._grow(group)
        self._feed_hungry()
        self._drop_if_empty(group)

    def _on_start_failed(self, group: Group, failure: StartFailed, first: bool) -> None:
        if first and group.size == 0:
            # Nobody else can answer them: they all waited for this start.
            while group.waiters:
                _refuse(group.waiters.popleft(), failure)
        else:
            group.not_before = asyncio.get_running_loop().time() + RECOVERY

    # -- ending -------------------------------------------------------------------------------------------

    def _on_end(self, instance: Instance) -> None:
        group = self._home.pop(instance, None)
        self._idle_since.pop(instance, None)
        if group is None:
            return
        group.busy.discard(instance)
        if instance in group.idle:
            group.idle.remove(instance)
        # First those who wait for the place longest: else its own group would take it back again and again.
        self._feed_hungry()
        self._grow(group)
        self._drop_if_empty(group)

    def _discard(self, instance: Instance) -> None:
        """End an idle instance; its place is free at once."""
        if not instance.ended.done():
            self._ending.add(instance)
            instance.ended.add_done_callback(lambda _: self._ending.discard(instance))
        instance.kill("it was not needed any more")
        self._on_end(instance)

    def _feed_hungry(self) -> None:
        hungry = self._hungriest()
        if hungry is not None:
            self._grow(hungry)

    def _retire(self, group: Group) -> None:
        group.retired = True
        if not group.waiters:
            for instance in list(group.idle):
                self._discard(instance)
        self._drop_if_empty(group)

    def _drop_if_empty(self, group: Group) -> None:
        if group.waiters:
            return
        self._hungry.discard(group)
        if group.size:
            return
        if group.timer is not None:
            group.timer.cancel()
            group.timer = None
        if self._groups.get(group.key) is group:
            del self._groups[group.key]
        for place, current in list(self._current.items()):
            if current is group:
                del self._current[place]

    def _watch_idle(self) -> None:
        if self._reaper is None and self._idle_since and not self._stopped:
            loop = asyncio.get_running_loop()
            due = min(self._idle_since.values()) + self._idle_timeout
            self._reaper = loop.call_at(max(due, loop.time()), self._reap)

    def _reap(self) -> None:
        self._reaper = None
        now = asyncio.get_running_loop().time()
        for instance, since in list(self._idle_since.items()):
            if since + self._idle_timeout <= now:
                self._discard(instance)
        self._watch_idle()


def _refuse(waiter: Waiter, error: Exception) -> None:
    if not waiter.future.done():
        waiter.future.set_exception(error)
