"""``GET .../deployments/{deploymentId}/download`` (an addition), and what large archives cost."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.asking import activate, client, create, given, packed, refused, upload, wait_for_build
from tests.serving import Serving

PATH = "/functions/f/deployments"
CODE = random.Random(1).randbytes(200_000)
"""Nothing that could be built; it comes back all the same."""
SMALL = 2_000_000
LARGE = 30_000_000
CHUNK = 5 * 1024 * 1024
ROOM = 20_000_000
"""Bytes that the server may grow by."""


def path_of(deployment: dict[str, str]) -> str:
    return f"/functions/{deployment['resourceId']}/deployments/{deployment['$id']}/download"


def sent(api: httpx.Client, code: bytes = CODE, function_id: str = "f") -> str:
    """Upload an archive, and return where it is downloaded."""
    return path_of(wait_for_build(api, given(upload(api, code, function_id), 201)))


def in_chunks(api: httpx.Client, code: bytes, length: int = CHUNK) -> dict[str, str]:
    upload_id: dict[str, str] = {}
    for start in range(0, len(code), length):
        range_ = f"bytes {start}-{min(start + length, len(code)) - 1}/{len(code)}"
        answer = upload(api, code[start : start + length], headers={"Content-Range": range_, **upload_id})
        deployment = given(answer, 201)
        upload_id = {"X-Appwrite-ID": deployment["$id"]}
    return dict(deployment)


def test_an_archive_comes_back_as_it_was_sent(api: httpx.Client) -> None:
    create(api)
    built = activate(api, packed("sends"))
    answer = api.get(path_of(built))
    assert answer.status_code == 200
    assert answer.content == packed("sends")
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["content-disposition"] == f'attachment; filename="f-{built["$id"]}.tar.gz"'
    assert answer.headers["content-length"] == str(len(packed("sends")))
    assert "content-encoding" not in answer.headers
    assert answer.headers["server"] == "Appwrite"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_archive_that_could_not_be_built_comes_back_as_well(api: httpx.Client) -> None:
    create(api)
    where = sent(api)
    assert given(api.get(where.removesuffix("/download")))["status"] == "failed"
    assert api.get(where).content == CODE


def test_an_archive_that_came_in_chunks_comes_back_whole(api: httpx.Client) -> None:
    create(api)
    where = path_of(wait_for_build(api, in_chunks(api, CODE, 70_000)))
    assert api.get(where).content == CODE


@pytest.mark.parametrize(
    ("range_", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=100000-", 100_000, 200_000), ("bytes=-5", 199_995, 200_000), ("bytes=0-0", 0, 1)],
)
def test_a_piece_of_an_archive_can_be_asked_for(api: httpx.Client, range_: str, start: int, end: int) -> None:
    create(api)
    answer = api.get(sent(api), headers={"Range": range_})
    assert answer.status_code == 206
    assert answer.content == CODE[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CODE)}"
    assert answer.headers["content-length"] == str(end - start)


def test_a_piece_behind_the_end_is_refused(api: httpx.Client) -> None:
    create(api)
    answer = api.get(sent(api), headers={"Range": f"bytes={len(CODE)}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] in (f"bytes */{len(CODE)}", f"*/{len(CODE)}")


@pytest.mark.parametrize(
    "range_",
    ["bytes=abc", "bytes=5-1", "lines=1-2", "bytes=0-1,5-6", "bytes=", "x", "bytes=" + ",".join(["0-"] * 50_000)],
)
def test_a_range_that_is_no_piece_is_ignored(api: httpx.Client, range_: str) -> None:
    create(api)
    answer = api.get(sent(api), headers={"Range": range_})
    assert (answer.status_code, answer.content) == (200, CODE)


def test_the_head_alone_can_be_asked_for(api: httpx.Client) -> None:
    create(api)
    where = sent(api)
    whole, head = api.get(where), api.head(where)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "content-disposition", "etag", "last-modified"):
        assert head.headers[name] == whole.headers[name]
    assert api.head(f"{PATH}/nothing/download").status_code == 404


def test_what_is_not_there_is_not_found(api: httpx.Client, guest: httpx.Client) -> None:
    create(api)
    create(api, "g")
    where = sent(api, function_id="g")
    refused(api.get(where.replace("/g/", "/f/")), 404, "deployment_not_found", "Deployment not found")
    refused(api.get(f"{PATH}/nothing/download"), 404, "deployment_not_found", "Deployment not found")
    refused(api.get("/functions/nothing/deployments/d/download"), 404, "function_not_found", "Function not found")
    said = "User (role: guest) missing scope (functions.read)"
    refused(guest.get(where), 401, "general_unauthorized_scope", said)
    assert api.get(where).content == CODE
    given(api.delete(where.removesuffix("/download")), 204)
    refused(api.get(where), 404, "deployment_not_found", "Deployment not found")


def test_an_upload_that_is_not_complete_is_not_found(api: httpx.Client) -> None:
    create(api)
    begun = given(upload(api, CODE[:5], headers={"Content-Range": f"bytes 0-4/{len(CODE)}"}), 201)
    said = "Deployment not found: its upload is not complete"
    refused(api.get(path_of(begun)), 404, "deployment_not_found", said)
    refused(api.get(path_of(begun), headers={"Range": "bytes=0-1"}), 404, "deployment_not_found", said)


def test_an_archive_that_is_deleted_while_it_is_read_ends_for_its_reader(api: httpx.Client, server: Serving) -> None:
    create(api)
    where = sent(api, os.urandom(LARGE))
    with client(server) as reading, reading.stream("GET", where) as answer:
        pieces = answer.iter_raw(65_536)
        received = len(next(pieces))
        given(api.delete(where.removesuffix("/download")), 204)
        received += sum(map(len, pieces))
    assert received == LARGE
    assert list((server.data_dir / "artifacts").glob("*.tar.gz")) == []


def test_whoever_reads_what_is_deleted_gets_it_whole_or_not_at_all(api: httpx.Client, server: Serving) -> None:
    create(api)

    def read(where: str) -> bool:
        """Read until it is gone; return whether it was whole each time."""
        with client(server) as reading:
            answers: list[httpx.Response] = []
            while not answers or answers[-1].status_code == 200:
                answers.append(reading.get(where))
        refused(answers[-1], 404, "deployment_not_found")
        return all(answer.content == CODE for answer in answers[:-1])

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            where = sent(api)
            readings = [threads.submit(read, where) for _ in range(4)]
            assert api.get(where).content == CODE
            given(api.delete(where.removesuffix("/download")), 204)
            assert all(one.result() for one in readings)
    # A traceback in the server's log is found when it ends.


# -- memory -------------------------------------------------------------------------------------------------


def memory(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def does_not_grow(server: Serving) -> Iterator[None]:
    """See that the server's process doesn't hold what it is given to do inside."""
    before = highest = memory(server.process.pid)
    ended = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not ended.wait(0.002):
            highest = max(highest, memory(server.process.pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()
    assert highest - before < ROOM, f"grew by {(highest - before) / 1e6:.1f} MB"


def test_a_large_archive_is_not_held_in_memory(api: httpx.Client, server: Serving) -> None:
    create(api)
    code = b"\x1f\x8b" + os.urandom(LARGE - 2)
    small = code[:SMALL]
    api.get(path_of(wait_for_build(api, in_chunks(api, small, SMALL // 2))))  # whatever is loaded for the first one
    with does_not_grow(server):
        whole = wait_for_build(api, given(upload(api, code), 201))
    with does_not_grow(server):
        pieces = wait_for_build(api, in_chunks(api, code))
    assert pieces["digest"] == whole["digest"]
    assert (pieces["chunksUploaded"], pieces["chunksTotal"]) == (6, 6)
    with does_not_grow(server):
        assert api.get(path_of(whole)).content == code


def test_readers_that_are_slow_hold_nothing_in_memory(api: httpx.Client, server: Serving) -> None:
    create(api)
    code = os.urandom(LARGE)
    where = sent(api, code)
    with does_not_grow(server), contextlib.ExitStack() as reading:
        pieces = []
        for _ in range(5):
            other = reading.enter_context(client(server))
            answer = reading.enter_context(other.stream("GET", where))
            pieces.append(answer.iter_raw(65_536))
        assert [next(one)[:100] for one in pieces] == [code[:100]] * 5
        assert given(api.get(PATH))["total"] == 1
        assert b"".join(pieces[0])[-100:] == code[-100:]
