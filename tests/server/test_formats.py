"""The forms of an answer that a client can ask for: an older generation's dates (spec, section 2.8), compression."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from nbfunctions.server.wire import Answer, compressed
from tests.server.asking import activate, client, create, deploy, execute, given, packed
from tests.serving import Serving

OLD = ["0.14.0", "0.14", "0.13.4", "0.12.0", "0", "v0.14.0", "0.14.0-rc1", "0.14.0.9"]
NEW = [
    "",
    "0.15.0",
    "0.14.1",
    "0.15.3",
    "1.0.0",
    "1",
    "00.015.0",
    "0.99999999999.0",
    "nonsense",
    "\u00e4",
    "-",
    "0.140.0",
]
ONE = {
    "function": "/functions/f",
    "deployment": "/functions/f/deployments/{deployment}",
    "execution": "/functions/f/executions/{execution}",
}
LISTS = {"functions": "/functions", "deployments": "/functions/f/deployments", "executions": "/functions/f/executions"}
UNDATED = ["/functions/runtimes", "/functions/f/usage", "/health", "/health/version", "/health/queue/functions"]


@pytest.fixture(scope="module")
def filled(server: Serving) -> Iterator[tuple[httpx.Client, dict[str, str]]]:
    """A client of a server with a function that was executed, and the ids of what there is."""
    with client(server) as api:
        for function in given(api.get("/functions"))["functions"]:
            given(api.delete(f"/functions/{function['$id']}"), 204)
        deploy(api, "sends", vars={"$createdAt": 1, "deep": {"$createdAt": 2, "$updatedAt": 3}})
        done = execute(api, "200 x")
        yield api, {"deployment": done["deploymentId"], "execution": done["$id"]}


def asked(api: httpx.Client, path: str, form: str | None) -> Any:
    headers = {} if form is None else {b"X-Appwrite-Response-Format": form.encode()}
    return given(api.get(path, headers=headers))


def of_0_14(record: dict[str, Any]) -> dict[str, Any]:
    """Return what 0.14 has of a record."""
    expected = {"$id": record["$id"], "dateCreated": record["$createdAt"], "dateUpdated": record["$updatedAt"]}
    if "trigger" in record:
        del expected["dateUpdated"]
    return expected | {name: value for name, value in record.items() if name not in ("$createdAt", "$updatedAt")}


@pytest.mark.parametrize("form", OLD)
@pytest.mark.parametrize("kind", ONE)
def test_a_record_for_an_older_client_has_its_dates(
    filled: tuple[httpx.Client, dict[str, str]], kind: str, form: str
) -> None:
    api, ids = filled
    path = ONE[kind].format(**ids)
    record = asked(api, path, None)
    assert record["$createdAt"] > 1_600_000_000
    found = asked(api, path, form)
    assert found == of_0_14(record)
    assert list(found)[:2] == ["$id", "dateCreated"]


@pytest.mark.parametrize("form", OLD[:3])
@pytest.mark.parametrize("kind", LISTS)
def test_so_has_a_list(filled: tuple[httpx.Client, dict[str, str]], kind: str, form: str) -> None:
    api, _ = filled
    listed = asked(api, LISTS[kind], None)
    assert asked(api, LISTS[kind], form) == {"total": 1, kind: [of_0_14(record) for record in listed[kind]]}


@pytest.mark.parametrize("form", NEW)
def test_every_other_client_gets_the_records_as_they_are(
    filled: tuple[httpx.Client, dict[str, str]], form: str
) -> None:
    api, ids = filled
    for path in [*ONE.values(), *LISTS.values()]:
        assert asked(api, path.format(**ids), form) == asked(api, path.format(**ids), None)


@pytest.mark.parametrize("form", ["0.14.0", "0.15.0"])
def test_what_has_no_dates_is_the_same_for_all(filled: tuple[httpx.Client, dict[str, str]], form: str) -> None:
    api, _ = filled
    for path in UNDATED:
        before, found = asked(api, path, None), asked(api, path, form)
        before.pop("ping", None), found.pop("ping", None)
        assert found == before


def test_what_is_made_and_changed_is_answered_in_the_same_form(api: httpx.Client) -> None:
    api.headers["X-Appwrite-Response-Format"] = "0.14.0"
    record = create(api)
    assert record["dateCreated"] == record["dateUpdated"] > 1_600_000_000
    assert "dateUpdated" in given(api.put("/functions/f", json={"name": "x"}))
    activate(api, packed("sends"))
    done = execute(api, "200 x")
    assert "dateCreated" in done
    assert done.keys().isdisjoint(("$createdAt", "$updatedAt", "dateUpdated"))
    event = given(api.post("/events", json={"event": "users.jane.create"}), 201)
    assert event["event"] == "users.jane.create"
    assert list(given(api.post("/users/jane/jwts"), 201)) == ["jwt"]


# -- compression --------------------------------------------------------------------------------------------

SAYS_YES = ["gzip", "GZIP", "gzip, deflate, br", "br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip;q=0.001", "deflate,gzip ; q=1"]
SAYS_NO = ["", "identity", "br", "gzip;q=0", "gzip;q=0.000", "gzip ; Q = 0, br", "*", "x-gzip-not", "deflate, notgzip"]


@pytest.fixture(scope="module")
def large(server: Serving) -> Iterator[httpx.Client]:
    """A client of a server whose list of functions is large, and each of them small."""
    with client(server) as api:
        for function in given(api.get("/functions"))["functions"]:
            given(api.delete(f"/functions/{function['$id']}"), 204)
        for number in range(30):
            create(api, f"f{number}")
        yield api


def raw_bytes(api: httpx.Client, path: str, accepted: str, method: str = "GET") -> tuple[httpx.Response, bytes]:
    """Return an answer and its body as it came."""
    with api.stream(method, path, headers={"Accept-Encoding": accepted}) as answer:
        return answer, b"".join(answer.iter_raw())


@pytest.mark.parametrize("accepted", SAYS_YES)
def test_a_large_answer_is_compressed_for_whoever_takes_it(large: httpx.Client, accepted: str) -> None:
    plain = large.get("/functions?limit=100", headers={"Accept-Encoding": "identity"})
    answer, body = raw_bytes(large, "/functions?limit=100", accepted)
    assert answer.headers.get_list("content-encoding") == ["gzip"]
    assert answer.headers.get_list("content-length") == [str(len(body))]
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert answer.headers["vary"] == "Origin, Accept-Encoding"
    assert gzip.decompress(body) == plain.content
    assert len(body) < len(plain.content) / 3


@pytest.mark.parametrize("accepted", SAYS_NO)
def test_whoever_does_not_take_it_gets_it_plain(large: httpx.Client, accepted: str) -> None:
    answer, body = raw_bytes(large, "/functions?limit=100", accepted)
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["vary"] == "Origin, Accept-Encoding"
    assert json.loads(body)["total"] == 30


def test_a_small_answer_is_not_compressed(large: httpx.Client) -> None:
    for path in ("/functions/f1", "/functions/nothing", "/health/version"):
        answer, body = raw_bytes(large, path, "gzip")
        assert "content-encoding" not in answer.headers
        assert answer.headers["vary"] == "Origin, Accept-Encoding"
        assert json.loads(body)


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_the_head_alone_is_that_of_the_whole_answer(large: httpx.Client, accepted: str) -> None:
    whole, body = raw_bytes(large, "/functions?limit=100", accepted)
    head, nothing = raw_bytes(large, "/functions?limit=100", accepted, "HEAD")
    assert nothing == b""
    for name in ("content-length", "content-type", "content-encoding", "vary"):
        assert head.headers.get(name) == whole.headers.get(name)
    assert int(head.headers["content-length"]) == len(body)


def test_an_archive_is_sent_as_it_is(api: httpx.Client) -> None:
    create(api)
    built = activate(api, packed("sends") + b"\0" * 10_000)
    answer, body = raw_bytes(api, f"/functions/f/deployments/{built['$id']}/download", "gzip")
    assert (answer.status_code, body) == (200, packed("sends") + b"\0" * 10_000)
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-type"] == "application/gzip"


@pytest.mark.parametrize(("size", "is_compressed"), [(0, False), (4095, False), (4096, True), (100_000, True)])
async def test_compression_begins_where_it_saves_a_packet(size: int, is_compressed: bool) -> None:
    found = await compressed(Answer(200, b"x" * size, []), "gzip")
    assert ((b"content-encoding", b"gzip") in found.headers) is is_compressed
    assert (gzip.decompress(found.body) if is_compressed else found.body) == b"x" * size
