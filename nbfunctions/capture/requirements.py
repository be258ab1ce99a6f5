"""From imports to pinned requirements, by what this kernel has installed, offline."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution
from pathlib import Path

from nbfunctions.errors import RequirementsInvalid

__all__ = ["Import", "Pin", "find_imports", "pin_imports", "read_requirements"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import:
    """A module that the cell imports."""

    module: str
    """Dotted, with the imported name where it may be a module: ``google.cloud.storage``."""
    line: int
    optional: bool
    """Whether the cell goes on without it: it stands in a ``try`` that catches ImportError."""

    @property
    def top(self) -> str:
        """First part of the dotted name."""
        return self.module.partition(".")[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pin:
    """One line of ``requirements.txt`` and the import that asked for it."""

    requirement: str
    module: str
    line: int
    note: str = ""


def find_imports(tree: ast.Module) -> list[Import]:
    """Return what a cell imports, inside functions too; imports for type checkers only are left out."""
    return list(_walk(tree, optional=False))


def _walk(node: ast.AST, *, optional: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(module=alias.name, line=node.lineno, optional=optional)
        return
    if isinstance(node, ast.ImportFrom):
        if node.level:
            raise RequirementsInvalid(
                f"cell line {node.lineno}: 'from {'.' * node.level}{node.module or ''} import ...' is relative, "
                "and a cell has no files beside it"
            )
        for alias in node.names:
            name = node.module or ""
            module = name if alias.name == "*" else f"{name}.{alias.name}"
            yield Import(module=module, line=node.lineno, optional=optional)
        return
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        for statement in node.orelse:
            yield from _walk(statement, optional=optional)
        return
    if isinstance(node, ast.Try) and any(_catches_import_error(handler) for handler in node.handlers):
        for tried in node.body:
            yield from _walk(tried, optional=True)
        # What stands in for the missing module may be missing itself: then the handler needs it.
        parts: list[ast.AST] = [*node.handlers, *node.orelse, *node.finalbody]
        for part in parts:
            yield from _walk(part, optional=optional)
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):  # no import inside an expression
            yield from _walk(child, optional=optional)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
    return any(isinstance(kind, ast.Name) and kind.id in names for kind in caught)


def pin_imports(imports: list[Import]) -> list[Pin]:
    """Return exact pins of the distributions that the imports come from, one a distribution, sorted by name.

    Only what the cell itself imports is pinned. Raises :class:`RequirementsInvalid` naming the line for a module that
    isn't installed here, or is installed from a local folder.
    """
    pins: dict[str, Pin] = {}
    for item in imports:
        if item.top in sys.stdlib_module_names or item.top == "__future__":
            continue
        found, note = _choose(item, _owners().get(item.top, ()))
        if found is not None:
            pins.setdefault(found.name.lower(), _pin(found, item, note))
        elif not item.optional:
            raise RequirementsInvalid(_missing(item))
    return [pins[name] for name in sorted(pins)]


def _owners() -> Mapping[str, tuple[Distribution, ...]]:
    """Return which installed distributions provide a top-level module, sorted by name."""
    state = []
    for entry in sys.path:
        try:
            state.append((entry, Path(entry or ".").stat().st_mtime_ns))
        except OSError:
            state.append((entry, 0))
    return _read_owners(tuple(state))


@functools.lru_cache(maxsize=1)
def _read_owners(state: tuple[tuple[str, int], ...]) -> dict[str, tuple[Distribution, ...]]:
    """Reading every RECORD takes a while; a folder of packages changes its time when something is installed."""
    found: dict[str, dict[str, Distribution]] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if not name:
            continue
        declared = (distribution.read_text("top_level.txt") or "").split()
        for module in declared or _first_parts(distribution):
            found.setdefault(module, {}).setdefault(name, distribution)  # the first on sys.path is the imported one
    return {module: tuple(named[name] for name in sorted(named, key=str.lower)) for module, named in found.items()}


def _first_parts(distribution: Distribution) -> set[str]:
    found = set()
    for file in distribution.files or ():
        first = file.parts[0]
        if first == ".." or first.endswith((".dist-info", ".egg-info", ".data", ".pth")):
            continue
        if len(file.parts) > 1 or first.endswith((".py", ".so", ".pyd")):
            found.add(first.partition(".")[0])
    return found


def _choose(item: Import, owners: tuple[Distribution, ...]) -> tuple[Distribution | None, str]:
    """Return the distribution to pin for an import that several may provide, and a remark on the choice."""
    if len(owners) < 2:
        return (owners[0] if owners else None), ""
    depths = [_depth(distribution, item.module) for distribution in owners]
    nearest = [distribution for distribution, depth in zip(owners, depths, strict=True) if depth == max(depths)]
    if len(nearest) == 1:
        return nearest[0], ""
    # The same module in several distributions, as opencv-python and opencv-python-headless: one is enough.
    wanted = item.top.replace("_", "-").lower()
    chosen = next((one for one in nearest if one.name.replace("_", "-").lower() == wanted), nearest[0])
    others = ", ".join(one.name for one in nearest if one is not chosen)
    return chosen, f"{item.top} is in {others} too; {chosen.name} was taken"


def _depth(distribution: Distribution, module: str) -> int:
    """Return how many parts of the dotted ``module`` the distribution has files of."""
    parts = module.split(".")
    deepest = 0
    for file in distribution.files or ():
        last = len(file.parts) - 1
        has = [part.partition(".")[0] if place == last else part for place, part in enumerate(file.parts)]
        pairs = zip(parts, has, strict=False)
        deepest = max(deepest, sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return deepest


def _pin(distribution: Distribution, item: Import, note: str) -> Pin:
    address = _direct_address(item, distribution)
    name = distribution.name
    version, _, local = distribution.version.partition("+")
    if local and not address:
        note = f"{name} {distribution.version} is a local build; {version} was pinned"
    requirement = f"{name} @ {address}" if address else f"{name}=={version}"
    return Pin(requirement=requirement, module=item.top, line=item.line, note=note)


def _direct_address(item: Import, distribution: Distribution) -> str:
    """Return the address of an archive on the web that a distribution was installed from, else an empty text."""
    text = distribution.read_text("direct_url.json")
    if not text:
        return ""
    try:
        origin = json.loads(text)
    except ValueError:
        return ""
    name, url = distribution.name, str(origin.get("url", ""))
    if "dir_info" in origin or url.startswith("file:"):
        how = "in editable mode" if origin.get("dir_info", {}).get("editable") else "from a local file or folder"
        raise RequirementsInvalid(
            f"cell line {item.line}: {name} is installed {how} here ({url}), so the function can't install the same: "
            "install a published version, or name the packages with --requirements FILE"
        )
    if "vcs_info" in origin:
        raise RequirementsInvalid(
            f"cell line {item.line}: {name} is installed from a repository here ({url}), and builds take wheels only: "
            "install a published version, or name the packages with --requirements FILE"
        )
    return url


def _missing(item: Import) -> str:
    where = f"cell line {item.line}: 'import {item.top}'"
    try:
        spec = importlib.util.find_spec(item.top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return (
            f"{where}: no module of that name is installed in this kernel, so its version isn't known: "
            f"install it here, or name the packages with --requirements FILE"
        )
    if spec.origin in (None, "built-in", "frozen"):
        return f"{where}: it belongs to no installed distribution"
    editable = _editable_owner(str(spec.origin))
    if editable:
        return (
            f"{where}: {editable} is installed in editable mode here, so the function can't install the same: "
            "install a published version, or name the packages with --requirements FILE"
        )
    return (
        f"{where}: it is a local file ({spec.origin}), which a function doesn't take along: "
        "put its code into the cell, or install it as a package"
    )


def _editable_owner(origin: str) -> str:
    """Return the distribution whose source folder ``origin`` lies in; an editable one may list no files of its own."""
    for distribution in importlib.metadata.distributions():
        text = distribution.read_text("direct_url.json") or ""
        if '"dir_info"' in text:
            folder = urllib.parse.unquote(urllib.parse.urlsplit(json.loads(text).get("url", "")).path)
            if folder and Path(origin).is_relative_to(folder):
                return distribution.name
    return ""


def read_requirements(file: Path) -> str:
    """Return the text of a requirements file whose every line names a package.

    Raises :class:`RequirementsInvalid` naming file and line; ``-r``, ``-e`` and other options of pip are refused, since
    they point at files and registries that the build doesn't have.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        text = file.expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text in UTF-8"
        raise RequirementsInvalid(f"--requirements {file}: {reason}; name another file, none or auto") from None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("-"):
            raise RequirementsInvalid(f"{file}, line {number}: options of pip can't be used here, found {line!r}")
        try:
            Requirement(line)
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            raise RequirementsInvalid(f"{file}, line {number}: {line!r} isn't a requirement: {reason}") from None
    return text
