"""``/v1/functions/{functionId}/deployments``: uploads, builds, deletion (spec, sections 5 and 6)."""

from __future__ import annotations

import concurrent.futures
import gzip
import hashlib
import io
import random
import tarfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbfunctions.archive import pack
from tests.server.asking import (
    PYTHON,
    activate,
    create,
    deploy,
    eventually,
    execute,
    given,
    packed,
    refused,
    upload,
    wait_for_build,
)
from tests.serving import Serving

FIELDS = [
    "$id",
    "$createdAt",
    "$updatedAt",
    "resourceId",
    "resourceType",
    "entrypoint",
    "size",
    "buildId",
    "activate",
    "status",
    "buildStdout",
    "buildStderr",
    "buildTime",
    "digest",
    "chunksTotal",
    "chunksUploaded",
]
PATH = "/functions/f/deployments"
TOO_LARGE = "File size not allowed"
BAD_RANGE = "Invalid content-range header"


@pytest.fixture(autouse=True)
def nothing_half_made(server: Serving, api: httpx.Client) -> Any:
    """The function ``f``; afterwards the data directory holds what the rows say and nothing else."""
    create(api)
    yield
    given(api.delete("/functions/f"), 204)
    assert leftovers(server.data_dir) == []


def leftovers(data_dir: Path) -> list[str]:
    """Return what is left on disk of archives, chunks and unpacked code."""
    folders = (data_dir / "artifacts", data_dir / "artifacts" / "uploads", data_dir / "code")
    return sorted(str(path) for folder in folders for path in folder.iterdir() if path != folders[1])


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for entry, content in entries:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry, b""


def noise(size: int) -> bytes:
    """An archive of exactly ``size`` bytes that holds main.py and what can't be compressed."""
    archive = pack({"main.py": PYTHON, "filler": random.Random(size).randbytes(size - 20_000)})
    name = b"x" * (size - len(archive) - 21)
    # A second gzip member, empty, with a name that is as long as it must be.
    return archive + b"\x1f\x8b\x08\x08" + bytes(6) + name + b"\0\x03\0" + bytes(8)


def pieces(code: bytes, length: int) -> list[tuple[dict[str, str], bytes]]:
    """Return the chunks of an upload as the SDKs send them: the last one's end is the size (spec, section 5.2)."""
    size = len(code)
    ranges = [(start, min(start + length - 1, size)) for start in range(0, size, length)]
    return [({"Content-Range": f"bytes {a}-{b}/{size}"}, code[a : a + length]) for a, b in ranges]


def send(api: httpx.Client, piece: tuple[dict[str, str], bytes], upload_id: str = "", **fields: Any) -> httpx.Response:
    headers = {**piece[0], **({"X-Appwrite-ID": upload_id} if upload_id else {})}
    return upload(api, piece[1], headers=headers, **fields)


# -- one request --------------------------------------------------------------------------------------------


def test_an_upload_becomes_a_deployment_that_is_built(api: httpx.Client) -> None:
    code = packed("sends")
    before = int(time.time())
    sent = given(upload(api, code), 201)
    assert list(sent) == FIELDS
    assert len(sent["$id"]) == 20
    assert before <= sent["$createdAt"] <= time.time()
    assert (sent["resourceId"], sent["resourceType"], sent["entrypoint"]) == ("f", "functions", "main.py")
    assert (sent["size"], sent["activate"], sent["status"]) == (len(code), False, "processing")
    assert (sent["buildStdout"], sent["buildStderr"], sent["buildTime"]) == ("", "", 0)
    assert sent["digest"] == hashlib.sha256(code).hexdigest()
    built = wait_for_build(api, sent)
    assert (built["status"], built["buildStderr"]) == ("ready", "")
    assert built["buildId"]
    assert built["buildTime"] > 0
    assert given(api.get(PATH)) == {"total": 1, "deployments": [built]}
    assert given(api.get("/functions/f"))["deployment"] == ""


@pytest.mark.parametrize("activate", [True, "true", "1"])
def test_one_that_asks_for_it_is_active_once_it_is_built(api: httpx.Client, activate: Any) -> None:
    sent = given(upload(api, packed("sends"), activate=activate), 201)
    assert sent["activate"] is True
    wait_for_build(api, sent)
    assert given(api.get("/functions/f"))["deployment"] == sent["$id"]
    second = given(upload(api, packed("sends"), activate=True), 201)
    assert [one["activate"] for one in given(api.get(PATH))["deployments"]] == [False, True]
    wait_for_build(api, second)
    assert given(api.get("/functions/f"))["deployment"] == second["$id"]


def test_a_failed_build_leaves_the_active_deployment_in_place(api: httpx.Client) -> None:
    first = activate(api, packed("sends"))
    failed = wait_for_build(api, given(upload(api, packed("syntax_error"), activate=True), 201))
    assert failed["status"] == "failed"
    assert given(api.get("/functions/f"))["deployment"] == first["$id"]
    assert execute(api, "200 x")["response"] == "x"


@pytest.mark.parametrize("activate", ["false", "0", ""])
def test_one_that_does_not_ask_is_not_active(api: httpx.Client, activate: str) -> None:
    sent = given(upload(api, packed("sends"), activate=activate), 201)
    assert sent["activate"] is False
    wait_for_build(api, sent)
    assert given(api.get("/functions/f"))["deployment"] == ""


def test_the_build_says_what_it_did(api: httpx.Client) -> None:
    sent = given(upload(api, packed("needs_a_package")), 201)
    built = wait_for_build(api, sent)
    assert built["status"] == "ready", built
    assert "six" in built["buildStdout"] or "requirement" in built["buildStdout"]


# -- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "files", "refusal"),
    [
        ({}, {"code": ("c.gz", b"x")}, ("general_argument_invalid", 'Param "entrypoint" is not optional.')),
        (
            {"entrypoint": "x" * 1029},
            {"code": ("c.gz", b"x")},
            (
                "general_argument_invalid",
                "Invalid entrypoint: Value must be a valid string and no longer than 1028 chars",
            ),
        ),
        (
            {"entrypoint": "m", "activate": "yes"},
            {"code": ("c.txt", b"x")},
            ("general_argument_invalid", "Invalid activate: Value must be a valid boolean"),
        ),
        ({"entrypoint": "m"}, {"other": ("c.gz", b"x")}, ("storage_file_empty", "No file sent")),
        ({"entrypoint": "m", "code": "text"}, {"other": ("c.gz", b"x")}, ("storage_file_empty", "No file sent")),
        ({"entrypoint": "m"}, {"code": ("code.zip", b"x")}, ("storage_file_type_unsupported", "File type not allowed")),
        ({"entrypoint": "m"}, {"code": ("code.GZ", b"x")}, ("storage_file_type_unsupported", "File type not allowed")),
        ({"entrypoint": "m"}, {"code": ("gz", b"x")}, ("storage_file_type_unsupported", "File type not allowed")),
    ],
)
def test_an_upload_that_is_none_is_refused(
    api: httpx.Client, fields: dict[str, str], files: dict[str, tuple[str, bytes]], refusal: tuple[str, str]
) -> None:
    refused(api.post(PATH, data=fields, files=files), 400, *refusal)
    assert given(api.get(PATH))["total"] == 0


def test_a_form_without_a_chosen_file_has_none(api: httpx.Client) -> None:
    body = b"\r\n".join(
        (
            b"--b",
            b'Content-Disposition: form-data; name="entrypoint"',
            b"",
            b"main.py",
            b"--b",
            b'Content-Disposition: form-data; name="code"; filename=""',
            b"Content-Type: application/octet-stream",
            b"",
            b"",
            b"--b--",
            b"",
        )
    )
    answer = api.post(PATH, content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    refused(answer, 400, "storage_file_empty", "No file sent")


@pytest.mark.parametrize("kind", ["json", "form"])
def test_a_body_of_another_kind_holds_no_file(api: httpx.Client, kind: str) -> None:
    body: dict[str, Any] = {"json" if kind == "json" else "data": {"entrypoint": "main.py", "code": "x"}}
    refused(api.post(PATH, **body), 400, "storage_file_empty", "No file sent")


def test_the_function_is_looked_for_before_the_file(api: httpx.Client) -> None:
    answer = api.post("/functions/nothing/deployments", data={"entrypoint": "main.py"})
    refused(answer, 404, "function_not_found", "Function not found")


@pytest.mark.parametrize(
    ("name", "range_", "refusal"),
    [
        ("c.zip", "nonsense", "storage_file_type_unsupported"),
        ("c.gz", "nonsense", "storage_invalid_content_range"),
        ("c.gz", "bytes 5-4/30000001", "storage_invalid_content_range"),
        ("c.gz", "bytes 0-4/30000001", "storage_invalid_file_size"),
    ],
)
def test_a_file_is_looked_at_in_order(api: httpx.Client, name: str, range_: str, refusal: str) -> None:
    refused(upload(api, b"12345", name=name, headers={"Content-Range": range_}), 400, refusal)
    assert given(api.get(PATH))["total"] == 0


@pytest.mark.parametrize("excess", [1, 7_000_000])
def test_a_file_that_is_too_large_is_refused(api: httpx.Client, excess: int) -> None:
    answer = upload(api, b"\0" * (30_000_000 + excess))
    refused(answer, 400, "storage_invalid_file_size", TOO_LARGE)
    assert given(api.get(PATH))["total"] == 0


def test_the_largest_file_is_taken(api: httpx.Client, server: Serving) -> None:
    code = noise(30_000_000)
    assert len(code) == 30_000_000
    built = wait_for_build(api, given(upload(api, code), 201))
    assert (built["status"], built["size"]) == ("ready", 30_000_000)
    assert (server.data_dir / "artifacts" / f"{built['digest']}.tar.gz").read_bytes() == code


# -- builds that fail ---------------------------------------------------------------------------------------

FILE = tarfile.TarInfo
MAIN = (FILE("main.py"), PYTHON)


@pytest.mark.parametrize(
    ("code", "entrypoint", "said"),
    [
        (b"", "main.py", "the archive holds no tar file"),
        (b"x", "main.py", "gzip"),
        (b"this is no gzip file at all", "main.py", "gzip"),
        (gzip.compress(b""), "main.py", "no tar file"),
        (gzip.compress(b"this is no tar file" * 100), "main.py", "not a tar file"),
        (packed("sends")[:-20], "main.py", "gzip"),
        (packed("sends")[:40], "main.py", "gzip"),
        (packed("sends"), "absent.py", "'absent.py'"),
        (packed("sends"), "../main.py", "'../main.py'"),
        (packed("sends"), "/etc/passwd", "'/etc/passwd'"),
        (packed("sends"), "main.py\0", "main.py"),
        (packed("sends"), "é" * 1000, "é"),
        (packed("sends"), ":main", "''"),
        (packed("packaged"), "app.py", "did you mean 'src/app.py'?"),
        (packed("packaged"), "src", "'src'"),
        (tar(MAIN, (FILE("../evil.py"), b"x")), "main.py", "'../evil.py'"),
        (tar(MAIN, (FILE("/opt/evil.py"), b"x")), "main.py", "'/opt/evil.py'"),
        (tar(MAIN, link("l", "/etc")), "main.py", "'l'"),
        (tar(MAIN, link("l", "../..")), "main.py", "'l'"),
        (tar(MAIN, link("l", "/"), (FILE("l/evil.py"), b"x")), "main.py", "'l/evil.py'"),
        (tar(MAIN, link("l", "/etc/passwd", tarfile.LNKTYPE)), "main.py", "'l'"),
        (tar(MAIN, link("pipe", "", tarfile.FIFOTYPE)), "main.py", "'pipe'"),
        (tar(MAIN, link("device", "", tarfile.CHRTYPE)), "main.py", "'device'"),
        (tar(MAIN, (FILE("requirements.txt"), b"-e /etc")), "main.py", "requirements.txt"),
        (tar(MAIN, (FILE("requirements.txt"), b"\xff")), "main.py", "requirements.txt"),
    ],
)
def test_what_can_not_be_built_fails_with_one_clear_line(
    api: httpx.Client, server: Serving, code: bytes, entrypoint: str, said: str
) -> None:
    built = wait_for_build(api, given(upload(api, code, entrypoint=entrypoint, activate=True), 201))
    assert built["status"] == "failed"
    assert said in built["buildStderr"]
    assert len(built["buildStderr"].strip().splitlines()) == 1, built["buildStderr"]
    assert "Traceback" not in built["buildStderr"]
    assert str(server.data_dir) not in built["buildStderr"]
    assert given(api.get("/functions/f"))["deployment"] == ""
    assert [name for name in leftovers(server.data_dir) if "/." in name] == []
    assert not Path("/opt/evil.py").exists()


def test_a_syntax_error_is_shown_where_it_is(api: httpx.Client) -> None:
    built = wait_for_build(api, given(upload(api, packed("syntax_error")), 201))
    assert built["status"] == "failed"
    assert "main.py" in built["buildStderr"]
    assert "SyntaxError" in built["buildStderr"]


def test_code_that_fails_to_load_is_known_by_its_first_execution(api: httpx.Client) -> None:
    activate(api, packed("fails_to_load"))
    failed = execute(api)
    assert (failed["status"], failed["statusCode"], failed["layer"]) == ("failed", 500, "code")
    assert "ModuleNotFoundError: No module named 'does_not_exist'" in failed["stderr"]


# -- uploads in chunks --------------------------------------------------------------------------------------

LARGE = noise(25_000)


@pytest.mark.parametrize("length", [5_000, 10_000, 24_999])
def test_an_upload_in_chunks_is_the_same_deployment(api: httpx.Client, length: int) -> None:
    upload_id = ""
    chunks = pieces(LARGE, length)
    for number, piece in enumerate(chunks):
        shown = given(send(api, piece, upload_id, activate=True), 201)
        assert list(shown) == FIELDS
        assert (shown["$id"], shown["size"]) == (upload_id or shown["$id"], len(LARGE))
        assert bool(shown["digest"]) is (number == len(chunks) - 1)
        upload_id = shown["$id"]
    assert shown["digest"] == hashlib.sha256(LARGE).hexdigest()
    assert wait_for_build(api, shown)["status"] == "ready"
    assert given(api.get("/functions/f"))["deployment"] == upload_id
    assert given(api.get(PATH))["total"] == 1


def test_a_last_chunk_may_also_end_at_the_last_byte(api: httpx.Client) -> None:
    size = len(LARGE)
    first = given(send(api, ({"Content-Range": f"bytes 0-12499/{size}"}, LARGE[:12_500])), 201)
    last = given(send(api, ({"Content-Range": f"bytes 12500-{size - 1}/{size}"}, LARGE[12_500:]), first["$id"]), 201)
    assert last["digest"] == hashlib.sha256(LARGE).hexdigest()


@pytest.mark.parametrize("order", [[0, 2, 1, 4, 3], [4, 3, 2, 1, 0], [0, 4, 1, 3, 2]])
def test_chunks_may_come_in_any_order(api: httpx.Client, order: list[int]) -> None:
    chunks = pieces(LARGE, 5_000)
    upload_id = ""
    for number in order:
        shown = given(send(api, chunks[number], upload_id), 201)
        upload_id = shown["$id"]
    assert shown["digest"] == hashlib.sha256(LARGE).hexdigest()
    assert wait_for_build(api, shown)["status"] == "ready"


def test_a_chunk_that_comes_twice_counts_once(api: httpx.Client, server: Serving) -> None:
    chunks = pieces(LARGE, 10_000)
    first = given(send(api, chunks[0]), 201)
    for number in (0, 1, 1, 0):
        assert not given(send(api, chunks[number], first["$id"]), 201)["digest"]
    done = given(send(api, chunks[2], first["$id"]), 201)
    assert done["digest"] == hashlib.sha256(LARGE).hexdigest()
    ready = wait_for_build(api, done)
    for number in (2, 0):
        assert given(send(api, chunks[number], first["$id"]), 201)["digest"] == done["digest"]
    assert given(api.get(f"{PATH}/{first['$id']}")) == ready
    assert list((server.data_dir / "artifacts" / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    "ranges",
    [
        [(0, 9999), (2000, 3999), (10_000, 19_999), (20_000, 25_000)],
        [(0, 999), (0, 9999), (0, 999), (10_000, 25_000)],
        [(5000, 25_000), (0, 9999)],
        [(0, 9999), (9000, 25_000)],
    ],
)
def test_chunks_may_overlap(api: httpx.Client, ranges: list[tuple[int, int]]) -> None:
    size = len(LARGE)
    upload_id = ""
    for start, last in ranges:
        end = size if last >= size else last
        piece = {"Content-Range": f"bytes {start}-{end}/{size}"}, LARGE[start : end + 1]
        shown = given(send(api, piece, upload_id), 201)
        upload_id = shown["$id"]
        assert (shown["chunksUploaded"] == shown["chunksTotal"]) is bool(shown["digest"])
    assert shown["digest"] == hashlib.sha256(LARGE).hexdigest()


def test_chunks_may_come_all_at_once(api: httpx.Client) -> None:
    chunks = pieces(LARGE, 2_500)
    first = given(send(api, chunks[0]), 201)
    with concurrent.futures.ThreadPoolExecutor(len(chunks)) as threads:
        answers = list(threads.map(lambda piece: send(api, piece, first["$id"]), chunks * 2))
    assert [answer.status_code for answer in answers] == [201] * len(answers), [answer.text for answer in answers]
    shown = wait_for_build(api, first)
    assert (shown["status"], shown["digest"]) == ("ready", hashlib.sha256(LARGE).hexdigest())


@pytest.mark.parametrize("end", [0, -1])
def test_a_lone_chunk_is_complete(api: httpx.Client, end: int) -> None:
    size = len(LARGE)
    sent = given(send(api, ({"Content-Range": f"bytes 0-{size + end}/{size}"}, LARGE)), 201)
    assert sent["digest"] == hashlib.sha256(LARGE).hexdigest()
    assert wait_for_build(api, sent)["status"] == "ready"


@pytest.mark.parametrize(
    "range_",
    [
        "bytes",
        "0-4/10",
        "bytes 0-4",
        "bytes 0-4/*",
        "bytes */10",
        "bytes -4/10",
        "bytes 4-0/10",
        "bytes 0-11/10",
        "bytes a-b/c",
        "bytes 0-4/10, 5-9/10",
        "bytes 0--4/10",
        "bytes 0-4/10x",
        "bytes \u0660-\u0664/10",
        "bytes 0-4/" + "9" * 5000,
        "bytes 0-8/10",  # more than the five bytes that come
        "bytes 0-3/10",  # less
        "bytes 0-9/10",
        "bytes 0-3/5",  # all of it, by a range that says something else
    ],
)
def test_a_range_that_can_not_be_is_refused_and_leaves_nothing(api: httpx.Client, server: Serving, range_: str) -> None:
    answer = api.post(
        PATH,
        data={"entrypoint": "main.py"},
        files={"code": ("c.gz", b"12345")},
        headers={b"Content-Range": range_.encode()},
    )
    refused(answer, 400, "storage_invalid_content_range", BAD_RANGE)
    assert given(api.get(PATH))["total"] == 0
    assert leftovers(server.data_dir) == []


def test_a_chunk_of_another_size_is_refused(api: httpx.Client) -> None:
    chunks = pieces(LARGE, 10_000)
    first = given(send(api, chunks[0]), 201)
    answer = send(api, ({"Content-Range": "bytes 10000-10004/10005"}, b"12345"), first["$id"])
    refused(answer, 400, "storage_invalid_content_range", BAD_RANGE)
    for piece in chunks[1:]:
        shown = given(send(api, piece, first["$id"]), 201)
    assert shown["digest"] == hashlib.sha256(LARGE).hexdigest()


@pytest.mark.parametrize("upload_id", ["../../etc", "x" * 5000, "'; --", "é", "_a", "unique()"])
def test_an_upload_has_no_odd_id(api: httpx.Client, server: Serving, upload_id: str) -> None:
    headers = {b"Content-Range": b"bytes 0-4/10", b"X-Appwrite-ID": upload_id.encode()}
    fields, files = {"entrypoint": "main.py"}, {"code": ("c.gz", b"12345")}
    message = refused(api.post(PATH, data=fields, files=files, headers=headers), 400, "general_argument_invalid")
    assert message.startswith("Invalid X-Appwrite-ID: UID must contain at most 36 chars.")
    assert given(api.get(PATH))["total"] == 0
    assert leftovers(server.data_dir) == []


def test_an_unknown_id_begins_an_upload_of_that_id(api: httpx.Client) -> None:
    chunks = pieces(LARGE, 10_000)
    shown = [given(send(api, piece, "mine"), 201) for piece in (chunks[1], chunks[0], chunks[1], chunks[2])]
    assert {one["$id"] for one in shown} == {"mine"}
    assert [(one["chunksUploaded"], one["chunksTotal"]) for one in shown] == [(1, 3), (2, 3), (2, 3), (3, 3)]
    assert wait_for_build(api, shown[-1])["digest"] == hashlib.sha256(LARGE).hexdigest()


def test_a_last_chunk_of_nothing_is_not_found(api: httpx.Client, server: Serving) -> None:
    headers = {"Content-Range": "bytes 5-9/10", "X-Appwrite-ID": "nothing"}
    fields, files = {"entrypoint": "main.py"}, {"code": ("c.gz", b"12345")}
    refused(api.post(PATH, data=fields, files=files, headers=headers), 404, "deployment_not_found")
    assert given(api.get(PATH))["total"] == 0
    assert leftovers(server.data_dir) == []


def test_a_chunk_of_another_functions_upload_is_not_found(api: httpx.Client) -> None:
    create(api, "g")
    chunks = pieces(LARGE, 15_000)
    foreign = given(send(api, chunks[0], function_id="g"), 201)
    refused(send(api, chunks[1], foreign["$id"]), 404, "deployment_not_found", "Deployment not found")
    assert given(api.get("/functions/g/deployments"))["deployments"][0]["digest"] == ""
    given(api.delete("/functions/g"), 204)


def test_an_upload_that_was_given_up_can_be_deleted(api: httpx.Client, server: Serving) -> None:
    chunks = pieces(LARGE, 15_000)
    begun = given(send(api, chunks[0]), 201)
    assert given(api.get(PATH))["deployments"][0]["status"] == "processing"
    assert leftovers(server.data_dir) != []
    given(api.delete(f"{PATH}/{begun['$id']}"), 204)
    refused(api.get(f"{PATH}/{begun['$id']}"), 404, "deployment_not_found")
    assert leftovers(server.data_dir) == []
    refused(send(api, chunks[1], begun["$id"]), 404, "deployment_not_found")


def test_an_upload_goes_with_its_function(api: httpx.Client) -> None:
    given(send(api, pieces(LARGE, 15_000)[0]), 201)
    # and the fixture looks at the data directory


# -- lists --------------------------------------------------------------------------------------------------


def test_a_page_of_deployments_is_a_piece_of_the_order_of_creation(api: httpx.Client) -> None:
    made = [given(upload(api, b"x", entrypoint=f"{name}.py"), 201)["$id"] for name in ("apple", "pear", "plum")]
    for sent in given(api.get(PATH))["deployments"]:
        wait_for_build(api, sent)

    def page(**params: Any) -> list[str]:
        listed = given(api.get(PATH, params=params))
        assert listed["total"] == (3 if "search" not in params else len(listed["deployments"]))
        return [one["$id"] for one in listed["deployments"]]

    assert page() == page(orderType="ASC") == made
    assert page(orderType="DESC") == made[::-1]
    assert page(limit=1, offset=1) == made[1:2]
    assert page(limit=0) == []
    assert page(cursor=made[0]) == made[1:]
    assert page(cursor=made[2], cursorDirection="before", limit=1) == made[1:2]
    assert page(search="pear") == made[1:2]
    assert page(search=made[2]) == made[2:]
    said = "Tag 'unknown' for the 'cursor' value not found."
    refused(api.get(PATH, params={"cursor": "unknown"}), 400, "general_cursor_not_found", said)
    for params in ({"cursor": "unknown"}, {}):
        refused(api.get("/functions/nothing/deployments", params=params), 404, "function_not_found")


def test_a_deployment_of_another_function_is_not_found(api: httpx.Client) -> None:
    deploy(api, "sends", "g")
    foreign = given(api.get("/functions/g/deployments"))["deployments"][0]
    one = f"{PATH}/{foreign['$id']}"
    refused(api.get(one), 404, "deployment_not_found", "Deployment not found")
    refused(api.delete(one), 404, "deployment_not_found", "Deployment not found")
    refused(api.post(f"{one}/builds/{foreign['buildId']}"), 404, "deployment_not_found", "Deployment not found")
    refused(api.get(PATH, params={"cursor": foreign["$id"]}), 400, "general_cursor_not_found")
    assert execute(api, "200 x", "g")["response"] == "x"
    given(api.delete("/functions/g"), 204)


# -- a build again ------------------------------------------------------------------------------------------


def test_only_a_failed_build_is_tried_again(api: httpx.Client) -> None:
    ready = wait_for_build(api, given(upload(api, packed("sends")), 201))
    failed = wait_for_build(api, given(upload(api, b"x", activate=True), 201))
    path = f"{PATH}/{failed['$id']}/builds/"
    refused(api.post(f"{PATH}/nothing/builds/b"), 404, "deployment_not_found", "Deployment not found")
    refused(api.post(path + "nothing"), 404, "build_not_found", "Build not found")
    refused(api.post(path + ready["buildId"]), 404, "build_not_found", "Build not found")
    answer = api.post(f"{PATH}/{ready['$id']}/builds/{ready['buildId']}")
    refused(answer, 400, "build_in_progress", "Build not failed")
    given(api.post(path + failed["buildId"], json={}), 204)
    again = wait_for_build(api, failed)
    assert (again["status"], again["buildId"]) == ("failed", failed["buildId"])
    assert again["buildStderr"] == failed["buildStderr"]  # not twice


def test_a_build_that_succeeds_the_second_time_is_activated(api: httpx.Client, server: Serving) -> None:
    failed = wait_for_build(api, given(upload(api, packed("sends"), entrypoint="late.py", activate=True), 201))
    assert failed["status"] == "failed"
    code = server.data_dir / "code" / failed["digest"]
    (code / "late.py").write_bytes((code / "main.py").read_bytes())  # whatever was missing is there now
    given(api.post(f"{PATH}/{failed['$id']}/builds/{failed['buildId']}"), 204)
    ready = eventually(lambda: given(api.get(f"{PATH}/{failed['$id']}")), lambda shown: shown["status"] == "ready")
    assert (ready["buildStderr"], ready["buildId"]) == ("", failed["buildId"])
    assert execute(api, "200 at last")["response"] == "at last"


# -- deletion -----------------------------------------------------------------------------------------------


def test_a_deleted_deployment_is_gone_from_disk(api: httpx.Client, server: Serving) -> None:
    first = activate(api, packed("sends"))
    execution = execute(api, "200 x")
    assert leftovers(server.data_dir) != []
    given(api.delete(f"{PATH}/{first['$id']}"), 204)
    refused(api.get(f"{PATH}/{first['$id']}"), 404, "deployment_not_found", "Deployment not found")
    refused(api.delete(f"{PATH}/{first['$id']}"), 404, "deployment_not_found", "Deployment not found")
    assert given(api.get("/functions/f"))["deployment"] == ""
    assert given(api.get(f"/functions/f/executions/{execution['$id']}")) == execution
    assert leftovers(server.data_dir) == []
    said = "Deployment not found. Create a deployment before trying to execute a function"
    refused(api.post("/functions/f/executions", json={}), 404, "deployment_not_found", said)


def test_an_archive_stays_as_long_as_a_deployment_has_the_same_bytes(api: httpx.Client, server: Serving) -> None:
    create(api, "g")
    mine = [activate(api, packed("sends"))["$id"] for _ in range(2)]
    theirs = activate(api, packed("sends"), "g")["$id"]
    before = leftovers(server.data_dir)
    assert len(before) == 2  # one archive, unpacked once
    for one in mine:
        given(api.delete(f"{PATH}/{one}"), 204)
        assert leftovers(server.data_dir) == before
        assert execute(api, "200 x", "g")["response"] == "x"
    given(api.delete(f"/functions/g/deployments/{theirs}"), 204)
    assert leftovers(server.data_dir) == []
    given(api.delete("/functions/g"), 204)


def test_what_is_deleted_while_it_is_built_leaves_nothing(api: httpx.Client, server: Serving) -> None:
    for wait in (0.0, 0.01, 0.03, 0.06, 0.1, 0.15):
        sent = given(upload(api, pack({"main.py": PYTHON + str(wait).encode()})), 201)
        time.sleep(wait)
        given(api.delete(f"{PATH}/{sent['$id']}"), 204)
    assert eventually(lambda: leftovers(server.data_dir), lambda found: not found) == []
    ready = activate(api, packed("sends"))  # the last of the queue: the others have been seen to
    given(api.delete(f"{PATH}/{ready['$id']}"), 204)
    assert leftovers(server.data_dir) == []


def test_uploading_and_deleting_the_same_archive_at_once_never_loses_it(api: httpx.Client) -> None:
    code = packed("sends")

    def once(_: int) -> str:
        sent = given(upload(api, code), 201)
        given(api.delete(f"{PATH}/{sent['$id']}"), 204)
        kept = given(upload(api, code), 201)
        return str(wait_for_build(api, kept)["buildStderr"])

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert set(threads.map(once, range(8))) == {""}
