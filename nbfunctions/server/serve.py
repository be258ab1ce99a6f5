"""``nbfunctions serve``: one process that owns a data directory, from its first line to its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import json
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from nbfunctions.errors import DataDirectoryBusy, SettingInvalid
from nbfunctions.server.administration import first_access, write_private
from nbfunctions.server.app import App
from nbfunctions.server.http import HttpServer
from nbfunctions.server.server import Server
from nbfunctions.server.store.sqlite.database import FILE_NAME
from nbfunctions.settings import Settings

__all__ = ["serve"]

log = logging.getLogger("nbfunctions")

GRACE = 5
"""Seconds that answers on their way may take once everything has ended."""
LOCK: Final = "server.lock"
FILES: Final = ("default.key", *(FILE_NAME + end for end in ("", "-wal", "-shm", "-journal")))
"""Files of a data directory."""
GENERATED: Final = ("runtime", "sandbox")
"""Folders of a data directory that hold nothing but what every start can make."""
FOLDERS: Final = ("artifacts/uploads", "artifacts", "code", "packages", "tmp")
"""Its other folders, inner ones first."""


def serve(settings: Settings, *, ready_file: Path | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status.

    When it is ready it prints one line of JSON (endpoint, project, key, pid, data_dir) and writes the same to
    ``ready_file``, mode 0600. Raises :class:`~nbfunctions.errors.DataDirectoryBusy`, ``SettingInvalid`` or
    ``SandboxUnavailable`` before anything is announced; of such a start nothing is left.
    """
    import uvloop

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING, stream=sys.stderr)
    with (
        _owned(settings.data_dir) as undo,
        _listening(settings) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(settings, listener, ready_file, undo))
    return 0


async def _serve(
    settings: Settings, listener: socket.socket, ready_file: Path | None, undo: contextlib.ExitStack
) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    if settings.sandbox == "none":
        log.warning("functions run without isolation (--sandbox none): for trusted code only")
    async with Server(settings) as server:
        try:
            project, key = await first_access(server.store, settings.data_dir)
        except OSError as error:
            raise SettingInvalid(f"--data-dir: {settings.data_dir} can't be used: {error.strerror or error}") from None
        http = HttpServer(App(server), stop_timeout=settings.stop_timeout + GRACE)
        answering = asyncio.create_task(http.serve(sockets=[listener]))
        while not http.started and not answering.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)
        # What is there now stays: looking through it again and again is what makes collections slow.
        gc.collect()
        gc.freeze()
        ready = {
            "endpoint": _endpoint(listener, settings.host),
            "project": project,
            "key": key,
            "pid": os.getpid(),
            "data_dir": str(settings.data_dir),
        }
        with _announced(ready, ready_file):
            undo.pop_all()
            await asyncio.wait(
                [answering, stop := asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED
            )
            stop.cancel()
        # Nothing new is taken from here on; requests that have come are answered, and executions go on while they may.
        http.refuse()
        await server.stop(settings.stop_timeout, lambda: asyncio.shield(answering))


@contextlib.contextmanager
def _owned(data_dir: Path) -> Iterator[contextlib.ExitStack]:
    """Own the data directory as long as this process lives; raises when another one does.

    What it gives takes back what this start has made, should it be refused; forget that when the server is ready.
    """
    with contextlib.ExitStack() as closing, contextlib.ExitStack() as undo:
        try:
            for folder in reversed([path for path in (data_dir, *data_dir.parents) if not path.exists()]):
                undo.callback(_remove_empty, folder)
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = data_dir / LOCK
            fresh = not os.path.lexists(lock)
            descriptor = _locked(lock, data_dir)
            closing.callback(os.close, descriptor)
            # Asked under the lock: a server that was here meanwhile has left its data.
            if fresh and not any(os.path.lexists(data_dir / name) for name in (*FILES, *GENERATED, *FOLDERS)):
                undo.callback(_remove_made, data_dir)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except OSError as error:
            raise SettingInvalid(f"--data-dir: {data_dir} can't be used: {error.strerror}") from None
        yield undo


def _locked(lock: Path, data_dir: Path) -> int:
    """Return the open lock file, locked."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
                raise DataDirectoryBusy(
                    f"another server (pid {owner}) owns the data directory {data_dir}; stop it, or give this one "
                    "another --data-dir"
                ) from None
            # A start that was refused may have removed the file between our two steps.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), lock.stat()):
                    closing.pop_all()
                    return descriptor


def _remove_made(data_dir: Path) -> None:
    """Remove what a start makes in a fresh data directory; of folders that hold people's data only empty ones."""
    for name in GENERATED:
        shutil.rmtree(data_dir / name, ignore_errors=True)
    for name in FOLDERS:
        _remove_empty(data_dir / name)
    for name in (*FILES, LOCK):  # the lock last: until then the directory is ours
        with contextlib.suppress(OSError):
            (data_dir / name).unlink()


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    where = f"{settings.host} port {settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # a name that no host can have
        reason = getattr(error, "strerror", None) or error
        raise SettingInvalid(f"--host: can't listen on {where}: {reason}") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(1024)
        except OSError as error:
            raise SettingInvalid(
                f"--port: can't listen on {where}: {error.strerror or error}; --port 0 takes any free port"
            ) from None
        yield listener


def _endpoint(listener: socket.socket, host: str) -> str:
    port = listener.getsockname()[1]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{reachable}:{port}/v1"


@contextlib.contextmanager
def _announced(ready: dict[str, Any], ready_file: Path | None) -> Iterator[None]:
    """Say that the server is ready; take the file back at the end."""
    line = json.dumps(ready)
    if ready_file is not None:
        try:
            write_private(ready_file, line + "\n")
        except OSError as error:
            raise SettingInvalid(f"--ready-file: {ready_file} can't be written: {error.strerror}") from None
    print(line, flush=True)
    try:
        yield
    finally:
        if ready_file is not None:
            with contextlib.suppress(OSError, ValueError):
                if json.loads(ready_file.read_text()).get("pid") == ready["pid"]:
                    ready_file.unlink()
