"""Uploaded archives in a folder, by the SHA-256 of their bytes; the same archive is there once.

A file appears under its digest whole and on disk, or not at all. Rows and files change together under one lock, so that
an archive is not removed while somebody else uploads the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

__all__ = ["Artifacts", "Kept", "Received", "Upload"]

PIECE: Final = 1 << 20
PROOF: Final = b"written and read again"


class Received(msgspec.Struct, frozen=True):
    """An archive that has come but has no name yet."""

    file: Path
    digest: str
    size: int


class Upload(msgspec.Struct, frozen=True):
    """An upload in chunks, or all that match: ``*`` is any. Ids hold no colon, no slash and nothing special to glob."""

    project_id: str = "*"
    function_id: str = "*"
    deployment_id: str = "*"

    def __str__(self) -> str:
        return f"{self.project_id}:{self.function_id}:{self.deployment_id}"


class Kept(msgspec.Struct, frozen=True):
    """The chunks of an upload that have come."""

    count: int
    covered: int
    """Bytes that come before any gap."""


class Artifacts:
    """The archives below one folder, and the parts of uploads that are not complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uploads = folder / "uploads"
        self.lock = asyncio.Lock()
        """Held while a row that names a digest comes or goes, together with its file."""
        self.uploading = asyncio.Lock()
        """Held while a chunk is kept, together with the look at its row."""

    def open(self) -> None:
        """Make the folders; remove what a server that was killed left half-written."""
        self._uploads.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in self._folder.glob(".new-*"):
            leftover.unlink()

    def path(self, digest: str) -> Path:
        """Return where the archive with this digest lies."""
        return self._folder / f"{digest}.tar.gz"

    async def receive(self, content: BinaryIO) -> Received:
        """Copy an upload to disk; to be published."""
        return await asyncio.to_thread(self._written, _pieces(content))

    @contextlib.asynccontextmanager
    async def published(self, received: Received) -> AsyncIterator[None]:
        """Give an archive its name, for the row that is written inside; when that is refused, nothing stays behind."""
        file = self.path(received.digest)
        try:
            async with self.lock:
                known = file.exists()
                await asyncio.to_thread(self._publish, received.file, file)
                try:
                    yield
                except BaseException:
                    if not known:
                        file.unlink(missing_ok=True)
                    raise
        finally:
            received.file.unlink(missing_ok=True)

    async def remove(self, digests: Iterable[str]) -> None:
        """Remove archives. To be called under :attr:`lock`, after the rows that named them."""
        for digest in digests:
            await asyncio.to_thread(self.path(digest).unlink, missing_ok=True)

    async def prove(self) -> None:
        """Write a small file and read it again; raises ``OSError`` when that can't be done."""
        written = await asyncio.to_thread(self._written, iter([PROOF]))
        try:
            if await asyncio.to_thread(written.file.read_bytes) != PROOF:
                raise OSError("a file that was written reads otherwise")
        finally:
            written.file.unlink(missing_ok=True)

    # -- uploads in chunks --------------------------------------------------------------------------------

    async def keep_chunk(self, upload: Upload, start: int, content: BinaryIO) -> Kept:
        """Keep one chunk, in place of the same one that came before; return what there is now.

        To be called under :attr:`uploading`, as :meth:`join`.
        """
        return await asyncio.to_thread(self._keep_chunk, self._uploads / str(upload), start, content)

    async def join(self, upload: Upload) -> Received:
        """Return the chunks of an upload as one archive."""
        return await asyncio.to_thread(self._join, self._uploads / str(upload))

    async def forget_uploads(self, uploads: Upload) -> None:
        """Remove the chunks of uploads whose rows are complete or gone."""
        async with self.uploading:
            for folder in self._uploads.glob(str(uploads)):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _keep_chunk(self, folder: Path, start: int, content: BinaryIO) -> Kept:
        folder.mkdir(exist_ok=True, mode=0o700)
        fresh = self._written(_pieces(content))
        fresh.file.rename(folder / f"{start}-{start + fresh.size}")
        chunks = _chunks(folder)
        covered = 0
        for start, end, _ in chunks:
            if start > covered:
                break
            covered = max(covered, end)
        return Kept(len(chunks), covered)

    def _join(self, folder: Path) -> Received:
        def pieces() -> Iterator[bytes]:
            at = 0
            for start, end, chunk in _chunks(folder):
                if end > at:
                    with chunk.open("rb") as file:
                        file.seek(at - start)
                        yield from _pieces(file)
                    at = end

        return self._written(pieces())

    # -- files --------------------------------------------------------------------------------------------

    def _written(self, pieces: Iterator[bytes]) -> Received:
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self._folder)
        digest = hashlib.sha256()
        size = 0
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    size += len(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            Path(name).unlink()
            raise
        return Received(Path(name), digest.hexdigest(), size)

    def _publish(self, received: Path, file: Path) -> None:
        received.replace(file)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _pieces(content: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: content.read(PIECE), b"")


def _chunks(folder: Path) -> list[tuple[int, int, Path]]:
    """Return where each chunk of an upload begins and ends, in order; they may overlap."""
    found = []
    for chunk in folder.iterdir():
        start, _, end = chunk.name.partition("-")
        found.append((int(start), int(end), chunk))
    return sorted(found)
