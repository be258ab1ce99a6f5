"""Turn a notebook cell into a backend function: packaged, deployed, versioned, run in isolation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbfunctions import errors as errors
    from nbfunctions.client import Client as Client
    from nbfunctions.connection import Connection as Connection
    from nbfunctions.connection import connect as connect
    from nbfunctions.errors import Error as Error
    from nbfunctions.errors import FunctionFailed as FunctionFailed
    from nbfunctions.handle import FunctionHandle as FunctionHandle
    from nbfunctions.handle import function as function
    from nbfunctions.models import Deployment as Deployment
    from nbfunctions.models import Execution as Execution
    from nbfunctions.models import Function as Function
    from nbfunctions.models import Runtime as Runtime

__version__ = "0.1.0"

__all__ = [
    "Client",
    "Connection",
    "Deployment",
    "Error",
    "Execution",
    "Function",
    "FunctionFailed",
    "FunctionHandle",
    "Runtime",
    "__version__",
    "connect",
    "errors",
    "function",
    "load_ipython_extension",
    "unload_ipython_extension",
]

_HOMES = {
    "Client": "client",
    "Connection": "connection",
    "Deployment": "models",
    "Error": "errors",
    "Execution": "models",
    "Function": "models",
    "FunctionFailed": "errors",
    "FunctionHandle": "handle",
    "Runtime": "models",
    "connect": "connection",
    "function": "handle",
}
"""Where each public name lives: loaded at its first use, so that ``%load_ext nbfunctions`` is quick."""


def __getattr__(name: str) -> Any:
    import importlib

    if name == "errors":
        return importlib.import_module("nbfunctions.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics and their completion: ``%load_ext nbfunctions``."""
    from nbfunctions.magics import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take back what :func:`load_ipython_extension` registered."""
    from nbfunctions.magics import unload

    unload(ipython)


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Tell JupyterLab where the prebuilt extension lies in a source tree."""
    return [{"src": "../labextension/dist", "dest": "nbfunctions"}]
