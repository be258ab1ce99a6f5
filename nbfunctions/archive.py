"""Code archives: packed the same way each time, unpacked safely (spec, section 5.1)."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from nbfunctions.errors import ArchiveInvalid

__all__ = ["pack", "unpack"]

BLOCK: Final = tarfile.BLOCKSIZE
EXTENSION_LIMIT: Final = 65_536
"""Bytes of one extended header: a path and some attributes; more is an attack on memory."""
COPY_SIZE: Final = 1 << 20


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a ``.tar.gz`` of ``files`` (relative POSIX path to content).

    The same files give the same bytes, whatever their order: sorted names, time 0, owner 0, mode 0644; on every machine
    that has the same zlib. Raises :class:`~nbfunctions.errors.ArchiveInvalid` for an absolute path or one with ``..``.
    """
    compress = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    # Magic, deflate, no flags, time 0, best compression, unknown system: gzip.compress() differs between versions.
    pieces = [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"]
    checksum = size = 0
    for piece in _tar(files):
        checksum = zlib.crc32(piece, checksum)
        size += len(piece)
        pieces.append(compress.compress(piece))
    pieces.append(compress.flush())
    pieces.append(checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little"))
    return b"".join(pieces)


def unpack(archive: Path, into: Path, *, size_limit: int, count_limit: int) -> None:
    """Unpack ``archive`` into the new folder ``into``.

    Refuses, by :class:`~nbfunctions.errors.ArchiveInvalid` naming the entry: what isn't gzip or tar, a path or link
    that leaves the folder, devices and pipes, more than ``count_limit`` entries, more than ``size_limit`` bytes.
    Leaves nothing behind when it refuses. Files get mode 0644 (0755 when executable), folders 0755.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{into.name}-", dir=into.parent))
    try:
        with gzip.open(archive, "rb") as stream:
            _Unpacking(stream, fresh, size_limit, count_limit).all()
        fresh.chmod(0o755)
        if into.exists():
            raise FileExistsError(f"{into} exists already")
        fresh.rename(into)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ArchiveInvalid(f"the archive is not a whole gzip file: {error}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _tar(files: Mapping[str, bytes]) -> Iterator[bytes]:
    for name in sorted(files):
        _check_name(name)
        content = files[name]
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        entry.mode = 0o644
        yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        yield content + b"\0" * (-len(content) % BLOCK)
    yield b"\0" * (2 * BLOCK)


def _check_name(name: str) -> PurePosixPath:
    """Return the entry's path below the archive's root."""
    path = PurePosixPath(name)
    if path.is_absolute():
        raise ArchiveInvalid(f"the archive's entry {name!r} has an absolute path")
    if ".." in path.parts:
        raise ArchiveInvalid(f"the archive's entry {name!r} leaves the archive's folder")
    if "\0" in name or not name:
        raise ArchiveInvalid(f"the archive has an entry with the unusable name {name!r}")
    return path


class _Unpacking:
    """Reads a tar stream entry by entry, writing as it goes; never through a link, never beyond a limit.

    Not ``tarfile.open``: it reads extended headers of any size into memory and would follow earlier entries' links.
    """

    def __init__(self, stream: gzip.GzipFile, root: Path, size_limit: int, count_limit: int) -> None:
        self._stream = stream
        self._root = root
        self._size_limit = size_limit
        self._count_limit = count_limit
        self._size = 0
        self._count = 0

    def all(self) -> None:
        """Unpack everything, then look where the links lead."""
        links: list[tuple[str, Path]] = []
        for entry in self._entries():
            path = self._root / _check_name(entry.name)
            self._count += 1
            if self._count > self._count_limit:
                raise ArchiveInvalid(f"the archive holds more than {self._count_limit} entries")
            try:
                self._write(entry, path)
            except gzip.BadGzipFile:
                raise  # what is wrong is the archive, not the place
            except OSError as error:
                raise ArchiveInvalid(
                    f"the archive's entry {entry.name!r} can't be unpacked: {error.strerror}"
                ) from None
            if entry.issym():
                links.append((entry.name, path))
        # gzip's own checksum is compared at the very end of the stream.
        while padding := self._stream.read(COPY_SIZE):
            self._take(len(padding))
        root = os.path.realpath(self._root)
        for name, path in links:
            target = os.path.realpath(path)
            if target != root and not target.startswith(root + os.sep):
                raise ArchiveInvalid(f"the archive's link {name!r} leads out of the archive's folder")

    def _entries(self) -> Iterator[tarfile.TarInfo]:
        extended: dict[str, str] = {}
        first = True
        while True:
            block = self._stream.read(BLOCK)
            if not block.strip(b"\0"):
                if first:
                    raise ArchiveInvalid("the archive holds no tar file")
                return
            try:
                entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                what = "is not a tar file" if first else "is damaged"
                raise ArchiveInvalid(f"the archive {what}: {error}") from None
            first = False
            if entry.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                extended.update(_pax_records(self._extension(entry)))
            elif entry.type == tarfile.XGLTYPE:
                self._extension(entry)
            elif entry.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                key = "path" if entry.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
                extended[key] = self._extension(entry).rstrip(b"\0").decode("utf-8", "surrogateescape")
            else:
                yield _completed(entry, extended)
                extended = {}

    def _extension(self, entry: tarfile.TarInfo) -> bytes:
        if not 0 <= entry.size <= EXTENSION_LIMIT:
            raise ArchiveInvalid(f"the archive has an extended header of {entry.size} bytes")
        self._count += 1
        return b"".join(self._content(entry))

    def _write(self, entry: tarfile.TarInfo, path: Path) -> None:
        if path == self._root and entry.isdir():
            return
        self._make_folders(entry.name, path.parent)
        if entry.isdir():
            self._make_folders(entry.name, path)
            return
        if path == self._root or (path.is_dir() and not path.is_symlink()):
            raise ArchiveInvalid(f"the archive's entry {entry.name!r} would replace a folder")
        path.unlink(missing_ok=True)
        if entry.issym():
            path.symlink_to(entry.linkname)
        elif entry.islnk():
            self._hard_link(entry, path)
        elif entry.isreg() and entry.type != tarfile.GNUTYPE_SPARSE:
            self._write_file(entry, path)
        else:
            kind = {tarfile.FIFOTYPE: "a pipe", tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device"}
            raise ArchiveInvalid(
                f"the archive's entry {entry.name!r} is {kind.get(entry.type, 'of an unknown kind')}; "
                "only files, folders and links are allowed"
            )

    def _write_file(self, entry: tarfile.TarInfo, path: Path) -> None:
        with path.open("xb") as file:
            for piece in self._content(entry):
                file.write(piece)
        path.chmod(0o755 if entry.mode & 0o111 else 0o644)

    def _hard_link(self, entry: tarfile.TarInfo, path: Path) -> None:
        try:
            target = self._root / _check_name(entry.linkname)
        except ArchiveInvalid:
            raise ArchiveInvalid(f"the archive's link {entry.name!r} leads out of the archive's folder") from None
        if target.is_symlink() or not target.is_file() or target.resolve() != self._root.resolve() / entry.linkname:
            raise ArchiveInvalid(f"the archive's link {entry.name!r} leads to no file before it: {entry.linkname!r}")
        self._take(target.stat().st_size)
        shutil.copy2(target, path)

    def _make_folders(self, name: str, folder: Path) -> None:
        """Make a folder and those above it; none may be a link, or writing would follow it."""
        current = self._root
        for part in folder.relative_to(self._root).parts:
            current /= part
            if current.is_symlink() or (current.exists() and not current.is_dir()):
                raise ArchiveInvalid(f"the archive's entry {name!r} goes through {part!r}, which is no folder")
            if not current.exists():
                current.mkdir()
                current.chmod(0o755)

    def _content(self, entry: tarfile.TarInfo) -> Iterator[bytes]:
        """Yield the entry's content, all of it read before the next header."""
        self._take(entry.size)
        missing = entry.size
        while missing:
            piece = self._stream.read(min(missing, COPY_SIZE))
            if not piece:
                raise ArchiveInvalid(f"the archive ends in the middle of {entry.name!r}")
            missing -= len(piece)
            yield piece
        self._stream.read(-entry.size % BLOCK)

    def _take(self, size: int) -> None:
        if size < 0:
            raise ArchiveInvalid(f"the archive has an entry of {size} bytes")
        self._size += size
        if self._size > self._size_limit:
            raise ArchiveInvalid(f"the archive unpacks to more than {self._size_limit} bytes")


def _pax_records(content: bytes) -> dict[str, str]:
    """Return the records of an extended header: ``LENGTH KEY=VALUE`` lines; raises :class:`ArchiveInvalid`."""
    records: dict[str, str] = {}
    while content:
        digits, _, _ = content.partition(b" ")
        if not digits.isdigit() or not len(digits) < int(digits) <= len(content):
            raise ArchiveInvalid("the archive has an extended header that can't be read")
        key, separator, value = content[len(digits) + 1 : int(digits) - 1].partition(b"=")
        if not separator:
            raise ArchiveInvalid("the archive has an extended header that can't be read")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        content = content[int(digits) :]
    return records


def _completed(entry: tarfile.TarInfo, extended: Mapping[str, str]) -> tarfile.TarInfo:
    """Return the entry with what its extended headers say."""
    if any(key.startswith("GNU.sparse") for key in extended):
        raise ArchiveInvalid(f"the archive's entry {entry.name!r} is a sparse file, which can't be unpacked")
    entry.name = extended.get("path", entry.name)
    entry.linkname = extended.get("linkpath", entry.linkname)
    size = extended.get("size")
    if size is not None:
        if not size.isascii() or not size.isdigit():
            raise ArchiveInvalid(f"the archive's entry {entry.name!r} has the size {size!r}")
        entry.size = int(size)
    if not (entry.isreg() or entry.type == tarfile.CONTTYPE):
        entry.size = 0
    return entry
