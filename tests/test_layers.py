"""Imports point one way: the rules of docs/architecture.md, read from the source without executing it."""

from __future__ import annotations

import ast
import dataclasses
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE: Final = Path(__file__).parents[1] / "nbfunctions"
ARCHITECTURE: Final = PACKAGE.parent / "docs" / "architecture.md"


@dataclasses.dataclass(frozen=True)
class Layer:
    """A part of the house: the modules it has, by name or as everything below a name that ends in a dot."""

    modules: tuple[str, ...]
    may_import: tuple[str, ...]

    def has(self, module: str) -> bool:
        return any(
            module == name.removesuffix(".") or (name.endswith(".") and module.startswith(name))
            for name in self.modules
        )


LAYERS: Final = {
    "floor": Layer(("errors", "models", "settings", "archive"), ("floor",)),
    "runtimes": Layer(("runtimes.",), ("runtimes",)),
    "executor": Layer(("executor.",), ("executor", "floor", "runtimes")),
    "server": Layer(("server.",), ("server", "executor", "floor")),
    "notebook": Layer(
        (
            "",
            "calls",
            "capture.",
            "client",
            "commandline",
            "completion",
            "connection",
            "deploy",
            "display",
            "frames",
            "handle",
            "local",
            "magics",
            "mapping",
            "notebook",
            "options",
        ),
        ("notebook", "floor"),
    ),
    "command line": Layer(("__main__",), ("notebook", "server", "floor")),
}

SHARED: Final = {"calls", "commandline", "local"}
"""Modules of the notebook side that may import ``runtimes.python`` as well: how values are written as data and read
back is decided there once, for both ends of a call."""

OUTSIDE: Final = {
    "floor": {"msgspec", "platformdirs", "jupyter_core"},
    "runtimes": set(),
    "executor": {"msgspec", "packaging", "uv"},
    "server": {"cronsim", "httptools", "jwt", "msgspec", "starlette", "uvicorn", "uvloop", "websockets"},
    "notebook": {"IPython", "httpx", "jupyter_core", "msgspec", "packaging", "pandas"},
    "command line": set(),
}
"""What a layer may import beside the standard library."""

DISTRIBUTIONS: Final = {"jwt": "pyjwt"}
"""Those that are called otherwise than what is imported."""


@dataclasses.dataclass(frozen=True)
class Import:
    """One import: of what, in which line, and when it is executed."""

    name: str
    line: int
    at_once: bool
    """Whether it is executed when its module is: it stands neither in a function nor below ``TYPE_CHECKING``."""
    for_types: bool


def sources() -> Iterator[tuple[str, Path]]:
    """Yield every module, by its name below the package, and its file."""
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), file


MODULES: Final = dict(sources())


def imports(module: str) -> Iterator[Import]:
    """Yield the imports of a module."""
    yield from walk(module, ast.parse(MODULES[module].read_text()), at_once=True, for_types=False)


def walk(module: str, node: ast.AST, *, at_once: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, at_once, for_types)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
                kept = [part for part in package[: len(package) - child.level + 1] if part]
                base = ".".join(["nbfunctions", *kept, *([child.module] if child.module else [])])
            for alias in child.names:
                full = f"{base}.{alias.name}"
                yield Import(
                    full if full.removeprefix("nbfunctions.") in MODULES else base, child.lineno, at_once, for_types
                )
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from walk(module, ast.Module(child.body, []), at_once=False, for_types=True)
            yield from walk(module, ast.Module(child.orelse, []), at_once=at_once, for_types=for_types)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(module, child, at_once=at_once and not function, for_types=for_types)


def ours(name: str) -> str | None:
    """Return an imported module's name below the package, or None if it isn't one of ours."""
    if name == "nbfunctions":
        return ""
    inner = name.removeprefix("nbfunctions.")
    return inner if inner != name else None


def layer_of(module: str) -> str:
    return next(name for name, layer in LAYERS.items() if layer.has(module))


def test_every_module_belongs_to_one_layer() -> None:
    for module, file in MODULES.items():
        found = [name for name, layer in LAYERS.items() if layer.has(module)]
        assert len(found) == 1, f"{file} belongs to {found or 'no layer'}: LAYERS and docs/architecture.md say which"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_what_it_may(layer: str) -> None:
    wrong = []
    for module in (module for module in MODULES if LAYERS[layer].has(module)):
        allowed = {*LAYERS[layer].may_import, *(("runtimes",) if module in SHARED else ())}
        for one in imports(module):
            inner = ours(one.name)
            top = one.name.partition(".")[0]
            if inner is None:
                fine = top in sys.stdlib_module_names or top in OUTSIDE[layer]
            elif inner == "":
                fine = layer in ("notebook", "server", "command line")  # for __version__
            else:
                fine = layer_of(inner) in allowed
            if not fine:
                wrong.append(f"{MODULES[module].relative_to(PACKAGE.parent)}:{one.line} imports {one.name}")
    assert not wrong, f"not for the {layer}: {wrong}"


def test_what_is_imported_from_outside_is_required_by_name() -> None:
    wanted = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    required = {canonicalize_name(Requirement(line).name) for line in wanted}
    imported = {DISTRIBUTIONS.get(name, name) for names in OUTSIDE.values() for name in names}
    assert {canonicalize_name(name) for name in imported} <= required


def test_only_the_client_imports_httpx() -> None:
    found = {module for module in MODULES for one in imports(module) if one.name.partition(".")[0] == "httpx"}
    assert found == {"client"}


def graph(*, later: bool) -> dict[str, set[str]]:
    """Return which modules each one imports: at once, or also in its functions."""
    found: dict[str, set[str]] = {module: set() for module in MODULES}
    for module in MODULES:
        for one in imports(module):
            inner = ours(one.name)
            if inner and inner != module and not one.for_types and (one.at_once or later):
                found[module].add(inner)
    return found


@pytest.mark.parametrize("later", [False, True], ids=["when loaded", "when called"])
def test_there_are_no_circles(later: bool) -> None:
    try:
        TopologicalSorter(graph(later=later)).prepare()
    except CycleError as error:
        pytest.fail("circle: " + " -> ".join(error.args[1]))


def test_the_drawing_names_every_part() -> None:
    text = ARCHITECTURE.read_text()
    parts = {module.partition(".")[0] for module in MODULES if module}
    missing = [part for part in sorted(parts) if f"`{part}.py`" not in text and f"`{part}/`" not in text]
    assert not missing, f"docs/architecture.md does not name {missing}"
