"""A real JupyterLab, of a user of its own, seen through a real browser. Skipped where there is no Chromium."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import nbformat
import pytest

from tests.browser.chromium import find_chromium
from tests.browser.lab import Lab, LabPage
from tests.serving import clean_environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser

READY: Final = 60.0
"""Seconds JupyterLab may take to answer."""
STOP: Final = 20.0
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.example 127.0.0.1",
)


def lab_environment(home: Path) -> dict[str, str]:
    """Return the environment of a user whose Jupyter has nothing in it yet."""
    settings = home / "settings"
    news = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    return {
        **clean_environment(home),
        "JUPYTER_DATA_DIR": str(home / "jupyter"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="package")
def chromium() -> str:
    """The browser's program."""
    found = find_chromium()
    if found is None:
        pytest.skip("there is no chromium here: apt-get install chromium fonts-dejavu-core")
    return found


@pytest.fixture(scope="package")
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab, started on a free port; the functions' server that its kernels start ends with it."""
    home = tmp_path_factory.mktemp("lab")
    root = home / "notebooks"
    root.mkdir()
    environment = lab_environment(home)
    token = secrets.token_hex(16)
    port = free_port()
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *(f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={token}"),
        *("--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"),
    ]
    log = home / "lab.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            answers = f"http://127.0.0.1:{port}/api/status?token={token}"
            wait_until(lambda: process.poll() is not None or is_up(answers), READY, log)
            assert process.poll() is None, log.read_text()
            yield Lab(f"http://127.0.0.1:{port}", token, root)
        finally:
            stop(process)
            stopping = [sys.executable, "-m", "nbfunctions", "stop"]
            subprocess.run(stopping, env=environment, check=True, capture_output=True, timeout=60)


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def wait_until(done: Callable[[], bool], seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="package")
def browser(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    home = tmp_path_factory.mktemp("browser")
    environment: dict[str, str | float | bool] = {**os.environ, "HOME": str(home)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS), env=environment)
        yield browser
        browser.close()


@pytest.fixture
def opened(lab: Lab, browser: Browser) -> Iterator[Callable[..., LabPage]]:
    """Opens JupyterLab on a notebook of the given cells, or on its launcher; nothing may be wrong in the console."""
    pages: list[LabPage] = []

    def on(*cells: str) -> LabPage:
        name = None
        if cells:
            made = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
            document = nbformat.v4.new_notebook(cells=made)  # type: ignore[no-untyped-call]
            document.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            name = f"notebook-{secrets.token_hex(4)}.ipynb"
            nbformat.write(document, lab.root / name)  # type: ignore[no-untyped-call]
        pages.append(LabPage(lab, browser.new_page(viewport={"width": 1200, "height": 900}), name))
        return pages[-1]

    yield on
    for page in pages:
        page.close()
        assert page.complaints == []
        assert page.outside == []
