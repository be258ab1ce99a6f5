"""Functions that attack: each at worst fails its own call (the cases are in ``tests/functions/hostile``)."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nbfunctions.executor.local import LocalExecutor
from tests.executor.deployments import Deployed, deploy, gone, open_files, processes_with, running, there

Deploy = Callable[..., Awaitable[Deployed]]

X86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers of x86_64")


async def test_files_of_the_host_can_not_be_seen(deployed: Deploy, tmp_path: Path) -> None:
    hostile = await deployed("hostile")
    other = await deployed("hello")
    (tmp_path / "secret").write_text("secret")
    for path in ("/etc/shadow", tmp_path / "secret", tmp_path / "code" / other.call.digest / "main.py"):
        assert await hostile.do("read", str(path)) == {"refused": "ENOENT"}, path
    assert "function:x:" in (await hostile.do("read", "/etc/passwd"))["result"]
    listed: set[str] = set((await hostile.do("list", "/"))["result"])
    system = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "nix", "proc", "dev", "tmp"}
    assert listed - system <= {"runtime", "function", Path(sys.base_prefix).parts[1]}
    assert (await hostile.do("list", "/function"))["result"] == ["main.py"]
    assert (await hostile.do("list", "/tmp"))["result"] == []  # noqa: S108


async def test_nothing_but_tmp_can_be_written(deployed: Deploy) -> None:
    hostile = await deployed("hostile")
    for path in ("/function/main.py", "/function/new", "/runtime/new", "/usr/new", "/new", "/dev/new", "/etc/passwd"):
        assert (await hostile.do("write", path)).get("refused") in ("EROFS", "EACCES"), path
    assert (await hostile.do("write", "/proc/sys/kernel/core_pattern"))["refused"] in ("EROFS", "EACCES")
    assert await hostile.do("write", "/tmp/new") == {"result": None}  # noqa: S108
    assert await hostile.do("write", "/dev/shm/new") == {"result": None}  # noqa: S108


async def test_two_functions_share_no_files_and_no_user(deployed: Deploy) -> None:
    one, two = await deployed("hostile"), await deployed("hostile", deployment_id="second")
    await one.do("write", "/tmp/mine")  # noqa: S108
    assert await two.do("read", "/tmp/mine") == {"refused": "ENOENT"}  # noqa: S108
    if os.geteuid() == 0:
        uids = [(await function.do("uid"))["result"] for function in (one, two)]
        assert len({0, *uids}) == 3


async def test_the_environment_of_the_server_can_not_be_found(
    deployed: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBFUNCTIONS_PLANTED", "planted-secret")
    hostile = await deployed("hostile")
    for process in ("1", "self"):
        seen = await hostile.do("read", f"/proc/{process}/environ")
        assert "planted" not in str(seen), seen


async def test_variables_can_not_be_read_by_others_from_the_command_line(deployed: Deploy) -> None:
    hostile = await deployed("hostile")
    await hostile.do("uid", variables={"TOKEN": "variable-secret-417"})
    assert processes_with("variable-secret-417") == []


async def test_only_its_own_processes_can_be_seen_and_signalled(deployed: Deploy) -> None:
    hostile = await deployed("hostile")
    assert max((await hostile.do("pids"))["result"]) < 10
    assert (await hostile.do("kill", os.getpid(), 9)).get("refused") in ("ESRCH", None)
    await hostile.do("kill", -1, 9)
    await hostile.do("kill", 1, 9)
    assert (await hostile.do("pids"))["result"]


async def test_it_has_no_privileges(deployed: Deploy) -> None:
    status = (await (await deployed("hostile")).do("status"))["result"]
    assert {name: int(value, 16) for name, value in status.items() if name.startswith("Cap")} == dict.fromkeys(
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"], 0
    )
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@X86_64
async def test_dangerous_system_calls_are_refused(deployed: Deploy) -> None:
    hostile = await deployed("hostile")
    new_user, new_namespace = 0x10000000, 0x00020000
    calls: dict[str, tuple[str, tuple[int, ...]]] = {
        "unshare": ("EPERM", (272, new_user)),
        "unshare mounts": ("EPERM", (272, new_namespace)),
        "clone": ("EPERM", (56, new_user | signal.SIGCHLD, 0, 0, 0, 0)),
        "clone3": ("ENOSYS", (435, 0, 0)),
        "mount": ("EPERM", (165, 0, 0, 0, 0, 0)),
        "fsopen": ("EPERM", (430, 0, 0)),
        "ptrace": ("EPERM", (101, 0, 0, 0, 0)),
        "process_vm_readv": ("EPERM", (310, 1, 0, 0, 0, 0, 0)),
        "bpf": ("EPERM", (321, 0, 0, 0)),
        "io_uring_setup": ("ENOSYS", (425, 1, 0)),
        "keyctl": ("EPERM", (250, 0, 0)),
        "add_key": ("EPERM", (248, 0, 0, 0, 0, 0)),
        "perf_event_open": ("EPERM", (298, 0, 0, 0, 0, 0)),
        "userfaultfd": ("EPERM", (323, 0)),
        "setns": ("EPERM", (308, 0, 0)),
        "pivot_root": ("EPERM", (155, 0, 0)),
        "open_by_handle_at": ("EPERM", (304, 0, 0, 0)),
        "init_module": ("EPERM", (175, 0, 0, 0)),
        "x32 getpid": ("ENOSYS", (0x40000000 + 39,)),
    }
    for name, (expected, arguments) in calls.items():
        assert (await hostile.do("systemcall", *arguments))["result"] == expected, name
    assert (await hostile.do("systemcall", 39))["result"] == "allowed"
    assert await hostile.do("family", 38) == {"refused": "EAFNOSUPPORT"}
    assert await hostile.do("family", 17) == {"refused": "EAFNOSUPPORT"}
    assert await hostile.do("family", 2) == {"result": None}


async def test_a_fork_bomb_is_bounded(deployed: Deploy) -> None:
    hostile = await deployed("hostile")
    assert 50 < (await hostile.do("fork_bomb", 1000))["result"] < 128
    # Another function, at the same time, has processes of its own.
    other = await deployed("hostile", deployment_id="second")
    assert 50 < (await other.do("fork_bomb", 1000))["result"] < 128


async def test_memory_is_bounded(deployed: Deploy) -> None:
    hostile = await deployed("hostile")
    outcome = await hostile('["hog", 400]', memory=200)
    assert (outcome.status, outcome.layer) == ("failed", "limit")
    assert outcome.stderr.startswith("the function needed more memory than its limit\nTraceback")
    assert (await hostile.do("hog", 100, memory=200))["result"] == 100


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("garbage", "announced a head of 4294967295 and a body of 4294967295 bytes"),
        ("huge", "announced a head of 2 and a body of 4294967295 bytes"),
        ("no json", "sent a head that can't be read"),
        ("wrong fields", "sent a head that can't be read"),
        ("status", "sent a head that can't be read"),
        ("kind", "sent a head that can't be read"),
        ("deep", "sent a head that can't be read"),
        ("not utf-8", "sent a head that can't be read"),
        ("hello", "spoke out of turn"),
    ],
)
async def test_a_frame_that_is_none_fails_the_call(deployed: Deploy, kind: str, sentence: str) -> None:
    hostile = await deployed("hostile")
    outcome = await hostile(f'["speak", "{kind}"]')
    assert (outcome.status, outcome.layer) == ("failed", "code")
    assert outcome.stderr.startswith(f"the function's process {sentence}"), outcome
    assert "result" in await hostile.do("uid")


async def test_an_answer_more_than_asked_never_reaches_another_call(deployed: Deploy) -> None:
    hostile = await deployed("hostile")
    assert (await hostile('["speak", "two answers"]')).response == "one"
    assert "result" in await hostile.do("uid")
    assert "result" in await hostile.do("uid")


@pytest.mark.parametrize("order", ['["speak", "half"]', '["close"]', '["close and live"]'])
async def test_a_process_that_stops_speaking_fails_its_call(deployed: Deploy, order: str) -> None:
    hostile = await deployed("hostile")
    outcome = await hostile(order, timeout=2)
    assert outcome.status == "failed"
    assert "result" in await hostile.do("uid")


async def test_deep_json_is_the_functions_own_mistake(deployed: Deploy) -> None:
    outcome = await (await deployed("hostile"))('["deep"]')
    assert "RecursionError" in outcome.stderr


async def test_what_a_function_started_ends_with_its_instance(executor: LocalExecutor, tmp_path: Path) -> None:
    hostile = await deploy(executor, tmp_path, "hostile")
    mark = f"9{os.getpid()}"  # this run's own
    await hostile.do("grandchild", mark)
    assert await there(mark)
    await executor.stop()
    assert await gone(mark)


SERVER = """
import asyncio, sys
from pathlib import Path
from tests.executor.deployments import deploy, running

async def main():
    async with running(Path(sys.argv[1])) as executor:
        hostile = await deploy(executor, Path(sys.argv[1]), "hostile")
        await hostile.do("grandchild", sys.argv[2])
        print("ready", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_killing_the_server_leaves_no_process_behind(tmp_path: Path) -> None:
    root = str(Path(__file__).parent.parent.parent)
    mark = f"8{os.getpid()}"
    arguments: list[Any] = [sys.executable, "-c", SERVER, str(tmp_path), mark]
    server = subprocess.Popen(arguments, cwd=root, stdout=subprocess.PIPE)  # noqa: ASYNC220
    try:
        assert server.stdout is not None
        assert await asyncio.to_thread(server.stdout.readline) == b"ready\n"
        assert await there(mark)
    finally:
        server.kill()
        server.communicate()
    assert await gone(mark)
    assert await gone(str(tmp_path))


async def test_no_process_and_no_open_file_is_left(tmp_path: Path) -> None:
    before = open_files()
    async with running(tmp_path) as executor:
        hostile = await deploy(executor, tmp_path, "hostile")
        for _ in range(5):
            await hostile('["speak", "garbage"]')
            await hostile('["close"]')
        mark = f"7{os.getpid()}"
        await hostile(f'["grandchild", "{mark}"]', timeout=0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert await gone(mark)
    assert open_files() <= before + 1  # the loop's own
