"""Code archives: packed the same way each time, unpacked safely (spec, section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["pack", "unpack"]


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a ``.tar.gz`` of ``files`` (relative POSIX path to content).

    The same files give the same bytes, whatever their order, on every machine: sorted names, time 0, owner 0,
    mode 0644. Raises :class:`~nbfunctions.errors.ArchiveInvalid` for a path that is absolute or has ``..``.
    """
    raise NotImplementedError


def unpack(archive: Path, into: Path, *, size_limit: int, count_limit: int) -> None:
    """Unpack ``archive`` into the new folder ``into``.

    Refuses, by :class:`~nbfunctions.errors.ArchiveInvalid` naming the entry: what isn't gzip or tar, a path or link
    that leaves the folder, devices and pipes, more than ``count_limit`` entries, more than ``size_limit`` bytes.
    Leaves nothing behind when it refuses. Files get mode 0644 (0755 when executable), folders 0755.
    """
    raise NotImplementedError
