"""The executor of this machine: builds here, and runs in sandboxed instances of its own warm pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from nbfunctions.errors import Error, SandboxUnavailable, SettingInvalid
from nbfunctions.executor.builder import Builder, BuildOutput
from nbfunctions.executor.executor import BuildOrder, Call, Log, Outcome
from nbfunctions.executor.frames import Reply
from nbfunctions.executor.instance import CallTimeout, Instance, InstanceEnded, StartFailed
from nbfunctions.executor.pool import Pool, PoolStopped
from nbfunctions.executor.runtimes import HostRuntime, RuntimeFiles, find_runtimes
from nbfunctions.executor.sandbox import choose_sandbox
from nbfunctions.executor.sandbox.protocol import Limits, Places, Room, Sandbox
from nbfunctions.models import OUTPUT_LIMIT, Layer, Runtime
from nbfunctions.settings import Settings

__all__ = ["LocalExecutor"]

TIMEOUT_TEXT: Final = "An internal curl error has occurred within the executor! Error Msg: Operation timed out"
"""What the reference writes (spec, section 7.4); clients look for it."""


class LocalExecutor:
    """Implements :class:`~nbfunctions.executor.executor.Executor` on this host, below ``settings.data_dir``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._data_dir = settings.data_dir.absolute()
        self._found: Mapping[str, HostRuntime] = {}
        self._runtimes: Mapping[str, Runtime] = {}
        self._files = RuntimeFiles(self._data_dir)
        self._sandbox: Sandbox | None = None
        self._builder: Builder | None = None
        self._pool = Pool(self._start_instance, places=settings.instances, idle_timeout=settings.idle_timeout)

    @property
    def runtimes(self) -> Mapping[str, Runtime]:
        """The runtimes found by :meth:`start`, oldest version first."""
        return self._runtimes

    async def start(self) -> None:
        """Find the runtimes and prove the sandbox; raises ``SandboxUnavailable``, ``SettingInvalid``."""
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._data_dir.chmod(0o700)
            self._files.install()
        except OSError as error:
            raise SettingInvalid(f"--data-dir: {self._data_dir} can't be used: {error.strerror}") from None
        finding = asyncio.create_task(find_runtimes())
        try:
            own = HostRuntime.own()
            room = self._room(own, self._files.folder, None, self._settings.memory)
            self._sandbox = await choose_sandbox(self._settings, room)
        except OSError as error:
            raise SettingInvalid(f"--data-dir: {self._data_dir} can't be used: {error.strerror}") from None
        finally:
            self._found = await finding
            self._runtimes = {key: found.runtime for key, found in self._found.items()}
        self._builder = Builder(self._settings, self._sandbox, self._found, self._files)

    async def prepare(self, order: BuildOrder, log: Log) -> str:
        """Unpack, check and install; see :meth:`Executor.prepare <nbfunctions.executor.executor.Executor.prepare>`."""
        if self._builder is None:
            raise SandboxUnavailable("the executor has not been started")
        return await self._builder.prepare(order, log)

    async def run(self, call: Call) -> Outcome:
        """Run one call in an instance of its own function; every end is an outcome."""
        asked = time.monotonic()
        try:
            instance, cold = await self._pool.acquire(call)
        except StartFailed as error:
            waited = time.monotonic() - asked
            return _failed(str(error), error.layer, time=waited, queued=waited, cold=True)
        except PoolStopped:
            waited = time.monotonic() - asked
            reason = "the server stopped before the function was called"
            return _failed(reason, "platform", time=waited, queued=waited, called=False)
        try:
            return await self._call(instance, call, asked, cold)
        finally:
            self._pool.release(instance)

    async def forget(self, digests: set[str]) -> None:
        """End the instances of this code and remove it; installed packages stay for those who ask for the same."""
        self._pool.forget(digests)
        if self._builder is not None:
            await self._builder.forget(digests)

    async def stop(self) -> None:
        """End all instances, within about two seconds."""
        await self._pool.stop()

    def describe(self) -> dict[str, Any]:
        """Return the sandbox, what each limit is enforced by, and how many instances there are."""
        return {
            "sandbox": self._sandbox.name if self._sandbox is not None else "not started",
            "enforced": dict(self._sandbox.describe()) if self._sandbox is not None else {},
            "instances": self._pool.count(),
            "runtimes": {key: str(found.interpreter.executable) for key, found in self._found.items()},
        }

    async def _call(self, instance: Instance, call: Call, asked: float, cold: bool) -> Outcome:
        began = time.monotonic()
        queued = began - asked
        head = {"type": "call", "context": call.context, "headers": call.headers}
        try:
            reply, body = await instance.call(head, call.data.encode("utf-8", "replace"), call.timeout)
        except CallTimeout:
            took = max(time.monotonic() - began, call.timeout)
            written = (instance.stdout.take(), instance.stderr.take())
            return _failed(TIMEOUT_TEXT, "limit", *written, time=took, queued=queued, cold=cold)
        except InstanceEnded as error:
            took = time.monotonic() - began
            written = (instance.stdout.take(), instance.stderr.take())
            return _failed(str(error), error.layer, *written, time=took, queued=queued, cold=cold)
        took = time.monotonic() - began
        return _answered(reply, body, instance.stdout.take(), instance.stderr.take(), took, queued, cold)

    async def _start_instance(self, call: Call, on_end: Callable[[Instance], None]) -> Instance:
        sandbox, found = self._sandbox, self._found.get(call.runtime)
        if sandbox is None:
            raise StartFailed("the executor has not been started", "platform")
        if found is None:
            raise StartFailed(f"the runtime {call.runtime} is not installed here", "start")
        try:
            code, packages = BuildOutput.read(call.output).folders(self._data_dir)
        except Error as error:
            raise StartFailed(str(error), "start") from None
        await self._files.compile_for(found)
        room = self._room(found, code, packages, call.memory)
        try:
            instance = Instance(sandbox, room, on_end)
        except OSError as error:
            raise StartFailed(f"the sandbox could not be started: {error}", "start") from None
        places = sandbox.places(room)
        start = {
            "entrypoint": call.entrypoint,
            "function": call.function_id,
            "code": places.code,
            "packages": places.packages,
            "env": {**_environment(places), **call.variables},
            "variables": call.variables,
            "context": call.context,
        }
        try:
            await instance.load(start, self._settings.start_timeout)
        except BaseException:
            instance.kill()
            raise
        return instance

    def _room(self, found: HostRuntime, code: Path, packages: Path | None, memory: int) -> Room:
        limits = Limits.of(self._settings, memory)
        return Room(
            interpreter=found.interpreter, runtime=self._files.folder, code=code, packages=packages, limits=limits
        )


def _environment(places: Places) -> dict[str, str]:
    """Return the environment every function finds, below its own variables."""
    binaries = [f"{places.packages}/bin"] if places.packages else []
    return {
        "PATH": ":".join([*binaries, "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": places.tmp,
        "TMPDIR": places.tmp,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": ":".join(filter(None, [places.code, places.packages])),
        # One call at a time in an instance: parallel work comes from more instances.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "NUMEXPR_NUM_THREADS": "1",
    }


def _answered(reply: Reply, body: bytes, stdout: str, stderr: str, took: float, queued: float, cold: bool) -> Outcome:
    text = body.decode("utf-8", "replace")
    if reply.status >= 500:
        layer = reply.layer or "code"
        return _failed(text, layer, stdout, stderr, code=reply.status, time=took, queued=queued, cold=cold)
    return Outcome(
        status="completed",
        status_code=reply.status,
        response=text,
        response_type=reply.kind,
        stdout=stdout,
        stderr=stderr,
        time=took,
        queued=queued,
        cold=cold,
    )


def _failed(
    text: str,
    layer: Layer,
    stdout: str = "",
    stderr: str = "",
    *,
    time: float,
    queued: float,
    code: int = 500,
    cold: bool = False,
    called: bool = True,
) -> Outcome:
    if stderr and not stderr.endswith("\n"):
        stderr += "\n"
    return Outcome(
        status="failed",
        status_code=code,
        stdout=stdout,
        stderr=_cut(stderr, text),
        layer=layer,
        time=time,
        queued=queued,
        cold=cold,
        called=called,
    )


def _cut(written: str, text: str) -> str:
    """Return both, within the limit; what was written gives way to the reason."""
    whole = (written + text).encode("utf-8", "replace")
    if len(whole) <= OUTPUT_LIMIT:
        return written + text
    reason = text.encode("utf-8", "replace")[:OUTPUT_LIMIT]
    kept = written.encode("utf-8", "replace")[: OUTPUT_LIMIT - len(reason)]
    return kept.decode("utf-8", "ignore") + reason.decode("utf-8", "ignore")
