"""A function that exists in the notebook, back to a cell's source: itself and the imports of its cell that it uses."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

from nbfunctions.capture.package import Origin, Package, package_source
from nbfunctions.errors import PackageError
from nbfunctions.options import Options

__all__ = ["package_callable"]


def package_callable(target: Callable[..., Any], options: Options, *, origin: Origin | None = None) -> Package:
    """Return the package of a function; line numbers stay those of the cell or file it stands in.

    Raises an error of the :class:`~nbfunctions.errors.PackageError` family: among others for what has no source, and
    for names that only another statement of the notebook defines.
    """
    target = inspect.unwrap(target)
    if not inspect.isfunction(target) or target.__name__ == "<lambda>" or "<locals>" in target.__qualname__:
        raise PackageError(
            f"{options.name}: only a function made by def, at the top of a cell or file, can be deployed"
        )
    file = inspect.getsourcefile(target)
    try:
        lines, _ = inspect.findsource(target)
    except OSError:
        raise PackageError(f"{options.name}: its source can't be found; deploy it with %%function") from None
    tree = ast.parse("".join(lines))
    node = _definition(tree, target)
    if node is None:
        raise PackageError(f"{options.name}: its source has changed since it was defined ({file}); run the cell again")
    kept = _source(lines, tree, node, options)
    return package_source(kept, _entry(options, target), origin=origin or Origin(), namespace=target.__globals__)


def _entry(options: Options, target: Callable[..., Any]) -> Options:
    import dataclasses

    return dataclasses.replace(options, entrypoint=options.entrypoint or target.__name__)


def _definition(tree: ast.Module, target: Any) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    first = target.__code__.co_firstlineno
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == target.__name__:
            starts = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if starts <= first <= node.lineno:
                return node
    return None


def _source(lines: list[str], tree: ast.Module, node: ast.FunctionDef | ast.AsyncFunctionDef, options: Options) -> str:
    """Return the lines of the function and of the imports it uses, each where it stood; the rest is left empty."""
    ours = [decorator for decorator in node.decorator_list if _is_ours(decorator)]
    used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    used -= {n.id for decorator in ours for n in ast.walk(decorator) if isinstance(n, ast.Name)} - _body_names(node)
    kept = [""] * len(lines)
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom) and (_is_future(statement) or _binds(statement) & used):
            _keep(kept, lines, statement.lineno, statement.end_lineno)
    starts = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    _keep(kept, lines, starts, node.end_lineno)
    for decorator in ours:
        for number in range(decorator.lineno, (decorator.end_lineno or decorator.lineno) + 1):
            kept[number - 1] = ""
    comment = f"# nbfunctions: {options.id}"
    place = ours[0].lineno - 1 if ours else next((i for i, line in enumerate(kept) if not line.strip()), None)
    if place is not None:
        kept[place] = comment
    return "\n".join(kept).rstrip() + "\n"


def _body_names(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    parts = [*node.body, node.args, *([node.returns] if node.returns else [])]
    return {n.id for part in parts for n in ast.walk(part) if isinstance(n, ast.Name)}


def _binds(statement: ast.Import | ast.ImportFrom) -> set[str]:
    return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}


def _is_future(statement: ast.Import | ast.ImportFrom) -> bool:
    """Whether it changes how the rest is read, used by name or not."""
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _is_ours(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (isinstance(called, ast.Attribute) and called.attr == "function") or (
        isinstance(called, ast.Name) and called.id == "function"
    )


def _keep(kept: list[str], lines: list[str], first: int, last: int | None) -> None:
    for number in range(first, (last or first) + 1):
        kept[number - 1] = lines[number - 1].rstrip("\n")
