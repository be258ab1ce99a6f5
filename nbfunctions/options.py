"""The options of ``%%function`` and ``@function``: one table that magic, decorator, completion and docs read."""

from __future__ import annotations

import dataclasses
import difflib
import keyword
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from nbfunctions.errors import SettingInvalid

__all__ = ["SETTINGS", "TABLE", "Option", "Options", "identifier", "options_from"]

Completion = Literal["", "runtime", "role", "profile", "variable", "requirements"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """One option; ``metavar`` is empty for a flag."""

    name: str
    """As the decorator spells it; the magic's is ``--name`` with dashes."""
    help: str
    metavar: str = ""
    type: type = str
    repeat: bool = False
    setting: bool = False
    """Whether it is a setting of the function, which can be changed without a new deployment."""
    values: Completion = ""
    """What completes it."""

    @property
    def flag(self) -> str:
        """The magic's spelling, as ``--dry-run``."""
        return "--" + self.name.replace("_", "-")


TABLE: Final[tuple[Option, ...]] = (
    Option(name="id", metavar="ID", help="Id of the function where it isn't NAME itself."),
    Option(
        name="runtime",
        metavar="RUNTIME",
        values="runtime",
        help="Runtime key, as python-3.11; the Python of this kernel when not given. Fixed once the function exists.",
    ),
    Option(
        name="entrypoint",
        metavar="FUNCTION",
        help="Function of the cell to call, where it is neither main nor named like the function nor the only one.",
    ),
    Option(
        name="execute",
        metavar="ROLE",
        repeat=True,
        setting=True,
        values="role",
        help="Who may execute it, as role:all or user:ID (repeatable); API keys always may.",
    ),
    Option(
        name="event",
        metavar="PATTERN",
        repeat=True,
        setting=True,
        help="Event that executes it, as users.*.create (repeatable); '' ends listening.",
    ),
    Option(name="schedule", metavar="CRON", setting=True, help="Cron expression, in UTC; '' ends the schedule."),
    Option(
        name="timeout",
        metavar="SECONDS",
        type=int,
        setting=True,
        help="Longest time one execution may take; 15 at first.",
    ),
    Option(
        name="var",
        metavar="K=V",
        repeat=True,
        setting=True,
        help="Variable in the function's environment (repeatable); variables not named keep their values.",
    ),
    Option(
        name="var_from",
        metavar="ENVNAME",
        repeat=True,
        setting=True,
        help="Variable whose value is taken from this kernel's environment and never shown (repeatable).",
    ),
    Option(
        name="requirements",
        metavar="FILE|none|auto",
        values="requirements",
        help="Packages: a requirements file, none, or auto (the cell's imports at this kernel's versions).",
    ),
    Option(name="memory", metavar="MB", type=int, setting=True, help="Memory limit of one instance in MB."),
    Option(name="concurrency", metavar="N", type=int, setting=True, help="How many instances may run at once."),
    Option(name="no_activate", help="Deploy without making it the active deployment."),
    Option(name="no_wait", help="Return once the code is uploaded; the build goes on."),
    Option(name="dry_run", help="Show what would be packed, and upload nothing."),
    Option(name="local", help="Run the cell here, too."),
    Option(name="out", metavar="VAR", help="Name in the notebook that gets the handle, instead of NAME."),
    Option(name="profile", metavar="PROFILE", values="profile", help="Server: a profile of nbfunctions.toml."),
)
"""Every option of ``%%function``; ``@function`` takes the same as keywords."""

SETTINGS: Final[frozenset[str]] = frozenset(option.name for option in TABLE if option.setting)
"""Options that only change settings."""

VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

RESERVED: Final = "APPWRITE_FUNCTION_"
"""What the names of the variables begin with that the service sets at each call."""

ID: Final = re.compile(r"(?![_.\-])[A-Za-z0-9_.\-]{1,36}")  # spec, section 0.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a deployment was asked to be. ``None`` is "not said": an existing function keeps its value."""

    name: str
    id: str
    runtime: str | None = None
    entrypoint: str | None = None
    execute: tuple[str, ...] | None = None
    events: tuple[str, ...] | None = None
    schedule: str | None = None
    timeout: int | None = None
    vars: Mapping[str, str] | None = None
    """Variables to set; others keep their values."""
    requirements: str = "auto"
    memory: int | None = None
    concurrency: int | None = None
    activate: bool = True
    wait: bool = True
    dry_run: bool = False
    local: bool = False
    out: str | None = None
    profile: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that were said."""
        names = ("execute", "events", "schedule", "timeout", "vars", "memory", "concurrency")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def variable(self) -> str:
        """Name the handle is bound to in the notebook. Raises :class:`SettingInvalid` when ``NAME`` can't be one."""
        wanted = self.out or identifier(self.name)
        if not wanted.isidentifier() or keyword.iskeyword(wanted):
            what = f"--out {self.out}" if self.out else f"the name {self.name!r}"
            raise SettingInvalid(f"{what} can't be a Python name: give the handle one with --out VAR")
        return wanted


def identifier(name: str) -> str:
    """Return ``name`` as the entry point rule and the notebook read it: ``-`` and ``.`` become ``_``."""
    return name.replace("-", "_").replace(".", "_")


def options_from(name: str, given: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Options:
    """Check what was given, by the table's names, and return it as :class:`Options`.

    Raises :class:`SettingInvalid` naming the option and what was found.
    """
    environ = os.environ if environ is None else environ
    known = {option.name for option in TABLE}
    for unknown in given.keys() - known:
        close = difflib.get_close_matches(unknown, known, 1)
        hint = f"; did you mean {close[0]}?" if close else f"; options are {', '.join(sorted(known))}"
        raise SettingInvalid(f"{name}: there is no option {unknown!r}{hint}")
    id_ = given.get("id") or name
    if not ID.fullmatch(id_):
        raise SettingInvalid(
            f"{id_!r} can't be a function id: up to 36 of a-z A-Z 0-9 . _ -, the first a letter or digit"
            + ("" if given.get("id") else " (--id gives one of its own)")
        )
    return Options(
        name=name,
        id=id_,
        runtime=given.get("runtime"),
        entrypoint=given.get("entrypoint"),
        execute=_texts(given.get("execute")),
        events=_texts(given.get("event")),
        schedule=given.get("schedule"),
        timeout=_whole("timeout", given.get("timeout")),
        vars=_variables(given.get("var"), given.get("var_from"), environ),
        requirements=given.get("requirements") or "auto",
        memory=_whole("memory", given.get("memory")),
        concurrency=_whole("concurrency", given.get("concurrency")),
        activate=not given.get("no_activate"),
        wait=not given.get("no_wait"),
        dry_run=bool(given.get("dry_run")),
        local=bool(given.get("local")),
        out=given.get("out"),
        profile=given.get("profile"),
    )


def _texts(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    texts = (value,) if isinstance(value, str) else tuple(value)
    return tuple(text for text in texts if text)


def _whole(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingInvalid(f"--{name}: expected a whole number above 0, found {value!r}")
    return value


def _variables(
    given: Mapping[str, Any] | Sequence[str] | None, taken: str | Sequence[str] | None, environ: Mapping[str, str]
) -> dict[str, str] | None:
    if given is None and taken is None:
        return None
    found: dict[str, str] = {}
    if isinstance(given, Mapping):
        found.update((_variable("--var", str(name)), str(value)) for name, value in given.items())
    else:
        for text in [given] if isinstance(given, str) else given or ():
            name, equals, value = text.partition("=")
            if not equals or not name:
                raise SettingInvalid(f"--var: expected K=V, found {text!r}")
            found[_variable("--var", name)] = value
    for name in [taken] if isinstance(taken, str) else taken or ():
        if _variable("--var-from", name) not in environ:
            raise SettingInvalid(f"--var-from {name}: this kernel's environment has no such variable")
        found[name] = environ[name]
    return found


def _variable(option: str, name: str) -> str:
    """Return the name of a variable that a function can have; raises :class:`SettingInvalid` for others."""
    if not VARIABLE.fullmatch(name):
        raise SettingInvalid(
            f"{option}: {name!r} can't be the name of a variable: letters a-z A-Z, digits and _, the first no digit"
        )
    if name.startswith(RESERVED):
        raise SettingInvalid(f"{option}: {name} is set by the service at each call, as all that begin with {RESERVED}")
    return name
