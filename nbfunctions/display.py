"""What a notebook shows: a card for a function, one line of progress, one line for an error. Everything is escaped."""

from __future__ import annotations

import html
import os
import re
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from nbfunctions.capture.receipt import human_size

if TYPE_CHECKING:
    from nbfunctions.capture.receipt import Receipt
    from nbfunctions.deploy import Deployed
    from nbfunctions.models import Deployment, Execution, Function

__all__ = [
    "LAYERS",
    "ProgressLine",
    "card_html",
    "card_text",
    "duration",
    "execution_html",
    "execution_text",
    "in_cell",
    "last_line",
    "moment",
    "one_line",
    "without_insides",
]

CARD: Final = (
    "border:1px solid var(--jp-border-color2,#c8c8c8);border-left:4px solid var(--jp-brand-color1,#1976d2);"
    "border-radius:3px;padding:6px 10px;max-width:60em;color:var(--jp-ui-font-color1,inherit);"
    "background:var(--jp-layout-color1,transparent);font-size:var(--jp-ui-font-size1,13px);line-height:1.5"
)
FAINT: Final = "color:var(--jp-ui-font-color2,#616161)"
CODE: Final = "font-family:var(--jp-code-font-family,monospace)"
WHOLE: Final = "display:flex;flex-wrap:wrap;align-items:baseline"
"""A line of facts breaks between two of them, and inside one only where it is longer than the line."""
TEXT: Final = f"{CODE};margin:2px 0;max-height:20em;overflow:auto;white-space:pre-wrap"
GOOD: Final = "var(--jp-success-color1,#2e7d32)"
BAD: Final = "var(--jp-error-color1,#c62828)"
OPEN: Final = "var(--jp-warn-color1,#b26a00)"

LAYERS: Final = {
    "start": "could not start",
    "code": "failed in your code",
    "limit": "hit a limit",
    "platform": "could not be run by the server",
}
"""What each layer of a failed execution is called."""

LONGEST: Final = 2000
"""Characters of a response or a log that are shown; the rest is in the object."""

FRAME: Final = re.compile(r'^( +)File "main\.py", line (\d+)', re.MULTILINE)


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

    ours, theirs = (str(Path(file).parent) + os.sep for file in (__file__, IPython.__file__))
    shell = IPython.get_ipython()
    lines: list[str] = []
    for frame in traceback.extract_tb(where):
        if frame.filename.startswith(ours):
            break  # what the caller called; everything below it is ours
        if frame.filename.startswith(theirs):
            continue
        cell = shell.compile.format_code_name(frame.filename) if shell is not None else None
        place = " ".join(cell) if cell else f'File "{frame.filename}"'
        lines.append(f"  {place}, line {frame.lineno}\n    {frame.line}")
    return lines


def moment(seconds: float) -> str:
    """Return a time since the epoch as people read it, with its zone."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else "never"


def duration(seconds: float) -> str:
    """Return a span of time as people read it: ``0.45 ms``, ``12 ms``, ``3.4 s``, ``14 days``."""
    if seconds < 1:
        return f"{seconds * 1000:.2g} ms" if seconds < 0.0995 else f"{seconds * 1000:.0f} ms"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.0f} days"


class ProgressLine:
    """One line that is replaced in place while something goes on; nothing where no line can be replaced.

    As a context manager: the line makes way for the cell's result. Where the cell may have other outputs, which must
    stay (``alone`` is false), the line stays in their midst and says what came of it.
    """

    def __init__(self, name: str, *, alone: bool = True) -> None:
        self._name = name
        self._alone = alone
        self._handle: Any = None
        self._rich = _can_replace()
        self._text = ""
        self._phase = ("", 0.0)

    def __call__(self, phase: str, detail: str = "") -> None:
        """Show a phase, how long it has been going on, and its detail."""
        now = time.monotonic()
        if phase != self._phase[0]:
            self._phase = (phase, now)
        seconds = int(now - self._phase[1])
        text = f"{self._name}: {phase} …" + (f" {seconds} s" if seconds > 1 else "")
        self._show(text + (f" {detail.strip()[:120]}" if detail else ""))

    def finish(self, shown: Any) -> None:
        """Replace the line by what it came to: a text, or an object that shows itself as HTML."""
        if isinstance(shown, str) or not self._rich or self._handle is None:
            self._show(str(shown))
        else:
            self._handle.update({"text/plain": repr(shown), "text/html": shown._repr_html_()}, raw=True)

    def _show(self, text: str) -> None:
        if text == self._text:
            return
        self._text = text
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

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._handle is None:
            return
        if not self._rich:
            sys.stdout.write("\r\x1b[2K" if self._alone or error else "\n")
            sys.stdout.flush()
        elif self._alone:
            from IPython.display import clear_output

            clear_output(wait=error is None)  # type: ignore[no-untyped-call]
        elif error is not None:
            self._show(f"{self._name}: stopped while {self._phase[0]}")


def _can_replace() -> bool:
    """Whether a notebook's front end is listening, which can replace what it shows."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return bool(shell) and getattr(shell, "kernel", None) is not None


def _next_steps(function: Function, deployed: Deployed | None, variable: str) -> list[str]:
    deployment = deployed.deployment if deployed else None
    if deployment is not None and deployment.status in ("processing", "building"):
        return [f"%function {function.id}", f"%deployments {function.id}"]
    steps = [f"{variable}(...)", f"%execute {function.id} DATA", f"%executions {function.id}"]
    if deployed is not None and deployed.superseded:
        return [f"%deployments {function.id}", f"%function_rollback {function.id} {deployed.deployment.id}"]
    if deployment is not None and deployment.status == "ready" and deployment.id != function.deployment:
        return [f"%function_rollback {function.id} {deployment.id}", *(steps[:1] if function.deployment else [])]
    return steps if function.deployment else [f"%deployments {function.id}"]


def _state(function: Function, deployed: Deployed | None) -> tuple[str, bool]:
    """Return what is the matter with a function, and whether that is how it should be."""
    if deployed is not None and deployed.unchanged:
        return "already deployed, active", True
    if deployed is not None and deployed.deployment.status in ("processing", "building"):
        return "uploaded, the build goes on", False
    if deployed is not None and function.deployment != deployed.deployment.id:
        why = ": a newer deployment came meanwhile" if deployed.superseded else ""
        return f"{deployed.deployment.status}, not active{why}", False
    return ("active", True) if function.deployment else ("no active deployment", False)


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
    if function.events:
        facts.append(("events", ", ".join(function.events)))
    if function.schedule:
        facts.append(("schedule", f"{function.schedule} (next {moment(function.schedule_next)})"))
    if function.memory:
        facts.append(("memory", f"{function.memory} MB"))
    if function.concurrency:
        facts.append(("concurrency", f"{function.concurrency} instances"))
    return facts


def card_text(function: Function, deployed: Deployed | None, receipt: Receipt | None, variable: str) -> str:
    """Return a function's card as text; ``variable`` is what the notebook calls it."""
    facts = _facts(function, deployed, receipt)
    lines = [f"{function.name}: {_state(function, deployed)[0]}", *(f"  {name:<11} {value}" for name, value in facts)]
    lines += [f"  note        {note}" for note in (receipt.notes if receipt else ())]
    return "\n".join([*lines, f"  next        {'   '.join(_next_steps(function, deployed, variable))}"])


def card_html(function: Function, deployed: Deployed | None, receipt: Receipt | None, variable: str) -> str:
    """Return a function's card as HTML: what is packed and the build's log are folded."""
    state, good = _state(function, deployed)
    facts = "".join(
        f'<span style="margin-right:1.4em"><span style="{FAINT}">{html.escape(name)}</span> '
        f'<span style="{CODE}">{html.escape(value)}</span></span> '
        for name, value in _facts(function, deployed, receipt)
    )
    folded = _folded("what was packed, and why", receipt.table()) if receipt is not None else ""
    log = _log(deployed.deployment) if deployed else ""
    if log:
        folded += _folded("build log", _pre(log))
    return _card(
        function.name,
        state,
        GOOD if good else OPEN,
        f'<div style="{WHOLE}">{facts}</div>{folded}',
        _next_steps(function, deployed, variable),
    )


def _card(title: str, state: str, colour: str, inside: str, steps: list[str]) -> str:
    mark = "●" if colour == GOOD else "○" if colour == OPEN else "✕"
    shown = " · ".join(f"<code>{html.escape(step)}</code>" for step in steps)
    following = f'<div style="{FAINT}">next: {shown}</div>' if steps else ""
    edge = "" if colour == GOOD else f";border-left-color:{colour}"
    return (
        f'<div style="{CARD}{edge}"><div><strong>{html.escape(title)}</strong> '
        f'<span style="color:{colour}">{mark} {html.escape(state)}</span></div>{inside}{following}</div>'
    )


def _folded(title: str, inside: str, *, unfolded: bool = False) -> str:
    summary = f'<summary style="cursor:pointer">{html.escape(title)}</summary>'
    return f"<details{' open' if unfolded else ''}>{summary}{inside}</details>"


def _pre(text: str) -> str:
    return f'<pre style="{TEXT}">{html.escape(_shortened(text))}</pre>'


def _shortened(text: str) -> str:
    """Return the end of a text, where its reason stands."""
    text = text.rstrip()
    left = len(text) - LONGEST
    return text if left <= 0 else f"(the first {left} characters are left out here)\n{text[-LONGEST:]}"


def _log(deployment: Deployment) -> str:
    return "\n".join(part.rstrip() for part in (deployment.build_stdout, deployment.build_stderr) if part.strip())


def in_cell(function_id: str, stderr: str) -> str:
    """Return a function's traceback with its file named as the notebook knows it; lines are the cell's already."""
    return FRAME.sub(rf'\1File "%%function {function_id}", line \2', stderr)


def last_line(stderr: str) -> str:
    """Return the line of the function's own code that a traceback ends in; empty if it names none."""
    found = FRAME.findall(stderr)
    return str(found[-1][1]) if found else ""


def _outcome(execution: Execution) -> str:
    if execution.status == "failed":
        outcome = LAYERS.get(execution.layer, "failed")
    elif execution.status == "completed":
        outcome = f"completed, status {execution.status_code}"
    else:
        return execution.status
    return f"{outcome}, {duration(execution.time)}" + (", cold start" if execution.cold else "")


def _outputs(execution: Execution) -> list[tuple[str, str]]:
    stderr = in_cell(execution.function_id, execution.stderr)
    named = [("response", execution.response), ("stdout", execution.stdout), ("stderr", stderr)]
    return [(name, text) for name, text in named if text.strip()]


def _execution_steps(execution: Execution) -> list[str]:
    if execution.status in ("completed", "failed"):
        return []
    name, id_ = execution.function_id, execution.id
    return [f"%executions {name}", f'nbfunctions.connect().executions.get("{name}", "{id_}")']


def execution_text(execution: Execution) -> str:
    """Return an execution as text: what became of it, what it answered and what it wrote."""
    lines = [f"execution {execution.id} of {execution.function_id}: {_outcome(execution)}"]
    for name, text in _outputs(execution):
        shown = _shortened(text)
        lines.append(f"{name}: {shown}" if "\n" not in shown else f"{name}:\n{shown}")
    lines += [f"next: {step}" for step in _execution_steps(execution)]
    return "\n".join(lines)


def execution_html(execution: Execution) -> str:
    """Return an execution as HTML; what it wrote is folded unless it failed."""
    colour = {"completed": GOOD, "failed": BAD}.get(execution.status, OPEN)
    inside = f'<div style="{FAINT}">execution <span style="{CODE}">{html.escape(execution.id)}</span></div>'
    for name, text in _outputs(execution):
        unfolded = name == "response" or (name == "stderr" and execution.status == "failed")
        inside += _folded(name, _pre(text), unfolded=unfolded)
    return _card(execution.function_id, _outcome(execution), colour, inside, _execution_steps(execution))
