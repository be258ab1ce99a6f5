"""Reads ``requirements.txt`` strictly: names and versions, nothing that reaches for files, folders or other options."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement

from nbfunctions.errors import BuildFailed

__all__ = ["Requirements", "read_requirements"]

HASH = re.compile(r"\s--hash[=\s](\S+)")
VALID_HASH = re.compile(r"(sha256|sha384|sha512):[0-9a-f]+")
OPTIONS = {
    "-r": "another requirements file; write its lines here instead",
    "--requirement": "another requirements file; write its lines here instead",
    "-c": "a constraints file; give exact versions here instead",
    "--constraint": "a constraints file; give exact versions here instead",
    "-e": "an editable install; put the code itself into the archive instead",
    "--editable": "an editable install; put the code itself into the archive instead",
}


@dataclasses.dataclass(frozen=True)
class Requirements:
    """What a function asks for."""

    lines: tuple[str, ...]
    """Normalised and sorted: the same wishes are the same lines."""
    hashed: bool
    """Whether any line demands hashes, and so, as in pip, every distribution must have one."""


def read_requirements(text: str) -> Requirements:
    """Return the requirements of a ``requirements.txt``.

    Raises :class:`~nbfunctions.errors.BuildFailed` naming the line, what was found and what to do.
    """
    lines: set[str] = set()
    hashed = False
    for number, line in _logical_lines(text):
        hashes = HASH.findall(line)
        for found in hashes:
            if not VALID_HASH.fullmatch(found):
                raise BuildFailed(f"requirements.txt line {number}: {found!r} is no hash like sha256:0123...")
        requirement = _requirement(HASH.sub("", line).strip(), number)
        hashed = hashed or bool(hashes)
        lines.add(" ".join([str(requirement), *(f"--hash={found}" for found in sorted(hashes))]))
    return Requirements(tuple(sorted(lines)), hashed)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each requirement with the number of its first line, joined where a line ends in a backslash."""
    held, began = "", 0
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        began = began or number
        line = re.sub(r"(^|\s)#.*$", "", raw) if not held or not raw.lstrip().startswith("#") else ""
        if line.rstrip().endswith("\\"):
            held += line.rstrip()[:-1] + " "
            continue
        whole = (held + line).strip()
        if whole:
            yield began, whole
        held, began = "", 0
    if held.strip():
        yield began, held.strip()


def _requirement(line: str, number: int) -> Requirement:
    where = f"requirements.txt line {number}"
    if line.startswith("-"):
        option = re.split(r"[\s=]", line, maxsplit=1)[0]
        meaning = OPTIONS.get(option, "an option; which index is asked is the server's setting")
        raise BuildFailed(f"{where}: {line!r} is {meaning}")
    if line.startswith((".", "/", "~", "file:")) or re.match(r"[A-Za-z0-9_.-]+\.(whl|tar\.gz|zip)$", line):
        raise BuildFailed(f"{where}: {line!r} is a path; put the code itself into the archive instead")
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise BuildFailed(f"{where}: {line!r} is not a requirement ({reason})") from None
    if requirement.url is not None and not requirement.url.startswith("https://"):
        raise BuildFailed(f"{where}: {line!r} has an address that is not https://, found {requirement.url!r}")
    return requirement
