"""The runtimes of this host: a table of what to look for, and how each is asked what it is.

Keys and fields are those of the API's runtime list (spec, section 14): ``python-3.11`` is CPython 3.11 of this host.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import py_compile
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import nbfunctions.runtimes.python
from nbfunctions.executor.sandbox.protocol import Interpreter
from nbfunctions.models import Runtime

__all__ = ["HostRuntime", "RuntimeFiles", "find_runtimes"]

OLDEST: Final = (3, 8)
PROGRAM: Final = re.compile(r"python3\.(\d+)")
PROBE_TIMEOUT: Final = 5.0
PROBE: Final = (
    "import json, os, sys; print(json.dumps([sys.implementation.name, list(sys.version_info[:2]), "
    "sys.base_prefix, sys.base_exec_prefix, os.path.realpath(getattr(sys, '_base_executable', sys.executable))]))"
)


@dataclasses.dataclass(frozen=True)
class HostRuntime:
    """A runtime and the interpreter that is it."""

    runtime: Runtime
    interpreter: Interpreter
    tag: str
    """How this interpreter marks its compiled files: ``cpython-311``."""

    @staticmethod
    def own() -> HostRuntime:
        """Return the runtime of the interpreter that runs us."""
        executable = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
        return _described(sys.version_info[:2], Path(sys.base_prefix), Path(sys.base_exec_prefix), executable)


async def find_runtimes() -> Mapping[str, HostRuntime]:
    """Return the runtimes found here by key, the oldest version first.

    The interpreter that runs us answers for its own version; for the others the first that works on ``PATH``, in
    ``/usr/bin``, among pyenv's or uv's versions.
    """
    candidates: dict[tuple[int, int], list[Path]] = {}
    for version, program in _programs():
        if version >= OLDEST and program not in candidates.setdefault(version, []):
            candidates[version].append(program)
    own = sys.version_info[:2]
    candidates.pop(own, None)
    others = await asyncio.gather(*(_first_working(version, found) for version, found in candidates.items()))
    found = {runtime.runtime.id: runtime for runtime in [*others, HostRuntime.own()] if runtime is not None}
    return dict(sorted(found.items(), key=lambda item: _number(item[1].runtime.version)))


def _programs() -> Iterator[tuple[tuple[int, int], Path]]:
    """Yield what by its name is a Python of some version, resolved to the real program."""
    home = Path(os.environ.get("HOME", "/nonexistent"))
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder.startswith("/")]
    folders += [Path("/usr/local/bin"), Path("/usr/bin")]
    for versions in (pyenv / "versions", uv):
        with contextlib.suppress(OSError):
            folders += sorted(folder / "bin" for folder in versions.iterdir())
    for folder in dict.fromkeys(folders):
        # pyenv's shims are scripts that choose a version by the folder one is in.
        if folder == pyenv / "shims":
            continue
        with contextlib.suppress(OSError):
            for entry in folder.iterdir():
                match = PROGRAM.fullmatch(entry.name)
                if match and os.access(entry, os.X_OK):
                    yield (3, int(match[1])), entry.resolve()


async def _first_working(version: tuple[int, int], programs: list[Path]) -> HostRuntime | None:
    for program in programs:
        answer = await _ask(program)
        if answer is None:
            continue
        name, found, prefix, exec_prefix, executable = answer
        if name == "cpython" and tuple(found) == version:
            return _described(version, Path(prefix), Path(exec_prefix), Path(executable))
    return None


async def _ask(program: Path) -> tuple[str, list[int], str, str, str] | None:
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *("-I", "-S", "-c", PROBE),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.defpath},
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            stdout, _ = await process.communicate()
        name, found, prefix, exec_prefix, executable = json.loads(stdout)
    except (TimeoutError, ValueError):
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return name, found, prefix, exec_prefix, executable


def _described(version: tuple[int, int], prefix: Path, exec_prefix: Path, executable: Path) -> HostRuntime:
    number = f"{version[0]}.{version[1]}"
    runtime = Runtime(
        id=f"python-{number}",
        name="Python",
        version=number,
        base=f"python:{number}",
        image=f"openruntimes/python:v1-{number}",
        logo="python.png",
        supports=("x86", "arm"),
    )
    roots = tuple(dict.fromkeys(_roots(prefix, exec_prefix, executable)))
    return HostRuntime(runtime, Interpreter(executable=executable, roots=roots), f"cpython-{version[0]}{version[1]}")


def _roots(prefix: Path, exec_prefix: Path, executable: Path) -> Iterator[Path]:
    """Yield what of an installation outside ``/usr`` is needed: never a whole prefix, which can be someone's home."""
    if not executable.is_relative_to("/usr"):
        yield executable
    for folder in (prefix, exec_prefix):
        if not folder.is_relative_to("/usr"):
            yield from (folder / name for name in ("lib", "lib64", "ssl") if (folder / name).is_dir())


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


class RuntimeFiles:
    """The runtime's own program, copied to the data directory so that it can be compiled for each interpreter.

    An installed package may be read-only, and is compiled for one version of Python at most: without this every
    cold start of another one would compile the runtime anew.
    """

    def __init__(self, data_dir: Path) -> None:
        source = Path(nbfunctions.runtimes.python.__file__).parent
        self._files = {file.name: file.read_bytes() for file in sorted(source.glob("*.py"))}
        digest = hashlib.sha256(repr(self._files).encode()).hexdigest()[:16]
        self._all = data_dir / "runtime"
        self.folder = self._all / digest
        """What is mounted as the runtime; holds the package ``nbfunctions_runtime``."""
        self._package = self.folder / "nbfunctions_runtime"

    def install(self) -> None:
        """Write the files, compiled for the interpreter that runs us; remove those of earlier versions of us."""
        if not self.folder.is_dir():
            shutil.rmtree(self._all, ignore_errors=True)
            fresh = self.folder.with_name("new")
            package = fresh / "nbfunctions_runtime"
            package.mkdir(parents=True)
            for name, content in self._files.items():
                (package / name).write_bytes(content)
                py_compile.compile(str(package / name), dfile=f"nbfunctions_runtime/{name}", doraise=True)
            _readable(fresh)
            fresh.rename(self.folder)

    async def compile_for(self, host: HostRuntime) -> None:
        """Compile them for an interpreter, once."""
        if (self._package / "__pycache__" / f"serve.{host.tag}.pyc").exists():
            return
        process = await asyncio.create_subprocess_exec(
            host.interpreter.executable,
            *("-I", "-S", "-m", "compileall", "-q", str(self._package)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.defpath},
        )
        await process.wait()
        _readable(self._package)


def _readable(folder: Path) -> None:
    """Let the sandbox's uid read it, whatever our umask is."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
