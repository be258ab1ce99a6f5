"""The official JavaScript SDKs of the era go through the whole service by their own methods, unchanged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

from nbfunctions.archive import pack
from tests.acceptance.test_sdks import HANDLER, INSTALLED
from tests.server.asking import activate, client, create
from tests.serving import RUNTIME, serving

HERE: Final = Path(__file__).parent
CALLER: Final = b"""
import time

def main(req, res):
    if req.payload == "slow":
        time.sleep(2)
    user, jwt = req.env["APPWRITE_FUNCTION_USER_ID"], req.env["APPWRITE_FUNCTION_JWT"]
    return res.json({"data": req.payload, "user": user, "jwt": jwt})
"""
DIGEST: Final = b"""
import hashlib
from pathlib import Path

def main(req, res):
    return res.send(hashlib.sha256(Path(__file__).with_name("data").read_bytes()).hexdigest())
"""
LARGE: Final = 12 * 1024 * 1024
"""Bytes that three chunks of an SDK hold, and two don't."""


def installed(package: str, version: str) -> Path:
    """Return a folder with an official SDK of this version, installed once for this checkout."""
    folder = INSTALLED / f"{package}-{version}"
    if not folder.is_dir():
        INSTALLED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=INSTALLED) as scratch:
            fresh = Path(scratch, "fresh")
            fresh.mkdir()
            options = ["--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts", "--loglevel=error"]
            command = ["npm", "install", *options, "--prefix", str(fresh), f"{package}@{version}"]
            subprocess.run(command, check=True, cwd=fresh, stdout=subprocess.DEVNULL, timeout=100)
            with contextlib.suppress(OSError):  # another run was faster
                fresh.rename(folder)
    assert (folder / "node_modules" / package).is_dir()
    return folder


def toured(program: str, sdk: Path, *arguments: object, cwd: Path) -> None:
    """Make a tour with an SDK; it must come to its end."""
    tour = subprocess.run(
        ["node", "--experimental-websocket", "--no-warnings", str(HERE / program), str(sdk), *map(str, arguments)],
        env={"PATH": os.environ["PATH"]},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert tour.returncode == 0, tour.stderr[-3000:]
    assert tour.stdout.endswith("the tour is complete\n")


@pytest.mark.parametrize("version", ["6.0.0", "7.0.2"])
def test_the_official_node_sdk_creates_deploys_executes_lists_and_deletes(version: str, tmp_path: Path) -> None:
    sdk = installed("node-appwrite", version)
    archive, large = tmp_path / "code.tar.gz", tmp_path / "large.tar.gz"
    archive.write_bytes(pack({"main.py": HANDLER}))
    data = random.Random(version).randbytes(LARGE)
    large.write_bytes(pack({"main.py": DIGEST, "data": data}))
    assert large.stat().st_size > LARGE
    digest = hashlib.sha256(data).hexdigest()
    with serving(tmp_path / "data") as server:
        identity = (server.endpoint, server.project, server.key)
        toured("node_tour.mjs", sdk, *identity, RUNTIME, archive, large, digest, cwd=tmp_path)


@pytest.mark.parametrize("version", ["8.0.1", "9.0.2"])
def test_users_execute_and_listen_by_the_official_web_sdk(version: str, tmp_path: Path) -> None:
    sdk = installed("appwrite", version)
    code = pack({"main.py": CALLER})
    with serving(tmp_path / "data") as server:
        with client(server) as api:
            for function_id, execute in (("greet", ["role:member"]), ("cook", ["team:cooks/chef"]), ("closed", [])):
                create(api, function_id, execute=execute)
                activate(api, code, function_id)
        toured("web_tour.mjs", sdk, server.endpoint, server.project, server.key, cwd=tmp_path)
