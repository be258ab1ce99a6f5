"""Loads the function's code and finds the function to call (spec, section 8.3; entry points are ours)."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import types

TYPE_CHECKING = False  # importing typing would cost every cold start milliseconds
if TYPE_CHECKING:
    from typing import Any, Callable

__all__ = ["EntrypointMissing", "find", "load", "make_importable"]

PACKAGE = "userlib"


class EntrypointMissing(Exception):
    """The code has no function to call, or several; the message lists what was found."""


def make_importable(code: str, packages: str, file: str) -> None:
    """Put the entry point's folder, the code and its packages on ``sys.path``, and the code below ``userlib``."""
    folder = os.path.dirname(os.path.join(code, file))
    sys.path[:0] = list(dict.fromkeys([folder, code]))
    if packages:
        sys.path.append(packages)
    initial = os.path.join(code, "__init__.py")
    if os.path.exists(initial):
        _execute(PACKAGE, initial, package_of=[code])
    else:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [code]
        sys.modules[PACKAGE] = package


def load(code: str, file: str) -> types.ModuleType:
    """Import the entry point's file as a module of ``userlib``; raises whatever the file raises."""
    dotted = file[:-3] if file.endswith(".py") else file
    parts = dotted.split("/")
    if file.endswith(".py") and all(part.isidentifier() for part in parts):
        return importlib.import_module(".".join([PACKAGE, *parts]))
    # A file that no import statement could name: loaded by its path, its folder's files are its siblings.
    name = "".join(letter if letter.isalnum() else "_" for letter in dotted)
    path = os.path.join(code, file)
    return _execute(PACKAGE + "." + name, path)


def _execute(name: str, path: str, package_of: list[str] | None = None) -> types.ModuleType:
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.machinery.ModuleSpec(name, loader, origin=path, is_package=package_of is not None)
    spec.has_location = True
    spec.submodule_search_locations = package_of
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def find(module: types.ModuleType, file: str, name: str, function_id: str) -> Callable[..., Any]:
    """Return the function to call: ``name`` if given, else ``main``, else the one named like the function id, else the
    file's only function. Raises :class:`EntrypointMissing`."""
    own = [key for key, value in vars(module).items() if _is_own(module, key, value)]
    if name:
        wanted: Callable[..., Any] | None = getattr(module, name, None)
        if not callable(wanted):
            raise EntrypointMissing(f"{file} has no function {name!r}; {_found(own)}")
        return wanted
    for candidate in ("main", function_id.replace("-", "_").replace(".", "_")):
        value: Callable[..., Any] | None = getattr(module, candidate, None)
        if callable(value):
            return value
    if len(own) == 1:
        found: Callable[..., Any] = getattr(module, own[0])
        return found
    raise EntrypointMissing(
        "{} has no function to call: expected main, {}, or exactly one function; {}".format(
            file, function_id.replace("-", "_").replace(".", "_"), _found(own)
        )
    )


def _is_own(module: types.ModuleType, key: str, value: object) -> bool:
    return (
        not key.startswith("_")
        and callable(value)
        and not isinstance(value, type)
        and getattr(value, "__module__", None) == module.__name__
    )


def _found(names: list[str]) -> str:
    return "found " + (", ".join(sorted(names)) if names else "no function")
