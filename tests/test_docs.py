"""What is not documented is not done: settings, errors, magics and commands have their place in the docs."""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import nbformat
import pytest

import nbfunctions
from nbfunctions import errors, models
from nbfunctions.__main__ import parser
from nbfunctions.magics import NbfunctionsMagics
from nbfunctions.settings import Settings, table
from tests.routing import addition_rows, all_routes, documented

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
NOTEBOOKS: Final = sorted((ROOT / "notebooks").glob("*.ipynb"))
LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (DOCS / name).read_text()


def sections(text: str, level: int) -> dict[str, str]:
    """Return what stands below each heading of a level, up to the next of the same or a higher one."""
    bare = FENCE.sub(lambda fence: re.sub(r"^#", " #", fence[0], flags=re.MULTILINE), text)
    parts = re.split(rf"^(#{{1,{level}}}) (.+)$", bare, flags=re.MULTILINE)
    found = zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    return {title.strip("` "): body for marks, title, body in found if len(marks) == level}


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and mkdocs make them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


# -- settings, errors, routes, magics, commands -----------------------------------------------------------------------


def test_every_setting_has_its_section() -> None:
    found = sections(page("settings.md"), 3)
    defaults = Settings()
    assert list(found) and set(found) == {name for name, *_ in table()}
    for name, _, unit, help_ in table():
        value = (
            "the user's data folder" if name == "data_dir" else f"{getattr(defaults, name)} {unit}".strip() or "empty"
        )
        first = f"`--{name.replace('_', '-')}`, `NBFUNCTIONS_{name.upper()}`; default {value}"
        lines = found[name].strip().splitlines()
        assert lines[0] == first, name
        text = " ".join(lines[1:]).strip().replace("`", "")
        assert text.startswith(help_.partition(". ")[0].rstrip(".").replace("`", "")), name


def test_every_error_has_its_section() -> None:
    found = sections(page("errors.md"), 3)
    assert set(found) == set(errors.__all__)
    for type_, error in errors.ApiError.types.items():
        lines = found[error.__name__].strip().splitlines()
        assert lines[0] == f"{error.code} `{type_}`"
        assert len(lines) > 2, f"{type_}: what happened, and what to do"


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = errors.__doc__ or ""
    for name in errors.__all__:
        if not issubclass(getattr(errors, name), errors.ApiError):
            assert name in drawn
    assert {name.split("_")[0].title() + "…" for name in errors.ApiError.types} == set(re.findall(r"\w+…", drawn))


def test_every_route_has_its_section_and_every_parameter_its_row() -> None:
    found = sections(sections(page("api.md"), 2)["Routes"], 4)
    assert set(found) == {f"{one.method} {one.path}" for one in all_routes()}
    for one in all_routes():
        # `python -m tests.routing` prints what they should be.
        lines = found[f"{one.method} {one.path}"].strip().splitlines()
        wanted = documented(one)
        assert lines[: len(wanted)] == wanted, f"{one.method} {one.path}"
        assert not [line for line in lines[len(wanted) :] if line.startswith("| `")], f"{one.method} {one.path}"


def test_every_addition_has_its_row() -> None:
    lines = sections(page("api.md"), 2)["Additions"].splitlines()
    assert [line for line in lines if line.startswith("| ") and "`" in line] == addition_rows()


def magics() -> Iterator[tuple[str, Any]]:
    for kind, mark in (("cell", "%%"), ("line", "%")):
        for name, method in NbfunctionsMagics.magics[kind].items():
            yield mark + name, getattr(NbfunctionsMagics, method)


def rows(arguments: argparse.ArgumentParser) -> list[str]:
    """Return the table of a parser's arguments, as the page of magics has it."""
    lines = []
    for action in arguments._actions:
        value = str(action.metavar or action.dest.upper())
        takes = "" if action.nargs == 0 else f" {value}"
        shown = (", ".join(action.option_strings) + takes) if action.option_strings else value.upper()
        text = (action.help or "").replace("%%", "%")
        lines.append(f"| `{shown}` | {text} |".replace("FILE|none|auto", "FILE\\|none\\|auto"))
    return lines


def test_every_magic_has_its_section_and_every_option_its_row() -> None:
    found = sections(page("magics.md"), 2)
    assert set(found) == {name for name, _ in magics()}
    for name, method in magics():
        lines = found[name].strip().splitlines()
        assert lines[0] == method.parser.description
        assert [line for line in lines if line.startswith("| `")] == rows(method.parser), name


def commands(of: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    nested = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    for action in nested:
        for word, inner in action.choices.items():
            yield from commands(inner, f"{name} {word}")
    if not nested:
        yield name, of


def test_every_command_has_its_section_and_every_option_its_row() -> None:
    found = sections(page("commandline.md"), 2)
    every = dict(commands(parser(), "nbfunctions"))
    assert set(found) == set(every)
    settings = {f"--{name.replace('_', '-')}" for name, *_ in table()}
    for name, command in every.items():
        documented = set(re.findall(r"^\| `([\w-]+)", found[name], flags=re.MULTILINE))
        options = {(action.option_strings or [action.dest.upper()])[-1] for action in command._actions} - {"--help"}
        assert documented == (options - settings if name == "nbfunctions serve" else options), name


def test_every_scope_is_named() -> None:
    for name in ("api.md", "commandline.md"):
        assert [scope for scope in models.SCOPES if f"`{scope}`" not in page(name)] == []


# -- pages and links ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file: Path) -> None:
    text = file.read_text()
    for link in LINK.findall(FENCE.sub("", text)):
        if link.startswith(("http://", "https://")):
            continue
        place, _, anchor = unquote(link).partition("#")
        target = (file.parent / place).resolve() if place else file
        assert target.exists(), f"{file.name}: {link}"
        assert target.is_relative_to(ROOT), f"{file.name}: {link} leaves the project"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text()), f"{file.name}: {link}"


def test_every_page_is_in_the_menu() -> None:
    menu = re.findall(r"^ *- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert sorted(menu) == sorted(str(file.relative_to(DOCS)) for file in DOCS.rglob("*.md"))


def test_the_readme_begins_with_the_two_commands() -> None:
    beginning = "\n".join((ROOT / "README.md").read_text().splitlines()[:15])
    assert "make demo" in beginning
    assert "make test" in beginning


def test_make_knows_the_words_that_are_documented() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"setup", "demo", "test", "lab", "lint", "bench", "docs", "clean"} <= targets
    for file in PAGES:
        assert set(re.findall(r"`make ([a-z]+)", file.read_text())) <= targets, file.name


# -- facts that must stand twice --------------------------------------------------------------------------------


def test_the_extension_has_the_packages_version() -> None:
    package = json.loads((ROOT / "labextension" / "package.json").read_text())
    lock = json.loads((ROOT / "labextension" / "package-lock.json").read_text())
    assert package["version"] == lock["version"] == lock["packages"][""]["version"] == nbfunctions.__version__


def test_the_lock_names_no_place_that_packages_come_from() -> None:
    lock = json.loads((ROOT / "labextension" / "package-lock.json").read_text())
    assert [name for name, entry in lock["packages"].items() if "resolved" in entry] == []
    assert [name for name, entry in lock["packages"].items() if name and "integrity" not in entry] == []


def test_the_changelog_tells_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text or f"## [{nbfunctions.__version__}]" in text


def test_the_metadata_names_files_that_are_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in (project["readme"], *project["license-files"]):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[notebook.stem for notebook in NOTEBOOKS])
def test_a_notebook_is_valid(notebook: Path) -> None:
    document = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(document)
    ids = [cell["id"] for cell in document.cells]
    assert len(ids) == len(set(ids))
