"""The loop of the runtime: load the function once, then answer one call at a time."""

from __future__ import annotations

import _thread
import os
import sys

from .channel import Channel
from .handlers import bind
from .loading import EntrypointMissing, find, load, make_importable
from .requests import Call
from .tracebacks import format_error

TYPE_CHECKING = False  # importing typing would cost every cold start milliseconds
if TYPE_CHECKING:
    from typing import Any

    from .handlers import Handler

__all__ = ["serve"]

LONGEST_VARIABLE = 131_071
"""Bytes of one ``NAME=value`` that a program can be started with: a longer one would break every subprocess."""
THREAD_STACK = 2 << 20
"""Bytes of a thread's stack. All of it counts as private memory: with the system's 8 MB, 512 MB are 62 threads."""


def serve(fd: int) -> None:
    """Answer the frames of the socket ``fd`` until its other end closes."""
    try:  # noqa: SIM105 - importing contextlib would cost every cold start milliseconds
        _thread.stack_size(THREAD_STACK)
    except (ValueError, RuntimeError):
        # This platform wants another size, or has only one: its own stays.
        pass
    channel = Channel(fd)
    channel.send({"type": "hello"})
    first = channel.receive()
    if first is None:
        return
    start = first[0]
    # What was printed must be out when the process is killed for taking too long.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    environment = Environment(start["env"])
    environment.show(start["context"])
    try:
        handler = _handler(start)
    except EntrypointMissing as error:
        _fail(channel, str(error), "code")
    except MemoryError as error:
        message = "the code needed more memory than its limit while it was loaded\n"
        _fail(channel, message + format_error(error, start["code"]), "limit")
    except SystemExit as error:
        _fail(channel, f"the code called exit({error.code!r}) while it was loaded", "code")
    except BaseException as error:
        _fail(channel, format_error(error, start["code"]), "code")
    else:
        _flush()
        channel.send({"type": "ready"})
        _answer_calls(channel, handler, environment, start["variables"])


class Environment:
    """The process's environment: the function's own, and with each call that call's."""

    def __init__(self, own: dict[str, str]) -> None:
        self._shown: dict[str, tuple[str, bytes, bytes | None]] = {}
        """Each value, and the bytes by which the process's environment has it: None where it can't."""
        self.show(own)
        if "TZ" in own:
            import time

            time.tzset()

    def show(self, context: dict[str, str]) -> None:
        """Add the values to the process's environment, as far as it can hold them."""
        shown, held = self._shown, os.environb.get
        for name, value in context.items():
            known = shown.get(name)
            if known is not None and known[0] == value and held(known[1]) == known[2]:
                continue
            key = os.fsencode(name)
            content = value.encode("utf-8", "surrogateescape")
            if b"\0" in content or len(key) + 1 + len(content) > LONGEST_VARIABLE:
                shown[name] = (value, key, None)
                os.environ.pop(name, None)
            else:
                shown[name] = (value, key, content)
                os.environ[name] = value


def _handler(start: dict[str, Any]) -> Handler:
    code = start["code"]
    file, _, name = start["entrypoint"].partition(":")
    make_importable(code, start["packages"], file)
    module = load(code, file)
    return bind(find(module, file, name, start["function"]), code)


def _fail(channel: Channel, message: str, layer: str) -> None:
    _flush()
    channel.send({"type": "failed", "layer": layer}, message.encode("utf-8", "replace")[:1_000_000])


def _answer_calls(channel: Channel, handler: Handler, environment: Environment, variables: dict[str, str]) -> None:
    process = os.getpid()
    output = _output()
    while True:
        frame = channel.receive()
        if frame is None:
            return
        head, body = frame
        context = head["context"]
        environment.show(context)
        answer = handler(Call(body.decode("utf-8", "replace"), head["headers"], {**variables, **context}))
        if os.getpid() != process:
            # The function forked and let both copies return: only the first may speak.
            os._exit(0)
        _flush()
        reply = {"type": "answer", "status": answer.status, "kind": answer.kind, "layer": answer.layer}
        if _output() != output:
            # The function closed its output or put a file of its own there: the next call could not print.
            reply["last"] = True
        channel.send(reply, answer.body)


def _output() -> list[Any]:
    """Return what stdout and stderr of the process lead to, and whether their streams are closed."""
    found: list[Any] = [getattr(sys.__stdout__, "closed", True), getattr(sys.__stderr__, "closed", True)]
    for fd in (1, 2):
        try:
            file = os.fstat(fd)
        except OSError:
            found.append(None)
        else:
            found.append((file.st_dev, file.st_ino))
    return found


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            # The function replaced or closed it: nothing of ours is in there.
            continue
    ctypes = sys.modules.get("ctypes")
    if ctypes is not None and hasattr(ctypes, "pythonapi"):
        # What C code printed waits in the C library's own buffers.
        ctypes.CDLL(None).fflush(None)
