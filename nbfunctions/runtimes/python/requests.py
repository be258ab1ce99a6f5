"""What handlers are given: ``req`` and ``res`` of Appwrite's first generation, ``context`` of the later ones."""

from __future__ import annotations

import base64
import json
import sys

from . import results

TYPE_CHECKING = False  # importing typing would cost every cold start milliseconds
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Answer", "Call", "Context", "Request", "Response"]


class Answer:
    """What goes back: an HTTP status, the kind of result, its bytes, and the layer that failed."""

    __slots__ = ("body", "kind", "layer", "status")

    def __init__(self, status: int, kind: str, body: bytes, layer: str = "") -> None:
        self.status = status
        self.kind = kind
        self.body = body
        self.layer = layer


class Call:
    """One call as it arrived."""

    __slots__ = ("env", "headers", "payload")

    def __init__(self, payload: str, headers: dict[str, str], env: dict[str, str]) -> None:
        self.payload = payload
        self.headers = headers
        self.env = env


class Request:
    """``req`` of ``main(req, res)`` (spec, section 8.2)."""

    def __init__(self, call: Call) -> None:
        self.payload = call.payload
        self.headers = call.headers
        self.env = call.env
        self.variables = call.env
        """The name of ``env`` in the generation that followed."""


class Response:
    """``res`` of ``main(req, res)``: the last call wins (spec, section 8.3)."""

    def __init__(self) -> None:
        self.answer: Answer | None = None

    def send(self, text: Any = "", status: int = 200) -> None:
        """Answer with a text."""
        body = bytes(text) if isinstance(text, (bytes, bytearray)) else str(text).encode("utf-8", "replace")
        self.answer = Answer(_status(status), "text", body)

    def json(self, obj: Any, status: int = 200) -> None:
        """Answer with JSON as Flask 2.0 wrote it: keys sorted, non-ASCII escaped, no spaces, a newline at the end."""
        text = results.to_json(obj, sort_keys=True, ensure_ascii=True) + "\n"
        self.answer = Answer(_status(status), "json", text.encode())


class ContextRequest:
    """``context.req`` of the later generations."""

    def __init__(self, call: Call) -> None:
        self.headers = {key.lower(): value for key, value in call.headers.items()}
        self.env = call.env
        self.body_raw = self.body_text = self.bodyRaw = self.bodyText = call.payload
        self.method = "POST"
        self.scheme = "http"
        self.host = "localhost"
        self.port = 80
        self.path = "/"
        self.url = "http://localhost/"
        self.query_string = self.queryString = ""
        self.query: dict[str, str] = {}

    @property
    def body(self) -> Any:
        """The payload: parsed where the headers say that it is JSON, else the text."""
        if self.headers.get("content-type", "").startswith("application/json"):
            return self.body_json
        return self.body_text

    @property
    def body_json(self) -> Any:
        """The payload read as JSON; None when it is empty."""
        return json.loads(self.body_text) if self.body_text else None

    @property
    def body_binary(self) -> bytes:
        """The payload's bytes."""
        return self.body_text.encode("utf-8", "replace")

    bodyJson = body_json  # noqa: N815
    bodyBinary = body_binary  # noqa: N815


class ContextResponse:
    """``context.res`` of the later generations: each method returns what the handler is to return."""

    def text(self, body: Any, status: int = 200, headers: Any = None) -> Answer:
        """Answer with a text."""
        return Answer(_status(status), "text", str(body).encode("utf-8", "replace"))

    def json(self, obj: Any, status: int = 200, headers: Any = None) -> Answer:
        """Answer with JSON."""
        return Answer(_status(status), "json", results.to_json(obj).encode("utf-8", "replace"))

    def binary(self, body: Any, status: int = 200, headers: Any = None) -> Answer:
        """Answer with bytes."""
        return Answer(_status(status), "bytes", base64.b64encode(bytes(body)))

    def send(self, body: Any, status: int = 200, headers: Any = None) -> Answer:
        """Answer with a text or bytes, whichever is given."""
        if isinstance(body, (bytes, bytearray, memoryview)):
            return self.binary(body, status)
        return self.text(body, status)

    def empty(self) -> Answer:
        """Answer with nothing: status 204."""
        return Answer(204, "text", b"")

    def redirect(self, url: str, status: int = 301, headers: Any = None) -> Answer:
        """Answer with a redirection; executions keep no headers, so the address is the body."""
        return Answer(_status(status), "text", str(url).encode("utf-8", "replace"))


class Context:
    """``context`` of ``main(context)``."""

    def __init__(self, call: Call) -> None:
        self.req = ContextRequest(call)
        self.res = ContextResponse()

    def log(self, *messages: Any) -> None:
        """Write to the execution's stdout."""
        print(*map(_shown, messages))

    def error(self, *messages: Any) -> None:
        """Write to the execution's stderr."""
        print(*map(_shown, messages), file=sys.stderr)


def _shown(message: Any) -> str:
    return results.to_json(message) if isinstance(message, (dict, list)) else str(message)


def _status(status: Any) -> int:
    if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
        raise ValueError(f"status must be a whole number from 100 to 599, found {status!r}")
    return int(status)
