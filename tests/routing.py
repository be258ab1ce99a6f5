"""The table of routes of a server that isn't started, with the default limits and without runtimes.

As a program it prints what ``docs/api.md`` says of it: ``python -m tests.routing``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbfunctions.server.openapi import document
from nbfunctions.server.routes import Endpoint, endpoints
from nbfunctions.server.server import Server
from nbfunctions.settings import Settings

__all__ = ["addition_rows", "all_routes", "documented"]

WORDS = {"string": "text", "integer": "whole number", "boolean": "`true` or `false`", "object": "object"}


@functools.cache
def all_routes() -> tuple[Endpoint, ...]:
    """Return the table; nothing is written."""
    return endpoints(Server(Settings(data_dir=Path("nowhere"))))


def documented(endpoint: Endpoint) -> list[str]:
    """Return what the page of the API says of a route, as lines; more may follow them there."""
    operation = _operation(endpoint)
    answer = operation["responses"][str(endpoint.status)].get("content", {})
    kind = next((one["schema"].get("$ref", "").rpartition("/")[2] or name for name, one in answer.items()), "")
    facts = [
        f"`{endpoint.scope}`" if endpoint.scope else "everybody",
        f"{endpoint.status}" + (f" `{kind}`" if kind else ""),
        *(["an addition"] if endpoint.addition else []),
    ]
    rows = list(_rows(operation))
    titles = ["", "| parameter | type | default | what it is |", "|---|---|---|---|"]
    return [f"{operation['summary']} ({'; '.join(facts)})", *(titles if rows else []), *rows]


def _operation(endpoint: Endpoint) -> Mapping[str, Any]:
    operation: Mapping[str, Any] = document([endpoint])["paths"][endpoint.path][endpoint.method.lower()]
    return operation


def _rows(operation: Mapping[str, Any]) -> Iterator[str]:
    """Yield a row for each parameter, but those of the path, which the heading has."""
    for one in operation.get("parameters", ()):
        if one["in"] != "path":
            place = " (header)" if one["in"] == "header" else ""
            yield _row(one["name"], place, one["schema"], one["description"], must=one["required"])
    for content in operation.get("requestBody", {}).get("content", {}).values():
        body = content["schema"]
        for name, one in body["properties"].items():
            yield _row(name, "", one, one["description"], must=name in body.get("required", ()))


def _row(name: str, place: str, schema: Mapping[str, Any], description: str, *, must: bool) -> str:
    default = schema.get("default")
    shown = "required" if must else "" if default in (None, [], {}) else f"`{str(default).lower()}`"
    if isinstance(default, str):
        shown = f"`{default}`"
    inner = schema.get("items", {}).get("description", "")
    return f"| `{name}`{place} | {_type(schema)} | {shown} | {description}{f' Each: {inner}' if inner else ''} |"


def _type(schema: Mapping[str, Any]) -> str:
    if schema.get("format") == "binary":
        return "file"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"]) or "one of the server's"
    if schema["type"] == "array":
        return f"list of up to {schema['maxItems']}"
    word = WORDS[schema["type"]]
    limits = [_limits(one) for one in schema.get("anyOf", [schema])]
    return f"{word}, {' or '.join(limits)}" if all(limits) else word


def _limits(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return str(schema["const"])
    if "minimum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}"
    return f"up to {schema['maxLength']} characters" if "maxLength" in schema else ""


def addition_rows() -> list[str]:
    """Return the rows of all additions: routes, parameters and headers of other routes, fields."""
    rows = []
    parameters: dict[tuple[str, str], list[str]] = {}
    for endpoint in all_routes():
        route = f"`{endpoint.method} {endpoint.path}`"
        if endpoint.addition:
            rows.append(f"| route | {route} | {_operation(endpoint)['summary']} |")
        for kind, params in (("parameter", endpoint.params), ("header", endpoint.headers)):
            for param in params:
                if param.addition:
                    parameters.setdefault((param.name, f"{kind}: {param.help}"), []).append(route)
    for (name, text), routes in parameters.items():
        kind, _, help_ = text.partition(": ")
        rows.append(f"| {kind} of {', '.join(routes)} | `{name}` | {help_} |")
    for record, schema in document(all_routes())["components"]["schemas"].items():
        for name, field in schema["properties"].items():
            if field.get("x-addition"):
                rows.append(f"| field of `{record}` | `{name}` | {field['description']} |")
    return rows


if __name__ == "__main__":
    for one in all_routes():
        print(f"#### `{one.method} {one.path}`\n", *documented(one), "", sep="\n")
    print("| where | what | meaning |\n|---|---|---|", *addition_rows(), sep="\n")
