"""A full disk: nothing runs unrecorded, everybody is told, and all goes on when there is room again."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbfunctions.archive import pack
from tests.server.asking import client, deploy, eventually, execute, given, refused, upload
from tests.serving import serving

PATH = "/functions/f/executions"
SIZE = "8m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Take what room there is."""
    file = place / "filling"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    for size in (65_536, 4096, 1):
        with contextlib.suppress(OSError):
            while os.write(descriptor, b"x" * size):
                pass
    os.close(descriptor)
    return file


def test_a_full_disk_is_told_and_nothing_runs_unrecorded_twice(small_disk: Path, tmp_path: Path) -> None:
    with serving(small_disk / "data") as server, client(server) as api:
        deploy(api, "sends")
        before = execute(api, "200 x")
        filling = fill(small_disk)
        answers = [api.post(PATH, json={"data": "200 x", "async": False}) for _ in range(20)]
        answers += [api.post(PATH, json={"data": "200 x"}) for _ in range(3)]
        told = [answer for answer in answers if answer.status_code != 201]
        assert told  # what is written in place may still fit
        for answer in told:
            assert "can't keep its data" in refused(answer, 500, "general_server_error")
        large = upload(api, pack({"main.py": os.urandom(200_000)}))
        assert "can't keep its data" in refused(large, 500, "general_server_error")
        assert given(api.get("/functions"))["total"] == 1  # reading goes on
        filling.unlink()
        after = execute(api, "200 x")
        ids = [one["$id"] for one in given(api.get(PATH, params={"limit": 100}))["executions"]]
        assert ids[0] == after["$id"]
        assert before["$id"] in ids
        kept = [answer.json()["$id"] for answer in answers if answer.status_code == 201]
        assert set(kept) <= set(ids)


def test_while_nothing_can_be_recorded_functions_do_not_run(small_disk: Path) -> None:
    counting = b"""
calls = 0

def main(req, res):
    global calls
    calls += 1
    res.send(str(calls))
"""
    with serving(small_disk / "data") as server, client(server) as api:
        deploy(api, "sends")
        given(upload(api, pack({"main.py": counting}), activate=True), 201)
        eventually(lambda: execute(api)["response"] == "1")  # the new deployment is built
        filling = fill(small_disk)
        refusals = sum(api.post(PATH, json={"async": False}).status_code != 201 for _ in range(40))
        filling.unlink()
        total = given(api.get(PATH))["total"]
        calls = int(execute(api)["response"])
        # Of those that were refused only the first can have run.
        assert refusals > 1
        assert calls <= total + 2
