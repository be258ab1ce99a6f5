"""Reading a cell: every refusal names the line that the user sees in the cell."""

from __future__ import annotations

import email.message
import sys
from typing import Any

import pytest

from nbfunctions.capture.cell import read_cell
from nbfunctions.errors import CellSyntaxError, EntrypointNotFound, UndefinedNames

HEAD = "# nbfunctions: hello\n"


def read(body: str, function_id: str = "hello", **options: Any) -> Any:
    return read_cell(HEAD + body, function_id, **options)


@pytest.mark.parametrize(
    ("body", "function_id", "entrypoint", "expected"),
    [
        ("def main(req, res): ...\ndef hello(): ...", "hello", None, "main"),
        ("def other(): ...\ndef hello(): ...", "hello", None, "hello"),
        ("def other(): ...\ndef a_b_c(): ...", "a-b.c", None, "a_b_c"),
        ("def forecast(store: str): ...", "hello", None, "forecast"),
        ("def _helper(): ...\nclass A: ...\ndef forecast(): ...", "hello", None, "forecast"),
        ("async def forecast(): ...", "hello", None, "forecast"),
        ("def main(): ...\ndef other(): ...", "hello", "other", "other"),
        ("def main(): ...\ndef other(): ...", "hello", "main.py:other", "other"),
        ("try:\n    import json\nexcept ImportError:\n    pass\nelse:\n    def f(): ...", "hello", None, "f"),
        ("from functools import partial\nmain = partial(print, 1)", "hello", None, "main"),
    ],
)
def test_the_entry_point_is_main_or_the_named_one_or_the_only_one(
    body: str, function_id: str, entrypoint: str | None, expected: str
) -> None:
    assert read(body, function_id, entrypoint=entrypoint).function == expected


@pytest.mark.parametrize(
    ("body", "entrypoint", "said"),
    [
        ("x = 1", None, "expected main or hello, or exactly one function; found no function"),
        (
            "def a(): ...\ndef b(): ...",
            None,
            "found a (cell line 2), b (cell line 3); --entrypoint a chooses one",
        ),
        ("def a(): ...", "b", "the cell has no function 'b'; found a (cell line 2)"),
        ("class A:\n    def main(self): ...", None, "found no function"),
    ],
)
def test_a_cell_without_entry_point_lists_what_was_found(body: str, entrypoint: str | None, said: str) -> None:
    with pytest.raises(EntrypointNotFound) as raised:
        read(body, entrypoint=entrypoint)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def f(x:\n  pass", "cell line 2: '(' was never closed\n    def f(x:\n         ^"),
        ("def f():\n    return 1 +\n", "cell line 3: invalid syntax\n    return 1 +"),
        ("\n\nif True:\nx = 1", "cell line 5: expected an indented block"),
        ("await x", "cell line 2: 'await' outside function"),
        ("return 1", "cell line 2: 'return' outside function"),
        ("%matplotlib inline\ndef f(): ...", "cell line 2: '%matplotlib inline' is an IPython command"),
        ("def f():\n    !ls -l", "cell line 3: '!ls -l' is an IPython command"),
        ("def f():\n    x = !ls", "cell line 3: 'x = !ls' is an IPython command"),
        ("df = %sql select 1\ndef f(): ...", "cell line 2: 'df = %sql select 1' is an IPython command"),
        ("len?\ndef f(): ...", "cell line 2: 'len?' is an IPython command"),
        ("def f(): return '\ud800'", "cell line 2: a character that UTF-8 can't write"),
        ("x = " + "(" * 300 + ")" * 300, "cell line 2: too many nested parentheses"),
        ("x = " + "-" * 100_000 + "1", "nested too deeply"),
    ],
)
def test_what_is_not_python_is_refused_with_its_line(body: str, said: str) -> None:
    with pytest.raises(CellSyntaxError) as raised:
        read(body)
    assert said in str(raised.value)


def test_odd_escapes_and_modulo_lines_are_python() -> None:
    assert read("def f(a, b):\n    return (a\n        % b), '\\d'").function == "f"


@pytest.mark.parametrize(
    "body",
    [
        "def f():\n    return [x for x in range(3)], {k: v for k, v in {}.items()}, __name__",
        "def f():\n    global seen\n    seen = 1\ndef main(req, res):\n    return seen",
        "class A:\n    size = 1\n    def m(self):\n        return __class__, super().m()\ndef f(a: A = A()): ...",
        "try:\n    unicode\nexcept NameError:\n    unicode = str\ndef f():\n    return unicode",
        "import os.path as p, json\ndef f():\n    return p, json, (y := 1), y",
        "def f():\n    def g():\n        return h\n    h = 1\n    return g",
        "def f(*args, **kw):\n    with open('x') as file:\n        return file, args, kw, lambda q: q",
        "for i in range(3):\n    pass\ndef f():\n    return i",
        "def f(x):\n    match x:\n        case {'a': a, **rest}:\n            return a, rest",
    ],
)
def test_names_that_something_in_the_cell_binds_are_fine(body: str) -> None:
    assert read(body).source.startswith(HEAD)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def f():\n    return alpha + beta", "'alpha' (cell line 3), 'beta' (cell line 3)"),
        ("x = alpha\ndef f(): ...", "'alpha' (cell line 2)"),
        ("def f(a: Missing): ...", "'Missing' (cell line 2)"),
        ("@decorate\ndef f(): ...", "'decorate' (cell line 2)"),
        ("class A:\n    q = 1\n    def m(self):\n        return q\ndef f(): ...", "'q' (cell line 5)"),
        ("def f():\n    display(1)\n    return get_ipython()", "'display' (cell line 3), 'get_ipython' (cell line 4)"),
        ("def a(y):\n    return y\ndef main():\n    return y", "'y' (cell line 5)"),
        ("def main(y):\n    return [z for q in y], y\nw = y", "'z' (cell line 3), 'y' (cell line 4)"),
    ],
)
def test_names_that_nothing_defines_are_named_with_their_line(body: str, said: str) -> None:
    with pytest.raises(UndefinedNames) as raised:
        read(body)
    assert said in str(raised.value)


def test_a_name_of_another_cell_is_said_to_stand_in_the_notebook() -> None:
    with pytest.raises(UndefinedNames) as raised:
        read("def f():\n    return rates, nowhere", namespace={"rates": 1})
    assert "'rates' exists in this notebook, but a function takes only its own cell along" in str(raised.value)
    assert "'nowhere' exist" not in str(raised.value)
    assert str(raised.value).endswith("define it in the cell, or pass it as an argument")


def test_a_module_that_another_cell_imports_is_answered_with_its_import() -> None:
    with pytest.raises(
        UndefinedNames, match=r"only its own cell along: put 'import email.message as em', 'import sys' into it$"
    ):
        read("def f():\n    return em, sys", namespace={"em": email.message, "sys": sys})
    with pytest.raises(UndefinedNames, match="put 'import sys' into it, and define the others there or pass them"):
        read("def f():\n    return rates, sys", namespace={"rates": 1, "sys": sys})


def test_a_star_import_switches_the_check_off_and_says_so() -> None:
    cell = read("from os.path import *\ndef f():\n    return join('a')")
    assert "cell line 2: 'from os.path import *' hides which names exist" in cell.notes[0]


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("def main(req, res): ...", "response"),
        ("def main(_request, _response): ...", "response"),
        ("def main(context): ...", "context"),
        ("def main(store: str, days: int = 7): ...", "plain"),
        ("def main(): ...", "plain"),
        ("main = print", "unknown"),
    ],
)
def test_the_parameters_tell_the_shape(body: str, shape: str) -> None:
    assert read(body).shape == shape


def test_the_signature_is_known_without_running_the_code() -> None:
    cell = read("def f(a, /, store: str, *rest, days: int = 3 + 4, **more) -> list[str]: ...")
    assert str(cell.signature) == "(a, /, store: str, *rest, days: int = 3 + 4, **more) -> list[str]"
    cell.signature.bind(1, "x", 2, days=1, other=2)
    with pytest.raises(TypeError, match="store"):
        cell.signature.bind(1)
