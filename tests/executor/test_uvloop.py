"""The server runs on uvloop: the same executor, its processes and timers on that loop."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import uvloop

from tests.executor.deployments import deploy, gone, open_files, running


async def scenario(data_dir: Path) -> None:
    before = open_files()
    async with running(data_dir) as executor:
        sleeps = await deploy(executor, data_dir, "sleeps")
        assert [(await sleeps("0")).response for _ in range(3)] == ["1", "2", "3"]
        began = time.monotonic()
        outcome = await sleeps("30", timeout=0.3)
        assert (outcome.layer, outcome.stdout) == ("limit", "going to sleep\n")
        assert 0.3 <= outcome.time < 2
        assert time.monotonic() - began < 2
        await asyncio.gather(*(sleeps("0.3", concurrency=2) for _ in range(4)))
        assert executor.describe()["instances"] == 2
        call = asyncio.create_task(sleeps("30"))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        exits = await deploy(executor, data_dir, "exits_early")
        assert "exit status 3" in (await exits("os._exit")).stderr
        prints = await deploy(executor, data_dir, "prints_a_lot")
        assert len((await prints()).stdout.encode()) > 999_000
        package = await deploy(executor, data_dir, "needs_a_package")
        assert (await package()).response == "1.17.0"
    assert await gone(str(data_dir))
    assert open_files() <= before + 8  # the loop's own: signals, its child watcher


def test_everything_works_on_uvloop(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario(tmp_path))
