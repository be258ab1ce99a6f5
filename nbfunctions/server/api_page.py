"""The page of ``GET /docs``: an OpenAPI document for people, in one piece of HTML that asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["HEADERS", "render"]

STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f6f7f9; --line: #d9dde3; --text: #1b1f24; --quiet: #57606a; --link: #0b57b8;
  --get: #0b57b8; --post: #14713d; --put: #8a5300; --patch: #6f42b0; --delete: #b3261e; --added: #8a5300;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171c; --raised: #1d2129; --line: #343b46; --text: #e4e7eb; --quiet: #a3adba; --link: #82b4ff;
    --get: #82b4ff; --post: #6fd39a; --put: #eab560; --patch: #c5a3ff; --delete: #ff9a91; --added: #eab560;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
code, pre { font-family: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, "DejaVu Sans Mono", monospace; }
code { font-size: .875em; overflow-wrap: anywhere; }
p code, td.what code { background: var(--raised); border-radius: 4px; padding: .1em .3em; }
.layout { display: grid; grid-template-columns: minmax(15rem, 19rem) minmax(0, 1fr); }
nav {
  position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.5rem 1.25rem 3rem;
  background: var(--raised); border-right: 1px solid var(--line); font-size: .875rem;
}
nav .title { font-size: 1.05rem; font-weight: 650; margin: 0 0 .25rem; }
nav .group { margin: 1.25rem 0 .25rem; font-weight: 650; color: var(--quiet); text-transform: capitalize; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li a { display: flex; gap: .5rem; align-items: baseline; padding: .15rem 0; color: var(--text); }
nav .method { width: 3.4rem; flex: none; font-size: .68rem; }
main { padding: 2.25rem clamp(1rem, 4vw, 3.5rem) 5rem; max-width: 66rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: 1.5rem; margin: 3.5rem 0 .25rem; text-transform: capitalize; letter-spacing: -.01em; }
h3 {
  display: flex; flex-wrap: wrap; gap: .35rem .65rem; align-items: center; margin: 0;
  font-size: 1rem; font-weight: 600;
}
h3 code { font-size: 1rem; }
h3 a { color: inherit; }
h4 { font-size: .8125rem; color: var(--quiet); margin: 1.25rem 0 .35rem; }
.quiet { color: var(--quiet); }
.lead { color: var(--quiet); margin-top: 0; }
section.route, section.record {
  border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.25rem 1.25rem; margin: 1.25rem 0;
}
section:target { border-color: var(--link); box-shadow: 0 0 0 1px var(--link); }
section > p { margin: .6rem 0; }
.method { font: 700 .75rem/1.6 ui-monospace, Menlo, "DejaVu Sans Mono", monospace; letter-spacing: .03em; }
h3 .method { border: 1.5px solid currentColor; border-radius: 6px; padding: .05rem .45rem; }
.get { color: var(--get); } .post { color: var(--post); } .put { color: var(--put); }
.patch { color: var(--patch); } .delete { color: var(--delete); }
.added {
  color: var(--added); border: 1px solid currentColor; border-radius: 99px; padding: 0 .5rem;
  font-size: .72rem; font-weight: 600; line-height: 1.5; white-space: nowrap;
}
dl.facts { display: flex; flex-wrap: wrap; gap: .25rem 1.75rem; margin: .6rem 0 0; font-size: .875rem; }
dl.facts div { display: flex; gap: .45rem; }
dl.facts dt { color: var(--quiet); }
dl.facts dd { margin: 0; }
p.small { font-size: .875rem; margin: .3rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th { text-align: left; font-weight: 600; color: var(--quiet); font-size: .78rem; }
th, td { padding: .45rem .75rem .45rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
tr:target td { background: var(--raised); }
td.name { white-space: nowrap; width: 1%; padding-right: 1.25rem; }
td.name .added { margin-left: .35rem; }
td.type { width: 24%; min-width: 8rem; }
td.what { min-width: 13rem; }
td.place { width: 1%; white-space: nowrap; }
.default { white-space: nowrap; }
.default code { white-space: normal; }
.must { color: var(--delete); font-weight: 600; white-space: nowrap; }
pre {
  background: var(--raised); border: 1px solid var(--line); border-radius: 8px; margin: 0;
  padding: .75rem .9rem; overflow-x: auto; font-size: .8125rem; line-height: 1.5;
}
details { margin-top: 1rem; }
summary { cursor: pointer; font-size: .8125rem; font-weight: 600; color: var(--quiet); }
footer { margin-top: 4rem; color: var(--quiet); font-size: .875rem; }
@media (max-width: 60rem) {
  .layout { display: block; }
  nav { position: static; height: auto; max-height: 45vh; border-right: 0; border-bottom: 1px solid var(--line); }
  main { padding-top: 1.5rem; }
  section.route, section.record { padding: .9rem .9rem 1rem; }
}
@media (max-width: 44rem) {
  table.fields, table.fields tbody, table.fields tr, table.fields td { display: block; width: auto; }
  table.fields tr.titles { display: none; }
  table.fields tr { border-bottom: 1px solid var(--line); padding: .6rem 0; }
  table.fields tr:last-child { border-bottom: 0; }
  table.fields td { border: 0; padding: .1rem 0; }
  table.fields td.name, table.fields td.place { display: inline-block; padding-right: .6rem; }
  h3 code { overflow-wrap: anywhere; }
}
@media print { nav { display: none; } .layout { display: block; } section { break-inside: avoid; } }
"""

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing is fetched and nothing runs, whatever the page may hold."""

HEADERS: Final = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
]

METHODS: Final = ("get", "post", "put", "patch", "delete")


def render(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document as :mod:`nbfunctions.server.openapi` makes it."""
    return "".join(_page(document))


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    info = document["info"]
    base = document["servers"][0]["url"]
    groups = {
        tag["name"]: (tag.get("description", ""), list(_routes(document, tag["name"]))) for tag in document["tags"]
    }
    records = document["components"]["schemas"]
    title = f"{_text(info['title'])} API"
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head>\n'
        f'<body><div class="layout">\n<nav aria-label="Routes"><p class="title"><a href="#top">{title}</a></p>'
        f'<p class="quiet">{_text(info["version"])} · <a href="{_text(base)}/openapi.json">openapi.json</a></p>\n'
    )
    for name, (_, routes) in groups.items():
        yield f'<p class="group">{_text(name)}</p><ul>'
        for path, method, operation in routes:
            yield (
                f'<li><a href="#{_text(operation["operationId"])}">{_method(method)}'
                f"<span>{_text(_short(operation['operationId'], path))}</span></a></li>"
            )
        yield "</ul>\n"
    yield '<p class="group">Records</p><ul>'
    for name in records:
        yield f'<li><a href="#{_text(name)}">{_text(name)}</a></li>'
    yield f'</ul></nav>\n<main id="top"><h1>{title}</h1><p class="lead">{_text(info["summary"])}</p>\n'
    for paragraph in info["description"].split("\n\n"):
        yield f"<p>{_marked(paragraph)}</p>\n"
    yield "<h4>In the examples</h4>" + _code(f'api=http://127.0.0.1:8400{base} project=default key="…"')
    for name, (description, routes) in groups.items():
        yield f'<h2 id="tag-{_text(name)}">{_text(name)}</h2><p class="lead">{_marked(description)}</p>\n'
        for path, method, operation in routes:
            yield from _route(path, method, operation, document)
    yield '<h2 id="records">Records</h2><p class="lead">What answers hold, in the order of the wire.</p>\n'
    for name, record in records.items():
        yield from _record(name, record)
    yield "<footer>The whole API is on this page: search it with the browser's own search.</footer>"
    yield "</main></div></body></html>\n"


def _routes(document: Mapping[str, Any], tag: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods and tag in methods[method]["tags"]:
                yield path, method, methods[method]


def _short(operation_id: str, path: str) -> str:
    """Return an operation's name without its service, which the heading above says."""
    service = re.sub(r"\W.*", "", path.lstrip("/"))
    rest = operation_id.removeprefix(service)
    return rest[:1].lower() + rest[1:] if rest else operation_id


# -- a route ------------------------------------------------------------------------------------------------


def _route(path: str, method: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    id_ = _text(operation["operationId"])
    yield (
        f'<section class="route" id="{id_}"><h3>{_method(method)}<a href="#{id_}"><code>{_text(path)}</code></a>'
        f"{_added(operation)}</h3>\n<p>{_marked(operation['summary'])}</p>\n"
        f'<dl class="facts"><div><dt>Scope</dt><dd>{_scope(operation)}</dd></div>'
        f"<div><dt>Who</dt><dd>{_who(operation['security'])}</dd></div>"
        f"<div><dt>Name</dt><dd><code>{id_}</code></dd></div></dl>\n"
    )
    rows = list(_parameters(operation))
    if rows:
        titles = "".join(f'<th scope="col">{title}</th>' for title in ("Name", "In", "Type", "What it is"))
        yield f'<h4>Parameters</h4><div class="scroll"><table class="fields"><tr class="titles">{titles}</tr>\n'
        yield from rows
        yield "</table></div>\n"
    refusals = {}
    for code, answer in operation["responses"].items():
        if code < "300":
            yield f"<h4>Answer</h4><p><code>{_text(code)}</code> {_answer(answer, document)}</p>\n"
            yield from _answer_headers(answer)
        else:
            refusals[code] = answer
    yield f"<h4>Example</h4>{_code(_curl(path, method, operation))}\n"
    yield '<details class="refusals"><summary>Refusals</summary><div class="scroll"><table>'
    for code, answer in refusals.items():
        types = ", ".join(f"<code>{_text(one)}</code>" for one in _types(answer))
        yield f'<tr><td class="name"><code>{_text(code)}</code></td><td class="what">{types}<br>'
        yield f'<span class="quiet">{_marked(answer["description"])}</span></td></tr>\n'
    yield "</table></div></details></section>\n"


def _scope(operation: Mapping[str, Any]) -> str:
    return f"<code>{_text(operation['x-scope'])}</code>" if "x-scope" in operation else "none"


def _who(security: Sequence[Mapping[str, Any]]) -> str:
    if not security:
        return "everybody"
    names = {"key": "API keys", "jwt": "users"}
    who = [next((names[name] for name in one if name in names), "guests") for one in security]
    return ", ".join(who)


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    for one in operation.get("parameters", ()):
        yield _parameter(one["name"], one["in"], one["schema"], one["description"], one, must=one["required"])
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        place = "form" if kind.startswith("multipart/") else "body"
        body = content["schema"]
        for name, schema in body["properties"].items():
            must = name in body.get("required", ())
            yield _parameter(name, place, schema, schema["description"], schema, must=must)


def _parameter(
    name: str, place: str, schema: Mapping[str, Any], description: str, marks: Mapping[str, Any], *, must: bool
) -> str:
    default = schema.get("default")
    said = ' <span class="must">required</span>' if must else ""
    if default is not None:
        said = f' <span class="quiet default">default <code>{_text(json.dumps(default))}</code></span>'
    return (
        f'<tr><td class="name"><code>{_text(name)}</code>{_added(marks)}</td>'
        f'<td class="place quiet">{_text(place)}</td><td class="type">{_type(schema)}{said}</td>'
        f'<td class="what">{_marked(description)}{_inner(schema)}</td></tr>\n'
    )


def _inner(schema: Mapping[str, Any]) -> str:
    """Return what is said of a list's items."""
    description = schema.get("items", {}).get("description")
    return f" Each is: {_marked(description)}" if description else ""


def _answer(answer: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Return what an answer holds: its record, with a link to each field."""
    if not answer.get("content"):
        return _marked(answer["description"])
    (kind, content), *_ = answer["content"].items()
    name = _name(content["schema"])
    if name is None:
        return f"<code>{_text(kind)}</code>"
    fields = ", ".join(
        f'<a href="#{_text(name)}.{_text(field)}"><code>{_text(field)}</code></a>'
        for field in document["components"]["schemas"][name]["properties"]
    )
    return f'<a href="#{_text(name)}">{_text(name)}</a>: {fields}'


def _answer_headers(answer: Mapping[str, Any]) -> Iterator[str]:
    for name, header in answer.get("headers", {}).items():
        yield f'<p class="small"><code>{_text(name)}</code> {_marked(header["description"])}</p>\n'


def _types(answer: Mapping[str, Any]) -> Sequence[str]:
    (content,) = answer["content"].values()
    return tuple(content["schema"]["allOf"][1]["properties"]["type"]["enum"])


def _curl(path: str, method: str, operation: Mapping[str, Any]) -> str:
    """Return how the route is called from a shell."""
    parameters = operation.get("parameters", ())
    url = "$api" + path
    for one in parameters:
        if one["in"] == "path":
            url = url.replace(f"{{{one['name']}}}", str(one["example"]))
    body = operation.get("requestBody", {}).get("content", {})
    implied = "post" if body else "get"
    (kind, *_) = next(iter(operation["responses"].values())).get("content", {"": {}})
    flags = [
        *([f"-X {method.upper()}"] if method != implied else []),
        *({"text/event-stream": ["-N"], "application/gzip": ["-OJ"]}.get(kind, [])),
    ]
    words = [" ".join(["curl", *flags, f'"{url}"'])]
    if operation["security"]:
        words += ['-H "X-Appwrite-Project: $project"', '-H "X-Appwrite-Key: $key"']
    for kind, content in body.items():
        properties = content["schema"]["properties"]
        sent = {name: schema["examples"][0] for name, schema in properties.items() if schema.get("examples")}
        if kind.startswith("multipart/"):
            words += [f"-F {name}={json.dumps(value).strip(chr(34))}" for name, value in sent.items()]
            words.append("-F code=@code.tar.gz")
        else:
            words.append('-H "Content-Type: application/json"')
            words.append(f"-d {shlex.quote(json.dumps(sent))}")
    return " \\\n  ".join(words)


# -- records ------------------------------------------------------------------------------------------------


def _record(name: str, record: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f'<section class="record" id="{_text(name)}"><h3><a href="#{_text(name)}">{_text(name)}</a></h3>'
        f'<p>{_marked(record["description"])}</p><div class="scroll"><table class="fields">\n'
    )
    for field, schema in record["properties"].items():
        yield (
            f'<tr id="{_text(name)}.{_text(field)}"><td class="name"><code>{_text(field)}</code>{_added(schema)}</td>'
            f'<td class="type">{_type(schema)}</td>'
            f'<td class="what">{_marked(schema.get("description", ""))}</td></tr>\n'
        )
    yield "</table></div></section>\n"


def _name(schema: Mapping[str, Any]) -> str | None:
    """Return the name of the record that a schema refers to."""
    return str(schema["$ref"]).rsplit("/", 1)[1] if "$ref" in schema else None


def _type(schema: Mapping[str, Any]) -> str:
    """Return a type with its limits, in words."""
    name = _name(schema)
    if name is not None:
        return f'<a href="#{_text(name)}">{_text(name)}</a>'
    if "enum" in schema:
        return ", ".join(f"<code>{_text(value) or '&quot;&quot;'}</code>" for value in schema["enum"])
    kind = {"array": "list", "binary": "file"}.get(str(schema.get("format", schema["type"])), str(schema["type"]))
    if kind == "list":
        return "list" + _bound("up to", schema.get("maxItems")) + " of " + _type(schema["items"])
    if "anyOf" in schema:
        return f"{kind}, " + " or ".join(_limits(one) for one in schema["anyOf"])
    limits = _limits(schema)
    return f"{kind}, {limits}" if limits else kind


def _limits(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return _text(schema["const"])
    if "minimum" in schema:
        return f"{schema['minimum']:,} to {schema['maximum']:,}"
    least = f"{schema['minLength']} to " if "minLength" in schema else "up to "
    return f"{least}{schema['maxLength']:,} characters" if "maxLength" in schema else ""


def _bound(words: str, value: int | None) -> str:
    return f" of {words} {value:,}" if value is not None else ""


# -- text ---------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return html.escape(str(value))


def _marked(text: str) -> str:
    """Return a text with what stands in backquotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _method(method: str) -> str:
    return f'<span class="method {_text(method)}">{_text(method.upper())}</span>'


def _added(marks: Mapping[str, Any]) -> str:
    return '<span class="added">addition</span>' if marks.get("x-addition") else ""


def _code(text: str) -> str:
    return f"<pre><code>{_text(text)}</code></pre>"
