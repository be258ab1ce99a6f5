"""The three shapes of a handler, entry points, and what becomes of what they return (spec, sections 7.4 and 8.3)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nbfunctions.settings import Settings
from tests.executor.deployments import Deployed

Deploy = Callable[..., Awaitable[Deployed]]


async def test_the_first_generation_reads_its_payload_and_variables(deployed: Deploy) -> None:
    hello = await deployed("hello")
    outcome = await hello("Ada", variables={"GREETING": "Hello"})
    assert (outcome.status, outcome.status_code, outcome.response_type) == ("completed", 200, "json")
    assert outcome.response == '{"message":"Hello, Ada"}\n'
    assert (outcome.stderr, outcome.layer) == ("", "")


async def test_json_is_written_as_flask_wrote_it(deployed: Deploy) -> None:
    code = b"def main(req, res):\n    res.json({'b': [1, 2.5, None], 'a': '\\u00e9\\u20ac'})\n"
    function = await deployed("flask", files={"main.py": code})
    assert (await function()).response == '{"a":"\\u00e9\\u20ac","b":[1,2.5,null]}\n'


async def test_the_last_answer_wins_and_keeps_its_status(deployed: Deploy) -> None:
    sends = await deployed("sends")
    outcome = await sends("404 not here")
    assert (outcome.status, outcome.status_code, outcome.response) == ("completed", 404, "not here")
    assert outcome.response_type == "text"


async def test_a_status_of_500_is_a_failure_whose_body_is_its_stderr(deployed: Deploy) -> None:
    outcome = await (await deployed("sends"))("503 closed")
    assert (outcome.status, outcome.status_code, outcome.response) == ("failed", 503, "")
    assert (outcome.stderr, outcome.layer) == ("closed", "code")


async def test_a_status_that_is_none_is_the_functions_mistake(deployed: Deploy) -> None:
    outcome = await (await deployed("sends"))("999 x")
    assert (outcome.status, outcome.status_code) == ("failed", 500)
    assert "ValueError: status must be a whole number from 100 to 599, found 999" in outcome.stderr


async def test_a_handler_that_answers_nothing_fails(deployed: Deploy) -> None:
    outcome = await (await deployed("answers_nothing"))()
    assert (outcome.status, outcome.status_code) == ("failed", 500)
    assert outcome.stderr == "the function returned without calling res.send() or res.json()"


async def test_the_later_generation_returns_its_answer(deployed: Deploy) -> None:
    function = await deployed("later_generation")
    outcome = await function("text")
    assert (outcome.status_code, json.loads(outcome.response)) == (201, {"body": "text", "method": "POST"})
    assert (outcome.stdout, outcome.stderr) == ("got text\n", "told\n")
    parsed = await function('{"a": 1}', headers={"Content-Type": "application/json"})
    assert json.loads(parsed.response)["body"] == {"a": 1}
    assert "return context.res.json(...)" in (await function("nothing")).stderr


async def test_async_handlers_share_one_event_loop_between_calls(deployed: Deploy) -> None:
    function = await deployed("asynchronous")
    assert [(await function(data)).response for data in "ab"] == ["awaited a", "awaited b"]


async def test_a_plain_function_takes_its_parameters_from_data(deployed: Deploy) -> None:
    forecast = await deployed("forecast")
    outcome = await forecast('{"store": "Riga", "days": 3}')
    assert outcome.response_type == "json"
    assert json.loads(outcome.response) == {"store": "Riga", "days": 3, "scale": 1.0}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("", "parameter 'store' is missing; found nothing"),
        ('{"days": 1}', "parameter 'store' is missing; found 'days'"),
        ('{"store": 1}', "parameter 'store': expected a text, found the number 1"),
        ('{"store": "R", "days": "three"}', "parameter 'days': expected a whole number, found the text \"three\""),
        ('{"store": "R", "dayz": 1}', "unknown parameter 'dayz'; the function has 'store', 'days', 'scale'"),
        ("[1]", "data: expected a JSON object with 'store', 'days', 'scale', found the list [1]"),
        ("Riga", "data: expected a JSON object with 'store', 'days', 'scale', found 'Riga', which is not JSON"),
        ("[" * 90_000, "which is not JSON"),
    ],
)
async def test_data_that_does_not_fit_is_answered_with_422(deployed: Deploy, data: str, sentence: str) -> None:
    outcome = await (await deployed("forecast"))(data)
    assert (outcome.status, outcome.status_code, outcome.stderr) == ("completed", 422, "")
    assert outcome.response.endswith(sentence)


async def test_variadic_parameters_take_a_list_and_the_rest(deployed: Deploy) -> None:
    add = await deployed("adds")
    assert (await add('{"numbers": [1, 2], "x": 3}')).response == "6"
    assert (await add('{"x": "3"}')).response == "parameter 'x': expected a whole number, found the text \"3\""


@pytest.mark.parametrize(
    ("which", "kind", "response"),
    [
        ("none", "json", "null"),
        ("text", "json", '"héllo"'),
        ("bytes", "bytes", "AP8="),
        ("nan", "json", '{"x":null,"y":[null,1.5]}'),
        ("point", "json", '{"x":1,"when":"2026-01-02"}'),
        ("moment", "json", '"2026-01-02T03:04:05+00:00"'),
        ("span", "json", "60.5"),
        ("money", "json", '"1.10"'),
        ("colour", "json", '["red",{"red":1}]'),
        ("set", "json", "[1,2,3]"),
        ("id", "json", '"00000000-0000-0000-0000-000000000001"'),
        ("path", "json", '"a/b"'),
        ("tuple_keys", "json", '{"(1, 2)":3,"2026-01-01":4}'),
        ("iterator", "json", "[1,2]"),
        ("nested_bytes", "json", '{"raw":"YWI="}'),
    ],
)
async def test_return_values_become_json(deployed: Deploy, which: str, kind: str, response: str) -> None:
    outcome = await (await deployed("returns"))(json.dumps({"which": which}))
    assert (outcome.status, outcome.response_type, outcome.response) == ("completed", kind, response), outcome.stderr


@pytest.mark.parametrize(
    ("which", "layer", "reason"),
    [
        ("large", "limit", "the function returned 1000003 bytes as json; an answer can have at most 1000000"),
        ("impossible", "code", "TypeError: a builtins.object can't be turned into JSON"),
        ("itself", "code", "ValueError: the result contains itself"),
    ],
)
async def test_a_value_that_can_not_be_sent_is_a_failure(deployed: Deploy, which: str, layer: str, reason: str) -> None:
    outcome = await (await deployed("returns"))(json.dumps({"which": which}))
    assert (outcome.status, outcome.layer) == ("failed", layer)
    assert reason in outcome.stderr


TYPED: list[tuple[str, Any, str]] = [
    ("whole", 3.0, "3"),
    ("number", 3, "3.0"),
    ("flag", True, "True"),
    ("raw", "AP8=", "b'\\x00\\xff'"),
    ("moment", "2026-01-02T03:04:05Z", "datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)"),
    ("moment", None, "None"),
    ("day", "2026-01-02", "datetime.date(2026, 1, 2)"),
    ("clock", "03:04", "datetime.time(3, 4)"),
    ("span", 1.5, "datetime.timedelta(seconds=1, microseconds=500000)"),
    ("money", "1.10", "Decimal('1.10')"),
    ("money", 0.1, "Decimal('0.1')"),
    ("ident", "00000000-0000-0000-0000-000000000001", "UUID('00000000-0000-0000-0000-000000000001')"),
    ("path", "a/b", "PosixPath('a/b')"),
    ("colour", "red", "<Colour.RED: 'red'>"),
    ("colour", "ONE", "<Colour.ONE: 1>"),
    ("mode", 1, "1"),
    ("either", "3", "'3'"),
    ("many", [1, 2], "[1, 2]"),
    ("unique", ["a"], "{'a'}"),
    ("fixed", [1, "a"], "(1, 'a')"),
    ("mapping", {"1": 2}, "{1: 2.0}"),
    ("point", {"x": 1}, "Point(x=1, y=0.0)"),
    ("options", {"depth": 1}, "{'depth': 1}"),
    ("pair", ["a"], "Pair(left='a', right=2)"),
]
MISFITS: list[tuple[str, Any, str]] = [
    ("whole", 3.5, "expected a whole number, found the number 3.5"),
    ("whole", True, "expected a whole number, found true"),
    ("whole", float("1e400"), "expected a whole number, found the number Infinity"),
    ("flag", 1, "expected true or false, found the number 1"),
    ("raw", "?", 'expected bytes as a text in base64, found the text "?"'),
    ("moment", "today", 'expected a date and time in ISO 8601, found the text "today"'),
    ("money", "much", 'expected a decimal number, found the text "much"'),
    ("colour", "blue", 'expected one of "red", 1, found the text "blue"'),
    ("mode", True, 'expected one of "fast", 1, found true'),
    ("either", [], "expected a whole number or a text, found the list []"),
    ("many", "12", 'expected a list, found the text "12"'),
    ("fixed", [1], "expected a list of 2 items, found the list [1]"),
    ("mapping", {"a": 2}, 'key: expected a whole number, found the text "a"'),
    ("point", {}, "field 'x' is missing"),
    ("point", {"x": 1, "z": 2}, "unknown field 'z'; it has x, y"),
    ("options", {"width": 1}, "unknown field 'width'; it has depth"),
    ("pair", ["a", 2, 3], 'expected a list of at most 2 items, found the list ["a", 2, 3]'),
]


async def test_type_hints_convert(deployed: Deploy) -> None:
    typed = await deployed("typed")
    for name, value, shown in TYPED:
        outcome = await typed(json.dumps({name: value}))
        assert json.loads(outcome.response)[name] == shown, (name, value, outcome)


async def test_what_does_not_fit_a_type_hint_is_told_in_a_sentence(deployed: Deploy) -> None:
    typed = await deployed("typed")
    for name, value, sentence in MISFITS:
        outcome = await typed(json.dumps({name: value}))
        assert outcome.status_code == 422, (name, value, outcome)
        assert outcome.response == f"parameter '{name}': {sentence}"


async def test_a_traceback_begins_in_the_functions_own_code(deployed: Deploy) -> None:
    outcome = await (await deployed("raises"))()
    assert outcome.stdout == "before\n"
    lines = outcome.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == '  File "sibling.py", line 3, in fail'
    assert '  File "main.py", line 10, in main' in lines
    assert lines[-1] == "ValueError: no luck"
    assert "KeyError: 'key'" in lines
    assert "nbfunctions" not in outcome.stderr
    assert "/function" not in outcome.stderr


async def test_code_that_can_not_be_loaded_fails_with_its_traceback(deployed: Deploy) -> None:
    outcome = await (await deployed("fails_to_load"))()
    assert (outcome.status, outcome.status_code, outcome.layer, outcome.cold) == ("failed", 500, "code", True)
    assert outcome.stderr.splitlines()[:2] == [
        "Traceback (most recent call last):",
        '  File "main.py", line 2, in <module>',
    ]
    assert outcome.stderr.rstrip().endswith("ModuleNotFoundError: No module named 'does_not_exist'")


async def test_an_entry_point_that_can_not_be_found_lists_what_there_is(deployed: Deploy) -> None:
    function = await deployed("two_functions")
    outcome = await function()
    assert outcome.stderr == (
        "main.py has no function to call: expected main, two_functions, or exactly one function; found first, second"
    )
    named = await function('{"a": 1}', entrypoint="main.py:second")
    assert named.response == "1"
    missing = await function(entrypoint="main.py:third")
    assert missing.stderr == "main.py has no function 'third'; found first, second"
    by_id = await function('{"a": 2}', function_id="fir-st".replace("-", ""))
    assert by_id.response == "2"


async def test_siblings_are_found_by_relative_and_by_plain_imports(deployed: Deploy) -> None:
    function = await deployed("packaged", entrypoint="src/app.py")
    assert json.loads((await function()).response) == {
        "relative": "relative",
        "top": "top",
        "module": "userlib.src.app",
    }


async def test_a_file_that_can_not_be_imported_by_name_is_loaded_by_its_path(deployed: Deploy) -> None:
    code = b"def main(req, res):\n    res.send(__name__)\n"
    function = await deployed("dashed", files={"my app/the-main.v2.py": code}, entrypoint="my app/the-main.v2.py")
    assert (await function()).response == "userlib.my_app_the_main_v2"


@pytest.mark.parametrize("name", ["decorated", "instance", "partial", "unused"])
async def test_a_handler_may_be_anything_that_can_be_called(deployed: Deploy, name: str) -> None:
    unusual = await deployed("unusual")
    expected = "callable" if name == "instance" else name
    assert (await unusual(entrypoint=f"main.py:{name}")).response == expected
    assert (await unusual('{"x": 3}', entrypoint="main.py:plain")).response == "3"


async def test_what_programs_ordinarily_rely_on_works_inside(deployed: Deploy) -> None:
    outcome = await (await deployed("ordinary"))()
    assert json.loads(outcome.response) == {
        "localhost": "127.0.0.1",
        "certificates": True,
        "user": "function",
        "processes": [1, 2],
        "threads": 16,
        "folder": "/tmp",  # noqa: S108
    }


async def test_a_hundred_threads_fit_into_the_memory_of_a_function(deployed: Deploy) -> None:
    threads = await deployed("threads")
    outcome = await threads('{"count": 100}', memory=Settings().memory, timeout=60)
    assert (outcome.status, outcome.response) == ("completed", "100"), outcome.stderr
