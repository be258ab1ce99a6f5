"""Parameter rules: what passes, what it becomes, and the exact words of a refusal (spec, sections 0.2 to 0.4, 4.4)."""

from __future__ import annotations

from typing import Any

import pytest

from nbfunctions.errors import GeneralArgumentInvalid
from nbfunctions.server.params import (
    FLAG,
    FLAG_TEXT,
    Param,
    Rule,
    array,
    between,
    check,
    one_of,
    text,
)
from nbfunctions.server.rules import (
    CRON,
    CUSTOM_ID,
    EVENT,
    ROLES,
    UID,
    VARIABLES,
)

ID_SAID = (
    "Parameter must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, period, hyphen, and underscore. "
    "Can't start with a special char"
)
UID_SAID = (
    "UID must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, and underscore. "
    "Can't start with a leading underscore"
)
BOOLEAN_SAID = "Value must be a valid boolean"
OBJECT_SAID = "Value must be a valid object."
LOOSE = one_of("after", "before", loose=True)
NAMES = array(text(3), 2)


def said(rule: Rule, value: Any) -> str:
    with pytest.raises(GeneralArgumentInvalid) as refusal:
        check((Param("p", rule),), {"p": value})
    assert (refusal.value.code, refusal.value.type) == (400, "general_argument_invalid")
    assert refusal.value.message.startswith("Invalid p: ")
    return refusal.value.message.removeprefix("Invalid p: ")


@pytest.mark.parametrize(
    ("rule", "value", "becomes"),
    [
        (text(3), "abc", "abc"),
        (text(3), "äöü", "äöü"),
        (text(2), "🦀🦀", "🦀🦀"),
        (text(3), " ", " "),
        (NAMES, [], ()),
        (NAMES, ["a", "b"], ("a", "b")),
        (NAMES, {"x": "a", "y": "b"}, ("a", "b")),
        (one_of("ASC", "DESC"), "DESC", "DESC"),
        (LOOSE, "BEFORE", "before"),
        (LOOSE, "After", "after"),
        (between(0, 100), 0, 0),
        (between(0, 100), 100, 100),
        (between(0, 100), "25", 25),
        (between(0, 100), "0025", 25),
        (between(-5, 5), "-5", -5),
        (FLAG, True, True),
        (FLAG, False, False),
        (FLAG_TEXT, True, True),
        (FLAG_TEXT, "true", True),
        (FLAG_TEXT, "1", True),
        (FLAG_TEXT, 1, True),
        (FLAG_TEXT, "false", False),
        (FLAG_TEXT, "0", False),
        (FLAG_TEXT, 0, False),
        (CUSTOM_ID, "unique()", "unique()"),
        (CUSTOM_ID, "A.b-c_9", "A.b-c_9"),
        (CUSTOM_ID, "9" * 36, "9" * 36),
        (UID, "x" * 36, "x" * 36),
        (VARIABLES, {}, {}),
        (VARIABLES, [], {}),
        (VARIABLES, {"A": "b", "n": 3, "deep": {"x": [None]}}, {"A": "b", "n": 3, "deep": {"x": [None]}}),
        (VARIABLES, {"A": "x" * (65_535 - len('{"A": ""}'))}, {"A": "x" * (65_535 - len('{"A": ""}'))}),
        (CRON, "0 0 1 1 *", "0 0 1 1 *"),
        (CRON, "0", "0"),
        (EVENT, "users.*.create", "users.*.create"),
        (ROLES, ["role:all", "role:guest", "role:member"], ("role:all", "role:guest", "role:member")),
        (ROLES, ["user:u.1", "member:m", "team:t", "team:t/owner"], ("user:u.1", "member:m", "team:t", "team:t/owner")),
        (ROLES, ["role:all"] * 100, ("role:all",) * 100),
        (ROLES, [], ()),
    ],
)
def test_a_value_that_fits_passes(rule: Rule, value: Any, becomes: Any) -> None:
    values = check((Param("p", rule),), {"p": value})
    assert values == {"p": becomes}
    assert type(values["p"]) is type(becomes)


@pytest.mark.parametrize("value", ["abcd", "äöüß", 1, 1.5, True, [], {}, ["abc"], "a\ud800"])
def test_a_text_is_a_text_of_so_many_characters(value: Any) -> None:
    assert said(text(3), value) == "Value must be a valid string and no longer than 3 chars"


@pytest.mark.parametrize("value", ["a", 1, True, ["abcd"], ["a", "b", "c"], ["a", 1], ["a", None], [["a"]]])
def test_an_array_holds_so_many_values_that_fit(value: Any) -> None:
    # The wording is the reference's.
    assert said(NAMES, value) == "Value must a valid array and Value must be a valid string and no longer than 3 chars"


@pytest.mark.parametrize("value", ["desc", " ASC", "ASCC", 1, True, ["ASC"], {"ASC": "ASC"}])
def test_a_strict_choice_is_one_of_the_listed(value: Any) -> None:
    assert said(one_of("ASC", "DESC"), value) == "Value must be one of (ASC, DESC)"


@pytest.mark.parametrize("value", ["afterwards", 1, False, ["after"], {}])
def test_a_loose_choice_ignores_case_and_nothing_else(value: Any) -> None:
    assert said(LOOSE, value) == "Value must be one of (after, before)"


@pytest.mark.parametrize(
    "value",
    [
        -1,
        5001,
        25.5,
        25.0,
        "25.5",
        "25.0",
        "1e2",
        "abc",
        "0x10",
        "٢",
        "1_0",
        True,
        [25],
        {},
        "9" * 30,
        10**30,
        "9" * 5000,
    ],
)
def test_a_range_takes_whole_numbers_only(value: Any) -> None:
    assert said(between(0, 5000), value) == "Value must be a valid range between 0 and 5,000"


@pytest.mark.parametrize("value", ["true", "false", "1", 1, 0, 1.0, [], {}])
def test_a_strict_flag_is_true_or_false_of_json(value: Any) -> None:
    assert said(FLAG, value) == BOOLEAN_SAID


@pytest.mark.parametrize("value", ["True", "FALSE", "yes", "2", 2, 1.0, 0.0, [], {}, ["true"]])
def test_a_flag_of_a_form_is_one_of_six_values(value: Any) -> None:
    assert said(FLAG_TEXT, value) == BOOLEAN_SAID


BAD_IDS = ["_x", "-x", ".x", "x" * 37, "x y", "ä", "a/b", "x\n", "unique(", "unique() ", 1, True, ["x"], {}]


@pytest.mark.parametrize("value", BAD_IDS)
def test_an_id_of_the_callers_choice_has_letters_digits_and_three_signs(value: Any) -> None:
    assert said(CUSTOM_ID, value) == ID_SAID


@pytest.mark.parametrize("value", [*BAD_IDS, "unique()"])
def test_an_id_that_is_asked_for_can_only_be_one(value: Any) -> None:
    assert said(UID, value) == UID_SAID


@pytest.mark.parametrize("value", ["a", 1, True, ["a"], [[]], {"A": "x" * 65_536}, {"A": "ä" * 32_800}])
def test_variables_are_an_object_of_limited_size(value: Any) -> None:
    assert said(VARIABLES, value) == OBJECT_SAID


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"v": value}
    return value


@pytest.mark.parametrize("levels", [66, 200, 900, 990, 1_000, 5_000])
def test_variables_that_are_nested_without_end_are_refused(levels: int) -> None:
    assert said(VARIABLES, deep(levels)) == OBJECT_SAID


@pytest.mark.parametrize("number", [2**64, 10**30, -(2**63) - 1])
def test_a_number_that_not_every_reader_of_json_takes_is_refused(number: int) -> None:
    assert said(VARIABLES, {"n": [{"deep": number}]}) == OBJECT_SAID


@pytest.mark.parametrize(
    "value", [{"": "x"}, {"A=B": "x"}, {"A\0": "x"}, {"A": "x\0"}, {"A": "\ud800"}, {"\ud800": "x"}]
)
def test_variables_are_what_an_environment_can_hold(value: Any) -> None:
    message = said(VARIABLES, value)
    assert message.startswith(OBJECT_SAID + " ")
    message.encode()


@pytest.mark.parametrize("value", ["* * * *", "61 * * * *", "5/10 * * * *", "x", 1, True, [], {}, "* * * * *\0"])
def test_a_schedule_is_a_cron_expression(value: Any) -> None:
    assert said(CRON, value) == "String must be a valid cron expression"


@pytest.mark.parametrize("value", ["users", "unknown.*", 1, True, [], {}])
def test_an_event_is_one_of_the_tree(value: Any) -> None:
    assert said(EVENT, value) == "Event is not valid."
    assert said(array(EVENT), [value]) == "Value must a valid array and Event is not valid."


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("role:all", "Permissions roles must be an array of strings."),
        (1, "Permissions roles must be an array of strings."),
        (["role:all"] * 101, "You can only provide up to 100 permissions."),
        (["role:all", 1], "Permissions role must be of type string."),
        ([None], "Permissions role must be of type string."),
        ([["role:all"]], "Permissions role must be of type string."),
        (["*"], 'Wildcard permission "*" deprecated. Use "role:all" instead.'),
        (["some-random-string"], 'Permission roles must contain one and only one ":" character.'),
        (["user:a:b"], 'Permission roles must contain one and only one ":" character.'),
        ([""], 'Permission roles must contain one and only one ":" character.'),
        (["role:"], "Permission role value must not be empty"),
        (["role:admin"], "Permission roles must be one of: all, guest, member"),
        (["user:_x"], f"[role:$id] $id must be a valid key: {ID_SAID}"),
        (["member:x y"], f"[role:$id] $id must be a valid key: {ID_SAID}"),
        (["team:_x"], f"[role:$id] $id must be a valid key: {ID_SAID}"),
        (["team:/x"], "Team ID must not be empty."),
        (["team:x/"], "Team role must not be empty."),
        (["team:x/y/z"], 'Permission roles may contain at most one "/" character.'),
        (["team:_x/y"], f"[team:$teamId/$role] $teamID and $role must be valid keys: {ID_SAID}"),
        (["team:x/_y"], f"[team:$teamId/$role] $teamID and $role must be valid keys: {ID_SAID}"),
        (["group:x"], "Permission role must begin with one of: member, role, team, user"),
        (["role:all", "role:nobody", "*"], "Permission roles must be one of: all, guest, member"),
    ],
)
def test_a_permission_that_is_none_is_told_why(value: Any, message: str) -> None:
    assert said(ROLES, value) == message


WITH_DEFAULTS = (
    Param("functionId", UID, required=True),
    Param("limit", between(0, 100), default=25),
    Param("events", array(EVENT), default=()),
    Param("async", FLAG, default=True, key="asynchronous"),
    Param("cursorDirection", LOOSE, default="after"),
)
DEFAULTS = {"function_id": "f", "limit": 25, "events": (), "asynchronous": True, "cursor_direction": "after"}


@pytest.mark.parametrize("absent", [{}, dict.fromkeys(("limit", "events", "async", "cursorDirection"), None)])
def test_what_is_left_out_or_null_is_the_default(absent: dict[str, Any]) -> None:
    assert check(WITH_DEFAULTS, {"functionId": "f", **absent}) == DEFAULTS


@pytest.mark.parametrize("name", ["limit", "events", "async", "cursorDirection"])
def test_empty_text_is_the_default_whatever_the_rule_says(name: str) -> None:
    assert check(WITH_DEFAULTS, {"functionId": "f", name: ""}) == DEFAULTS


@pytest.mark.parametrize("given", [{}, {"functionId": None}, {"functionId": ""}])
def test_what_is_required_can_not_be_left_out(given: dict[str, Any]) -> None:
    with pytest.raises(GeneralArgumentInvalid) as refusal:
        check(WITH_DEFAULTS, given)
    assert refusal.value.message == 'Param "functionId" is not optional.'


def test_false_and_zero_are_values() -> None:
    values = check(WITH_DEFAULTS, {"functionId": "f", "limit": 0, "async": False})
    assert (values["limit"], values["asynchronous"]) == (0, False)


def test_what_nobody_asked_for_is_ignored() -> None:
    assert check(WITH_DEFAULTS, {"functionId": "f", "project": "x", "mode": [1], "": {}}) == DEFAULTS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit": "x", "async": "x"}, 'Param "functionId" is not optional.'),
        ({"functionId": "_", "limit": "x"}, f"Invalid functionId: {UID_SAID}"),
        (
            {"functionId": "f", "async": "x", "limit": 101},
            "Invalid limit: Value must be a valid range between 0 and 100",
        ),
        (
            {"functionId": "f", "async": "x", "events": ["x.y"]},
            "Invalid events: Value must a valid array and Event is not valid.",
        ),
        ({"cursorDirection": "x", "async": "x", "functionId": "f"}, f"Invalid async: {BOOLEAN_SAID}"),
    ],
)
def test_the_first_declared_parameter_that_does_not_fit_is_the_answer(given: dict[str, Any], message: str) -> None:
    with pytest.raises(GeneralArgumentInvalid) as refusal:
        check(WITH_DEFAULTS, given)
    assert refusal.value.message == message
