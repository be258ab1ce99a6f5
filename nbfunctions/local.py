"""Runs captured code in this kernel: the same source, a fresh namespace, no sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import linecache
import os
import threading
import types
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nbfunctions.calls import data_of

if TYPE_CHECKING:
    from nbfunctions.capture.package import Package

__all__ = ["call_locally"]

_environment = threading.Lock()


def call_locally(package: Package, variables: Mapping[str, str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Execute the packed source here and call its function; what it raises is raised, with the cell's lines.

    A plain function gets the arguments as they are. The other shapes get one argument or keywords as payload; what
    they answer is returned as a call to the service would.
    """
    __tracebackhide__ = True
    with _variables(variables):
        function = _load(package)
        if package.shape == "plain" or (package.shape == "unknown" and _is_plain(function)):
            return _settle(function(*args, **kwargs))
        return _respond(function, args, kwargs, variables)


def _load(package: Package) -> Any:
    __tracebackhide__ = True
    file = f"%%function {package.function_id}"
    linecache.cache[file] = (len(package.source), None, package.source.splitlines(keepends=True), file)
    module = types.ModuleType(f"nbfunctions_local_{package.function}")
    module.__file__ = file
    exec(compile(package.source, file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the user's own cell
    return getattr(module, package.function)


def _is_plain(function: Any) -> bool:
    names = [name.lstrip("_") for name in inspect.signature(function).parameters]
    return names not in (["req", "res"], ["request", "response"], ["context"])


def _respond(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], variables: Mapping[str, str]) -> Any:
    __tracebackhide__ = True
    from nbfunctions.runtimes.python.requests import Answer, Call, Context, Request, Response

    payload = data_of(args[0]) if args else data_of(kwargs) if kwargs else ""
    call = Call(payload, {}, dict(variables))
    if len(inspect.signature(function).parameters) == 1:
        answer = _settle(function(Context(call)))
    else:
        response = Response()
        _settle(function(Request(call), response))
        answer = response.answer
    if not isinstance(answer, Answer):
        raise TypeError("the function ended without an answer: res.send(...) or res.json(...)")
    return _decode(answer.kind, answer.body.decode())


def _decode(kind: str, text: str) -> Any:
    import base64
    import json

    return json.loads(text) if kind == "json" else base64.b64decode(text) if kind == "bytes" else text


@contextlib.contextmanager
def _variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set the function's variables in this process's environment for the time of the call."""
    with _environment:
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update({name: str(value) for name, value in variables.items()})
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _settle(value: Any) -> Any:
    """Return the result of a coroutine; a notebook's own loop is running in this thread, so another one waits."""
    __tracebackhide__ = True
    if not inspect.iscoroutine(value):
        return value
    outcome: list[Any] = []

    def wait() -> None:
        try:
            outcome.extend((True, asyncio.run(value)))
        except BaseException as error:
            outcome.extend((False, error))

    thread = threading.Thread(target=wait, name="nbfunctions-local")
    thread.start()
    thread.join()
    if not outcome[0]:
        raise outcome[1]
    return outcome[1]
