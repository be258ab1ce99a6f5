"""Stores to put questions to: every implementation, over real files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from nbfunctions.models import Deployment, Execution, Function, Project, new_id
from nbfunctions.server.store.protocol import Acceptance, BuildClaim, Store
from nbfunctions.server.store.sqlite import SqliteStore

IMPLEMENTATIONS: Final[dict[str, Callable[[Path], Store]]] = {"sqlite": SqliteStore}
NOW: Final = 1_700_000_000.25
"""A Tuesday, 22:13:20 UTC."""
PROJECT: Final = "default"

OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(params=IMPLEMENTATIONS)
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Open one more store on the same place."""
    opened = []

    async def open_one() -> Store:
        store = IMPLEMENTATIONS[request.param](tmp_path / "data")
        await store.open()
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    """An open store with the project ``default``."""
    opened = await open_store()
    await opened.create_project(Project(id=PROJECT, name="Default", created_at=int(NOW)))
    return opened


async def make_function(
    store: Store, function_id: str = "hello", project_id: str = PROJECT, **fields: object
) -> Function:
    """Make a function with ordinary settings."""
    settings = {"name": "Hello", "runtime": "python-3.11", "created_at": int(NOW), "updated_at": int(NOW), **fields}
    return await store.create_function(project_id, Function(id=function_id, **settings))  # type: ignore[arg-type]


async def make_deployment(
    store: Store,
    deployment_id: str = "first",
    function_id: str = "hello",
    project_id: str = PROJECT,
    *,
    digest: str = "digest",
    activate: bool = False,
    created_at: int = int(NOW),
) -> Deployment:
    """Make a deployment whose upload is complete."""
    deployment = Deployment(
        id=deployment_id,
        created_at=created_at,
        updated_at=created_at,
        function_id=function_id,
        entrypoint="main.py",
        size=412,
        activate=activate,
        digest=digest,
    )
    return await store.create_deployment(project_id, deployment)


async def claim_build(
    store: Store, owner: str = "owner", lease_until: float = NOW + 30, now: float = NOW
) -> BuildClaim:
    """Claim a build that is known to wait."""
    claim = await store.claim_build(owner, lease_until, now)
    assert claim is not None
    return claim


async def make_ready(
    store: Store,
    function_id: str = "hello",
    deployment_id: str = "first",
    project_id: str = PROJECT,
    *,
    output: str = "/built",
    **fields: object,
) -> Function:
    """Make a function with an active deployment that is built."""
    await make_function(store, function_id, project_id, **fields)
    await make_deployment(store, deployment_id, function_id, project_id, activate=True)
    claim = await claim_build(store)
    assert await store.finish_build(claim.build_id, "owner", "ready", stderr="", output=output, now=NOW)
    return await store.get_function(project_id, function_id)


def execution(function_id: str = "hello", deployment_id: str = "first", **fields: object) -> Execution:
    """Return an execution as a route makes it."""
    known = {"id": new_id(), "created_at": int(NOW), "updated_at": int(NOW), **fields}
    return Execution(function_id=function_id, deployment_id=deployment_id, **known)  # type: ignore[arg-type]


def accepted(made: Execution, project_id: str = PROJECT, created: float = NOW, **fields: object) -> Acceptance:
    """Return what a store keeps of an execution that was asked for at ``created``."""
    return Acceptance(project_id=project_id, execution=made, created=created, **fields)  # type: ignore[arg-type]
