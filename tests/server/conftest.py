"""One running server for the tests of this folder, and what they ask it with."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.serving import Serving, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server process of its own, with a fresh data directory."""
    with serving(tmp_path_factory.mktemp("server") / "data") as found:
        yield found


@pytest.fixture
def api(server: Serving) -> Iterator[httpx.Client]:
    """An HTTP client with project and key, and nothing else of ours; every function is deleted first."""
    with httpx.Client(base_url=server.endpoint, headers=server.headers, timeout=60, trust_env=False) as client:
        for function in client.get("/functions", params={"limit": 100}).json()["functions"]:
            assert client.delete(f"/functions/{function['$id']}").status_code == 204
        yield client


@pytest.fixture
def guest(server: Serving) -> Iterator[httpx.Client]:
    """An HTTP client that names the project and has no key."""
    headers = {"X-Appwrite-Project": server.project}
    with httpx.Client(base_url=server.endpoint, headers=headers, timeout=60, trust_env=False) as client:
        yield client
