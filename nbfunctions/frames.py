"""Lists as DataFrames: the id is the index, times are UTC with their zone, durations are timedeltas.

Columns and dtypes are the same for an empty list. ``.attrs`` has ``total`` (matches on the server, at most 5000, before
the filters that are applied here) and ``query`` (what was asked for).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal

from nbfunctions.errors import SettingInvalid
from nbfunctions.models import BUILD_STATUSES, EXECUTION_STATUSES, TRIGGERS, Deployment, Execution, Function

if TYPE_CHECKING:
    import pandas as pd

    from nbfunctions.client import Client

__all__ = [
    "COLUMNS",
    "check_filters",
    "check_limit",
    "deployments",
    "durations",
    "executions",
    "functions",
    "runtimes",
    "since_time",
]

PAGE: Final = 100
"""Rows the server gives in one answer (spec, section 1.1)."""

Kind = Literal["text", "texts", "time", "duration", "whole", "flag", "status", "build status", "trigger"]

FUNCTIONS: Final[dict[str, Kind]] = {
    "name": "text",
    "runtime": "text",
    "deployment": "text",
    "timeout": "duration",
    "schedule": "text",
    "next": "time",
    "previous": "time",
    "execute": "texts",
    "events": "texts",
    "vars": "texts",
    "memory": "whole",
    "concurrency": "whole",
    "created": "time",
    "updated": "time",
}
DEPLOYMENTS: Final[dict[str, Kind]] = {
    "function": "text",
    "status": "build status",
    "active": "flag",
    "created": "time",
    "build_time": "duration",
    "size": "whole",
    "entrypoint": "text",
    "stdout": "text",
    "stderr": "text",
    "build": "text",
    "digest": "text",
    "updated": "time",
}
EXECUTIONS: Final[dict[str, Kind]] = {
    "function": "text",
    "trigger": "trigger",
    "status": "status",
    "status_code": "whole",
    "created": "time",
    "time": "duration",
    "queued": "duration",
    "cold": "flag",
    "layer": "text",
    "response": "text",
    "stdout": "text",
    "stderr": "text",
    "deployment": "text",
    "updated": "time",
}
RUNTIMES: Final[dict[str, Kind]] = {
    "name": "text",
    "version": "text",
    "base": "text",
    "image": "text",
    "supports": "texts",
}
COLUMNS: Final = {
    "functions": FUNCTIONS,
    "deployments": DEPLOYMENTS,
    "executions": EXECUTIONS,
    "runtimes": RUNTIMES,
}
"""Columns of each DataFrame with what they hold; ``docs/frames.md`` explains each."""


def functions(client: Client, search: str = "", limit: int | None = 25) -> pd.DataFrame:
    """Return functions in the order they were made; ``limit=None`` is all of them.

    Columns: ``name``, ``runtime``, ``deployment`` (active one, empty if none), ``timeout``, ``schedule``, ``next`` and
    ``previous`` (scheduled times, NaT if none), ``execute``, ``events``, ``vars`` (names only: values may be secret),
    ``memory`` in MB and ``concurrency`` (0 is the server's default), ``created``, ``updated``.
    """
    check_limit(limit)
    totals: list[int] = []

    def page(cursor: str, size: int) -> Sequence[Function]:
        found = client.functions.list(search=search, limit=size, cursor=cursor)
        totals.append(found.total)
        return found.functions

    rows = [_function_row(item) for item in _pages(page, limit)]
    return _frame(FUNCTIONS, rows, totals, {"search": search, "limit": limit})


def _function_row(item: Function) -> tuple[Any, ...]:
    return (
        item.id,
        item.name,
        item.runtime,
        item.deployment,
        item.timeout,
        item.schedule,
        item.schedule_next,
        item.schedule_previous,
        item.execute,
        item.events,
        tuple(sorted(item.vars)),
        item.memory,
        item.concurrency,
        item.created_at,
        item.updated_at,
    )


def deployments(client: Client, function_id: str, limit: int | None = 25) -> pd.DataFrame:
    """Return a function's deployments, newest first; ``limit=None`` is all of them.

    Columns: ``function``, ``status`` (category), ``active``, ``created``, ``build_time``, ``size`` in bytes,
    ``entrypoint``, ``stdout`` and ``stderr`` of the build, ``build`` (id), ``digest`` (SHA-256 of the archive),
    ``updated``.
    """
    check_limit(limit)
    active = client.functions.get(function_id).deployment
    totals: list[int] = []

    def page(cursor: str, size: int) -> Sequence[Deployment]:
        found = client.deployments.list(function_id, limit=size, cursor=cursor, order_type="DESC")
        totals.append(found.total)
        return found.deployments

    rows = [_deployment_row(item, active) for item in _pages(page, limit)]
    return _frame(DEPLOYMENTS, rows, totals, {"function": function_id, "limit": limit})


def _deployment_row(item: Deployment, active: str) -> tuple[Any, ...]:
    return (
        item.id,
        item.function_id,
        item.status,
        item.id == active,
        item.created_at,
        item.build_time or None,
        item.size,
        item.entrypoint,
        item.build_stdout,
        item.build_stderr,
        item.build_id,
        item.digest,
        item.updated_at,
    )


def executions(
    client: Client,
    function_id: str | None = None,
    *,
    status: str | None = None,
    trigger: str | None = None,
    since: str | timedelta | datetime | None = None,
    limit: int | None = 25,
) -> pd.DataFrame:
    """Return executions, newest first, of one function or of all; ``limit=None`` is all of them.

    ``since`` is a span as ``7d``, ``12h``, ``30m``, ``45s``, or a time with its zone. Columns: ``function``,
    ``trigger`` and ``status`` (categories), ``status_code``, ``created``, ``time`` (inside the runtime; NaT until
    done), ``queued``, ``cold``, ``layer`` (where a failed one failed), ``response``, ``stdout``, ``stderr``,
    ``deployment``, ``updated``.
    """
    check_limit(limit)
    earliest = check_filters(status, trigger, since)
    totals: list[int] = []
    names = [function_id] if function_id is not None else [f.id for f in _all_functions(client)]
    found: list[Execution] = []
    for name in names:
        matching = (
            item
            for item in _executions_of(client, name, earliest, totals, _plain(limit, status, trigger))
            if status in (None, item.status) and trigger in (None, item.trigger)
        )
        found += islice(matching, limit)
    if function_id is None:
        found.sort(key=lambda item: (item.created_at, item.id), reverse=True)
    query = {
        "function": function_id,
        "status": status,
        "trigger": trigger,
        "since": str(since) if since is not None else None,
        "limit": limit,
    }
    return _frame(EXECUTIONS, [_execution_row(item) for item in found[:limit]], [sum(totals)], query)


def _plain(limit: int | None, status: str | None, trigger: str | None) -> int | None:
    """Return how many rows to ask for: only where nothing is filtered out here is the limit the server's as well."""
    return limit if status is None and trigger is None else None


def _executions_of(
    client: Client, function_id: str, earliest: float, totals: list[int], limit: int | None
) -> Iterator[Execution]:
    first: list[int] = []

    def page(cursor: str, size: int) -> Sequence[Execution]:
        found = client.executions.list(function_id, limit=size, cursor=cursor)
        if not first:
            first.append(found.total)
            totals.append(found.total)
        return found.executions

    for item in _pages(page, limit):
        if item.created_at < earliest:
            return
        yield item


def _all_functions(client: Client) -> Iterator[Function]:
    return _pages(lambda cursor, size: client.functions.list(limit=size, cursor=cursor).functions, None)


def _execution_row(item: Execution) -> tuple[Any, ...]:
    done = item.status in ("completed", "failed")
    return (
        item.id,
        item.function_id,
        item.trigger,
        item.status,
        item.status_code,
        item.created_at,
        item.time if done else None,
        item.queued if done else None,
        item.cold,
        item.layer,
        item.response,
        item.stdout,
        item.stderr,
        item.deployment_id,
        item.updated_at,
    )


def runtimes(client: Client) -> pd.DataFrame:
    """Return the runtimes of the server. Columns: ``name``, ``version``, ``base``, ``image``, ``supports``."""
    found = client.functions.list_runtimes()
    rows = [(item.id, item.name, item.version, item.base, item.image, item.supports) for item in found.runtimes]
    return _frame(RUNTIMES, rows, [found.total], {})


def check_filters(
    status: str | None = None, trigger: str | None = None, since: str | timedelta | datetime | None = None
) -> float:
    """Return the earliest time, in seconds since the epoch, that ``since`` lets through.

    Raises :class:`SettingInvalid` for a status, a trigger or a time that can't be.
    """
    _check("status", status, EXECUTION_STATUSES)
    _check("trigger", trigger, TRIGGERS)
    return since_time(since, datetime.now(UTC)).timestamp() if since is not None else 0.0


def check_limit(limit: int | None) -> None:
    """Raise :class:`SettingInvalid` for a number of rows that can't be."""
    if limit is not None and limit < 0:
        raise SettingInvalid(f"limit: expected 0 or more, found {limit}")


def since_time(since: str | timedelta | datetime, now: datetime) -> datetime:
    """Return the time that ``since`` means at ``now``. Raises :class:`SettingInvalid` saying what was found."""
    if isinstance(since, timedelta):
        return now - since
    if isinstance(since, str):
        span = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", since.strip())
        if span:
            seconds = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}[span[2]]
            try:
                return now - timedelta(seconds=float(span[1]) * seconds)
            except OverflowError:
                raise SettingInvalid(f"since: {since!r} is before the calendar begins") from None
        try:
            since = datetime.fromisoformat(since)
        except ValueError:
            raise SettingInvalid(
                f"since: expected a span as 7d, 12h or 30m, or a time as 2026-11-23T10:00+01:00, found {since!r}"
            ) from None
    if since.tzinfo is None:
        raise SettingInvalid(f"since: {since.isoformat()} has no time zone; add +00:00 for UTC")
    return since


def _check(name: str, value: str | None, choices: Iterable[str]) -> None:
    if value is not None and value not in choices:
        raise SettingInvalid(f"{name}: expected one of {', '.join(choices)}, found {value!r}")


def _pages(page: Callable[[str, int], Sequence[Any]], limit: int | None) -> Iterator[Any]:
    """Yield rows page by page, each page beginning after the last row of the one before."""
    cursor, left = "", limit
    while True:
        size = PAGE if left is None else min(left, PAGE)
        rows = page(cursor, size)
        yield from rows
        if left is not None:
            left -= len(rows)
        if len(rows) < size or left == 0:
            return
        cursor = rows[-1].id


def _frame(
    columns: dict[str, Kind], rows: list[tuple[Any, ...]], totals: list[int], query: dict[str, Any]
) -> pd.DataFrame:
    import pandas as pd

    values = list(zip(*rows, strict=True)) or [()] * (len(columns) + 1)
    index = pd.Index(values[0], dtype="str", name="id")
    data = {name: _column(kind, values[place], index) for place, (name, kind) in enumerate(columns.items(), 1)}
    frame = pd.DataFrame(data, index=index)
    frame.attrs = {"total": totals[0] if totals else 0, "query": query}
    return frame


def durations(seconds: Iterable[float | None]) -> Any:
    """Return seconds as an index of ``timedelta64[ns]``, to the microsecond: what lies below is the clock's noise."""
    import pandas as pd

    return pd.to_timedelta(list(seconds), unit="s").round("us").astype("timedelta64[ns]")


def _column(kind: Kind, values: Sequence[Any], index: Any) -> Any:
    import pandas as pd

    if kind == "time":
        moments = [pd.Timestamp(value, unit="s", tz="UTC") if value else pd.NaT for value in values]
        return pd.Series(moments, index=index, dtype="datetime64[ns, UTC]")
    if kind == "duration":
        return pd.Series(durations(values), index=index)
    categories = {"status": EXECUTION_STATUSES, "build status": BUILD_STATUSES, "trigger": TRIGGERS}.get(kind)
    if categories:
        return pd.Series(pd.Categorical(values, categories=list(categories)), index=index)
    dtype = {"text": "str", "texts": "object", "whole": "int64", "flag": "bool"}[kind]
    return pd.Series(list(values), index=index, dtype=dtype)
