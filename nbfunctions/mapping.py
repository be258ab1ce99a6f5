"""One execution for each row or item, some at a time; a DataFrame of what became of them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from nbfunctions.calls import data_of, data_of_arguments, value_of
from nbfunctions.errors import ApiError, ConnectionFailed, FunctionFailed
from nbfunctions.frames import durations
from nbfunctions.models import EXECUTION_STATUSES, Execution

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["map_rows"]


class _Outcome(NamedTuple):
    execution: Execution | None
    result: Any
    error: str
    attempts: int


def map_rows(
    name: str,
    execute: Callable[[str], Execution],
    signature: inspect.Signature | None,
    items: pd.DataFrame | Iterable[Any],
    *,
    concurrency: int,
    retries: int,
) -> pd.DataFrame:
    """Execute once for each of ``items`` and return a DataFrame in their order, with a DataFrame's own index.

    Columns: ``status`` (category), ``result``, ``error`` (empty when completed), ``time`` (timedelta), ``attempts`` and
    ``execution`` (id). A row that fails keeps its error and stops nobody else; it is tried ``retries`` times more.
    Rows that don't fit the parameters raise ``TypeError`` before anything is executed.
    """
    if concurrency < 1 or retries < 0:
        raise ValueError(f"expected concurrency above 0 and retries of 0 or more, found {concurrency} and {retries}")
    index, payloads = _payloads(name, signature, items)
    stop = threading.Event()

    def one(data: str) -> _Outcome:
        outcome = _Outcome(None, None, "interrupted before it began", 0)
        for attempt in range(1, retries + 2):
            if stop.is_set():
                break
            outcome = _attempt(name, execute, data, attempt)
            if not outcome.error:
                break
        return outcome

    with ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix=f"nbfunctions-{name}") as threads:
        futures: list[Future[_Outcome]] = [threads.submit(one, data) for data in payloads]
        try:
            outcomes = [future.result() for future in futures]
        except BaseException:
            stop.set()
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return _frame(outcomes, index)


def _attempt(name: str, execute: Callable[[str], Execution], data: str, attempt: int) -> _Outcome:
    execution: Execution | None = None
    try:
        execution = execute(data)
        return _Outcome(execution, value_of(name, execution), "", attempt)
    except (FunctionFailed, ApiError, ConnectionFailed, ValueError) as error:
        return _Outcome(execution, None, str(error), attempt)


def _payloads(name: str, signature: inspect.Signature | None, items: Any) -> tuple[Any, list[str]]:
    import pandas as pd

    if isinstance(items, pd.DataFrame):
        rows = _matching(name, signature, items).to_dict("records")
        return items.index, [data_of_arguments(name, signature, (), _texts(row)) for row in rows]
    return None, [_payload(name, signature, item) for item in items]


def _payload(name: str, signature: inspect.Signature | None, item: Any) -> str:
    if signature is None:
        return data_of(item)
    if isinstance(item, Mapping):
        return data_of_arguments(name, signature, (), _texts(item))
    return data_of_arguments(name, signature, item if isinstance(item, tuple) else (item,), {})


def _texts(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in row.items()}


def _matching(name: str, signature: inspect.Signature | None, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that are parameters; all of them where any are taken."""
    if signature is None or any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return frame
    wanted = [column for column in frame.columns if str(column) in signature.parameters]
    if not wanted and signature.parameters and len(frame):
        raise TypeError(
            f"{name}.map: no column is a parameter of {name}{signature}; "
            f"columns are {', '.join(map(str, frame.columns))}"
        )
    return frame[wanted]


def _frame(outcomes: list[_Outcome], index: Any) -> pd.DataFrame:
    import pandas as pd

    executions = [outcome.execution for outcome in outcomes]
    results = pd.Series([None] * len(outcomes), dtype="object")
    for place, outcome in enumerate(outcomes):
        results.iat[place] = outcome.result
    # A call that was refused, or whose arguments didn't fit, failed as well.
    statuses = ["failed" if outcome.error else "completed" for outcome in outcomes]
    frame = pd.DataFrame(
        {
            "status": pd.Categorical(statuses, categories=list(EXECUTION_STATUSES)),
            "result": results,
            "error": pd.Series([outcome.error for outcome in outcomes], dtype="str"),
            "time": durations(e.time if e else None for e in executions),
            "attempts": pd.Series([outcome.attempts for outcome in outcomes], dtype="int64"),
            "execution": pd.Series([e.id if e else "" for e in executions], dtype="str"),
        }
    )
    if index is not None:
        frame.index = index
    return frame
