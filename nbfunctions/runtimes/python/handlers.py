"""The three shapes of a handler, told apart by its parameters; each becomes one way to answer a call."""

from __future__ import annotations

import sys

from .requests import Answer, Call, Context, Request, Response
from .tracebacks import format_error

TYPE_CHECKING = False  # importing typing would cost every cold start milliseconds
if TYPE_CHECKING:
    from typing import Any, Callable

    Handler = Callable[[Call], Answer]

__all__ = ["BODY_LIMIT", "bind", "settle"]

BODY_LIMIT = 1_000_000
"""Bytes of an answer (spec, section 2.4)."""


def bind(function: Callable[..., Any], code: str) -> Handler:
    """Return what answers a call by ``function``; whatever the function does becomes an answer."""
    respond = _shape(function)

    def answer(call: Call) -> Answer:
        try:
            return _fitting(respond(call))
        except MemoryError as error:
            text = "the function needed more memory than its limit\n" + format_error(error, code)
            return Answer(500, "text", text.encode("utf-8", "replace"), "limit")
        except SystemExit as error:
            text = f"the function called exit({error.code!r}) before it answered"
            return Answer(500, "text", text.encode("utf-8", "replace"), "code")
        except BaseException as error:
            return Answer(500, "text", format_error(error, code).encode("utf-8", "replace"), "code")

    return answer


def _shape(function: Callable[..., Any]) -> Handler:
    names = [name.lstrip("_") for name in _parameters(function)]
    if len(names) == 2 and names[0] in ("req", "request") and names[1] in ("res", "response"):
        return _first_generation(function)
    if names == ["context"]:
        return _later_generation(function)
    from .plain import plain_function

    return plain_function(function, settle)


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the parameters of a function of the first shapes; none when it must be another."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    if not isinstance(function, type(bind)):
        import inspect

        return tuple(inspect.signature(function).parameters)
    code = function.__code__
    variadic, variadic_named = 0x04, 0x08
    if code.co_flags & (variadic | variadic_named):
        return ()
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _first_generation(function: Callable[..., Any]) -> Handler:
    def respond(call: Call) -> Answer:
        response = Response()
        settle(function(Request(call), response))
        if response.answer is None:
            message = b"the function returned without calling res.send() or res.json()"
            return Answer(500, "text", message, "code")
        return response.answer

    return respond


def _later_generation(function: Callable[..., Any]) -> Handler:
    def respond(call: Call) -> Answer:
        answer = settle(function(Context(call)))
        if not isinstance(answer, Answer):
            message = (
                "the function returned %r instead of an answer: return context.res.json(...), .text(...) or .empty()"
            )
            return Answer(500, "text", (message % (type(answer).__name__,)).encode(), "code")
        return answer

    return respond


_loop: Any | None = None


def settle(value: Any) -> Any:
    """Return what ``value`` comes to: an ``async def`` handler's result, or the value itself.

    One event loop serves all calls of this process, so that clients and pools made in it stay usable.
    """
    global _loop  # noqa: PLW0603
    if not hasattr(value, "__await__"):
        return value
    import asyncio

    async def whole() -> Any:
        return await value

    if _loop is None:
        # Locks that a module made before Python 3.10 belong to the loop that was current then.
        _loop = asyncio.new_event_loop() if sys.version_info >= (3, 10) else asyncio.get_event_loop()
        asyncio.set_event_loop(_loop)
    return _loop.run_until_complete(whole())


def _fitting(answer: Answer) -> Answer:
    size = len(answer.body)
    if size <= BODY_LIMIT:
        return answer
    if answer.kind == "text" or answer.status >= 500:
        answer.body = answer.body[:BODY_LIMIT].decode("utf-8", "ignore").encode()
        return answer
    # Half of a JSON text is of no use to anyone.
    message = "the function returned %d bytes as %s; an answer can have at most %d"
    return Answer(500, "text", (message % (size, answer.kind, BODY_LIMIT)).encode(), "limit")
