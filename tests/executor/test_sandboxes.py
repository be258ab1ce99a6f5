"""What every sandbox must do, and what each promises: one contract for all drivers."""

from __future__ import annotations

import json
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbfunctions.errors import SandboxUnavailable
from nbfunctions.executor.runtimes import HostRuntime, RuntimeFiles
from nbfunctions.executor.sandbox import choose_sandbox
from nbfunctions.executor.sandbox.bubblewrap import Bubblewrap, bwrap_programs, candidates, uids_for
from nbfunctions.executor.sandbox.none import Unconfined
from nbfunctions.executor.sandbox.once import run_once
from nbfunctions.executor.sandbox.proof import prove
from nbfunctions.executor.sandbox.protocol import Limits, Room, Sandbox
from nbfunctions.executor.sandbox.seccomp import filter_program
from nbfunctions.settings import Settings
from tests.executor.deployments import deploy, gone, open_files, running


def drivers() -> Iterator[str]:
    yield "none"
    yield from (str(program) for program in bwrap_programs())


@pytest.fixture(params=drivers())
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    if request.param == "none":
        return Unconfined(tmp_path / "tmp")
    driver = Bubblewrap(Path(request.param), uids_for(tmp_path, 4), tmp_path / "sandbox")
    driver.write_accounts()
    return driver


@pytest.fixture
def room(tmp_path: Path) -> Room:
    files = RuntimeFiles(tmp_path)
    files.install()
    code = tmp_path / "code"
    code.mkdir()
    code.joinpath("file.txt").write_text("content")
    limits = Limits(memory=256, tmp_size=8, processes=64, open_files=128)
    return Room(
        interpreter=HostRuntime.own().interpreter, runtime=files.folder, code=code, packages=None, limits=limits
    )


async def python(sandbox: Sandbox, room: Room, code: str, *arguments: str, seconds: float = 10) -> tuple[int, str, str]:
    return await run_once(sandbox, room, ["-I", "-S", "-c", code, *arguments], seconds=seconds)


async def test_it_keeps_what_it_promises(sandbox: Sandbox, room: Room, tmp_path: Path) -> None:
    await prove(sandbox, room, tmp_path)


async def test_it_runs_the_interpreter_and_tells_its_exit_status(sandbox: Sandbox, room: Room) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    assert await python(sandbox, room, code) == (7, "out\n", "err\n")
    assert (await python(sandbox, room, "import os; os.kill(os.getpid(), 9)"))[0] == 137


async def test_it_shows_the_code(sandbox: Sandbox, room: Room) -> None:
    path = f"{sandbox.places(room).code}/file.txt"
    assert (await python(sandbox, room, "import sys; print(open(sys.argv[1]).read())", path))[1] == "content\n"


async def test_it_limits_memory_and_open_files(sandbox: Sandbox, room: Room) -> None:
    status, _, stderr = await python(sandbox, room, "x = bytearray(300 * 1024 * 1024)")
    assert (status, stderr.splitlines()[-1]) == (1, "MemoryError")
    limits = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CORE))"
    assert (await python(sandbox, room, limits))[1] == "(128, 128) (0, 0)\n"


async def test_it_ends_in_time_with_everything_it_started(sandbox: Sandbox, room: Room) -> None:
    before = open_files()
    code = "import subprocess, time; subprocess.Popen(['/bin/sleep', '98771']); time.sleep(60)"
    with pytest.raises(TimeoutError):
        await python(sandbox, room, code, seconds=0.5)
    assert await gone("98771")
    assert open_files() <= before + 1


async def test_no_variable_of_the_server_is_in_its_environment(
    sandbox: Sandbox, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "secret")
    _, stdout, _ = await python(sandbox, room, "import json, os; print(json.dumps(dict(os.environ)))")
    assert set(json.loads(stdout)) <= {"PWD", "LC_CTYPE"}


async def test_an_isolating_one_has_a_small_tmp_and_no_way_out(sandbox: Sandbox, room: Room, tmp_path: Path) -> None:
    if not sandbox.promises & {"files"}:
        pytest.skip("it promises nothing of files")
    fill = "open('/tmp/x', 'wb').write(b'x' * 9 * 1024 * 1024)"
    assert (await python(sandbox, room, fill))[2].splitlines()[-1] == "OSError: [Errno 28] No space left on device"
    code = "import os, sys; print(os.path.exists(sys.argv[1]), os.listdir('/proc/self/fd'))"
    assert (await python(sandbox, room, code, str(tmp_path)))[1] == "False ['0', '1', '2', '3']\n"


async def test_threads_and_subprocesses_work(sandbox: Sandbox, room: Room) -> None:
    code = (
        "import subprocess, threading\n"
        "threads = [threading.Thread(target=print, args=('thread',)) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(subprocess.run(['/bin/echo', 'child'], capture_output=True, text=True).stdout)"
    )
    status, stdout, stderr = await python(sandbox, room, code)
    assert (status, stderr) == (0, "")
    assert stdout.split() == ["thread"] * 8 + ["child"]


async def test_a_broken_promise_is_found(room: Room, tmp_path: Path) -> None:
    class Boastful(Unconfined):
        promises = frozenset({"files"})

    with pytest.raises(SandboxUnavailable, match="files of the server can be seen inside"):
        await prove(Boastful(tmp_path / "tmp"), room, tmp_path)


async def test_without_a_working_program_it_refuses_with_advice(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("nbfunctions.executor.sandbox.bubblewrap.bwrap_programs", lambda: iter([broken]))
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(SandboxUnavailable) as caught:
        await choose_sandbox(settings, room)
    message = str(caught.value)
    assert message.count("No permissions to create new namespace") == 1
    assert "Install bubblewrap" in message
    assert "--sandbox none" in message
    assert (await choose_sandbox(Settings(data_dir=tmp_path, sandbox="none"), room)).name == "none"
    monkeypatch.setattr("nbfunctions.executor.sandbox.bubblewrap.bwrap_programs", lambda: iter([]))
    with pytest.raises(SandboxUnavailable, match="no bwrap program was found"):
        await choose_sandbox(settings, room)


async def test_functions_run_without_a_sandbox_when_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path, sandbox="none") as executor:
        hello = await deploy(executor, tmp_path, "hello")
        assert (await hello("Ada", variables={"GREETING": "Hi"})).status_code == 200
        raises = await deploy(executor, tmp_path, "raises")
        assert '  File "sibling.py", line 3, in fail' in (await raises()).stderr
        hostile = await deploy(executor, tmp_path, "hostile")
        assert (await hostile('["grandchild", "98772", false]')).status == "completed"
    assert await gone("98772")


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has one uid")
def test_servers_of_one_host_use_different_uids(tmp_path: Path) -> None:
    one, two = (next(candidates(tmp_path / name, 8)).uids for name in "ab")
    assert one is not None
    assert two is not None
    assert not set(one.all) & set(two.all)
    taken = [one.take() for _ in one.all]
    with pytest.raises(OSError, match="all 40 sandbox uids are in use"):
        one.take()
    one.give(taken[3])
    assert one.take() == taken[3]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_stays_in_it_and_it_ends_in_an_answer(machine: str) -> None:
    program = filter_program(machine)
    assert program is not None
    instructions = [struct.unpack("=HBBI", program[place : place + 8]) for place in range(0, len(program), 8)]
    assert len(instructions) < 4096
    for place, (code, on_true, on_false, _) in enumerate(instructions):
        if code & 7 == 5:
            assert place + 1 + max(on_true, on_false) < len(instructions)
    assert instructions[-1][0] == 0x06


def test_a_machine_without_a_table_has_no_filter() -> None:
    assert filter_program("riscv64") is None
    assert filter_program(platform.machine()) is not None
