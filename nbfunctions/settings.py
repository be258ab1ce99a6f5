"""The server's settings: one table that code, command line, environment and documentation read.

Precedence: command line, then ``NBFUNCTIONS_<NAME>`` in the environment, then the ``[server]`` table of
``nbfunctions.toml``, then the default.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from nbfunctions.errors import SettingInvalid

__all__ = ["MEMORY_LEAST", "Settings", "config_file", "default_data_dir", "load", "table"]

SandboxChoice = Literal["auto", "bubblewrap", "none"]

MEMORY_LEAST: Final = 16
"""MB below which no interpreter starts."""


def default_data_dir() -> Path:
    """Return where a server of this user keeps its data."""
    import platformdirs

    return platformdirs.user_data_path("nbfunctions", appauthor=False)


def config_file() -> Path:
    """Return the path of ``nbfunctions.toml``, below Jupyter's configuration directory."""
    from jupyter_core.paths import jupyter_config_dir

    return Path(jupyter_config_dir()) / "nbfunctions.toml"


def _setting(default: Any, help: str, unit: str = "", *, least: int = 1, most: int | str | None = None) -> Any:
    """Return a field; ``most`` is a number, or the name of the setting that bounds this one."""
    factory = {"default_factory": default} if callable(default) else {"default": default}
    return dataclasses.field(**factory, metadata={"help": help, "unit": unit, "least": least, "most": most})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """One field a setting; its metadata carries ``help``, ``unit`` and the bounds of a number."""

    host: str = _setting("127.0.0.1", "Address the server listens on.")
    port: int = _setting(8400, "Port the server listens on; 0 takes any free one.", least=0, most=65535)
    hosts: str = _setting(
        "",
        "Further names, comma-separated, under which a server on loopback may be called, as by a reverse proxy. "
        "`*.example.org` is every name below example.org.",
    )
    origins: str = _setting(
        "",
        "Hosts, comma-separated, whose web pages may call the server. `*.example.org` is every name below example.org.",
    )
    jwt_jwks_url: str = _setting(
        "",
        "Address of the public keys (JWKS) of an issuer whose users may call the server, beside those whose tokens it "
        "signs itself.",
    )
    jwt_issuer: str = _setting("", "The `iss` that a token of this issuer must have.")
    jwt_audience: str = _setting("", "The `aud` that a token of this issuer must have, alone or among others.")
    jwt_user_claim: str = _setting("sub", "The claim of an issuer's token that is the user's id.")
    jwt_teams_claim: str = _setting(
        "teams", "The claim of an issuer's token that lists the user's teams, each an id or `id/role`."
    )
    data_dir: Path = _setting(default_data_dir, "Folder of the database, the archives and the build outputs.")
    sandbox: SandboxChoice = _setting(
        "auto",
        "How functions are isolated. `auto` takes the strongest that works here and refuses to start without "
        "one; `none` isolates nothing and is for trusted code only.",
    )
    archive_size_limit: int = _setting(30_000_000, "Largest archive a deployment may have.", "bytes")
    unpacked_size_limit: int = _setting(500_000_000, "Largest size an archive may unpack to.", "bytes")
    unpacked_count_limit: int = _setting(20_000, "Most files and folders an archive may hold.", "entries")
    timeout_limit: int = _setting(900, "Longest `timeout` a function may ask for.", "seconds")
    build_timeout: int = _setting(900, "Longest time a build may take.", "seconds")
    start_timeout: int = _setting(30, "Longest time an instance may take to load its code.", "seconds")
    memory: int = _setting(
        512,
        "Memory limit of an instance whose function does not set one.",
        "MB",
        least=MEMORY_LEAST,
        most="memory_limit",
    )
    memory_limit: int = _setting(8192, "Largest `memory` a function may ask for.", "MB", least=MEMORY_LEAST)
    concurrency: int = _setting(
        8, "Instances one function may run at once when it does not say.", "instances", most="concurrency_limit"
    )
    concurrency_limit: int = _setting(64, "Largest `concurrency` a function may ask for.", "instances")
    instances: int = _setting(64, "Instances of all functions together.", "instances")
    idle_timeout: int = _setting(60, "How long an instance stays warm without a call.", "seconds")
    stop_timeout: int = _setting(30, "How long running executions may go on after SIGTERM.", "seconds")
    tmp_size: int = _setting(256, "Size of a function's private /tmp.", "MB")
    processes: int = _setting(128, "Processes and threads an instance may have.", "processes", least=4)
    open_files: int = _setting(1024, "Files an instance may have open at once.", "files", least=16)
    rate_limit: int = _setting(
        60,
        "Executions that users and guests may ask for in one window, counted by address; 0 is without limit.",
        "executions",
        least=0,
    )
    rate_limit_window: int = _setting(60, "Length of that window.", "seconds")
    event_depth: int = _setting(
        3, "How many executions may follow one from another by events, before a chain of them is cut.", "executions"
    )
    execution_retention: int = _setting(1_209_600, "How long finished executions are kept.", "seconds")


def table() -> Iterator[tuple[str, Any, str, str]]:
    """Yield name, type, unit and help of each setting, in order; the help ends with the bounds that need saying."""
    hints = typing.get_type_hints(Settings)
    for f in dataclasses.fields(Settings):
        least, most = f.metadata["least"], f.metadata["most"]
        bounds = [f"at least {least}"] if least > 1 else []
        bounds += [f"at most `{most}`"] if isinstance(most, str) else []
        said = f" {', '.join(bounds).capitalize()}." if bounds else ""
        yield f.name, hints[f.name], f.metadata["unit"], f.metadata["help"] + said


def load(
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Return the settings in force.

    ``overrides`` are the command line's (``None`` values count as not given). Raises :class:`SettingInvalid`
    naming the setting, where it was set and what was found.
    """
    environ = os.environ if environ is None else environ
    file = config_file() if file is None else file
    stored = _from_file(file)
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    hints = typing.get_type_hints(Settings)
    for field in dataclasses.fields(Settings):
        name = field.name
        variable = f"NBFUNCTIONS_{name.upper()}"
        given = (overrides or {}).get(name)
        if given is not None:
            places[name] = f"--{name.replace('_', '-')}"
        elif variable in environ:
            given, places[name] = environ[variable], variable
        elif name in stored:
            given, places[name] = stored[name], f"{name} in {file}"
        stored.pop(name, None)
        if name in places:
            values[name] = _convert(field, hints[name], given, places[name])
    if stored:
        raise SettingInvalid(f"{file}: [server] has no setting {next(iter(stored))!r}")
    settings = Settings(**values)
    _compare(settings, places)
    return settings


def _from_file(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text()
    except FileNotFoundError:
        return {}
    try:
        stored = tomllib.loads(text).get("server", {})
    except tomllib.TOMLDecodeError as error:
        raise SettingInvalid(f"{file} is not valid TOML: {error}") from None
    if not isinstance(stored, dict):
        raise SettingInvalid(f"{file}: [server] must be a table, found {stored!r}")
    return dict(stored)


def _convert(field: dataclasses.Field[Any], hint: Any, value: Any, where: str) -> Any:
    if hint is int:
        unit, least, most = (field.metadata[name] for name in ("unit", "least", "most"))
        try:
            number = int(str(value))
        except ValueError:
            raise SettingInvalid(f"{where}: expected a whole number, found {value!r}") from None
        if number < least:
            bound = "a number above 0" if least == 1 else f"a number of at least {least} {unit}".rstrip()
            raise SettingInvalid(f"{where}: expected {bound}, found {value!r}")
        if isinstance(most, int) and number > most:
            raise SettingInvalid(f"{where}: expected a {field.name} up to {most}, found {value!r}")
        return number
    if hint is Path:
        return Path(str(value)).expanduser().absolute()
    if isinstance(hint, types.GenericAlias) or typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise SettingInvalid(f"{where}: expected one of {', '.join(choices)}, found {value!r}")
        return value
    if not str(value) and field.default != "":
        raise SettingInvalid(f"{where}: expected a text, found an empty one")
    return str(value)


def _compare(settings: Settings, places: Mapping[str, str]) -> None:
    """See that no setting is above the one that bounds it; of the two, the one that was set is named."""
    for field in dataclasses.fields(Settings):
        name, bound = field.name, field.metadata["most"]
        if not isinstance(bound, str):
            continue
        found, most = getattr(settings, name), getattr(settings, bound)
        if found <= most:
            continue
        if name in places:
            origin = f"set by {places[bound]}" if bound in places else "the default"
            raise SettingInvalid(f"{places[name]}: expected at most {bound} ({most}, {origin}), found {found}")
        raise SettingInvalid(f"{places[bound]}: expected at least {name} ({found}, the default), found {most}")
