"""Which server: arguments, environment, profile, or the embedded one, of which there is never more than one."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nbfunctions import connection
from nbfunctions.client import Client
from nbfunctions.errors import ConnectionFailed, SettingInvalid
from tests.serving import ROOT

CONNECT = "import nbfunctions; c = nbfunctions.connect(); c.functions.list(); print(c.endpoint)"


def servers_of(place: Path) -> list[int]:
    """Return the process ids of servers whose connection file lies below ``place``."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"serve" in words and any(word.startswith(str(place).encode()) for word in words):
                found.append(int(folder.name))
    return found


def test_five_processes_at_once_share_one_server(no_server: Path) -> None:
    command = [sys.executable, "-c", CONNECT]
    five = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(5)]
    outputs = [process.communicate(timeout=60)[0].strip() for process in five]
    assert [process.returncode for process in five] == [0] * 5
    assert len(set(outputs)) == 1
    assert len(servers_of(no_server)) == 1


def test_the_server_outlives_who_started_it_and_is_found_again(no_server: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", CONNECT + "; import sys, time; sys.stdout.flush(); time.sleep(60)"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=no_server,
    )
    assert starter.stdout is not None
    endpoint = starter.stdout.readline().strip()
    os.killpg(starter.pid, signal.SIGKILL)
    starter.communicate(timeout=10)
    found = connection.find_embedded()
    assert found is not None
    assert found["endpoint"] == endpoint
    assert connection.connect().endpoint == endpoint


def test_the_connection_file_is_for_its_owner_only_and_the_server_is_detached(no_server: Path) -> None:
    connection.connect()
    file = no_server / "runtime" / "nbfunctions-server.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    pid = json.loads(file.read_text())["pid"]
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"JPY_" not in environment
    log = no_server / "data" / "nbfunctions" / "server.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_server_that_was_killed_is_replaced_and_old_clients_find_the_new_one(no_server: Path) -> None:
    client = connection.connect()
    client.functions.list()
    first = connection.find_embedded()
    assert first is not None
    os.kill(first["pid"], signal.SIGKILL)
    while Path(f"/proc/{first['pid']}").exists() and connection.find_embedded():
        time.sleep(0.01)
    assert connection.find_embedded() is None
    assert client.functions.list().total == 0
    second = connection.find_embedded()
    assert second is not None
    assert second["pid"] != first["pid"]
    assert client.endpoint == second["endpoint"]


def test_stopping_returns_the_process_that_ended_and_is_safe_to_repeat(no_server: Path) -> None:
    assert connection.stop_embedded() is None
    connection.connect()
    found = connection.find_embedded()
    assert found is not None
    assert connection.stop_embedded() == found["pid"]
    assert connection.stop_embedded() is None
    assert servers_of(no_server) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"endpoint": "x"}', '{"pid": "x"}'])
def test_a_connection_file_that_says_nothing_is_no_server(no_server: Path, content: str) -> None:
    file = no_server / "runtime" / "nbfunctions-server.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert connection.find_embedded() is None


def test_someone_elses_process_id_is_no_server(no_server: Path) -> None:
    file = no_server / "runtime" / "nbfunctions-server.json"
    file.parent.mkdir(parents=True)
    content = {"endpoint": "http://127.0.0.1:1/v1", "project": "p", "key": "k", "pid": os.getpid(), "data_dir": "/"}
    file.write_text(json.dumps(content))
    assert connection.find_embedded() is None


def test_a_server_that_cannot_start_says_why_in_one_line(no_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBFUNCTIONS_TIMEOUT_LIMIT", "soon")
    with pytest.raises((ConnectionFailed, SettingInvalid)) as raised:
        connection.connect()
    assert "NBFUNCTIONS_TIMEOUT_LIMIT: expected a whole number, found 'soon'" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert servers_of(no_server) == []


def test_a_data_directory_that_another_server_owns_is_said(no_server: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-m", "nbfunctions", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    try:
        assert owner.stdout is not None
        assert json.loads(owner.stdout.readline())["pid"] == owner.pid
        with pytest.raises(ConnectionFailed, match="data directory"):
            connection.connect()
    finally:
        owner.terminate()
        owner.communicate(timeout=40)


# -- servers that are named ---------------------------------------------------------------------------------


@pytest.fixture
def profile_file(home: Path) -> Any:
    file = home / "config" / "nbfunctions.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    yield file
    file.unlink(missing_ok=True)
    connection.choose()


def address(client: Client) -> dict[str, str]:
    found = connection.find_embedded()
    assert found is not None
    return {name: found[name] for name in ("endpoint", "project", "key")}


def test_arguments_win_over_the_environment(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBFUNCTIONS_ENDPOINT", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("NBFUNCTIONS_KEY", "nothing")
    assert connection.connect(**address(client)).functions.list().total == 0


def test_the_environment_wins_over_the_embedded_server(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBFUNCTIONS_ENDPOINT", "http://127.0.0.1:1/v1")
    with pytest.raises(ConnectionFailed, match=r"needs an API key: set NBFUNCTIONS_KEY"):
        connection.connect()
    monkeypatch.setenv("NBFUNCTIONS_KEY", "abc")
    monkeypatch.setenv("NBFUNCTIONS_PROJECT", "mine")
    chosen = connection.connect()
    assert (chosen.endpoint, chosen.project) == ("http://127.0.0.1:1/v1", "mine")


def test_a_profile_names_a_server_and_its_key_may_come_from_the_environment(
    client: Client, profile_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = address(client)
    monkeypatch.setenv("MY_KEY", where["key"])
    profile_file.write_text(f'[profiles.prod]\nendpoint = "{where["endpoint"]}"\nkey_env = "MY_KEY"\n')
    assert connection.connect("prod").functions.list().total == 0
    report = connection.choose("prod")
    assert (report.origin, report.project) == ("profile prod", "default")
    assert where["key"] not in f"{report!r} {report._repr_html_()}"
    assert connection.current().origin == "profile prod"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no profile 'prod' in"),
        ("[profiles.test]\nendpoint = 'http://x'", "profiles there: test"),
        ("[profiles.prod]\nkey = 'k'", "[profiles.prod] needs an endpoint"),
        ("[profiles.prod]\nendpoint = 'http://x'\nkee = 'k'", "[profiles.prod] has no setting 'kee'"),
        ("[profiles.prod]\nendpoint = 3", "endpoint in [profiles.prod] must be a text"),
        ("[profiles.prod]\nendpoint = 'x'\nkey = 'k'", "the endpoint must begin with http:// or https://, found 'x'"),
        ("[profiles.prod]\nendpoint = 'http://x'\nkey_env = 'NO_SUCH'", "takes its key from NO_SUCH"),
        ("[profiles]\nprod = 1", "profiles must be tables"),
        ("[profiles", "is not valid TOML"),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused_by_name(home: Path, profile_file: Path, text: str, said: str) -> None:
    profile_file.write_text(text)
    with pytest.raises(SettingInvalid) as raised:
        connection.connect("prod")
    assert said in str(raised.value)


def test_a_choice_that_does_not_answer_is_not_kept(client: Client) -> None:
    with pytest.raises(ConnectionFailed):
        connection.choose(endpoint="http://127.0.0.1:1/v1", key="k")
    assert connection.current().origin == "embedded server"
