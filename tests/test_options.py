"""The table of options is what the magic, the decorator and the checks read."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from nbfunctions.errors import SettingInvalid
from nbfunctions.handle import function
from nbfunctions.magics import NbfunctionsMagics
from nbfunctions.options import SETTINGS, TABLE, options_from

FLAGS = {option.flag for option in TABLE}


@pytest.mark.parametrize("method", ["function_cell", "function_line"])
def test_the_magics_have_the_tables_options_and_their_help(method: str) -> None:
    parser = getattr(NbfunctionsMagics, method).parser
    actions = {flag: action for action in parser._actions for flag in action.option_strings if flag.startswith("--")}
    assert set(actions) == FLAGS
    for option in TABLE:
        assert actions[option.flag].help == option.help.replace("%", "%%")
    words = " ".join(parser.format_help().split())
    for option in TABLE:
        assert option.flag in words
        assert " ".join(option.help.split()) in words


def test_the_decorator_takes_the_tables_options_as_keywords() -> None:
    keywords = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert keywords == [option.name for option in TABLE]


def test_help_of_the_cell_magic_names_it_with_two_percent_signs() -> None:
    cell_magic: Any = NbfunctionsMagics.function_cell
    text = cell_magic.parser.format_help()
    assert "%%function [--id ID]" in text
    assert "%%%" not in text


def test_options_that_were_not_said_are_no_settings() -> None:
    assert options_from("hello", {}).settings == {}
    said = options_from("hello", {"timeout": 3, "schedule": "", "execute": ["role:all"]})
    assert said.settings == {"timeout": 3, "schedule": "", "execute": ("role:all",)}
    assert {"execute", "event", "schedule", "timeout", "var", "var_from", "memory", "concurrency"} == SETTINGS


def test_variables_come_from_pairs_mappings_and_the_environment() -> None:
    options = options_from("hello", {"var": ["A=b c", "E=x=y", "N="], "var_from": ["TOKEN"]}, {"TOKEN": "s3"})
    assert options.vars == {"A": "b c", "E": "x=y", "N": "", "TOKEN": "s3"}
    assert options_from("hello", {"var": {"A": 1}}).vars == {"A": "1"}


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("hello", {"timeout": 0}, "--timeout: expected a whole number above 0, found 0"),
        ("hello", {"memory": "big"}, "--memory: expected a whole number above 0, found 'big'"),
        ("hello", {"var": ["A"]}, "--var: expected K=V, found 'A'"),
        ("hello", {"var": ["=A"]}, "--var: expected K=V, found '=A'"),
        ("hello", {"var_from": ["NOPE"]}, "--var-from NOPE: this kernel's environment has no such variable"),
        ("hello", {"timeuot": 3}, "there is no option 'timeuot'; did you mean timeout?"),
        ("my function", {}, "'my function' can't be a function id"),
        ("_hello", {}, "'_hello' can't be a function id"),
        ("h" * 37, {}, "can't be a function id"),
        ("hello", {"id": "a/b"}, "'a/b' can't be a function id"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_found(name: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingInvalid) as raised:
        options_from(name, given, {})
    assert said in str(raised.value)


@pytest.mark.parametrize(("name", "out", "variable"), [("a-b.c", None, "a_b_c"), ("3d", "cube", "cube")])
def test_the_handles_name_is_an_identifier(name: str, out: str | None, variable: str) -> None:
    assert options_from(name, {"out": out}).variable == variable


@pytest.mark.parametrize(("name", "out"), [("class", None), ("3d", None), ("hello", "not a name")])
def test_a_name_python_cannot_have_asks_for_out(name: str, out: str | None) -> None:
    with pytest.raises(SettingInvalid, match="give the handle one with --out VAR"):
        _ = options_from(name, {"out": out}).variable
