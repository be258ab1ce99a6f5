"""Archives: packed the same each time, unpacked without harm (spec, section 5.1)."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from nbfunctions.archive import pack, unpack
from nbfunctions.errors import ArchiveInvalid


def entry(name: str, content: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def archive_of(folder: Path, *entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    file = folder / "code.tar.gz"
    with tarfile.open(file, "w:gz", format=format) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return file


def refused(file: Path, *, size_limit: int = 1_000_000, count_limit: int = 100) -> str:
    into = file.parent / "unpacked" / "code"
    with pytest.raises(ArchiveInvalid) as caught:
        unpack(file, into, size_limit=size_limit, count_limit=count_limit)
    assert list(into.parent.iterdir()) == []
    return str(caught.value)


def opened(file: Path) -> Path:
    into = file.parent / "unpacked" / "code"
    unpack(file, into, size_limit=1_000_000, count_limit=100)
    return into


def test_packing_gives_the_same_bytes_whatever_the_order() -> None:
    files = {"main.py": b"code", "a/b.txt": b"", "ü" * 90 + ".py": os.urandom(2000)}
    shuffled = list(files.items())
    random.Random(1).shuffle(shuffled)
    assert pack(files) == pack(dict(shuffled))


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    files = {"main.py": b"code", "a/b.txt": b"", "ü" * 90 + ".py": os.urandom(2000), "x/" * 120 + "long": b"1"}
    file = tmp_path / "code.tar.gz"
    file.write_bytes(pack(files))
    into = opened(file)
    assert {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()} == files
    assert {p.stat().st_mode & 0o777 for p in into.rglob("*") if p.is_file()} == {0o644}
    assert into.stat().st_mode & 0o777 == 0o755


def test_a_packed_archive_is_one_that_tar_reads() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack({"b": b"2", "a": b"1"})), mode="r:gz") as tar:
        assert [(info.name, info.mtime, info.uid, info.mode) for info in tar] == [
            ("a", 0, 0, 0o644),
            ("b", 0, 0, 0o644),
        ]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", ""])
def test_a_path_that_leaves_the_archive_is_not_packed(name: str) -> None:
    with pytest.raises(ArchiveInvalid):
        pack({name: b""})


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_formats_of_tar_are_read(tmp_path: Path, format: int) -> None:
    long = "folder/" * 20 + "file.py"
    file = archive_of(
        tmp_path,
        entry("./", type=tarfile.DIRTYPE),
        entry("./run.sh", b"#!", mode=0o700),
        entry(long, b"long"),
        entry("link", type=tarfile.SYMTYPE, linkname="run.sh"),
        entry("same", type=tarfile.LNKTYPE, linkname="run.sh"),
        entry("run.sh", b"#! again", mode=0o4755),
        format=format,
    )
    into = opened(file)
    assert (into / long).read_bytes() == b"long"
    assert (into / "run.sh").read_bytes() == b"#! again"
    assert (into / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert (into / "link").read_bytes() == b"#! again"
    assert (into / "same").read_bytes() == b"#!"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([entry("/etc/passwd")], "'/etc/passwd' has an absolute path"),
        ([entry("a/../../x")], "'a/../../x' leaves the archive's folder"),
        ([entry("x", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "link 'x' leads out"),
        ([entry("x", type=tarfile.SYMTYPE, linkname="../..")], "link 'x' leads out"),
        ([entry("x", type=tarfile.LNKTYPE, linkname="../../etc/passwd")], "link 'x' leads out"),
        ([entry("x", type=tarfile.LNKTYPE, linkname="later")], "link 'x' leads to no file before it"),
        ([entry("d/e/l", type=tarfile.SYMTYPE, linkname="../.."),
          entry("x", type=tarfile.SYMTYPE, linkname="d/e/l/..")], "link 'x' leads out"),
        ([entry("x", type=tarfile.SYMTYPE, linkname="."), entry("x/y", b"")], "'x/y' goes through 'x'"),
        ([entry("x", b""), entry("x/y", b"")], "'x/y' goes through 'x'"),
        ([entry("x", type=tarfile.DIRTYPE), entry("x", b"")], "'x' would replace a folder"),
        ([entry("x", type=tarfile.FIFOTYPE)], "'x' is a pipe"),
        ([entry("x", type=tarfile.CHRTYPE)], "'x' is a device"),
        ([entry("x" * 300, b"")], "can't be unpacked: File name too long"),
        ([entry("x", b"", pax_headers={"GNU.sparse.major": "1"})], "sparse file"),
        ([entry("x", b"", pax_headers={"comment": "c" * 70_000})], "an extended header of"),
        ([entry("x", b"1" * 600_000), entry("y", b"1" * 600_000)], "unpacks to more than 1000000 bytes"),
        ([entry(str(number)) for number in range(101)], "holds more than 100 entries"),
        ([], "the archive holds no tar file"),
    ],
)  # fmt: skip
def test_dangerous_archives_are_refused(
    tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], reason: str
) -> None:
    assert reason in refused(archive_of(tmp_path, *entries))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "code.tar.gz"
    whole = pack({"main.py": os.urandom(5000)})
    file.write_bytes(b"PK\x03\x04")
    assert "not a whole gzip file" in refused(file)
    file.write_bytes(b"")
    assert "the archive holds no tar file" in refused(file)
    file.write_bytes(whole[:-100])
    assert "not a whole gzip file" in refused(file)
    for place in (3000, len(whole) - 8):  # in the data, and in their checksum
        file.write_bytes(whole[:place] + bytes(255 - byte for byte in whole[place : place + 4]) + whole[place + 4 :])
        assert "not a whole gzip file" in refused(file)
    file.write_bytes(gzip.compress(b"not a tar file" * 100))
    assert "the archive is not a tar file" in refused(file)
    file.write_bytes(gzip.compress(gzip.decompress(whole)[:1024]))
    assert "the archive ends in the middle of 'main.py'" in refused(file)


def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "code.tar.gz"
    info = tarfile.TarInfo("zeros")
    info.size = 8 * 2**30
    file.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 20_000_000))
    assert "unpacks to more than" in refused(file)


def test_damaged_archives_are_refused_and_never_raise_anything_else(tmp_path: Path) -> None:
    random_ = random.Random(7)
    file = tmp_path / "code.tar.gz"
    whole = gzip.decompress(pack({"main.py": b"x" * 700, "a/" * 80 + "long": b"y"}))
    outcomes = set()
    for number in range(200):
        damaged = bytearray(whole)
        for _ in range(random_.randrange(1, 6)):
            damaged[random_.randrange(len(damaged))] = random_.randrange(256)
        file.write_bytes(gzip.compress(bytes(damaged), 1))
        try:
            unpack(file, tmp_path / f"code{number}", size_limit=10_000, count_limit=10)
            outcomes.add("unpacked")
        except ArchiveInvalid:
            outcomes.add("refused")
    assert outcomes == {"unpacked", "refused"}
