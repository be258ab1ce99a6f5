"""A user of their own: home, Jupyter's folders, and the embedded server that the first test which needs it starts."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbfunctions import connection
from nbfunctions.archive import pack
from nbfunctions.client import Client
from nbfunctions.models import Deployment, Function
from tests.serving import ROOT, RUNTIME, clean_environment

FUNCTIONS = ROOT / "tests" / "functions"
POLLS = 400


@contextlib.contextmanager
def user(place: Path) -> Iterator[Path]:
    """Be a user whose home is ``place`` for a while; their embedded server, if one was started, ends with it."""
    environment = clean_environment(place)
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - environment.keys():
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        (place / "ipython").mkdir(parents=True, exist_ok=True)
        try:
            yield place
        finally:
            connection.stop_embedded()


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of the user whose notebooks the tests of this folder are."""
    with user(tmp_path_factory.mktemp("user")) as place:
        yield place


@pytest.fixture
def client(home: Path) -> Client:
    """A client of the embedded server, with every function deleted."""
    client = connection.connect()
    for function in client.functions.list(limit=100).functions:
        client.functions.delete(function.id)
    return client


@pytest.fixture
def deployed(client: Client) -> Callable[..., Function]:
    """Deploys a folder of ``tests/functions`` by name, by nothing but the client, and waits until it is active."""

    def by_name(name: str, function_id: str | None = None, **settings: Any) -> Function:
        made = client.functions.create(function_id or name, name, runtime=RUNTIME, **settings)
        wait_for_build(client, client.deployments.create(made.id, "main.py", packed(name), activate=True))
        return client.functions.get(made.id)

    return by_name


def packed(name: str) -> bytes:
    """Return the archive of a folder of ``tests/functions``."""
    folder = FUNCTIONS / name
    return pack({str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()})


def wait_for_build(client: Client, deployment: Deployment) -> Deployment:
    """Wait until a deployment is built."""
    for _ in range(POLLS):
        deployment = client.deployments.get(deployment.function_id, deployment.id)
        if deployment.status in ("ready", "failed"):
            break
        time.sleep(0.02)
    assert deployment.status == "ready", (deployment.status, deployment.build_stderr)
    return deployment


@pytest.fixture
def shell(home: Path) -> Iterator[Any]:
    """An IPython shell with the extension loaded, as a terminal has it; its namespace is empty."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    settings = Config()
    settings.HistoryManager.enabled = False
    settings.InteractiveShell.colors = "nocolor"
    shell = InteractiveShell.instance(config=settings)
    shell.run_line_magic("load_ext", "nbfunctions")
    yield shell
    shell.run_line_magic("unload_ext", "nbfunctions")
    shell.user_ns.clear()
    InteractiveShell.clear_instance()


@pytest.fixture
def no_server(tmp_path: Path) -> Iterator[Path]:
    """The home of a user who never had a server."""
    with user(tmp_path / "fresh") as place:
        yield place
    shutil.rmtree(place, ignore_errors=True)
