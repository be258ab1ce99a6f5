"""One running server for the tests of this folder, and what they ask it with."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.server.asking import client
from tests.serving import Serving, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server process of its own, with a fresh data directory."""
    with serving(tmp_path_factory.mktemp("server") / "data") as found:
        yield found


@pytest.fixture
def api(server: Serving) -> Iterator[httpx.Client]:
    """An HTTP client with project and key, and nothing else of ours; every function is deleted first."""
    with client(server) as found:
        for function in found.get("/functions", params={"limit": 100}).json()["functions"]:
            assert found.delete(f"/functions/{function['$id']}").status_code == 204
        yield found


@pytest.fixture
def guest(server: Serving) -> Iterator[httpx.Client]:
    """An HTTP client that names the project and has no key."""
    with client(server, {"X-Appwrite-Project": server.project}) as found:
        yield found
