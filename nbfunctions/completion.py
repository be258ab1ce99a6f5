"""Completion on the magics' lines: function names, options and their values.

It never starts a server and never holds the notebook up: what isn't known within 0.3 s is not offered.
"""

from __future__ import annotations

import os
import re
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from nbfunctions.options import TABLE

__all__ = ["candidates", "matcher"]

PATIENCE: Final = 0.3
"""Seconds a completion may take."""
FRESH: Final = 5.0
"""Seconds for which names are good."""

LINE: Final = re.compile(r"^\s*(?:[A-Za-z_]\w*\s*=\s*)?(%%?)([a-z_]+)\s+(.*)$", re.DOTALL)

NAMED: Final = frozenset({"execute", "deployments", "executions", "function_rollback", "function_delete", "function"})
"""Magics whose first word is a function's name."""


class _Names:
    """What the server has, asked for in a thread of its own and kept for a moment."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, list[str]]] = {}
        self._asking: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def get(self, what: str, ask: Callable[[], list[str]]) -> list[str]:
        with self._lock:
            when, names = self._known.get(what, (0.0, []))
            if time.monotonic() - when < FRESH and when:
                return names
            thread = self._asking.get(what)
            if thread is None or not thread.is_alive():
                thread = threading.Thread(target=self._ask, args=(what, ask), name="nbfunctions-names", daemon=True)
                self._asking[what] = thread
                thread.start()
        thread.join(PATIENCE)
        with self._lock:
            return self._known.get(what, (0.0, []))[1]

    def _ask(self, what: str, ask: Callable[[], list[str]]) -> None:
        from nbfunctions.errors import Error

        try:
            names = ask()
        except Error:
            names = []  # a completion has nowhere to complain; the command itself will
        with self._lock:
            self._known[what] = (time.monotonic(), names)


_names = _Names()


def matcher(shell: Any, parsers: Mapping[str, ArgumentParser]) -> Callable[[CompletionContext], SimpleMatcherResult]:
    """Return what is to be appended to a completer's ``custom_matchers``; ``parsers`` are the magics', by name."""

    def complete(context: CompletionContext) -> SimpleMatcherResult:
        line = LINE.match(context.text_until_cursor)
        found: SimpleMatcherResult = {"completions": []}
        if line is None or (line[1] == "%%" and context.cursor_line != 0):
            return found
        fragment = re.split(r"\s", line[3])[-1]
        if line[2] not in parsers:
            return found
        offered = candidates(line[2], line[3], shell, parsers[line[2]])
        matching = [SimpleCompletion(text, type=kind) for text, kind in offered if text.startswith(fragment)]
        return {"completions": matching, "matched_fragment": fragment, "suppress": True, "ordered": True}

    decorated: Callable[[CompletionContext], SimpleMatcherResult] = context_matcher(identifier="nbfunctions")(complete)
    return decorated


def candidates(magic: str, rest: str, shell: Any, parser: ArgumentParser) -> list[tuple[str, str]]:
    """Return what fits at the end of ``rest``, the line after ``magic``, with its kind."""
    words = re.split(r"\s+", rest)
    flags = {flag: action for action in parser._actions for flag in action.option_strings}
    before = words[-2] if len(words) > 1 else ""
    if before in flags and flags[before].nargs != 0:
        return [(value, "value") for value in _values(before, shell)]
    if words[-1].startswith("-"):
        return [(flag, "option") for flag in flags if flag.startswith("--")]
    given = [word for word in words[:-1] if not word.startswith("-")]
    if magic in NAMED and not given:
        return [(name, "function") for name in _names.get("functions", _function_names)]
    if magic == "functions_connect" and not given:
        return [(name, "profile") for name in _profiles()]
    if magic == "executions" or magic == "execute":
        return []
    return [(flag, "option") for flag in flags if flag.startswith("--")] if not words[-1] else []


def _values(flag: str, shell: Any) -> Iterable[str]:
    from nbfunctions.models import EXECUTION_STATUSES, TRIGGERS

    kinds = {option.flag: option.values for option in TABLE}
    kind = kinds.get(flag, "")
    if flag == "--status":
        return EXECUTION_STATUSES
    if flag == "--trigger":
        return TRIGGERS
    if flag in ("--from-var", "--out", "-o"):
        return sorted(name for name in shell.user_ns if not name.startswith("_"))
    if flag == "--var-from":
        return sorted(os.environ)
    if kind == "runtime":
        return _names.get("runtimes", _runtime_names)
    if kind == "role":
        return ("role:all", "role:member", "role:guest", "user:", "team:")
    if kind == "requirements":
        return ("auto", "none")
    return _profiles() if kind == "profile" else ()


def _profiles() -> list[str]:
    from nbfunctions.connection import profiles
    from nbfunctions.errors import SettingInvalid

    try:
        return sorted(profiles())
    except SettingInvalid:
        return []


def _function_names() -> list[str]:
    from nbfunctions.connection import known

    client = known()
    return [] if client is None else [function.id for function in client.functions.list(limit=100).functions]


def _runtime_names() -> list[str]:
    from nbfunctions.connection import known

    client = known()
    return [] if client is None else [runtime.id for runtime in client.functions.list_runtimes().runtimes]
