"""Prepares a deployment: unpacked code, checked entry point, installed packages (spec, sections 6.1 and 8.4).

Below the data directory::

    code/<digest of the archive>/          unpacked, mounted at /function; removed by ``forget``
    packages/<digest of the wishes>/       installed, mounted at /packages; shared by all that wish the same

A folder appears under its name whole or not at all. Packages of deleted deployments stay, as a cache: who wants the
space removes the folder ``packages`` while no server runs, and builds the deployments that used it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from nbfunctions.archive import unpack
from nbfunctions.errors import BuildFailed
from nbfunctions.executor.executor import BuildOrder, Log
from nbfunctions.executor.install import install
from nbfunctions.executor.requirements import Requirements, read_requirements
from nbfunctions.executor.runtimes import HostRuntime, RuntimeFiles
from nbfunctions.executor.sandbox.once import run_once
from nbfunctions.executor.sandbox.protocol import Limits, Room, Sandbox
from nbfunctions.settings import Settings

__all__ = ["BuildOutput", "Builder"]

DIGEST = re.compile(r"[0-9a-f]{16,128}")
CHECK_TIMEOUT = 30.0
CHECK_MEMORY = 1024
"""MB for compiling an entry point."""
REQUIREMENTS_LIMIT = 1_000_000


class BuildOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What :meth:`Builder.prepare` returns as text: the names of the folders that a call needs."""

    digest: str
    packages_key: str = msgspec.field(name="packages", default="")

    def folders(self, data_dir: Path) -> tuple[Path, Path | None]:
        """Return the folders of code and packages; raises :class:`BuildFailed` when one of them is not there."""
        code = data_dir / "code" / self.digest
        packages = data_dir / "packages" / self.packages_key if self.packages_key else None
        for name, folder in (("code", code), ("installed packages", packages)):
            if folder is not None and not folder.is_dir():
                raise BuildFailed(f"the {name} of this deployment are not on this machine; build it again")
        return code, packages

    @staticmethod
    def read(text: str) -> BuildOutput:
        """Return what ``text`` says; raises :class:`BuildFailed` when it is no build's output."""
        try:
            output = msgspec.json.decode(text, type=BuildOutput)
        except msgspec.MsgspecError:
            raise BuildFailed(f"this deployment's build output can't be read: {text[:80]!r}") from None
        for digest in filter(None, (output.digest, output.packages_key)):
            if not DIGEST.fullmatch(digest):
                raise BuildFailed(f"this deployment's build output names a folder that can't be: {digest[:80]!r}")
        return output


class Builder:
    """Prepares deployments below one data directory; several at once."""

    def __init__(
        self, settings: Settings, sandbox: Sandbox, runtimes: Mapping[str, HostRuntime], files: RuntimeFiles
    ) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._runtimes = runtimes
        self._files = files
        data_dir = settings.data_dir.absolute()
        self._code = data_dir / "code"
        self._packages = data_dir / "packages"
        self._locks: dict[str, asyncio.Lock] = {}
        for folder in (self._code, self._packages):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(".*"):  # of a server that was killed in the middle
                shutil.rmtree(leftover, ignore_errors=True)

    async def prepare(self, order: BuildOrder, log: Log) -> str:
        """Return the build's output; raises :class:`BuildFailed`, ``ArchiveInvalid``. Cancelling leaves nothing."""
        host = self._runtimes.get(order.runtime)
        if host is None:
            known = ", ".join(self._runtimes)
            raise BuildFailed(f"the runtime {order.runtime!r} is not installed here; there are {known}")
        if not DIGEST.fullmatch(order.digest):
            raise BuildFailed(f"the archive's digest is {order.digest[:80]!r}, expected hex digits")
        try:
            async with asyncio.timeout(self._settings.build_timeout):
                await self._files.compile_for(host)
                code = await self._unpacked(order)
                await self._check(host, code, order.entrypoint)
                key = await self._installed(host, code, log)
        except TimeoutError:
            raise BuildFailed(f"the build took longer than {self._settings.build_timeout} seconds") from None
        output = BuildOutput(digest=order.digest, packages_key=key)
        return msgspec.json.encode(output).decode()

    async def forget(self, digests: set[str]) -> None:
        """Remove the unpacked code of these archives."""
        for digest in digests:
            if DIGEST.fullmatch(digest):
                async with self._lock(digest):
                    await asyncio.to_thread(shutil.rmtree, self._code / digest, ignore_errors=True)

    async def _unpacked(self, order: BuildOrder) -> Path:
        folder = self._code / order.digest
        async with self._lock(order.digest):
            if not folder.is_dir():
                settings = self._settings
                size, count = settings.unpacked_size_limit, settings.unpacked_count_limit
                await _finished(asyncio.to_thread(unpack, order.archive, folder, size_limit=size, count_limit=count))
        return folder

    async def _check(self, host: HostRuntime, code: Path, entrypoint: str) -> None:
        file = entrypoint.partition(":")[0]
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or not file:
            raise BuildFailed(f"the entry point must be a file of the archive, found {file!r}")
        if not os.path.isfile(code / path):  # noqa: ASYNC240, PTH113 - a name that is too long is no file either
            raise BuildFailed(f"the archive has no file {file!r}, the entry point; {_contents(code, path.name)}")
        limits = Limits.of(self._settings, CHECK_MEMORY)
        room = Room(interpreter=host.interpreter, runtime=self._files.folder, code=code, packages=None, limits=limits)
        places = self._sandbox.places(room)
        program = f"{places.runtime}/nbfunctions_runtime/check.py"
        arguments = ["-I", "-S", "-X", "utf8", program, places.code, file]
        try:
            status, _, stderr = await run_once(self._sandbox, room, arguments, seconds=CHECK_TIMEOUT)
        except TimeoutError:
            raise BuildFailed(f"{file} could not be compiled within {CHECK_TIMEOUT:g} seconds") from None
        if status != 0:
            raise BuildFailed(stderr.rstrip() or f"{file} could not be compiled: exit status {status}")

    async def _installed(self, host: HostRuntime, code: Path, log: Log) -> str:
        """Return the key of the installed packages; empty when the code asks for none."""
        wishes = _wishes(code)
        if not wishes.lines:
            return ""
        # The interpreter is part of it: compiled modules and compiled bytecode are of one version.
        identity = [host.runtime.id, str(host.interpreter.executable), *wishes.lines]
        key = hashlib.sha256("\n".join(identity).encode()).hexdigest()
        folder = self._packages / key
        async with self._lock(key):
            if folder.is_dir():
                log("stdout", f"Using {len(wishes.lines)} installed requirement(s)\n")
                return key
            async with _fresh_folder(folder) as fresh:
                await install(host.interpreter.executable, wishes, fresh, log)
        return key

    @contextlib.asynccontextmanager
    async def _lock(self, name: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._locks.pop(name, None)


@contextlib.asynccontextmanager
async def _fresh_folder(folder: Path) -> AsyncIterator[Path]:
    """Give a folder to fill; it becomes ``folder`` at the end, or vanishes."""
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield fresh
        await _finished(asyncio.to_thread(_publish, fresh, folder))
    finally:
        await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)


def _publish(fresh: Path, folder: Path) -> None:
    """Let the sandbox's uid read it, whatever the umask was, and put it in its place."""
    fresh.chmod(0o755)
    for parent, folders, files in os.walk(fresh):
        for name in folders:
            Path(parent, name).chmod(0o755)
        for name in files:
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if not path.is_symlink() and mode & 0o044 != 0o044:
                path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
    fresh.rename(folder)


async def _finished(work: Coroutine[Any, Any, None]) -> None:
    """Wait for a thread's work to its end, also when we are cancelled: it must not write into what we remove."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await task
        raise


def _wishes(code: Path) -> Requirements:
    file = code / "requirements.txt"
    if not file.is_file():
        return Requirements((), hashed=False)
    with file.open("rb") as stream:
        content = stream.read(REQUIREMENTS_LIMIT + 1)
    if len(content) > REQUIREMENTS_LIMIT:
        raise BuildFailed(f"requirements.txt is larger than {REQUIREMENTS_LIMIT} bytes")
    try:
        return read_requirements(content.decode())
    except UnicodeDecodeError as error:
        raise BuildFailed(f"requirements.txt is not UTF-8 (byte {error.start})") from None


def _contents(code: Path, name: str) -> str:
    """Say what an archive holds, and where a file of the wanted name is."""
    files = sorted(str(path.relative_to(code)) for path in code.rglob("*") if path.is_file())
    same = [file for file in files if PurePosixPath(file).name == name]
    if same:
        return f"did you mean {same[0]!r}?"
    shown = ", ".join(files[:10]) + (f" and {len(files) - 10} more" if len(files) > 10 else "")
    return f"it holds {shown or 'no files'}"
