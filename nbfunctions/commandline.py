"""The line of ``%execute``: options at either end, the data between them as it was typed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from nbfunctions.errors import SettingInvalid

__all__ = ["expand", "split_execute"]

FLAGS: Final = {"--async", "--help", "-h"}
VALUES: Final = {"--from-var", "--timeout", "--profile"}

PLACE: Final = re.compile(r"\{\s*([A-Za-z_]\w*)((?:\.[A-Za-z_]\w*|\[(?:-?\d+|'[^'\]]*'|\"[^\"\]]*\")\])*)\s*\}")
STEP: Final = re.compile(r"\.([A-Za-z_]\w*)|\[(-?\d+|'[^'\]]*'|\"[^\"\]]*\")\]")


def split_execute(line: str) -> tuple[list[str], str]:
    """Return name and options as words, and the data.

    Data is everything after the name that isn't an option at its beginning or end; one pair of quotes around the whole
    of it is taken off, as a shell would. ``--`` ends the options before the data. Raises :class:`SettingInvalid`.
    """
    words: list[str] = []
    rest = line.strip()
    named = False
    while rest:
        word, _, after = rest.partition(" ")
        if word == "--":
            return words, after.strip()
        if not word.startswith("-") or _is_number(word):
            if named:
                break
            named = True
            words.append(word)
            rest = after.strip()
            continue
        taken, rest = _option(word, after.strip())
        words += taken
    while (found := re.search(r"(?:^|\s)(--?[a-z][\w-]*(?:=\S*)?)(?:\s+([^\s\"'{}\[\]]+))?$", rest)) is not None:
        option, value = found[1], found[2]
        name = option.partition("=")[0]
        if name not in FLAGS | VALUES or (value is not None and (name in FLAGS or "=" in option)):
            break
        taken, _ = _option(option, value or "")
        words += taken
        rest = rest[: found.start()].rstrip()
    return words, _unquoted(rest)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _option(word: str, after: str) -> tuple[list[str], str]:
    name, equals, _ = word.partition("=")
    if word in FLAGS or (name in VALUES and equals):
        return [word], after
    if name in VALUES:
        value, _, rest = after.partition(" ")
        if not value:
            raise SettingInvalid(f"%execute: {name} needs a value")
        return [word, value], rest.strip()
    known = ", ".join(sorted(FLAGS | VALUES))
    raise SettingInvalid(
        f"%execute: there is no option {name!r}; options are {known}; -- before data that begins with -"
    )


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] not in "\"'" or text[0] != text[-1]:
        return text
    try:
        words = shlex.split(text)
    except ValueError:
        return text
    return words[0] if len(words) == 1 else text


def expand(data: str, namespace: Mapping[str, Any]) -> str:
    """Replace ``{name}``, ``{name.attribute}`` and ``{name["key"]}`` by the notebook's values.

    In data that is a JSON object or list a value is written as JSON, inside quotes as JSON's text; elsewhere text is
    put in as it is. Braces around anything else stay, as ``{"k": 1}`` does. Raises :class:`SettingInvalid` for a part
    that the value doesn't have.
    """
    begins = data.lstrip()
    as_json = begins[:1] in ("{", "[") and not PLACE.match(begins)

    def value(match: re.Match[str]) -> str:
        if match[1] not in namespace:
            return match[0]
        found = _follow(namespace[match[1]], match[2], match[0])
        quoted = as_json and data[: match.start()].endswith('"') and data[match.end() :].startswith('"')
        if quoted:
            return json.dumps(found if isinstance(found, str) else _json(found), ensure_ascii=False)[1:-1]
        return found if isinstance(found, str) and not as_json else _json(found)

    return PLACE.sub(value, data)


def _json(value: Any) -> str:
    from nbfunctions.calls import json_of

    return json_of(value)


def _follow(value: Any, steps: str, shown: str) -> Any:
    for attribute, key in STEP.findall(steps):
        try:
            if attribute:
                value = getattr(value, attribute)
            else:
                value = value[int(key) if key.lstrip("-").isdigit() else key[1:-1]]
        except (AttributeError, KeyError, IndexError, TypeError) as error:
            raise SettingInvalid(f"{shown}: {type(error).__name__}: {error}") from None
    return value
