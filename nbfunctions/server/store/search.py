"""What a ``search`` finds (spec, section 1.2): words, OR-ed, without regard to case; the last one is also a prefix.

Texts and searches are split by the same rule: a word is a run of letters, digits and ``_``. So the characters
``@ + - *`` separate words in both, and ids such as ``my-function.v2`` are found by any of their parts.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["finds", "needles", "searchable", "words"]

_WORD: Final = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Return the words of a text in order, folded to one case."""
    return _WORD.findall(text.casefold())


def searchable(*texts: str) -> str:
    """Return what is stored to be searched: every word with a blank on either side."""
    return f" {' '.join(words(' '.join(texts)))} "


def needles(search: str) -> list[str]:
    """Return what to look for in :func:`searchable` texts; one hit is enough, and an empty list hits nothing."""
    found = words(search)
    return [f" {word} " for word in found[:-1]] + [f" {word}" for word in found[-1:]]


def finds(search: str, text: str) -> bool:
    """Return whether a search finds a :func:`searchable` text."""
    return any(needle in text for needle in needles(search))
