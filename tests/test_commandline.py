"""The line of ``%execute``: options at both ends, data as typed, variables in braces."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from nbfunctions.commandline import expand, split_execute
from nbfunctions.errors import SettingInvalid


@pytest.mark.parametrize(
    ("line", "words", "data"),
    [
        ("", [], ""),
        ("hello", ["hello"], ""),
        ("hello Ada", ["hello"], "Ada"),
        ('hello {"a": 1, "b": "x  y"}', ["hello"], '{"a": 1, "b": "x  y"}'),
        ('hello --async {"a": 1}', ["hello", "--async"], '{"a": 1}'),
        ("--async hello Ada", ["--async", "hello"], "Ada"),
        ("hello Ada Lovelace --async", ["hello", "--async"], "Ada Lovelace"),
        ("hello --timeout 3 x --from-var v", ["hello", "--timeout", "3", "--from-var", "v"], "x"),
        ("hello --timeout=3 a  b", ["hello", "--timeout=3"], "a  b"),
        ('hello "Ada L"', ["hello"], "Ada L"),
        ("hello 'it'\"'\"'s'", ["hello"], "it's"),
        ('hello "a" and "b"', ["hello"], '"a" and "b"'),
        ("hello what is --async for", ["hello"], "what is --async for"),
        ('hello {"a": "--timeout 3"}', ["hello"], '{"a": "--timeout 3"}'),
        ("hello -- --async", ["hello"], "--async"),
        ("hello -5", ["hello"], "-5"),
        ("hello --help", ["hello", "--help"], ""),
    ],
)
def test_a_line_is_name_options_and_data(line: str, words: list[str], data: str) -> None:
    assert split_execute(line) == (words, data)


@pytest.mark.parametrize(
    ("line", "said"), [("hello --asnyc", "no option '--asnyc'"), ("hello --timeout", "needs a value")]
)
def test_an_unknown_option_is_refused(line: str, said: str) -> None:
    with pytest.raises(SettingInvalid, match=said):
        split_execute(line)


NAMES = {"who": 'A"da', "n": 3, "d": {"a": [1, 2]}, "o": SimpleNamespace(x="y"), "days": [1, 2]}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("{who}", 'A"da'),
        ("hi { who }!", 'hi A"da!'),
        ('{"k": 1}', '{"k": 1}'),
        ('{"k": {who}, "n": {n}}', '{"k": "A\\"da", "n": 3}'),
        ('{"k": "{who}"}', '{"k": "A\\"da"}'),
        ('{d["a"]}', "[1, 2]".replace(" ", "")),
        ("{d['a'][1]} {o.x}", "2 y"),
        ("{days}", "[1,2]"),
        ("{unknown} {}", "{unknown} {}"),
    ],
)
def test_braces_around_a_name_of_the_notebook_are_its_value(data: str, expected: str) -> None:
    assert expand(data, NAMES) == expected


def test_values_put_into_json_keep_it_json() -> None:
    assert json.loads(expand('{"name": {who}, "said": "{who}", "all": {d}}', NAMES)) == {
        "name": 'A"da',
        "said": 'A"da',
        "all": {"a": [1, 2]},
    }


def test_a_part_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingInvalid, match=r"\{d\['b'\]\}: KeyError: 'b'"):
        expand("{d['b']}", NAMES)
