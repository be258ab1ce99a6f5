"""The runtimes of this host, and that the runtime works on each of them."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from pathlib import Path

import pytest

from nbfunctions.executor.runtimes import find_runtimes
from nbfunctions.models import Runtime
from nbfunctions.settings import MEMORY_LEAST, Settings
from tests.executor.deployments import RUNTIME, deploy, running


async def test_the_running_interpreter_is_a_runtime() -> None:
    began = time.monotonic()
    found = await find_runtimes()
    assert time.monotonic() - began < 2
    number = RUNTIME.removeprefix("python-")
    assert found[RUNTIME].runtime == Runtime(
        id=RUNTIME,
        name="Python",
        version=number,
        base=f"python:{number}",
        image=f"openruntimes/python:v1-{number}",
        logo="python.png",
        supports=("x86", "arm"),
    )
    versions = [tuple(map(int, host.runtime.version.split("."))) for host in found.values()]
    assert versions == sorted(versions)
    assert min(versions) >= (3, 8)


async def test_scripts_that_stand_for_an_interpreter_are_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in {"python3.99": "#!/bin/sh\nexit 1\n", "python3.98": "#!/bin/sh\necho no json\n"}.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = await find_runtimes()
    assert not {"python-3.98", "python-3.99"} & set(found)


async def test_functions_run_on_every_runtime_of_this_host(tmp_path: Path) -> None:
    async with running(tmp_path) as executor:
        assert RUNTIME in executor.runtimes
        for key in executor.runtimes:
            version = b"import sys\ndef main(req, res):\n    res.send('python-%d.%d' % sys.version_info[:2])\n"
            function = await deploy(executor, tmp_path, key, files={"main.py": version}, runtime=key)
            assert (await function()).response == key
            forecast = await deploy(executor, tmp_path, "forecast", runtime=key, deployment_id=key)
            assert json.loads((await forecast('{"store": "Riga"}')).response)["days"] == 7, key
            typed = await deploy(executor, tmp_path, "typed", runtime=key, deployment_id=key)
            outcome = await typed('{"options": {"depth": 1}, "moment": "2026-01-01T00:00:00Z", "fixed": [1, "a"]}')
            assert json.loads(outcome.response)["fixed"] == "(1, 'a')", (key, outcome)
            raises = await deploy(executor, tmp_path, "raises", runtime=key, deployment_id=key)
            assert (await raises()).stderr.splitlines()[1] == '  File "sibling.py", line 3, in fail', key
            later = await deploy(executor, tmp_path, "later_generation", runtime=key, deployment_id=key)
            assert (await later("x")).status_code == 201, key
            asynchronous = await deploy(executor, tmp_path, "asynchronous", runtime=key, deployment_id=key)
            assert (await asynchronous("x")).response == "awaited x", key


@pytest.mark.parametrize("name", ["main", "serve"])
async def test_the_runtime_is_compiled_once_for_each_interpreter(tmp_path: Path, name: str) -> None:
    async with running(tmp_path) as executor:
        for key in executor.runtimes:
            await deploy(executor, tmp_path, "hello", runtime=key)
            tag = "cpython-" + key.removeprefix("python-").replace(".", "")
            assert list((tmp_path / "runtime").glob(f"*/nbfunctions_runtime/__pycache__/{name}.{tag}.pyc")), key


async def test_a_function_answers_with_the_least_that_settings_allow(tmp_path: Path) -> None:
    least = {
        f.name: f.metadata["least"] for f in fields(Settings) if f.metadata["unit"] in ("MB", "processes", "files")
    }
    async with running(tmp_path, **least) as executor:
        for key in executor.runtimes:
            sends = await deploy(executor, tmp_path, "sends", runtime=key, deployment_id=key)
            assert (await sends("200 x", memory=MEMORY_LEAST)).response == "x", key
