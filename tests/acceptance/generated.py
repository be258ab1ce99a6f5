"""What Schemathesis is told of this API; its command line loads it: ids that exist, formats, a check of our own."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import jsonschema
import schemathesis
from hypothesis import strategies as st
from jsonschema import validators

from nbfunctions.server.cron import is_cron
from nbfunctions.server.patterns import has_happened, is_event

IDS: Final[dict[str, list[str]]] = json.loads(os.environ.get("GENERATED_IDS", "{}"))
"""By the name of a parameter, or of an operation and a parameter, one that exists; by that of an operation, those that
it may use up."""
KEPT: Final = {ids[0] for ids in IDS.values() if ids}
INTEGER: Final = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
MISSING: Final = object()
ODD: Final = object()
"""Something that may be taken or refused: a body of another kind, or one that some readers of JSON don't take."""
OF_CHUNKS: Final = "X-Appwrite-ID"
"""Is not looked at where an archive comes in one piece."""

schemathesis.openapi.format("cron", st.sampled_from(["", "0", "0 0 1 1 *", "*/5 8-18 * * 1-5", "@yearly"]))
schemathesis.openapi.format("event", st.sampled_from(["users.jane.create", "teams.sales.memberships.m1.update.status"]))
schemathesis.openapi.format("event-pattern", st.sampled_from(["users.*.create", "teams.*", "buckets.a.files.*.create"]))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Ask three times of four for what exists; else most requests would be answered by 404."""
    parameters = case.path_parameters or {}
    operation = case.operation.definition.raw["operationId"]
    as_it_is = zlib.crc32(repr((parameters, case.body, case.query)).encode("utf-8", "replace")) % 4 == 0
    for name, value in parameters.items():
        existing = IDS.get(f"{operation}.{name}", IDS.get(name, [value]))[0]
        if operation in IDS and name == list(parameters)[-1]:
            # What the others ask for stays: Schemathesis asks for ids that it finds in answers.
            parameters[name] = IDS[operation].pop() if IDS[operation] else "gone" if value in KEPT else value
        elif not as_it_is:
            parameters[name] = existing


# -- a check of our own ---------------------------------------------------------------------------------------

FORMATS: Final = jsonschema.FormatChecker(formats=())
FORMATS.checks("cron")(lambda value: not isinstance(value, str) or is_cron(value))
FORMATS.checks("event")(lambda value: not isinstance(value, str) or has_happened(value))
FORMATS.checks("event-pattern")(lambda value: not isinstance(value, str) or is_event(value))
WHOLE_NUMBERS: Final = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
    "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
)
Validator: Final = validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator, type_checker=WHOLE_NUMBERS
)


@schemathesis.check
def takes_what_it_says(context: Any, response: Any, case: Any) -> None:
    """What the document allows is not refused, what it forbids is not done.

    The contract's other spellings (spec, section 0.2) are taken into account.
    """
    if response.request.method.lower() != case.operation.method.lower():
        return  # it tries what other methods do
    given = list(_given(response.request, case))
    done = 200 <= response.status_code < 300
    if done:
        for name, schema, required, value in given:
            assert name == OF_CHUNKS or value is ODD or _fits(schema, value, required=required), (
                f"{name}={value!r} was taken, against {schema}"
            )
    elif response.status_code == 400 and response.json()["type"] == "general_argument_invalid":
        odd = [name for name, schema, required, value in given if not _is_canonical(schema, value, required=required)]
        assert odd, f"refused, though all is as the document says: {response.json()['message']}"


def _given(request: Any, case: Any) -> Iterator[tuple[str, Mapping[str, Any], bool, Any]]:
    """Yield the parameters of a request as it was sent: name, schema, whether required, value."""
    operation = case.operation.definition.raw
    url = urlsplit(request.url)
    template = ("/v1" + case.operation.path).split("/")
    parts = dict(zip(template, map(unquote, url.path.split("/")), strict=False))
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    nested = {name.partition("[")[0] for name in query if "[" in name}
    for one in operation.get("parameters", ()):
        name = one["name"]
        places = {"path": parts.get(f"{{{name}}}", MISSING), "query": query.get(name, MISSING)}
        value = request.headers.get(name, MISSING) if one["in"] == "header" else places[one["in"]]
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if name not in nested:
            yield name, one["schema"], one["required"], value
    kinds = operation.get("requestBody", {}).get("content", {})
    kind = request.headers.get("Content-Type", "application/json")
    if isinstance(kind, bytes):
        kind = kind.decode("latin-1")
    if kind.partition(";")[0].strip().lower() != "application/json" or (request.body and not _is_readable(request)):
        yield "body", {}, False, ODD
    elif "application/json" in kinds:
        yield from _in_body(request, kinds["application/json"]["schema"])


def _in_body(request: Any, schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], bool, Any]]:
    found = json.loads(request.body or b"{}") or {}
    if isinstance(found, dict):
        for name, one in schema["properties"].items():
            yield name, one, name in schema.get("required", ()), found.get(name, MISSING)
    else:
        yield "body", {"type": "object"}, True, found


def _is_readable(request: Any) -> bool:
    """Whether a body is JSON that every reader takes (spec, section 0.4)."""
    try:
        value = json.loads(request.body)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return len(text) < 60_000 and all(-(2**63) <= number < 2**64 for number in _integers(value))


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _integers(one)
    elif isinstance(value, int):
        yield value


def _is_canonical(schema: Mapping[str, Any], value: Any, *, required: bool) -> bool:
    if value is MISSING or value is ODD:
        return value is MISSING and not required
    if isinstance(value, str) and schema["type"] == "integer" and INTEGER.fullmatch(value):
        value = int(value)
    return _is_valid(schema, value)


def _fits(schema: Mapping[str, Any], value: Any, *, required: bool) -> bool:
    """Whether it is canonical, or another spelling of what is."""
    if value is MISSING or value is None or value == "":
        return not required
    if schema["type"] == "array" and isinstance(value, dict):
        value = list(value.values())
    if schema["type"] == "object" and value == []:
        return True
    if isinstance(value, str) and "enum" in schema and value.lower() in schema["enum"]:
        return True
    return _is_canonical(schema, value, required=required)


def _is_valid(schema: Mapping[str, Any], value: Any) -> bool:
    return bool(Validator(schema, format_checker=FORMATS).is_valid(value))
