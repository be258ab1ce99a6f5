"""Deploys the folders below ``tests/functions`` to an executor and calls them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbfunctions.archive import pack
from nbfunctions.executor.executor import BuildOrder, Call, Log, Outcome
from nbfunctions.executor.local import LocalExecutor
from nbfunctions.settings import Settings

FUNCTIONS = Path(__file__).parent.parent / "functions"
RUNTIME = f"python-{sys.version_info[0]}.{sys.version_info[1]}"


def quiet(stream: str, text: str) -> None:
    """Take a build's log and say nothing."""


def files_of(name: str) -> dict[str, bytes]:
    folder = FUNCTIONS / name
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def order_for(
    data_dir: Path, files: Mapping[str, bytes], entrypoint: str = "main.py", runtime: str = RUNTIME
) -> BuildOrder:
    archive = pack(files)
    digest = hashlib.sha256(archive).hexdigest()
    file = data_dir / f"{digest}.tar.gz"
    file.write_bytes(archive)
    return BuildOrder(archive=file, digest=digest, runtime=runtime, entrypoint=entrypoint)


class Deployed:
    """A prepared function; calling it runs it."""

    def __init__(self, executor: LocalExecutor, call: Call) -> None:
        self.executor = executor
        self.call = call

    async def __call__(self, data: str = "", **changes: Any) -> Outcome:
        return await self.executor.run(msgspec.structs.replace(self.call, data=data, **changes))

    async def do(self, *order: Any, **changes: Any) -> Any:
        """Have the hostile function try something; return what it reports."""
        outcome = await self(json.dumps(order), **changes)
        assert outcome.status == "completed", outcome
        return json.loads(outcome.response)


async def deploy(
    executor: LocalExecutor,
    data_dir: Path,
    name: str,
    *,
    files: Mapping[str, bytes] | None = None,
    entrypoint: str = "main.py",
    runtime: str = RUNTIME,
    log: Log = quiet,
    deployment_id: str = "",
) -> Deployed:
    order = order_for(data_dir, files_of(name) if files is None else files, entrypoint, runtime)
    output = await executor.prepare(order, log)
    call = Call(
        execution_id="execution",
        function_id=name,
        deployment_id=deployment_id or f"deployment-of-{name}",
        digest=order.digest,
        runtime=runtime,
        entrypoint=entrypoint,
        output=output,
        variables={},
        context={"APPWRITE_FUNCTION_ID": name, "APPWRITE_FUNCTION_PROJECT_ID": "default"},
        data="",
        headers={},
        timeout=10,
        memory=512,
        concurrency=4,
    )
    return Deployed(executor, call)


@contextlib.asynccontextmanager
async def running(data_dir: Path, **settings: Any) -> AsyncIterator[LocalExecutor]:
    executor = LocalExecutor(Settings(data_dir=data_dir, **settings))
    await executor.start()
    try:
        yield executor
    finally:
        await executor.stop()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def there(mark: str) -> bool:
    """Wait for a process with this mark: one that has just been made has no command line for a moment."""
    for _ in range(250):
        if processes_with(mark):
            return True
        await asyncio.sleep(0.02)
    return False


async def gone(mark: str) -> bool:
    """Wait for the processes with this mark to end; return whether they did within two seconds."""
    for _ in range(100):
        if not processes_with(mark):
            return True
        await asyncio.sleep(0.02)
    return False


def processes_with(mark: str) -> list[int]:
    """Return the processes of the host whose command line holds ``mark``."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return found
