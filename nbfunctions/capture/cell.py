"""Reads a cell as source: is it Python, what does it call, does it stand on its own?

Lines are counted as the user sees them in the cell: the source given here keeps one line for the ``%%function`` line.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import inspect
import re
import symtable
import types
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from nbfunctions.errors import CellSyntaxError, EntrypointNotFound, UndefinedNames
from nbfunctions.options import identifier

__all__ = ["NOTHING", "Cell", "Shape", "read_cell", "signature_of"]

Shape = Literal["response", "context", "plain", "unknown"]
"""How a handler is called (experience: handlers); ``unknown`` where only running the code could tell."""

NOTHING: Final[Mapping[str, Any]] = types.MappingProxyType({})
"""The namespace of no notebook."""

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

MODULE_NAMES: Final = frozenset(
    {"__name__", "__file__", "__doc__", "__builtins__", "__spec__", "__loader__", "__package__", "__path__"}
)
NOTEBOOK_ONLY: Final = frozenset({"display", "get_ipython", "__IPYTHON__"})
"""What IPython adds to the built-in names of a kernel; a function has none of it."""

COMMAND: Final = re.compile(r"^\s*(?:[\w.,\s]+=\s*)?(%%?[a-zA-Z_]\w*|!{1,2}\S)|^\s*\?{1,2}\w|^\s*[\w.]+\?{1,2}\s*$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell that can become a function."""

    source: str
    tree: ast.Module
    function: str
    """Name of the function to call."""
    signature: inspect.Signature | None
    """Its parameters; None where only running the code could tell."""
    shape: Shape
    notes: tuple[str, ...] = ()


def read_cell(
    source: str, function_id: str, entrypoint: str | None = None, namespace: Mapping[str, Any] = NOTHING
) -> Cell:
    """Return what ``source`` is.

    ``namespace`` is the notebook's, to tell a name that stands in another cell from one that stands nowhere.
    Raises :class:`CellSyntaxError`, :class:`EntrypointNotFound` or :class:`UndefinedNames`, each naming the line.
    """
    tree, table = _parse(source)
    notes = _check_names(tree, table, namespace)
    node, name = _entrypoint(tree, function_id, entrypoint)
    signature = signature_of(node) if node is not None else None
    return Cell(
        source=source, tree=tree, function=name, signature=signature, shape=_shape(signature), notes=tuple(notes)
    )


def _parse(source: str) -> tuple[ast.Module, symtable.SymbolTable]:
    try:
        source.encode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape sequence is no reason to refuse a cell
            tree = ast.parse(source)
            compile(tree, "cell", "exec", dont_inherit=True)
            return tree, symtable.symtable(source, "cell", "exec")
    except UnicodeEncodeError as error:
        line = source.count("\n", 0, error.start) + 1
        raise CellSyntaxError(f"cell line {line}: a character that UTF-8 can't write") from None
    except SyntaxError as error:
        raise CellSyntaxError(_syntax_message(source, error)) from None
    except ValueError as error:
        raise CellSyntaxError(f"the cell isn't Python: {error}") from None
    except (RecursionError, MemoryError):
        raise CellSyntaxError("the cell is nested too deeply for Python to read") from None


def _syntax_message(source: str, error: SyntaxError) -> str:
    lines = source.splitlines()
    number = error.lineno or 1
    text = lines[number - 1] if 0 < number <= len(lines) else (error.text or "").rstrip("\n")
    command = COMMAND.match(text)
    if command:
        return (
            f"cell line {number}: {text.strip()!r} is an IPython command, which a function can't run: "
            "move it to another cell, or write it in Python"
        )
    shown = text.lstrip()
    column = max((error.offset or 1) - 1 - (len(text) - len(shown)), 0)
    return f"cell line {number}: {error.msg}\n    {shown}\n    {' ' * column}^"


# -- names --------------------------------------------------------------------------------------------------


def _check_names(tree: ast.Module, top: symtable.SymbolTable, namespace: Mapping[str, Any]) -> list[str]:
    """Raise for names that nothing defines; return notes."""
    star = next((node for node in ast.walk(tree) if _is_star(node)), None)
    if isinstance(star, ast.ImportFrom):
        return [
            f"cell line {star.lineno}: 'from {star.module} import *' hides which names exist, so they weren't checked"
        ]
    tables = list(_tables(top))
    known = _bound(top, tables) | MODULE_NAMES | (set(dir(builtins)) - NOTEBOOK_ONLY) | _guarded(tree)
    missing: dict[tuple[str, int], set[str]] = {}
    for table in tables:
        names = {s.get_name() for s in table.get_symbols() if s.is_referenced() and s.is_global()} - known
        missing.setdefault((table.get_name(), table.get_lineno()), set()).update(names)
    if any(missing.values()):
        raise UndefinedNames(_missing_message(_places(tree, missing), namespace))
    return []


def _bound(top: symtable.SymbolTable, tables: list[symtable.SymbolTable]) -> set[str]:
    """Return the names that the module has, those that functions declare ``global`` among them."""
    found = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    for table in tables:
        found |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_declared_global() and (symbol.is_assigned() or symbol.is_imported())
        }
    return found


def _is_star(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _guarded(tree: ast.Module) -> set[str]:
    """Return names that are only tried: used where a NameError is caught."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any("NameError" in _names(handler.type) for handler in node.handlers):
            found |= {name for statement in node.body for name in _names(statement)}
    return found


def _names(node: ast.AST | None) -> set[str]:
    return set() if node is None else {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _places(tree: ast.Module, missing: Mapping[tuple[str, int], set[str]]) -> dict[str, int]:
    """Return the first line of each missing name, looking only into scopes in which it is missing.

    The same name may be a parameter elsewhere. ``missing`` is by a scope's name and line, as ``symtable`` has them.
    """
    anywhere = set().union(*missing.values())
    found: dict[str, int] = {}
    waiting: list[tuple[ast.AST, set[str]]] = [(tree, missing.get(("top", 0), anywhere))]
    while waiting:
        node, wanted = waiting.pop()
        if isinstance(node, ast.Name) and node.id in wanted:
            found[node.id] = min(node.lineno, found.get(node.id, node.lineno))
        scope = _scope(node)
        inside = missing.get((scope, getattr(node, "lineno", 0)), anywhere) if scope else wanted
        around = _evaluated_outside(node) if scope else []
        waiting += [(child, inside) for child in ast.iter_child_nodes(node) if child not in around]
        waiting += [(child, wanted) for child in around]
    return {**dict.fromkeys(anywhere, 1), **found}


def _scope(node: ast.AST) -> str:
    """Return the name ``symtable`` has for the scope that a node opens; empty if it opens none."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    names = {ast.Lambda: "lambda", ast.ListComp: "listcomp", ast.SetComp: "setcomp", ast.DictComp: "dictcomp"}
    return "genexpr" if isinstance(node, ast.GeneratorExp) else names.get(type(node), "")


def _evaluated_outside(node: ast.AST) -> list[ast.AST]:
    """Return the parts of a scope's node that belong to the scope around it."""
    outside: list[ast.AST | None] = [*getattr(node, "decorator_list", []), *getattr(node, "bases", [])]
    outside += [*getattr(node, "keywords", []), getattr(node, "returns", None)]
    arguments = getattr(node, "args", None)
    if isinstance(arguments, ast.arguments):
        outside.append(arguments)  # defaults and annotations; parameters are no Name nodes
    return [child for child in outside if child is not None]


def _missing_message(places: Mapping[str, int], namespace: Mapping[str, Any]) -> str:
    ordered = sorted((line, name) for name, line in places.items())
    listed = ", ".join(f"{name!r} (cell line {line})" for line, name in ordered)
    message = f"nothing in the cell defines {listed}"
    here = [name for _, name in ordered if name in namespace and name not in NOTEBOOK_ONLY]
    if not here:
        return message
    names = ", ".join(repr(name) for name in here)
    verb, them, arguments = ("exists", "it", "an argument") if len(here) == 1 else ("exist", "them", "arguments")
    imports = [_import_of(name, namespace[name]) for name in here if inspect.ismodule(namespace[name])]
    step = (
        f"put {', '.join(imports)} into it" if imports else f"define {them} in the cell, or pass {them} as {arguments}"
    )
    if imports and len(imports) < len(here):
        step += ", and define the others there or pass them as arguments"
    return f"{message}; {names} {verb} in this notebook, but a function takes only its own cell along: {step}"


def _import_of(name: str, module: types.ModuleType) -> str:
    return f"'import {name}'" if module.__name__ == name else f"'import {module.__name__} as {name}'"


# -- entry point --------------------------------------------------------------------------------------------


def _entrypoint(tree: ast.Module, function_id: str, wanted: str | None) -> tuple[FunctionNode | None, str]:
    """Return the function to call; its node is None where the name is bound by something else than ``def``."""
    functions = {node.name: node for node in _top_level(tree) if isinstance(node, FunctionNode)}
    values = _bound_values(tree)
    named = identifier(function_id)
    if wanted is not None:
        wanted = wanted.removeprefix("main.py:")
        if wanted in functions or wanted in values:
            return functions.get(wanted), wanted
        raise EntrypointNotFound(f"the cell has no function {wanted!r}; {_found(functions)}")
    for name in ("main", named):
        if name in functions or name in values:
            return functions.get(name), name
    own = [name for name in functions if not name.startswith("_")]
    if len(own) == 1:
        return functions[own[0]], own[0]
    expected = " or ".join(dict.fromkeys(["main", named]))
    hint = f"; --entrypoint {own[0]} chooses one" if own else ""
    raise EntrypointNotFound(
        f"the cell has no function to call: expected {expected}, or exactly one function; {_found(functions)}{hint}"
    )


def _top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield statements that run when the cell is imported, inside ``if``, ``try`` and ``with`` as well."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        yield node
        if isinstance(node, ast.If | ast.For | ast.While | ast.Try | ast.With):
            inner = [*node.body, *getattr(node, "orelse", []), *getattr(node, "finalbody", [])]
            inner += [statement for handler in getattr(node, "handlers", []) for statement in handler.body]
            waiting[:0] = inner


def _bound_values(tree: ast.Module) -> set[str]:
    """Return names that a plain assignment or an import binds to something that may be callable."""
    found: set[str] = set()
    for node in _top_level(tree):
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Constant):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def _found(functions: dict[str, FunctionNode]) -> str:
    if not functions:
        return "found no function"
    return "found " + ", ".join(f"{name} (cell line {node.lineno})" for name, node in functions.items())


def _shape(signature: inspect.Signature | None) -> Shape:
    if signature is None:
        return "unknown"
    names = [name.lstrip("_") for name in signature.parameters]
    if len(names) == 2 and names[0] in ("req", "request") and names[1] in ("res", "response"):
        return "response"
    return "context" if names == ["context"] else "plain"


def signature_of(node: FunctionNode) -> inspect.Signature:
    """Return the parameters of a function that was never run; a default is shown as its source."""
    arguments = node.args
    kinds = inspect.Parameter
    found: list[inspect.Parameter] = []
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    for index, (argument, default) in enumerate(zip(positional, defaults, strict=True)):
        kind = kinds.POSITIONAL_ONLY if index < len(arguments.posonlyargs) else kinds.POSITIONAL_OR_KEYWORD
        found.append(_parameter(argument, kind, default))
    if arguments.vararg:
        found.append(_parameter(arguments.vararg, kinds.VAR_POSITIONAL, None))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append(_parameter(argument, kinds.KEYWORD_ONLY, default))
    if arguments.kwarg:
        found.append(_parameter(arguments.kwarg, kinds.VAR_KEYWORD, None))
    returns = _Source(node.returns) if node.returns is not None else inspect.Signature.empty
    return inspect.Signature(found, return_annotation=returns)


class _Source:
    """An expression shown as written."""

    def __init__(self, node: ast.expr) -> None:
        self.text = ast.unparse(node)

    def __repr__(self) -> str:
        return self.text


def _parameter(argument: ast.arg, kind: inspect._ParameterKind, default: ast.expr | None) -> inspect.Parameter:
    return inspect.Parameter(
        argument.arg,
        kind,
        default=inspect.Parameter.empty if default is None else _Source(default),
        annotation=inspect.Parameter.empty if argument.annotation is None else _Source(argument.annotation),
    )
