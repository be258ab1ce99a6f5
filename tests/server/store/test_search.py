"""How searches and texts split into words."""

from __future__ import annotations

import pytest

from nbfunctions.server.store import search


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t+-@*.:/", []),
        ("Hello World", ["hello", "world"]),
        ("my-function.v2", ["my", "function", "v2"]),
        ("snake_case", ["snake_case"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("数据 работа", ["数据", "работа"]),
    ],
)
def test_words_are_letters_digits_and_underscores_in_one_case(text: str, expected: list[str]) -> None:
    assert search.words(text) == expected


def test_every_term_but_the_last_is_a_whole_word() -> None:
    text = search.searchable("hello", "python-3.11")
    assert text == " hello python 3 11 "
    found = {"hell": True, "hell x": False, "hello x": True, "x hell": True, "ello": False, "11": True, "-": False}
    assert {terms: search.finds(terms, text) for terms in found} == found
