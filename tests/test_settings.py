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
    file = written(tmp_path, "[server]\nport = 1\nmemory = 32\nprocesses = 30\n")
    environ = {"NBFUNCTIONS_PORT": "10", "NBFUNCTIONS_MEMORY": "64"}
    found = load({"port": "100", "memory": None}, environ=environ, file=file)
    assert (found.port, found.memory, found.processes) == (100, 64, 30)
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
        ({"NBFUNCTIONS_PORT": "-1"}, "NBFUNCTIONS_PORT: expected a number of at least 0, found '-1'"),
        ({"NBFUNCTIONS_INSTANCES": "0"}, "NBFUNCTIONS_INSTANCES: expected a number above 0, found '0'"),
        ({"NBFUNCTIONS_MEMORY": "1"}, "NBFUNCTIONS_MEMORY: expected a number of at least 16 MB, found '1'"),
        ({"NBFUNCTIONS_MEMORY_LIMIT": "1"}, "NBFUNCTIONS_MEMORY_LIMIT: expected a number of at least 16 MB, found '1'"),
        ({"NBFUNCTIONS_PROCESSES": "3"}, "NBFUNCTIONS_PROCESSES: expected a number of at least 4 processes, found '3'"),
        ({"NBFUNCTIONS_OPEN_FILES": "1"}, "NBFUNCTIONS_OPEN_FILES: expected a number of at least 16 files, found '1'"),
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
    ("options", "environ", "text", "said"),
    [
        (
            {"memory": "9000"},
            {},
            "",
            "--memory: expected at most memory_limit (8192, the default), found 9000",
        ),
        (
            {"memory": "300"},
            {"NBFUNCTIONS_MEMORY_LIMIT": "256"},
            "",
            "--memory: expected at most memory_limit (256, set by NBFUNCTIONS_MEMORY_LIMIT), found 300",
        ),
        (
            {"concurrency_limit": "2"},
            {},
            "",
            "--concurrency-limit: expected at least concurrency (8, the default), found 2",
        ),
        (
            {"concurrency_limit": "2"},
            {},
            "[server]\nconcurrency = 3\n",
            "concurrency in {file}: expected at most concurrency_limit (2, set by --concurrency-limit), found 3",
        ),
    ],
)
def test_a_default_above_its_bound_is_named(
    options: dict[str, str], environ: dict[str, str], text: str, said: str, tmp_path: Path
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SettingInvalid) as raised:
        load(options, environ=environ, file=file)
    assert str(raised.value) == said.format(file=file)


def test_a_default_may_be_its_bound(tmp_path: Path) -> None:
    found = load(
        {"memory": "16", "memory_limit": "16", "concurrency": "1", "concurrency_limit": "1"},
        environ={},
        file=tmp_path / "none.toml",
    )
    assert (found.memory, found.memory_limit, found.concurrency, found.concurrency_limit) == (16, 16, 1, 1)


def test_bounds_are_in_the_help_and_on_the_page() -> None:
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()
    said = {name: help_[help_.index(" At ") + 1 :] for name, _, _, help_ in table() if " At " in help_}
    assert said == {
        "memory": "At least 16, at most `memory_limit`.",
        "memory_limit": "At least 16.",
        "concurrency": "At most `concurrency_limit`.",
        "processes": "At least 4.",
        "open_files": "At least 16.",
    }
    for name, sentence in said.items():
        assert sentence in page.partition(f"### {name}\n")[2].partition("\n### ")[0], name


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
