"""Tracebacks as the function's author wants them: they begin in the author's own code and name files as packed."""

from __future__ import annotations

import os
import traceback

__all__ = ["format_error"]

OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


def format_error(error: BaseException, code: str) -> str:
    """Return the traceback of ``error`` without the runtime's frames; files below ``code`` are named relative to it."""
    captured = traceback.TracebackException(type(error), error, error.__traceback__)
    _trim(captured, code.rstrip("/") + "/", set())
    return "".join(captured.format())


def _trim(captured: traceback.TracebackException | None, code: str, seen: set[int]) -> None:
    if captured is None or id(captured) in seen:
        return
    seen.add(id(captured))
    stack = list(captured.stack)
    first = next((place for place, frame in enumerate(stack) if frame.filename.startswith(code)), 0)
    kept = [frame for frame in stack[first:] if not _hidden(frame.filename)]
    for frame in kept:
        frame.filename = _relative(frame.filename, code)
    captured.stack[:] = kept
    if getattr(captured, "filename", None):  # a SyntaxError's own file
        captured.filename = _relative(captured.filename, code)
    _trim(captured.__cause__, code, seen)
    _trim(captured.__context__, code, seen)
    nested: list[traceback.TracebackException] = getattr(captured, "exceptions", None) or []
    for inner in nested:
        _trim(inner, code, seen)


def _hidden(filename: str) -> bool:
    return filename.startswith((OURS, "<frozen importlib"))


def _relative(filename: str, code: str) -> str:
    return filename[len(code) :] if filename.startswith(code) else filename
