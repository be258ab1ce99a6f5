"""What a notebook shows: a card for a function, one line of progress, one line for an error. Everything is escaped."""

from __future__ import annotations

import html
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from nbfunctions.capture.receipt import human_size
from nbfunctions.options import identifier

if TYPE_CHECKING:
    from nbfunctions.capture.receipt import Receipt
    from nbfunctions.deploy import Deployed
    from nbfunctions.models import Deployment, Function

__all__ = ["Progress", "card_html", "card_text", "duration", "moment", "one_line", "without_insides"]

CARD: Final = (
    "border:1px solid var(--jp-border-color2,#c8c8c8);border-left:4px solid var(--jp-brand-color1,#1976d2);"
    "border-radius:3px;padding:6px 10px;max-width:60em;color:var(--jp-ui-font-color1,inherit);"
    "background:var(--jp-layout-color1,transparent);font-size:var(--jp-ui-font-size1,13px);line-height:1.5"
)
FAINT: Final = "color:var(--jp-ui-font-color2,#616161)"
CODE: Final = "font-family:var(--jp-code-font-family,monospace)"


def one_line(error: BaseException) -> BaseException:
    """Return the error so that IPython shows it as one line: its kind, its message and its notes, no traceback."""
    message = str(error)
    lines = [type(error).__name__ + (f": {message}" if message else ""), *getattr(error, "__notes__", ())]
    error._render_traceback_ = lambda *_: lines  # type: ignore[attr-defined]
    return error


def without_insides(error: BaseException) -> BaseException:
    """Return the error so that IPython shows the caller's own lines, its notes and its message, and nothing of ours."""
    error._render_traceback_ = lambda *_: [  # type: ignore[attr-defined]
        "Traceback (most recent call last):",
        *_own_lines(error.__traceback__),
        *(f"In the function:\n{note}" for note in getattr(error, "__notes__", ())),
        f"{type(error).__name__}: {error}",
    ]
    return error


def _own_lines(where: TracebackType | None) -> list[str]:
    import IPython

    insides = tuple(str(Path(file).parent) + os.sep for file in (__file__, IPython.__file__))
    shell = IPython.get_ipython()
    lines: list[str] = []
    for frame in traceback.extract_tb(where):
        if frame.filename.startswith(insides):
            continue
        cell = shell.compile.format_code_name(frame.filename) if shell is not None else None
        place = " ".join(cell) if cell else f'File "{frame.filename}"'
        lines.append(f"  {place}, line {frame.lineno}\n    {frame.line}")
    return lines


def moment(seconds: float) -> str:
    """Return a time since the epoch as people read it, with its zone."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else "never"


def duration(seconds: float) -> str:
    """Return a span of time as people read it: ``12 ms``, ``3.4 s``, ``14 days``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.0f} days"


class Progress:
    """One line that is replaced in place; plain lines where nothing can be replaced.

    As a context manager: what stands there at the end makes way for the cell's result.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._handle: Any = None
        self._rich = _can_replace()

    def __call__(self, phase: str, detail: str = "") -> None:
        """Show a phase and its detail."""
        text = f"{self._name}: {phase} …" + (f" {detail[:120]}" if detail else "")
        if self._rich:
            from IPython.display import display

            shown = {"text/plain": text, "text/html": f'<div role="status" style="{FAINT}">{html.escape(text)}</div>'}
            if self._handle is None:
                self._handle = display(shown, raw=True, display_id=True)  # type: ignore[no-untyped-call]
            else:
                self._handle.update(shown, raw=True)
        elif sys.stdout.isatty():
            sys.stdout.write(f"\r\x1b[2K{text}")
            sys.stdout.flush()
            self._handle = self

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._handle is None:
            return
        if self._rich:
            from IPython.display import clear_output

            clear_output(wait=error is None)  # type: ignore[no-untyped-call]
        else:
            sys.stdout.write("\r\x1b[2K")
            sys.stdout.flush()


def _can_replace() -> bool:
    """Whether a notebook's front end is listening, which can replace what it shows."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return bool(shell) and getattr(shell, "kernel", None) is not None


def next_steps(function: Function) -> list[str]:
    """Return what can be typed next."""
    name = identifier(function.id)
    if not function.deployment:
        return [f"%deployments {function.id}", f"%function_rollback {function.id} DEPLOYMENT"]
    return [f"{name}(...)", f"%execute {function.id} DATA", f"%executions {function.id}"]


def _state(function: Function, deployed: Deployed | None) -> str:
    if deployed is not None and deployed.unchanged:
        return "already deployed, active"
    if deployed is not None and deployed.deployment.status == "processing":
        return "uploaded, the build goes on"
    if deployed is not None and function.deployment != deployed.deployment.id:
        return f"{deployed.deployment.status}, not active"
    return "active" if function.deployment else "no active deployment"


def _facts(function: Function, deployed: Deployed | None, receipt: Receipt | None) -> list[tuple[str, str]]:
    facts = [("function", function.id), ("runtime", function.runtime)]
    deployment: Deployment | None = deployed.deployment if deployed else None
    facts.append(("deployment", deployment.id if deployment else function.deployment or "none"))
    if receipt is not None:
        packed = [item.name for item in receipt.items if item.kind != "provenance" and item.name != "requirements.txt"]
        facts.append(("packed", f"{', '.join(packed)} ({human_size(receipt.size)})"))
    if deployment is not None and deployment.build_time:
        facts.append(("build", duration(deployment.build_time)))
    facts.append(("timeout", duration(function.timeout)))
    if function.vars:
        facts.append(("variables", ", ".join(sorted(function.vars))))
    if function.execute:
        facts.append(("execute", ", ".join(function.execute)))
    if function.schedule:
        facts.append(("schedule", f"{function.schedule} (next {moment(function.schedule_next)})"))
    if function.memory:
        facts.append(("memory", f"{function.memory} MB"))
    if function.concurrency:
        facts.append(("concurrency", f"{function.concurrency} instances"))
    return facts


def card_text(function: Function, deployed: Deployed | None, receipt: Receipt | None) -> str:
    """Return a function's card as text."""
    facts = _facts(function, deployed, receipt)
    lines = [f"{function.name}: {_state(function, deployed)}", *(f"  {name:<11} {value}" for name, value in facts)]
    lines += [f"  note        {note}" for note in (receipt.notes if receipt else ())]
    return "\n".join([*lines, f"  next        {'   '.join(next_steps(function))}"])


def card_html(function: Function, deployed: Deployed | None, receipt: Receipt | None) -> str:
    """Return a function's card as HTML: what is packed and the build's log are folded."""
    state = _state(function, deployed)
    good = "active" in state and "no" not in state.split()
    colour = "var(--jp-success-color1,#2e7d32)" if good else "var(--jp-warn-color1,#b26a00)"
    mark = "●" if good else "○"
    facts = "".join(
        f'<span style="white-space:nowrap;margin-right:1.2em"><span style="{FAINT}">{html.escape(name)}</span> '
        f'<span style="{CODE}">{html.escape(value)}</span></span> '
        for name, value in _facts(function, deployed, receipt)
    )
    folded = ""
    if receipt is not None:
        folded += f"<details><summary>what was packed, and why</summary>{receipt.table()}</details>"
    log = _log(deployed.deployment) if deployed else ""
    if log:
        folded += f'<details><summary>build log</summary><pre style="{CODE}">{html.escape(log)}</pre></details>'
    steps = " · ".join(f"<code>{html.escape(step)}</code>" for step in next_steps(function))
    return (
        f'<div style="{CARD}"><div><strong>{html.escape(function.name)}</strong> '
        f'<span style="color:{colour}">{mark} {html.escape(state)}</span></div>'
        f'<div>{facts}</div>{folded}<div style="{FAINT}">next: {steps}</div></div>'
    )


def _log(deployment: Deployment) -> str:
    return "\n".join(part.rstrip() for part in (deployment.build_stdout, deployment.build_stderr) if part.strip())
