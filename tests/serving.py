"""A real server process for tests and benches: started on a free port, ended by SIGTERM, its end looked at."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

__all__ = ["ROOT", "RUNTIME", "Serving", "clean_environment", "serving"]

ROOT: Final = Path(__file__).parents[1]
RUNTIME: Final = f"python-{sys.version_info[0]}.{sys.version_info[1]}"
"""The runtime that every server has: the Python that runs it."""
PATIENCE: Final = 60.0


class Serving(msgspec.Struct, frozen=True):
    """A server that is ready, and what it said."""

    process: subprocess.Popen[str]
    endpoint: str
    project: str
    key: str
    data_dir: Path

    @property
    def headers(self) -> dict[str, str]:
        """What its clients send along."""
        return {"X-Appwrite-Project": self.project, "X-Appwrite-Key": self.key}

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.endpoint.rsplit(":", 1)[1].partition("/")[0])


@contextlib.contextmanager
def serving(
    data_dir: Path, *options: str, environment: Mapping[str, str] | None = None, status: int | None = 0
) -> Iterator[Serving]:
    """Start ``nbfunctions serve`` and stop it at the end.

    It must end with ``status``, without a traceback in its log or a word that an answer was not finished; None is for
    one that is killed on purpose.
    """
    command = [sys.executable, "-m", "nbfunctions", "serve", "--port", "0", "--data-dir", str(data_dir), *options]
    environment = clean_environment(data_dir.parent) if environment is None else environment
    log = data_dir.with_name(data_dir.name + ".log")
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            ready: dict[str, Any] = json.loads(line)
            assert ready["pid"] == process.pid
            yield Serving(process, ready["endpoint"], ready["project"], ready["key"], Path(ready["data_dir"]))
        finally:
            process.terminate()
            try:
                found = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert status is None or found == status, log.read_text()
    if status is not None:
        assert all(word not in log.read_text() for word in ("Traceback", "ASGI callable")), log.read_text()


def clean_environment(home: Path) -> dict[str, str]:
    """Return the environment of a user with a home of their own; where packages come from stays as it is here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NBFUNCTIONS_", "JUPYTER_"))}
    own = Path.home()
    kept.setdefault("UV_CACHE_DIR", str(own / ".cache" / "uv"))
    for file in (own / ".config" / "pip" / "pip.conf", own / ".pip" / "pip.conf"):
        if file.is_file():
            kept.setdefault("PIP_CONFIG_FILE", str(file))
    return {
        **kept,
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "XDG_DATA_HOME": str(home / "data"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
    }
