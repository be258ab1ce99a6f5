"""HTTP as the contract speaks it: where parameters come from, how answers look (spec, sections 0.2, 2.8, 3.1)."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any, BinaryIO, Final
from urllib.parse import parse_qsl

import msgspec
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Message, Receive, Scope, Send

from nbfunctions.errors import ApiError, GeneralArgumentInvalid, StorageInvalidFileSize
from nbfunctions.models import ErrorAnswer

__all__ = [
    "API_VERSION",
    "BODY_LIMIT",
    "JSON_TYPE",
    "WHOLE",
    "Answer",
    "File",
    "Head",
    "Parameters",
    "RawHeaders",
    "answer",
    "compressed",
    "encoded",
    "headers_of",
    "query_of",
    "read",
    "refusal",
]

API_VERSION: Final = "0.15.3"
"""The release of the reference whose contract this is; clients ask for it and find it in every error."""

BODY_LIMIT: Final = 6 * 1024 * 1024
"""Bytes of a request that carries no file (spec, section 0.2)."""

FIELDS_LIMIT: Final = 1000
WHOLE: Final = "nbfunctions.answer"
"""The extension of ASGI by which a server takes a whole answer: status, lines of headers, body."""

RawHeaders = list[tuple[bytes, bytes]]

JSON_TYPE: Final = (b"content-type", b"application/json; charset=UTF-8")
UNCACHED: Final = (
    (b"cache-control", b"no-cache, no-store, must-revalidate"),
    (b"expires", b"0"),
    (b"pragma", b"no-cache"),
)
COMPRESSED_LEAST: Final = 4096
"""Bytes of a body that is worth a thread's time."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class File(msgspec.Struct, frozen=True):
    """A file of a form; its content lies in memory or, above 1 MB, on disk."""

    name: str
    size: int
    content: BinaryIO


class Parameters(msgspec.Struct, frozen=True):
    """What a request brought, not checked yet."""

    values: dict[str, Any]
    file: File | None = None
    """The first file named ``code``."""


# -- requests -----------------------------------------------------------------------------------------------


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the request's headers by lower-case name."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def query_of(scope: Scope) -> dict[str, Any]:
    """Return the parameters of the query string."""
    return _fields(scope["query_string"]) if scope["query_string"] else {}


async def read(scope: Scope, receive: Receive, headers: Mapping[str, str], file_limit: int) -> Parameters:
    """Return the parameters of a request's body, by its content type.

    ``file_limit`` is the largest form with a file in bytes. Raises ``GeneralArgumentInvalid`` for a body that can't be
    read or is too large, ``StorageInvalidFileSize`` for a file that is.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    length = headers.get("content-length", "")
    announced = int(length) if length.isdecimal() and len(length) < 20 else 0
    if kind == "multipart/form-data":
        if announced > file_limit + BODY_LIMIT:
            raise StorageInvalidFileSize
        return await _form(scope, receive, file_limit)
    if announced > BODY_LIMIT:
        raise GeneralArgumentInvalid(_TOO_LARGE)
    body = b"".join([piece async for piece in _pieces(receive, BODY_LIMIT, GeneralArgumentInvalid(_TOO_LARGE))])
    if kind == "application/json":
        return Parameters(_object(body))
    return Parameters(_fields(body))


def _object(body: bytes) -> dict[str, Any]:
    """Return a JSON object; nothing, and PHP's empty list, is an empty one.

    What can't be read is refused: the reference takes it for no parameters, and would run a function without its data.
    """
    if not body.strip():
        return {}
    try:
        values = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GeneralArgumentInvalid(f"The request's body is not JSON: {error}") from None
    if isinstance(values, dict):
        return values
    if values:
        raise GeneralArgumentInvalid(
            f"The request's body must be a JSON object, found {body[:40].decode('utf-8', 'replace')!r}"
        )
    return {}


def _fields(text: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(text.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS_LIMIT)
    except ValueError:
        raise GeneralArgumentInvalid(f"There are more than {FIELDS_LIMIT} parameters") from None
    return _nested(pairs)


_TOO_LARGE: Final = f"The request is larger than {BODY_LIMIT} bytes"


async def _pieces(receive: Receive, limit: int, refusal: ApiError) -> AsyncGenerator[bytes, None]:
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise GeneralArgumentInvalid("The request ended before its body was complete")
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise refusal
        yield piece
        if not message.get("more_body", False):
            return


async def _form(scope: Scope, receive: Receive, limit: int) -> Parameters:
    pieces = _pieces(receive, limit + BODY_LIMIT, StorageInvalidFileSize())
    parser = MultiPartParser(
        Headers(scope=scope), pieces, max_files=FIELDS_LIMIT, max_fields=FIELDS_LIMIT, max_part_size=BODY_LIMIT
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise GeneralArgumentInvalid(f"The form can't be read: {error.message}") from None
    except (KeyError, ValueError) as error:  # no boundary, or one that can't be
        raise GeneralArgumentInvalid(f"The form can't be read: {error}") from None
    texts: list[tuple[str, str]] = []
    code: File | None = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name in ("code", "code[]") and code is None:
                code = File(value.filename or "", value.size or 0, value.file)
            else:
                value.file.close()
        else:
            texts.append((name, value))
    return Parameters(_nested(texts), code)


_BRACKETS: Final = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")


def _nested(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return form fields as PHP reads them: ``a[]=x`` is a list, ``a[k]=v`` an object; the last of a name counts."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        match = _BRACKETS.fullmatch(name)
        if match is None:
            values[name] = value
            continue
        held = values.get(match[1])
        group: dict[str, str] = held if isinstance(held, dict) else {}
        group[match[2] or _next_index(group)] = value
        values[match[1]] = group
    return {name: _list_or_object(value) for name, value in values.items()}


def _next_index(group: dict[str, str]) -> str:
    """Return the index that ``a[]=x`` gets: the one behind the highest, which usually is their number."""
    if str(len(group)) not in group:
        return str(len(group))
    return str(1 + max(int(index) for index in group if index.isascii() and index.isdigit() and len(index) < 10))


def _list_or_object(value: Any) -> Any:
    if isinstance(value, dict) and list(value) == [str(index) for index in range(len(value))]:
        return list(value.values())
    return value


# -- answers ------------------------------------------------------------------------------------------------


def _lines(headers: RawHeaders) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


class Head:
    """Headers that many answers have; their bytes are made once."""

    __slots__ = ("lines", "pairs")

    def __init__(self, pairs: RawHeaders) -> None:
        self.pairs = pairs
        self.lines = _lines(pairs)


NO_HEAD: Final = Head([])


class Answer:
    """A whole answer, as an ASGI application.

    Our own HTTP server takes it in one piece (:data:`WHOLE`), which saves it looking at every header of every answer.
    """

    __slots__ = ("body", "common", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: RawHeaders, common: Head = NO_HEAD) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.common = common

    def with_headers(self, common: Head, headers: RawHeaders | None = None) -> Answer:
        """Return the same answer with further headers, those of many and those of its own."""
        return Answer(self.status, self.body, [*self.headers, *(headers or ())], common)

    @property
    def pairs(self) -> RawHeaders:
        """All its headers."""
        headers = [*self.headers, *self.common.pairs]
        if self.status != 204:  # which has no body that could have a length
            headers.append((b"content-length", b"%d" % len(self.body)))
        return headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        whole = scope.get("extensions", {}).get(WHOLE)
        if whole is not None:
            length = b"content-length: %d\r\n" % len(self.body) if self.status != 204 else b""
            await whole(self.status, _lines(self.headers) + self.common.lines + length, self.body)
            return
        await send({"type": "http.response.start", "status": self.status, "headers": self.pairs})
        await send({"type": "http.response.body", "body": self.body})


def answer(status: int, record: Any, response_format: str = "") -> Answer:
    """Return a record as the client's generation reads it; without a record an empty answer that has a content type."""
    if record is None:
        # The Python SDKs read the header of every answer, of an empty one too (spec, section 1).
        return Answer(status, b"", [(b"content-type", b"text/html; charset=UTF-8")])
    return Answer(status, encoded(record, response_format), [JSON_TYPE])


def encoded(record: Any, response_format: str = "") -> bytes:
    """Return a record as JSON in one line, as the client's generation reads it."""
    if response_format and _version(response_format) <= (0, 14, 0):
        record = _of_0_14(msgspec.to_builtins(record))
    return _encode(record)


def refusal(error: ApiError) -> Answer:
    """Return an error's answer (spec, section 3.1)."""
    body = ErrorAnswer(message=error.message, code=error.code, type=error.type, version=API_VERSION)
    return Answer(error.code, _encode(body), [JSON_TYPE, *UNCACHED])


async def compressed(whole: Answer, accepted: str) -> Answer:
    """Return an answer with its body compressed, where that saves a packet and the request's header accepts it."""
    if len(whole.body) < COMPRESSED_LEAST or not _takes_gzip(accepted):
        return whole
    body = await asyncio.to_thread(gzip.compress, whole.body, 1)
    return Answer(whole.status, body, [*whole.headers, (b"content-encoding", b"gzip")], whole.common)


def _takes_gzip(accepted: str) -> bool:
    """Return whether an ``Accept-Encoding`` names gzip, and not to refuse it."""
    for coding in accepted.lower().split(","):
        name, _, rest = coding.partition(";")
        if name.strip() == "gzip":
            return _REFUSED.fullmatch(rest) is None
    return False


_REFUSED: Final = re.compile(r"\s*q\s*=\s*0(?:\.0*)?\s*")


def _version(text: str) -> tuple[int, ...]:
    numbers = re.findall(r"[0-9]{1,9}", text)[:3]
    return tuple(map(int, numbers)) if numbers else (999,)


def _of_0_14(value: Any) -> Any:
    """Return a record with the dates of 0.14: ``dateCreated`` and, but for executions, ``dateUpdated``."""
    if isinstance(value, list | tuple):
        return [_of_0_14(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$createdAt" not in value:
        return {name: _of_0_14(item) if isinstance(item, list | tuple) else item for name, item in value.items()}
    dates = {"dateCreated": value["$createdAt"], "dateUpdated": value["$updatedAt"]}
    if "trigger" in value:
        del dates["dateUpdated"]
    rest = {name: item for name, item in value.items() if name not in ("$id", "$createdAt", "$updatedAt")}
    return {"$id": value["$id"], **dates, **rest}
