"""Which server: one named by arguments, environment or profile, else this user's embedded one, found or started.

The embedded server writes its address into a connection file in Jupyter's runtime directory. Whoever needs it reads
that file; whoever finds no living server behind it starts one, detached, under a lock, so that any number of kernels
that start at once share one server. It outlives them all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import html
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nbfunctions.errors import ApiError, ConnectionFailed, GeneralUnauthorizedScope, ProjectNotFound, SettingInvalid

if TYPE_CHECKING:
    from nbfunctions.client import Address, Client

__all__ = [
    "Connection",
    "choose",
    "connect",
    "current",
    "find_embedded",
    "known",
    "profiles",
    "start_embedded",
    "stop_embedded",
]

START_TIMEOUT: Final = 30.0
"""Seconds a server may take until it is ready; the lock is waited for twice as long."""
STOP_TIMEOUT: Final = 40.0
"""Seconds a server may take to stop: it lets executions finish for 30 s."""

_clients: dict[tuple[str, str, str, bool], Client] = {}
_clients_lock = threading.Lock()
_chosen: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Connection:
    """Which server a notebook talks to; shows itself as text and as HTML, without the key."""

    endpoint: str
    project: str
    origin: str
    """What named it: ``arguments``, ``environment``, ``profile NAME`` or ``embedded server``."""
    version: str
    pid: int | None = None
    """Process id of the embedded server."""
    data_dir: str = ""

    def __str__(self) -> str:
        where = f"connected to {self.endpoint}, project {self.project} ({self.origin}, version {self.version})"
        return f"{where}\nprocess {self.pid}, data in {self.data_dir}" if self.pid else where

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "<br>".join(html.escape(line) for line in str(self).splitlines())


def connect(
    profile: str | None = None, *, endpoint: str | None = None, project: str | None = None, key: str | None = None
) -> Client:
    """Return a client of the server that is meant.

    Arguments win; a named profile of ``nbfunctions.toml`` gives what they leave open. Without either, what
    ``%functions_connect`` chose counts, then ``NBFUNCTIONS_ENDPOINT``, ``_PROJECT`` and ``_KEY`` of the environment,
    then this user's embedded server, which is started if none is running. Raises :class:`ConnectionFailed` or
    :class:`SettingInvalid`; neither echoes a key.
    """
    return _connect(profile, endpoint, project, key)[0]


def choose(
    profile: str | None = None, *, endpoint: str | None = None, project: str | None = None, key: str | None = None
) -> Connection:
    """Connect as :func:`connect` does and keep the choice for the calls that don't say where.

    The choice is kept only when the server answers to the key; without any argument the earlier choice is forgotten.
    """
    given = {"profile": profile, "endpoint": endpoint, "project": project, "key": key}
    before = dict(_chosen)
    _chosen.clear()
    try:
        report = current(**given)
    except BaseException:
        _chosen.update(before)
        raise
    if any(value is not None for value in given.values()):
        _chosen.update(given)
    return report


def current(
    profile: str | None = None, *, endpoint: str | None = None, project: str | None = None, key: str | None = None
) -> Connection:
    """Return which server :func:`connect` means, after one request that needs the key."""
    client, origin = _connect(profile, endpoint, project, key)
    version = client.health_version()
    try:
        client.check_key()
    except GeneralUnauthorizedScope as error:
        raise ConnectionFailed(
            f"{client.endpoint} ({origin}) doesn't take the key for project {client.project!r}: {error}"
        ) from None
    except ProjectNotFound:
        raise ConnectionFailed(f"{client.endpoint} ({origin}) has no project {client.project!r}") from None
    found = find_embedded() if origin == EMBEDDED else None
    return Connection(
        endpoint=client.endpoint,
        project=client.project,
        origin=origin,
        version=version,
        pid=found["pid"] if found else None,
        data_dir=found.get("data_dir", "") if found else "",
    )


def known() -> Client | None:
    """Return a client of the server that is meant if that needs no start, else None; for completion."""
    if _chosen or os.environ.get("NBFUNCTIONS_ENDPOINT"):
        return connect()
    found = find_embedded()
    return _client(found["endpoint"], found["project"], found["key"], embedded=True) if found else None


EMBEDDED: Final = "embedded server"


def _connect(profile: str | None, endpoint: str | None, project: str | None, key: str | None) -> tuple[Client, str]:
    if profile is None and endpoint is None and _chosen:
        profile, endpoint = _chosen["profile"], _chosen["endpoint"]
        project, key = project or _chosen["project"], key or _chosen["key"]
    if profile is not None:
        named = _profile(profile)
        address = endpoint or named["endpoint"] or ""
        project, key = project or named["project"], key or named["key"]
        origin = f"profile {profile}"
    elif endpoint is not None:
        address, origin = endpoint, "arguments"
    elif os.environ.get("NBFUNCTIONS_ENDPOINT"):
        address, origin = os.environ["NBFUNCTIONS_ENDPOINT"], "environment"
    else:
        found = start_embedded()
        return _client(found[0], project or found[1], key or found[2], embedded=True), EMBEDDED
    project = project or os.environ.get("NBFUNCTIONS_PROJECT") or "default"
    key = key or os.environ.get("NBFUNCTIONS_KEY")
    if not address.startswith(("http://", "https://")):
        raise SettingInvalid(f"{origin}: the endpoint must begin with http:// or https://, found {address!r}")
    if not key:
        raise ConnectionFailed(
            f"{address} ({origin}) needs an API key: set NBFUNCTIONS_KEY, or key or key_env in its profile"
        )
    return _client(address, project, key, embedded=False), origin


def _client(endpoint: str, project: str, key: str, *, embedded: bool) -> Client:
    """Return the one client of an address, so that its open connections are used again."""
    from nbfunctions.client import Client

    kind = (endpoint, project, key, embedded)
    with _clients_lock:
        if kind not in _clients:
            _clients[kind] = Client(endpoint, project, key, relocate=start_embedded if embedded else None)
        return _clients[kind]


# -- profiles -----------------------------------------------------------------------------------------------


def profiles() -> Mapping[str, Mapping[str, Any]]:
    """Return the ``[profiles.NAME]`` tables of ``nbfunctions.toml``; raises :class:`SettingInvalid`."""
    from nbfunctions.settings import config_file

    file = config_file()
    try:
        tables = tomllib.loads(file.read_text()).get("profiles", {})
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"{file} is not valid TOML: {error}") from None
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise SettingInvalid(f"{file}: profiles must be tables, as [profiles.prod]")
    return tables


def _profile(name: str) -> dict[str, str | None]:
    from nbfunctions.settings import config_file

    found = profiles()
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise SettingInvalid(f"there is no profile {name!r} in {config_file()}; profiles there: {known}")
    table = dict(found[name])
    unknown = table.keys() - {"endpoint", "project", "key", "key_env"}
    if unknown:
        raise SettingInvalid(f"{config_file()}: [profiles.{name}] has no setting {min(unknown)!r}")
    for setting, value in table.items():
        if not isinstance(value, str):
            raise SettingInvalid(f"{config_file()}: {setting} in [profiles.{name}] must be a text")
    if "endpoint" not in table:
        raise SettingInvalid(f"{config_file()}: [profiles.{name}] needs an endpoint")
    variable = table.get("key_env")
    if variable and variable not in os.environ:
        raise SettingInvalid(f"profile {name} takes its key from {variable}, which the environment doesn't have")
    key = os.environ[variable] if variable else table.get("key")
    return {"endpoint": table["endpoint"], "project": table.get("project"), "key": key}


# -- the embedded server ------------------------------------------------------------------------------------


def find_embedded() -> dict[str, Any] | None:
    """Return what this user's embedded server wrote when it was ready, if it is alive and answers to its key.

    The keys are ``endpoint``, ``project``, ``key``, ``pid`` and ``data_dir``. Starts nothing.
    """
    found = _read_connection(_connection_file())
    if found is None or not _is_alive(found["pid"]):
        return None
    try:
        _client(found["endpoint"], found["project"], found["key"], embedded=False).functions.list(limit=1)
    except (ConnectionFailed, ApiError):
        return None
    return found


def start_embedded() -> Address:
    """Return endpoint, project and key of this user's embedded server; start it if there is none.

    Raises :class:`ConnectionFailed` with the end of the server's log when it can't start.
    """
    found = find_embedded()
    if found is None:
        with _lock(_runtime_dir() / "nbfunctions-server.lock"):
            found = find_embedded() or _start(_connection_file())
    return found["endpoint"], found["project"], found["key"]


def stop_embedded() -> int | None:
    """Stop this user's embedded server and return its process id; None when none was running.

    Running executions may finish. Raises :class:`ConnectionFailed` when it is still there after 40 s.
    """
    found = find_embedded()
    if found is None:
        return None
    pid: int = found["pid"]
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT
    while _is_alive(pid):
        if time.monotonic() > deadline:
            raise ConnectionFailed(
                f"the server (pid {pid}) is still running {STOP_TIMEOUT:g} s after it was asked to stop"
            )
        time.sleep(0.05)
    return pid


def _runtime_dir() -> Path:
    from jupyter_core.paths import jupyter_runtime_dir

    folder = Path(jupyter_runtime_dir())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unusable(folder, error) from None
    return folder


def _unusable(folder: Path, error: OSError) -> ConnectionFailed:
    return ConnectionFailed(
        f"Jupyter's runtime folder {folder} can't be used: {error.strerror}; JUPYTER_RUNTIME_DIR names another"
    )


def _connection_file() -> Path:
    return _runtime_dir() / "nbfunctions-server.json"


def _read_connection(file: Path) -> dict[str, Any] | None:
    try:
        if file.stat().st_uid != os.getuid():  # someone else's word on where to send a key
            return None
        found = json.loads(file.read_text())
        return {
            "endpoint": str(found["endpoint"]),
            "project": str(found["project"]),
            "key": str(found["key"]),
            "pid": int(found["pid"]),
            "data_dir": str(found.get("data_dir", "")),
        }
    except (OSError, ValueError, KeyError, TypeError):  # none, or not whole yet
        return None


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # our own child leaves a zombie otherwise
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Hold an exclusive lock that dies with its owner. Polls, so that an interrupt ends the wait."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(file.parent, error) from None
    try:
        deadline = time.monotonic() + 2 * START_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConnectionFailed(
                        f"another process has been starting a server for {2 * START_TIMEOUT:g} s; it holds {file}"
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _start(connection_file: Path) -> dict[str, Any]:
    from nbfunctions.settings import load

    try:
        connection_file.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(connection_file.parent, error) from None
    data_dir = load().data_dir
    log_file = data_dir / "server.log"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConnectionFailed(f"the server's data directory can't be used: {error}") from None
    command = [sys.executable, "-m", "nbfunctions", "serve", "--port", "0", "--ready-file", str(connection_file)]
    try:
        server = subprocess.Popen(
            command,
            cwd="/",
            env=_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the ready line has the key, which is no business of a log
            stderr=log,
            start_new_session=True,
        )
    except OSError as error:
        raise ConnectionFailed(f"no server could be started: {error}") from None
    finally:
        os.close(log)
    return _wait_until_ready(server, connection_file, log_file)


def _wait_until_ready(server: subprocess.Popen[bytes], connection_file: Path, log_file: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT
    try:
        while (found := _ready(server, connection_file)) is None:
            if server.poll() is not None or time.monotonic() > deadline:
                _give_up(server, log_file)
            time.sleep(0.01)
    except BaseException:
        _end(server)
        raise
    server.returncode = 0  # nobody's child from here on: no warning when this object goes
    return found


def _ready(server: subprocess.Popen[bytes], connection_file: Path) -> dict[str, Any] | None:
    found = _read_connection(connection_file)
    return found if found is not None and found["pid"] == server.pid else None


def _give_up(server: subprocess.Popen[bytes], log_file: Path) -> NoReturn:
    if server.returncode is None:
        raise ConnectionFailed(f"the server was not ready within {START_TIMEOUT:g} s: {_end_of(log_file)}")
    raise ConnectionFailed(f"the server did not start (exit status {server.returncode}): {_end_of(log_file)}")


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _end_of(log_file: Path) -> str:
    """Return the last thing the server said, which is its reason in one line, and where to read the rest."""
    try:
        lines = [line.strip() for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    said = lines[-1].removeprefix("nbfunctions: ") if lines else "it said nothing"
    return f"{said} (log: {log_file})"


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what belongs to this kernel alone."""
    own = ("JPY_", "IPYTHON", "PYDEVD_", "VSCODE_", "NBFUNCTIONS_ENDPOINT", "NBFUNCTIONS_PROJECT", "NBFUNCTIONS_KEY")
    drawing = {"MPLBACKEND", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "PAGER", "GIT_PAGER", "MANPAGER", "TERM"}
    found = {name: value for name, value in environ.items() if not name.startswith(own) and name not in drawing}
    parent = Path(__file__).resolve().parent.parent
    if parent.name not in ("site-packages", "dist-packages"):
        # Imported from a source tree, perhaps only because the kernel was started in it.
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(parent), found.get("PYTHONPATH", "")]))
    return found
