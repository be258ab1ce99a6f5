"""The OpenAPI document of the table of routes, and its doors: ``GET /openapi.json`` and ``GET /docs`` (additions)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nbfunctions import __version__
from nbfunctions.errors import (
    ApiError,
    GeneralArgumentInvalid,
    GeneralRateLimitExceeded,
    GeneralServerError,
    GeneralUnauthorizedScope,
    GeneralUnknown,
    GeneralUnknownOrigin,
    ProjectKeyExpired,
    ProjectNotFound,
    UserJwtInvalid,
)
from nbfunctions.models import ErrorAnswer
from nbfunctions.server import api_page
from nbfunctions.server.params import Param
from nbfunctions.server.permissions import GUEST_SCOPES, MEMBER_SCOPES, PUBLIC
from nbfunctions.server.server import Server
from nbfunctions.server.wire import API_VERSION, JSON_TYPE, Answer

if TYPE_CHECKING:
    from nbfunctions.server.routes import Endpoint

__all__ = ["OpenApi", "document", "operation_id"]

BASE: Final = "/v1"
SCHEMAS: Final = "#/components/schemas/"
JSON: Final = "application/json"

DESCRIPTION: Final = f"""\
The Functions service of the Appwrite REST API, generation {API_VERSION}, and what this server adds to it.

Parameters of `GET` are in the query, of the others in the body: JSON, a form, or for an upload a multipart form. \
Whoever sends a form writes `events[]=…` for a list and `vars[NAME]=…` for an object. A parameter that is null or \
empty text counts as left out; one that nobody knows is ignored; whole numbers may be texts. `HEAD` is `GET` without \
a body.

`X-Appwrite-Response-Format: 0.14.0` asks for the dates of that generation: `dateCreated` and `dateUpdated`."""

TAGS: Final = {
    "functions": "Settings of functions, and which deployment is active.",
    "deployments": "Versions of a function's code: uploads, builds.",
    "executions": "Runs of a function.",
    "events": "What happened elsewhere, and triggers functions.",
    "users": "Tokens for those who execute functions.",
    "health": "Whether the server is well.",
    "documentation": "This.",
}

SECURITY: Final = {
    "project": ("X-Appwrite-Project", "The id of the project."),
    "key": ("X-Appwrite-Key", "The secret of an API key."),
    "jwt": ("X-Appwrite-JWT", "A user's token; it counts before a key does."),
}

EVERYWHERE: Final = (GeneralUnknownOrigin, GeneralServerError, GeneralUnknown)
"""What any route may refuse with."""
IN_PROJECT: Final = (
    GeneralArgumentInvalid,
    GeneralUnauthorizedScope,
    UserJwtInvalid,
    ProjectKeyExpired,
    ProjectNotFound,
)
"""What a route that isn't public may."""

VERBS: Final = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}

FILE: Final = {
    "code": {
        "contentType": "application/gzip",
        "headers": {
            "Content-Disposition": {
                "description": "Names the file.",
                "schema": {"type": "string"},
                "example": 'form-data; name="code"; filename="code.tar.gz"',
            }
        },
    }
}
"""How the file of a form is sent."""

LIMIT_HEADERS: Final = {
    "X-RateLimit-Limit": "How many executions the caller may ask for in a window; API keys are not counted.",
    "X-RateLimit-Remaining": "How many are left.",
    "X-RateLimit-Reset": "When the window ends, in seconds since the epoch.",
}


class OpenApi:
    """The document of a table of routes, and the page that shows it; each is made when it is first asked for."""

    def __init__(self) -> None:
        self.endpoints: Sequence[Endpoint] = ()
        """Set before anything is asked for: the table has rows for this."""

    async def document(self, server: Server) -> Answer:
        """Return the OpenAPI document of this server."""
        return Answer(200, self._json, [JSON_TYPE])

    async def page(self, server: Server) -> Answer:
        """Return a page that shows the OpenAPI document to people."""
        return Answer(200, self._html, api_page.HEADERS)

    @functools.cached_property
    def _document(self) -> dict[str, Any]:
        return document(self.endpoints)

    @functools.cached_property
    def _json(self) -> bytes:
        return msgspec.json.encode(self._document)

    @functools.cached_property
    def _html(self) -> bytes:
        return api_page.render(self._document).encode()


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a table."""
    answers = [one.answer for one in endpoints if one.answer is not None]
    schemas, components = msgspec.json.schema_components([*answers, ErrorAnswer], ref_template=SCHEMAS + "{name}")
    by_endpoint = dict(zip((id(one) for one in endpoints if one.answer is not None), schemas, strict=False))
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, by_endpoint.get(id(one)))
    used = {operation["tags"][0] for methods in paths.values() for operation in methods.values()}
    tags = [{"name": name, "description": text} for name, text in TAGS.items() if name in used]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nbfunctions",
            "version": __version__,
            "summary": "Notebook cells as backend functions.",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": BASE}],
        "tags": [*tags, *({"name": name} for name in sorted(used - TAGS.keys()))],
        "paths": paths,
        "components": {
            "schemas": {name: _record(schema) for name, schema in components.items()},
            "securitySchemes": {
                name: {"type": "apiKey", "in": "header", "name": header, "description": text}
                for name, (header, text) in SECURITY.items()
            },
        },
    }


def _operation(endpoint: Endpoint, answer: Mapping[str, Any] | None) -> dict[str, Any]:
    in_path = {part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")}
    in_query = endpoint.method == "GET"
    rest = [param for param in endpoint.params if param.name not in in_path]
    parameters = [
        *(_parameter(param, "path") for param in endpoint.params if param.name in in_path),
        *(_parameter(param, "query") for param in rest if in_query),
        *(_parameter(param, "header") for param in endpoint.headers),
    ]
    operation: dict[str, Any] = {
        "operationId": operation_id(endpoint),
        "tags": [_tag(endpoint)],
        "summary": _first_line(endpoint.action.__doc__),
        "security": _security(endpoint),
    }
    if endpoint.scope != PUBLIC:
        operation["x-scope"] = endpoint.scope
    if endpoint.addition:
        operation["x-addition"] = True
    if parameters:
        operation["parameters"] = parameters
    if not in_query and (rest or endpoint.takes_file):
        operation["requestBody"] = _body(rest, takes_file=endpoint.takes_file)
    operation["responses"] = {str(endpoint.status): _answer(endpoint, answer), **_refusals(endpoint)}
    return operation


# -- names --------------------------------------------------------------------------------------------------


def operation_id(endpoint: Endpoint) -> str:
    """Return the SDK's service and method: ``functionsCreateDeployment``.

    The method is a verb and what the path names below the service, in the singular unless all of them are listed.
    """
    service, *below = (part for part in endpoint.path.split("/") if part)
    service = re.sub(r"\W.*", "", service)
    if endpoint.sdk:
        return service + endpoint.sdk[0].upper() + endpoint.sdk[1:]
    nouns = [part for part in below if not part.startswith("{")]
    verb = "list" if _is_list(endpoint.answer) else VERBS[endpoint.method]
    if verb != "list" and nouns and (endpoint.method == "POST" or below[-1].startswith("{")):
        nouns[-1] = nouns[-1].removesuffix("s")
    return service + "".join(word[0].upper() + word[1:] for word in (verb, *nouns))


def _is_list(answer: Any) -> bool:
    return "total" in getattr(answer, "__struct_fields__", ())


def _tag(endpoint: Endpoint) -> str:
    first, *below = (part for part in endpoint.path.split("/") if part)
    if first == "functions":
        return next((name for name in ("executions", "deployments") if name in below), first)
    return "documentation" if endpoint.scope == PUBLIC and not below else first


def _first_line(text: str | None) -> str:
    """Return what a docstring says first, without its marks."""
    return (text or "").strip().partition("\n")[0].replace("``", "`")


# -- requests -----------------------------------------------------------------------------------------------


def _security(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    """Return who may call: an API key always, and whoever else can hold the scope and isn't left out."""
    scope = endpoint.scope
    if scope == PUBLIC:
        return []
    proofs: list[tuple[str, ...]] = [("key",)]
    if scope in MEMBER_SCOPES and "users" not in endpoint.not_for:
        proofs.append(("jwt",))
    if scope in GUEST_SCOPES and "guests" not in endpoint.not_for:
        proofs.append(())
    return [{"project": [], **{name: [] for name in proof}} for proof in proofs]


def _schema(param: Param) -> dict[str, Any]:
    schema = dict(param.rule.schema)
    if not param.required and param.default != "":
        schema["default"] = list(param.default) if isinstance(param.default, tuple) else param.default
    if param.must_be_given and "maxLength" in schema:
        schema["minLength"] = 1
    return schema


def _parameter(param: Param, place: str) -> dict[str, Any]:
    schema = _schema(param)
    found: dict[str, Any] = {
        "name": param.name,
        "in": place,
        "description": _said(param.help, schema.pop("description", "")),
        "required": param.must_be_given,
        "schema": schema,
    }
    if param.example is not None:
        found["example"] = param.example
    if param.addition:
        found["x-addition"] = True
    return found


def _said(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _body(params: Sequence[Param], *, takes_file: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for param in params:
        schema = _schema(param)
        schema["description"] = _said(param.help, schema.get("description", ""))
        if param.example is not None:
            schema["examples"] = [param.example]
        if param.addition:
            schema["x-addition"] = True
        properties[param.name] = schema
    required = [param.name for param in params if param.must_be_given]
    if takes_file:
        properties["code"] = {
            "type": "string",
            "format": "binary",
            "contentMediaType": "application/gzip",
            "description": "The archive, or one chunk of it: a `.tar.gz`, by its file name, too.",
        }
        required.append("code")
    schema = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    content = (
        {"multipart/form-data": {"schema": schema, "encoding": FILE}} if takes_file else {JSON: {"schema": schema}}
    )
    return {"required": bool(required), "content": content}


# -- answers ------------------------------------------------------------------------------------------------


def _answer(endpoint: Endpoint, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"description": "Done; the answer is empty." if endpoint.status == 204 else "Done."}
    if endpoint.limited:
        found["headers"] = _headers(LIMIT_HEADERS)
    if endpoint.media:
        found["content"] = {endpoint.media: {"schema": {"type": "string"}}}
    elif schema is not None:
        found["content"] = {JSON: {"schema": dict(schema)}}
    return found


def _headers(texts: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "integer"}} for name, text in texts.items()}


def _refusals(endpoint: Endpoint) -> dict[str, Any]:
    by_code: dict[int, list[type[ApiError]]] = {}
    for error in _errors(endpoint):
        by_code.setdefault(error.code, []).append(error)
    found: dict[str, Any] = {}
    for code, errors in sorted(by_code.items()):
        of_this = {"properties": {"code": {"const": code}, "type": {"enum": [error.type for error in errors]}}}
        found[str(code)] = {
            "description": "; ".join(_first_line(error.__doc__).rstrip(".") for error in errors) + ".",
            "content": {JSON: {"schema": {"allOf": [{"$ref": SCHEMAS + ErrorAnswer.__name__}, of_this]}}},
        }
    if endpoint.limited:
        waiting = {"Retry-After": "Seconds until the window ends."}
        found[str(GeneralRateLimitExceeded.code)]["headers"] = _headers({**LIMIT_HEADERS, **waiting})
    return found


def _errors(endpoint: Endpoint) -> Iterator[type[ApiError]]:
    if endpoint.scope != PUBLIC:
        yield from IN_PROJECT
    yield from endpoint.errors
    if endpoint.limited:
        yield GeneralRateLimitExceeded
    yield from EVERYWHERE


def _record(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's schema: every answer has all of its fields."""
    properties = {name: _field(field) for name, field in schema["properties"].items()}
    text = re.sub(r" \((?:spec, section|an addition)[^)]*\)", "", _first_line(schema.get("description")))
    return {"type": "object", "description": text, "properties": properties, "required": list(properties)}


def _field(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field's schema: an answer has no defaults, and what can be one of some texts is a text."""
    found = {name: value for name, value in schema.items() if name != "default"}
    return {"type": "string", **found} if "enum" in found else found
