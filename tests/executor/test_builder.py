"""Builds: from an archive to code and packages that an instance can use (spec, sections 6.1 and 8.4)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from nbfunctions.errors import ArchiveInvalid, BuildFailed
from nbfunctions.executor.builder import BuildOutput
from nbfunctions.executor.install import installer_environment
from nbfunctions.executor.local import LocalExecutor
from nbfunctions.executor.requirements import read_requirements
from tests.executor.deployments import (
    RUNTIME,
    Deployed,
    deploy,
    files_of,
    gone,
    order_for,
    processes_with,
    quiet,
    running,
)

Deploy = Callable[..., Awaitable[Deployed]]


async def test_a_package_is_installed_once_and_found(executor: LocalExecutor, tmp_path: Path) -> None:
    said: list[str] = []

    def log(stream: str, text: str) -> None:
        said.append(text)

    function = await deploy(executor, tmp_path, "needs_a_package", log=log)
    assert any("six==1.17.0" in line for line in said), said
    assert (await function()).response == "1.17.0"
    key = json.loads(function.call.output)["packages"]
    installed = tmp_path / "packages" / key
    assert list(installed.glob("__pycache__/six.*.pyc"))
    assert installed.stat().st_mode & 0o777 == 0o755
    assert any("six" in line for line in said)
    assert not any(str(tmp_path) in line or "interpreter" in line for line in said)
    # Other code with the same wishes, written otherwise, uses the same packages.
    said.clear()
    files = {**files_of("needs_a_package"), "requirements.txt": b"six == 1.17.0 # again\n", "more.txt": b""}
    began = time.monotonic()
    again = await deploy(executor, tmp_path, "again", files=files, log=log)
    assert time.monotonic() - began < 0.5
    assert json.loads(again.call.output)["packages"] == key
    assert said == ["Using 1 installed requirement(s)\n"]


async def test_packages_can_not_be_changed_by_a_function(deployed: Deploy) -> None:
    code = b"import os, six\ndef main(req, res):\n    open(six.__file__, 'a')\n"
    files = {"main.py": code, "requirements.txt": b"six"}
    function = await deployed("changes", files=files)
    assert "Read-only file system" in (await function()).stderr or "Permission denied" in (await function()).stderr


async def test_a_package_that_does_not_exist_fails_the_build_and_leaves_nothing(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    files = {**files_of("hello"), "requirements.txt": b"six==0.0.0.999"}
    with pytest.raises(BuildFailed, match="could not be installed") as caught:
        await deploy(executor, tmp_path, "broken", files=files)
    assert "six" in str(caught.value)
    for place in (str(tmp_path), "python3", "/tmp"):  # noqa: S108
        assert place not in str(caught.value)
    assert list((tmp_path / "packages").iterdir()) == []


async def test_the_same_order_again_is_cheap_and_gives_the_same(executor: LocalExecutor, tmp_path: Path) -> None:
    order = order_for(tmp_path, files_of("hello"))
    first = await executor.prepare(order, quiet)
    assert await executor.prepare(order, quiet) == first
    assert json.loads(first) == {"digest": order.digest, "packages": ""}
    assert await asyncio.gather(*(executor.prepare(order, quiet) for _ in range(3))) == [first] * 3


async def test_a_missing_entry_point_is_told_with_what_there_is(executor: LocalExecutor, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"has no file 'index.py', the entry point; it holds main.py, other.txt"):
        await deploy(executor, tmp_path, "two_functions", entrypoint="index.py")
    with pytest.raises(BuildFailed, match=r"did you mean 'src/app.py'\?"):
        await deploy(executor, tmp_path, "packaged", entrypoint="app.py")
    for entrypoint in ("../main.py", "/etc/passwd", ""):
        with pytest.raises(BuildFailed, match="must be a file of the archive"):
            await deploy(executor, tmp_path, "hello", entrypoint=entrypoint)


async def test_a_syntax_error_fails_the_build_with_its_line(executor: LocalExecutor, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed) as caught:
        await deploy(executor, tmp_path, "syntax_error")
    lines = str(caught.value).splitlines()
    assert lines[0] == '  File "main.py", line 2'
    assert lines[-1] == "SyntaxError: '(' was never closed"


async def test_a_dangerous_archive_is_refused(executor: LocalExecutor, tmp_path: Path) -> None:
    order = order_for(tmp_path, files_of("hello"))
    order.archive.write_bytes(b"no archive")
    with pytest.raises(ArchiveInvalid):
        await executor.prepare(order, quiet)
    assert list((tmp_path / "code").iterdir()) == []


async def test_an_unknown_runtime_is_told_with_those_there_are(executor: LocalExecutor, tmp_path: Path) -> None:
    order = msgspec.structs.replace(order_for(tmp_path, files_of("hello")), runtime="python-2.7")
    with pytest.raises(BuildFailed, match=f"'python-2.7' is not installed here; there are .*{RUNTIME}"):
        await executor.prepare(order, quiet)


async def test_a_build_that_takes_too_long_or_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    files = {**files_of("hello"), "requirements.txt": b"pandas\n"}
    async with running(tmp_path) as executor:
        build = asyncio.create_task(deploy(executor, tmp_path, "slow", files=files))
        while not processes_with(f"--target {tmp_path}".replace(" ", "\0")):
            assert not build.done()
            await asyncio.sleep(0.001)
        build.cancel()
        with pytest.raises(asyncio.CancelledError):
            await build
        assert list((tmp_path / "packages").iterdir()) == []
        assert await gone(str(tmp_path))


async def test_leftovers_of_a_killed_server_are_removed(tmp_path: Path) -> None:
    for folder in ("code", "packages"):
        (tmp_path / folder / ".half-made" / "deeper").mkdir(parents=True)
    async with running(tmp_path):
        assert [list((tmp_path / folder).iterdir()) for folder in ("code", "packages")] == [[], []]


def test_requirements_are_normalised() -> None:
    text = "\ufeff# comment\nSix == 1.17.0 # why\n\nrequests[socks] >=2 ; python_version > '3'\nb @ https://h.example/b-1-py3-none-any.whl\n"
    assert read_requirements(text).lines == (
        "Six==1.17.0",
        "b @ https://h.example/b-1-py3-none-any.whl",
        'requests[socks]>=2; python_version > "3"',
    )
    hashed = read_requirements("six==1.17.0 \\\n    --hash=sha256:ab \\\n    --hash=sha256:01\n")
    assert (hashed.lines, hashed.hashed) == (("six==1.17.0 --hash=sha256:01 --hash=sha256:ab",), True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("six\n-r other.txt", r"line 2: '-r other.txt' is another requirements file"),
        ("--constraint=c.txt", r"line 1: '--constraint=c.txt' is a constraints file"),
        ("-e .", r"line 1: '-e \.' is an editable install"),
        ("-eggs", r"line 1: '-eggs' is an option"),
        ("--index-url https://x.example", r"line 1: .* is an option; which index is asked is the server's setting"),
        ("./local", r"line 1: './local' is a path"),
        ("/etc/passwd", r"line 1: '/etc/passwd' is a path"),
        ("pkg-1.0-py3-none-any.whl", r"line 1: .* is a path"),
        ("x @ file:///etc/passwd", r"line 1: .* has an address that is not https://, found 'file:///etc/passwd'"),
        ("x @ git+https://x.example/y", r"line 1: .* is not https://"),
        ("six = 1", r"line 1: 'six = 1' is not a requirement"),
        ("\n\nsix==1 \\\n  --hash=md5:1", r"line 3: 'md5:1' is no hash"),
        ("six --global-option=x", r"line 1: .* is not a requirement"),
    ],
)
def test_requirements_that_reach_elsewhere_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(BuildFailed, match=f"^requirements.txt {sentence}"):
        read_requirements(text)


@pytest.mark.parametrize("text", ['{"digest":"../../etc"}', '{"digest":"ab","packages":""}', "no json", '{"digest":1}'])
def test_an_output_that_is_no_builds_is_refused(text: str) -> None:
    with pytest.raises(BuildFailed, match="this deployment's build output"):
        BuildOutput.read(text)


def test_an_installer_gets_settings_and_no_secrets(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nextra-index-url = https://a.example https://b.example\ncert = /own/ca.pem\n"
    )
    environ = {
        "PATH": "/usr/bin",
        "https_proxy": "http://proxy.example",
        "UV_CACHE_DIR": "/cache",
        "PIP_INDEX_URL": "https://mirror.example/simple",
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "HOME": str(tmp_path),
        "NBFUNCTIONS_KEY": "secret",
        "DATABASE_URL": "secret",
    }
    kept = installer_environment(environ)
    assert kept["SSL_CERT_FILE"] == "/own/ca.pem"
    assert kept["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert kept["UV_INDEX"].startswith("https://a.example https://b.example")
    assert {"https_proxy", "UV_CACHE_DIR", "HOME"} < set(kept)
    assert "secret" not in kept.values()
