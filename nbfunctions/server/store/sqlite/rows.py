"""Turns positional rows into records and back. Columns stand in the order of the parts in ``queries/*.sql``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from nbfunctions.executor.executor import Outcome
from nbfunctions.models import Deployment, Execution, Function, Key, Project

__all__ = [
    "BUILD_STATUS",
    "DEPLOYMENT",
    "EXECUTION",
    "FUNCTION",
    "deployment",
    "encode",
    "execution",
    "function",
    "key",
    "optional_deployment",
    "project",
    "texts",
]

FUNCTION: Final = 16
DEPLOYMENT: Final = 14
EXECUTION: Final = 17
"""Columns of the parts ``function``, ``deployment`` and ``execution``."""
BUILD_STATUS: Final = 9
"""Where a deployment's row has its build's status."""

_texts: Final = msgspec.json.Decoder(tuple[str, ...]).decode
_vars: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


def texts(stored: str) -> tuple[str, ...]:
    """Return a stored list of texts."""
    return () if stored == "[]" else _texts(stored)


def encode(value: Sequence[str] | dict[str, Any]) -> str:
    """Return a list of texts or a function's variables as they are stored."""
    return _encode(value).decode() if value or isinstance(value, dict) else "[]"


def project(row: Sequence[Any]) -> Project:
    """Return the project of a row."""
    return Project(id=row[0], name=row[1], created_at=row[2])


def key(row: Sequence[Any]) -> Key:
    """Return the key of a row."""
    return Key(id=row[0], project_id=row[1], name=row[2], scopes=texts(row[3]), created_at=row[4], expires_at=row[5])


def function(row: Sequence[Any]) -> Function:
    """Return the function at the head of a row."""
    return Function(
        id=row[0],
        created_at=row[1],
        updated_at=row[2],
        execute=texts(row[3]),
        name=row[4],
        status=row[5],
        runtime=row[6],
        deployment=row[7],
        vars=_vars(row[8]),
        events=texts(row[9]),
        schedule=row[10],
        schedule_next=row[11],
        schedule_previous=row[12],
        timeout=row[13],
        memory=row[14],
        concurrency=row[15],
    )


def deployment(row: Sequence[Any], stdout: str = "", stderr: str = "") -> Deployment:
    """Return the deployment at the head of a row, with its build's log if given."""
    build_id, status, start, end, chunks_total, chunks_uploaded = row[8:DEPLOYMENT]
    return Deployment(
        id=row[0],
        created_at=row[1],
        updated_at=row[2],
        function_id=row[3],
        entrypoint=row[4],
        size=row[5],
        build_id=build_id or "",
        activate=row[6] == 1,
        status=status or "processing",
        build_stdout=stdout or "",
        build_stderr=stderr or "",
        build_time=end - start if end else 0,
        digest=row[7],
        chunks_total=chunks_total,
        chunks_uploaded=chunks_uploaded,
    )


def optional_deployment(row: Sequence[Any]) -> Deployment | None:
    """Return the deployment at the head of a row of an outer join, if there is one."""
    return None if row[0] is None else deployment(row)


def outcome_values(outcome: Outcome) -> tuple[Any, ...]:
    """Return what is kept of an outcome, in the order in which the queries name it."""
    return (
        outcome.status,
        outcome.status_code,
        outcome.response,
        outcome.response_type,
        outcome.stdout,
        outcome.stderr,
        outcome.layer,
        outcome.time,
        outcome.queued,
        outcome.cold,
    )


def execution(row: Sequence[Any]) -> Execution:
    """Return the execution at the head of a row."""
    return Execution(
        id=row[0],
        created_at=row[1],
        updated_at=row[2],
        read=texts(row[3]),
        function_id=row[4],
        trigger=row[5],
        status=row[6],
        status_code=row[7],
        response=row[8],
        stderr=row[9],
        time=row[10] or 0,  # a whole number is written as one (spec, section 0.2)
        deployment_id=row[11],
        stdout=row[12],
        response_type=row[13],
        layer=row[14],
        cold=row[15] == 1,
        queued=row[16] or 0,
    )
