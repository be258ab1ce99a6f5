"""Loads the function's code and finds the function to call (spec, section 8.3; entry points are ours)."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from typing import Any, Callable, List  # noqa: UP035 - Python 3.8 runs this

__all__ = ["EntrypointMissing", "find", "load", "make_importable"]

PACKAGE = "userlib"


class EntrypointMissing(Exception):
    """The code has no function to call, or several; the message lists what was found."""


def make_importable(code: str, packages: str, file: str) -> None:
    """Put the entry point's folder, the code and its packages on ``sys.path``, and the code below ``userlib``."""
    folder = os.path.dirname(os.path.join(code, file))  # noqa: PTH118, PTH120
    sys.path[:0] = list(dict.fromkeys([folder, code]))
    if packages:
        sys.path.append(packages)
    initial = os.path.join(code, "__init__.py")  # noqa: PTH118
    if os.path.exists(initial):  # noqa: PTH110
        spec = importlib.util.spec_from_file_location(PACKAGE, initial, submodule_search_locations=[code])
        assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - a .py file has a loader
        package = importlib.util.module_from_spec(spec)
        sys.modules[PACKAGE] = package
        spec.loader.exec_module(package)
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
    path = os.path.join(code, file)  # noqa: PTH118
    loader = importlib.machinery.SourceFileLoader(PACKAGE + "." + name, path)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None  # noqa: S101 - the loader was given
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


def find(module: types.ModuleType, file: str, name: str, function_id: str) -> Callable[..., Any]:
    """Return the function to call: ``name`` if given, else ``main``, else the one named like the function id, else the
    file's only function. Raises :class:`EntrypointMissing`."""
    own = [key for key, value in vars(module).items() if _is_own(module, key, value)]
    if name:
        wanted = getattr(module, name, None)
        if not callable(wanted):
            raise EntrypointMissing("%s has no function %r; %s" % (file, name, _found(own)))
        return wanted
    for candidate in ("main", function_id.replace("-", "_").replace(".", "_")):
        value = getattr(module, candidate, None)
        if callable(value):
            return value
    if len(own) == 1:
        found: Callable[..., Any] = getattr(module, own[0])
        return found
    raise EntrypointMissing(
        "%s has no function to call: expected main, %s, or exactly one function; %s"
        % (file, function_id.replace("-", "_").replace(".", "_"), _found(own))
    )


def _is_own(module: types.ModuleType, key: str, value: object) -> bool:
    return (
        not key.startswith("_")
        and callable(value)
        and not isinstance(value, type)
        and getattr(value, "__module__", None) == module.__name__
    )


def _found(names: List[str]) -> str:  # noqa: UP006
    return "found " + (", ".join(sorted(names)) if names else "no function")
