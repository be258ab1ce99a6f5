"""The self-test: what a sandbox promises is tried on this host before any function runs in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nbfunctions.errors import SandboxUnavailable
from nbfunctions.executor.sandbox.once import run_once
from nbfunctions.executor.sandbox.protocol import Promise, Room, Sandbox

__all__ = ["prove"]

PROBE: Final = """
import json, os, sys

def writable(path):
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError:
        return False
    return True

def environ(path):
    try:
        with open(path, "rb") as file:
            return [entry.split(b"=")[0].decode("utf-8", "replace") for entry in file.read().split(b"\\0") if entry]
    except OSError:
        return []

with open("/proc/self/status") as file:
    status = dict(line.rstrip("\\n").split(":", 1) for line in file)
hidden, *readonly = sys.argv[1:]
print(json.dumps({
    "files": [hidden] if os.path.exists(hidden) else [],
    "code": [folder for folder in readonly if writable(os.path.join(folder, "self-test"))],
    "processes": [name for name in os.listdir("/proc") if name.isdigit() and int(name) > 9],
    "privileges": [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
        + (["uid 0"] if os.getuid() == 0 else []) + (["new privileges"] if status["NoNewPrivs"].strip() != "1" else [])
        + (["no filter"] if status["Seccomp"].strip() == "0" and os.uname().machine in ("x86_64", "aarch64") else []),
    "environment": sorted(set(environ("/proc/self/environ") + environ("/proc/1/environ")) - {"PWD", "LC_CTYPE"}),
}))
"""

BROKEN: Final[Mapping[Promise, str]] = {
    "files": "files of the server can be seen inside",
    "code": "folders that should be read-only can be written",
    "processes": "processes of the host can be seen inside",
    "privileges": "the process inside has or can gain privileges",
    "environment": "environment variables of the server can be read inside",
}
TIMEOUT: Final = 10


async def prove(sandbox: Sandbox, room: Room, hidden: Path) -> None:
    """Start an interpreter in the sandbox and see whether it keeps what it promises.

    ``hidden`` is a folder that must not be visible. Raises :class:`SandboxUnavailable` saying what is wrong.
    """
    places = sandbox.places(room)
    arguments = ["-I", "-S", "-c", PROBE, str(hidden), places.runtime, places.code, "/", "/usr"]
    try:
        status, stdout, stderr = await run_once(sandbox, room, arguments, seconds=TIMEOUT)
    except TimeoutError:
        raise SandboxUnavailable(f"a sandboxed interpreter did not end within {TIMEOUT} seconds") from None
    except OSError as error:
        raise SandboxUnavailable(f"it could not be started ({error})") from None
    if status != 0:
        raise SandboxUnavailable(_last_line(stderr) or f"a sandboxed interpreter ended with exit status {status}")
    found: dict[Promise, Any] = json.loads(stdout)
    for promise in sorted(sandbox.promises):
        # A host's own process 1 may carry variables: without a promise about processes only our own environment counts.
        if found[promise] and not (promise == "environment" and "processes" not in sandbox.promises):
            raise SandboxUnavailable(f"{BROKEN[promise]} ({', '.join(found[promise])})")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
