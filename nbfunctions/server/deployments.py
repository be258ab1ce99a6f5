"""``/functions/{functionId}/deployments``: uploads, builds (spec, section 1, routes 9 to 12 and 16; section 5)."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from nbfunctions.errors import (
    DeploymentNotFound,
    GeneralArgumentInvalid,
    StorageFileEmpty,
    StorageFileTypeUnsupported,
    StorageInvalidContentRange,
    StorageInvalidFileSize,
)
from nbfunctions.models import Deployment, DeploymentList, new_id
from nbfunctions.server.artifacts import Upload
from nbfunctions.server.permissions import Caller
from nbfunctions.server.rules import UID, is_id
from nbfunctions.server.server import Server
from nbfunctions.server.store.protocol import Page
from nbfunctions.server.wire import File

__all__ = ["create", "delete", "download", "get", "list_", "retry_build"]

RANGE: Final = re.compile(r"\S+ ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})", re.ASCII)
WANTED: Final = re.compile(rb"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-[0-9]{1,15})")


class Range(msgspec.Struct, frozen=True):
    """A ``Content-Range`` header; the last chunk's ``end`` is the size itself (spec, section 5.2)."""

    start: int
    end: int
    size: int

    @staticmethod
    def read(header: str) -> Range:
        """Raises ``StorageInvalidContentRange``."""
        match = RANGE.fullmatch(header.strip())
        if match is None:
            raise StorageInvalidContentRange
        found = Range(*map(int, match.groups()))
        if not found.start <= found.end <= found.size:
            raise StorageInvalidContentRange
        return found

    @property
    def total(self) -> int:
        """How many chunks as long as this one the whole has; the last, which is shorter, knows of one more at most."""
        return 1 + (self.start > 0) if self.is_last else -(-self.size // self.length)

    @property
    def is_last(self) -> bool:
        """Whether it ends where the whole ends."""
        return self.end >= self.size - 1

    @property
    def length(self) -> int:
        """Bytes between its start and its end."""
        return min(self.end + 1, self.size) - self.start


async def create(
    server: Server,
    caller: Caller,
    function_id: str,
    entrypoint: str,
    activate: bool,
    content_range: str,
    upload_id: str,
    *,
    file: File | None,
) -> Deployment:
    """Take an archive, or one chunk of it; a complete one waits for its build.

    Checks in the contract's order (spec, section 3.3): function, file, extension, range, size.
    """
    await server.store.get_function(caller.project_id, function_id)
    if file is None or not file.name:  # a form's file field that was left empty
        raise StorageFileEmpty
    if not file.name.endswith(".gz"):
        raise StorageFileTypeUnsupported
    chunk = Range.read(content_range) if content_range else None
    if (chunk.size if chunk is not None else file.size) > server.settings.archive_size_limit:
        raise StorageInvalidFileSize
    if chunk is not None and file.size != chunk.length:
        raise StorageInvalidContentRange
    now = int(server.clock())
    deployment = Deployment(
        id=new_id(),
        created_at=now,
        updated_at=now,
        function_id=function_id,
        entrypoint=entrypoint,
        size=chunk.size if chunk is not None else file.size,
        activate=activate,
    )
    if chunk is None or file.size == chunk.size:
        return await _whole(server, caller, deployment, file)
    if upload_id:
        if not is_id(upload_id):
            raise GeneralArgumentInvalid(f"Invalid X-Appwrite-ID: {UID.message}")
        if chunk.is_last:  # it continues something (spec, section 5.3)
            await server.store.get_deployment(caller.project_id, function_id, upload_id)
        deployment = msgspec.structs.replace(deployment, id=upload_id)
    return await _chunk(server, caller, deployment, chunk, file)


async def _whole(server: Server, caller: Caller, deployment: Deployment, file: File) -> Deployment:
    received = await server.artifacts.receive(file.content)
    async with server.artifacts.published(received):
        complete = msgspec.structs.replace(deployment, digest=received.digest, size=received.size)
        created = await server.store.create_deployment(caller.project_id, complete)
    server.builds.wake()
    return created


async def _chunk(server: Server, caller: Caller, deployment: Deployment, chunk: Range, file: File) -> Deployment:
    """Keep a chunk; the one that fills the last gap makes the deployment complete. Re-sent ones change nothing."""
    project_id, function_id = caller.project_id, deployment.function_id
    upload = Upload(project_id, function_id, deployment.id)
    # One at a time: of two chunks that come at once, one is the last.
    async with server.artifacts.uploading:
        deployment = await server.store.begin_upload(
            project_id, msgspec.structs.replace(deployment, chunks_uploaded=0, chunks_total=chunk.total)
        )
        if deployment.digest:
            return deployment
        if chunk.size != deployment.size:
            raise StorageInvalidContentRange
        kept = await server.artifacts.keep_chunk(upload, chunk.start, file.content)
        total = max(chunk.total, deployment.chunks_total)
        if kept.covered < deployment.size:
            return await server.store.note_chunks(
                project_id,
                function_id,
                deployment.id,
                uploaded=min(kept.count, total - 1),
                total=total,
                now=server.clock(),
            )
        received = await server.artifacts.join(upload)
        async with server.artifacts.published(received):
            complete = await server.store.complete_deployment(
                project_id,
                function_id,
                deployment.id,
                digest=received.digest,
                size=received.size,
                now=server.clock(),
            )
    await server.artifacts.forget_uploads(upload)
    server.builds.wake()
    return complete


async def list_(server: Server, caller: Caller, function_id: str, **page: Any) -> DeploymentList:
    """Return a page of a function's deployments, in the order in which they were made."""
    await server.store.get_function(caller.project_id, function_id)
    return await server.store.list_deployments(caller.project_id, function_id, Page(**page))


async def get(server: Server, caller: Caller, function_id: str, deployment_id: str) -> Deployment:
    """Return a deployment with its build's status and log."""
    await server.store.get_function(caller.project_id, function_id)
    return await server.store.get_deployment(caller.project_id, function_id, deployment_id)


async def download(server: Server, caller: Caller, function_id: str, deployment_id: str) -> Response:
    """Return the archive that was uploaded, as it came."""
    await server.store.get_function(caller.project_id, function_id)
    deployment = await server.store.get_deployment(caller.project_id, function_id, deployment_id)
    if not deployment.digest:
        raise DeploymentNotFound("Deployment not found: its upload is not complete")
    try:
        archive = await asyncio.to_thread(_opened, server.artifacts.path(deployment.digest))
    except FileNotFoundError:  # deleted just now
        raise DeploymentNotFound from None
    return Download(archive, f"{function_id}-{deployment_id}.tar.gz")


class Download(FileResponse):
    """An archive that is open already: who reads it reads it whole, though it is deleted meanwhile."""

    def __init__(self, archive: BinaryIO, name: str) -> None:
        self._archive = archive
        super().__init__(
            f"/proc/self/fd/{archive.fileno()}",
            media_type="application/gzip",
            filename=name,
            stat_result=os.fstat(archive.fileno()),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or the one piece that was asked for; any other wish is ignored, as HTTP says."""
        headers = [pair for pair in scope["headers"] if pair[0] != b"range" or _is_piece(pair[1])]
        with self._archive:
            await super().__call__({**scope, "headers": headers}, receive, send)


def _is_piece(wanted: bytes) -> bool:
    match = WANTED.fullmatch(wanted)
    return match is not None and (not match[2] or int(match[1]) <= int(match[2]))


def _opened(archive: Path) -> BinaryIO:
    return archive.open("rb")


async def delete(server: Server, caller: Caller, function_id: str, deployment_id: str) -> None:
    """Delete a deployment, its build and its archive; its executions stay."""
    await server.store.get_function(caller.project_id, function_id)
    async with server.artifacts.lock:
        unused = await server.store.delete_deployment(caller.project_id, function_id, deployment_id, server.clock())
        await server.forget(unused)
    await server.artifacts.forget_uploads(Upload(caller.project_id, function_id, deployment_id))


async def retry_build(server: Server, caller: Caller, function_id: str, deployment_id: str, build_id: str) -> None:
    """Build a deployment again whose build failed."""
    await server.store.retry_build(caller.project_id, function_id, deployment_id, build_id, server.clock())
    server.builds.wake()
