"""Where a setting comes from, and what is said of one that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbfunctions.errors import SettingInvalid
from nbfunctions.settings import Settings, load, table


def written(folder: Path, text: str) -> Path:
    file = folder / "nbfunctions.toml"
    file.write_text(text)
    return file


def test_without_a_word_the_defaults_count(tmp_path: Path) -> None:
    assert load(environ={}, file=tmp_path / "none.toml") == Settings()


def test_command_line_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = written(tmp_path, "[server]\nport = 1\nmemory = 2\nprocesses = 3\n")
    environ = {"NBFUNCTIONS_PORT": "10", "NBFUNCTIONS_MEMORY": "20"}
    found = load({"port": "100", "memory": None}, environ=environ, file=file)
    assert (found.port, found.memory, found.processes) == (100, 20, 3)
    assert found.instances == Settings().instances


def test_profiles_in_the_same_file_are_not_the_servers(tmp_path: Path) -> None:
    file = written(tmp_path, '[profiles.prod]\nendpoint = "https://example.org/v1"\n')
    assert load(environ={}, file=file) == Settings()


def test_a_folder_is_made_absolute_and_knows_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({"data_dir": "~/functions"}, environ={}, file=tmp_path / "none.toml").data_dir == tmp_path / "functions"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"NBFUNCTIONS_PORT": "eighty"}, "NBFUNCTIONS_PORT: expected a whole number, found 'eighty'"),
        ({"NBFUNCTIONS_PORT": "65536"}, "NBFUNCTIONS_PORT: expected a port up to 65535, found '65536'"),
        ({"NBFUNCTIONS_MEMORY": "0"}, "NBFUNCTIONS_MEMORY: expected a number above 0, found '0'"),
        ({"NBFUNCTIONS_IDLE_TIMEOUT": "-1"}, "NBFUNCTIONS_IDLE_TIMEOUT: expected a number above 0, found '-1'"),
        (
            {"NBFUNCTIONS_SANDBOX": "docker"},
            "NBFUNCTIONS_SANDBOX: expected one of auto, bubblewrap, none, found 'docker'",
        ),
        ({"NBFUNCTIONS_HOST": ""}, "NBFUNCTIONS_HOST: expected a text, found an empty one"),
    ],
)
def test_a_value_that_can_not_be_used_is_named(environ: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid) as raised:
        load(environ=environ, file=tmp_path / "none.toml")
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nprot = 1\n", "[server] has no setting 'prot'"),
        ("[server\n", "is not valid TOML"),
        ("server = 1\n", "[server] must be a table, found 1"),
        ("[server]\nport = 'x'\n", "expected a whole number, found 'x'"),
    ],
)
def test_a_file_that_can_not_be_used_is_named(text: str, said: str, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SettingInvalid) as raised:
        load(environ={}, file=file)
    assert said in str(raised.value)
    assert str(file) in str(raised.value)


def test_every_setting_has_help_and_a_whole_number_has_its_unit() -> None:
    for name, hint, unit, help_ in table():
        assert help_.endswith("."), name
        assert unit or hint is not int or name == "port", name
