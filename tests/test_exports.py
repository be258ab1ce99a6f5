"""The shop window: what is public is on purpose, is there, and costs nothing before it is used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest

import nbfunctions
from tests.test_layers import MODULES, ours

PUBLIC = {
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
}
PROGRAMS = {"runtimes.python.main"}
"""Modules that are executed, never imported."""
HEAVY = ("IPython", "httpx", "msgspec", "numpy", "pandas", "starlette", "uvicorn", "packaging", "platformdirs")


def test_nothing_slips_into_or_out_of_the_shop_window() -> None:
    assert set(nbfunctions.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(nbfunctions, name) is not None
    assert name in dir(nbfunctions)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nbfunctions' has no attribute 'task'"):
        nbfunctions.task  # noqa: B018


def test_a_public_class_knows_its_module() -> None:
    for name, home in nbfunctions._HOMES.items():
        assert name in importlib.import_module(f"nbfunctions.{home}").__all__


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = f"import sys, nbfunctions; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


def test_loading_the_extension_imports_neither_pandas_nor_the_http_client() -> None:
    program = (
        "import sys, IPython; from IPython.core.interactiveshell import InteractiveShell;"
        "InteractiveShell.instance().run_line_magic('load_ext', 'nbfunctions');"
        "print(*[name for name in ('pandas', 'httpx', 'starlette') if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


def public_names(module: str) -> list[str]:
    """Return ``__all__``, or where a module has none, every name without an underscore in front."""
    loaded = importlib.import_module(f"nbfunctions.{module}")
    return list(getattr(loaded, "__all__", [name for name in vars(loaded) if not name.startswith("_")]))


def test_a_module_has_what_it_says() -> None:
    for module in MODULES:
        if module and module not in PROGRAMS:
            names = public_names(module)
            loaded = importlib.import_module(f"nbfunctions.{module}")
            assert [name for name in names if not hasattr(loaded, name)] == [], module
            assert len(names) == len(set(names)), f"{module}: each name once"


def test_what_one_module_takes_from_another_is_public_there() -> None:
    private = []
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text())):
            source = ours(node.module or "") if isinstance(node, ast.ImportFrom) and not node.level else None
            if not source or not isinstance(node, ast.ImportFrom):
                continue
            public = public_names(source)
            for alias in node.names:
                if f"{source}.{alias.name}" not in MODULES and alias.name not in public:
                    private.append(f"{module or '__init__'} takes {alias.name} from {source}")
    assert not private, "\n".join(private)


def test_only_what_is_carried_elsewhere_imports_by_relative_names() -> None:
    """The runtime lies in the sandbox under a name of its own; everything else says where it takes things from."""
    relative = {
        module
        for module, file in MODULES.items()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    }
    assert {module.partition(".")[0] for module in relative} == {"runtimes"}
