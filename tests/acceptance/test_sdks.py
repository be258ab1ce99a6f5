"""The official SDKs of the era go through the whole service by their own methods, unchanged."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from nbfunctions.archive import pack
from nbfunctions.executor.install import installer_environment
from tests.serving import ROOT, RUNTIME, serving

TOUR: Final = Path(__file__).with_name("sdk_tour.py")
INSTALLED: Final = ROOT / ".cache" / "sdks"
HANDLER: Final = b"""
import os

def main(req, res):
    names = ("APPWRITE_FUNCTION_ID", "APPWRITE_FUNCTION_DEPLOYMENT", "APPWRITE_FUNCTION_TRIGGER")
    return res.json({
        "message": f"{os.environ['GREETING']}, {req.payload}",
        "environment": [req.env[name] for name in names],
    })
"""
SENDS: Final = b"def main(req, res):\n    return res.send('large')\n"


def installed(version: str) -> Path:
    """Return a folder with the official Python SDK of this version, installed once for this checkout."""
    folder = INSTALLED / f"appwrite-{version}"
    if not (folder / "appwrite").is_dir():
        command = ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder)]
        environment = installer_environment(
            {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        )
        subprocess.run([*command, f"appwrite=={version}"], check=True, env=environment, timeout=100)
    return folder


@pytest.mark.parametrize("version", ["0.9.0", "0.10.0"])
def test_the_official_python_sdk_creates_deploys_executes_lists_and_deletes(version: str, tmp_path: Path) -> None:
    archive = tmp_path / "code.tar.gz"
    archive.write_bytes(pack({"main.py": HANDLER}))
    large = tmp_path / "large.tar.gz"
    large.write_bytes(pack({"main.py": SENDS, "noise": random.Random(1).randbytes(12 * 1024 * 1024 + 1)}))
    sdk = installed(version)
    with serving(tmp_path / "data") as server:
        tour = subprocess.run(
            [sys.executable, str(TOUR), server.endpoint, server.project, server.key, RUNTIME, str(archive), str(large)],
            env={"PATH": os.defpath, "PYTHONPATH": str(sdk), "PYTHONWARNINGS": "ignore"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert tour.returncode == 0, tour.stderr[-3000:]
    assert tour.stdout.endswith("the tour is complete\n")
