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
from typing import Any, Literal

from nbfunctions.errors import SettingInvalid

__all__ = ["Settings", "config_file", "default_data_dir", "load", "table"]

SandboxChoice = Literal["auto", "bubblewrap", "none"]


def default_data_dir() -> Path:
    """Return where a server of this user keeps its data."""
    import platformdirs

    return platformdirs.user_data_path("nbfunctions", appauthor=False)


def config_file() -> Path:
    """Return the path of ``nbfunctions.toml``, below Jupyter's configuration directory."""
    from jupyter_core.paths import jupyter_config_dir

    return Path(jupyter_config_dir()) / "nbfunctions.toml"


def _setting(default: Any, help: str, unit: str = "") -> Any:
    factory = {"default_factory": default} if callable(default) else {"default": default}
    return dataclasses.field(**factory, metadata={"help": help, "unit": unit})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """One field a setting; its metadata carries ``help`` and ``unit``."""

    host: str = _setting("127.0.0.1", "Address the server listens on.")
    port: int = _setting(8400, "Port the server listens on; 0 takes any free one.")
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
    memory: int = _setting(512, "Memory limit of an instance whose function does not set one.", "MB")
    memory_limit: int = _setting(8192, "Largest `memory` a function may ask for.", "MB")
    concurrency: int = _setting(8, "Instances one function may run at once when it does not say.", "instances")
    concurrency_limit: int = _setting(64, "Largest `concurrency` a function may ask for.", "instances")
    instances: int = _setting(64, "Instances of all functions together.", "instances")
    idle_timeout: int = _setting(60, "How long an instance stays warm without a call.", "seconds")
    stop_timeout: int = _setting(30, "How long running executions may go on after SIGTERM.", "seconds")
    tmp_size: int = _setting(256, "Size of a function's private /tmp.", "MB")
    processes: int = _setting(128, "Processes and threads an instance may have.", "processes")
    open_files: int = _setting(1024, "Files an instance may have open at once.", "files")
    execution_retention: int = _setting(1_209_600, "How long finished executions are kept.", "seconds")


def table() -> Iterator[tuple[str, Any, str, str]]:
    """Yield name, type, unit and help of each setting, in order."""
    hints = typing.get_type_hints(Settings)
    for f in dataclasses.fields(Settings):
        yield f.name, hints[f.name], f.metadata["unit"], f.metadata["help"]


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
    hints = typing.get_type_hints(Settings)
    for name, hint in hints.items():
        variable = f"NBFUNCTIONS_{name.upper()}"
        given = (overrides or {}).get(name)
        if given is not None:
            values[name] = _convert(name, hint, given, f"--{name.replace('_', '-')}")
        elif variable in environ:
            values[name] = _convert(name, hint, environ[variable], variable)
        elif name in stored:
            values[name] = _convert(name, hint, stored.pop(name), f"{name} in {file}")
        stored.pop(name, None)
    if stored:
        raise SettingInvalid(f"{file}: [server] has no setting {next(iter(stored))!r}")
    return Settings(**values)


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


def _convert(name: str, hint: Any, value: Any, where: str) -> Any:
    if hint is int:
        try:
            number = int(str(value))
        except ValueError:
            raise SettingInvalid(f"{where}: expected a whole number, found {value!r}") from None
        if number < 0 or (number == 0 and name != "port"):
            raise SettingInvalid(f"{where}: expected a number above 0, found {value!r}")
        if name == "port" and number > 65535:
            raise SettingInvalid(f"{where}: expected a port up to 65535, found {value!r}")
        return number
    if hint is Path:
        return Path(str(value)).expanduser().absolute()
    if isinstance(hint, types.GenericAlias) or typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise SettingInvalid(f"{where}: expected one of {', '.join(choices)}, found {value!r}")
        return value
    if not str(value):
        raise SettingInvalid(f"{where}: expected a text, found an empty one")
    return str(value)
