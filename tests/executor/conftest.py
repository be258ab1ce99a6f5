from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nbfunctions.executor.local import LocalExecutor
from tests.executor.deployments import Deployed, deploy, running


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[LocalExecutor]:
    """The executor as it is by default: the strongest sandbox of this host."""
    async with running(tmp_path) as executor:
        yield executor


@pytest.fixture
def deployed(executor: LocalExecutor, tmp_path: Path) -> Callable[..., Awaitable[Deployed]]:
    """Deploys a folder of ``tests/functions`` by name."""

    async def by_name(name: str, **options: Any) -> Deployed:
        return await deploy(executor, tmp_path, name, **options)

    return by_name
