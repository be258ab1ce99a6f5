"""What only shows below the front door: brackets of forms, dates of 0.14, bodies that come in pieces."""

from __future__ import annotations

from typing import Any

import pytest

from nbfunctions.errors import ApiError, GeneralArgumentInvalid
from nbfunctions.models import Deployment, Execution, Function, FunctionList
from nbfunctions.server.wire import BODY_LIMIT, answer, query_of, read, refusal


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=", {"a": ""}),
        ("a", {"a": ""}),
        ("a=1&a=2", {"a": "2"}),
        ("a[]=x", {"a": ["x"]}),
        ("a[]=x&a[]=y", {"a": ["x", "y"]}),
        ("a%5B%5D=x&a%5B%5D=y", {"a": ["x", "y"]}),
        ("a[0]=x&a[1]=y", {"a": ["x", "y"]}),
        ("a[1]=x&a[0]=y", {"a": {"1": "x", "0": "y"}}),
        ("a[k]=v&a[l]=w", {"a": {"k": "v", "l": "w"}}),
        ("a[k]=v&a[k]=w", {"a": {"k": "w"}}),
        ("a[k]=v&a=x", {"a": "x"}),
        ("a=x&a[k]=v", {"a": {"k": "v"}}),
        ("a[=x", {"a[": "x"}),
        ("[]=x", {"[]": "x"}),
        ("a=%C3%A4+%26", {"a": "ä &"}),
        ("a=%FF", {"a": "\ufffd"}),
        ("a=%ED%A0%80", {"a": "\ufffd\ufffd\ufffd"}),
        ("&&&a=1&&", {"a": "1"}),
        ("a=b=c", {"a": "b=c"}),
        ("a;b=c", {"a;b": "c"}),
    ],
)
def test_a_query_is_read_as_php_reads_it(query: str, values: dict[str, Any]) -> None:
    assert query_of({"query_string": query.encode()}) == values


async def body_of(content_type: str, *pieces: bytes, ends: bool = True) -> dict[str, Any]:
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b""} if ends else {"type": "http.disconnect"})
    coming = iter(messages)

    async def receive() -> Any:
        return next(coming)

    headers = {"content-type": content_type}
    scope = {"headers": [(b"content-type", content_type.encode())]}
    return (await read(scope, receive, headers, 0)).values


async def test_a_body_may_come_in_pieces() -> None:
    assert await body_of("application/json", b'{"a"', b": 1", b"}") == {"a": 1}
    assert await body_of("application/x-www-form-urlencoded", b"a=1", b"&b=2") == {"a": "1", "b": "2"}
    assert await body_of("text/plain", b"a=1") == {"a": "1"}
    form = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n'
    assert await body_of("multipart/form-data; boundary=b", *(form[i : i + 1] for i in range(len(form)))) == {"a": "1"}


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=b"])
async def test_a_body_that_breaks_off_or_is_too_large_is_refused(kind: str) -> None:
    with pytest.raises(GeneralArgumentInvalid, match="ended before its body was complete"):
        await body_of(kind, b"--b\r\n", ends=False)
    with pytest.raises(ApiError) as refusal_:
        await body_of(kind, b"--b\r\n" + b"x" * BODY_LIMIT)
    assert refusal_.value.code == 400


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\xff",
        "multipart/form-data; boundary=" + "b" * 5000,
        "multipart/form-data; boundary=b; charset=undefined",
        "multipart/form-data; boundary=b; charset=hex",
        "multipart/form-data; boundary=b; charset=nonsense\0",
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"--b\r\n\r\n1\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\xfe\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="a"; filename="\xff"\r\n\r\n1\r\n--b--\r\n',
    ],
)  # fmt: skip
async def test_a_form_that_can_not_be_read_is_refused_or_read_somehow(kind: str, body: bytes) -> None:
    try:
        values = await body_of(kind, body)
    except GeneralArgumentInvalid as error:
        assert error.message.startswith("The form can't be read: ")
    else:
        assert set(values) <= {"a"}


DATES: dict[str, Any] = {"created_at": 1, "updated_at": 2}


@pytest.mark.parametrize(
    ("record", "has", "has_not"),
    [
        (Function(id="f", **DATES), b'{"$id":"f","dateCreated":1,"dateUpdated":2,', b"$createdAt"),
        (Deployment(id="d", **DATES), b'{"$id":"d","dateCreated":1,"dateUpdated":2,', b"$updatedAt"),
        (Execution(id="e", **DATES), b'{"$id":"e","dateCreated":1,"$read":[]', b"dateUpdated"),
        (
            FunctionList(total=1, functions=(Function(id="f", vars={"$createdAt": {"$createdAt": 5}}, **DATES),)),
            b'"vars":{"$createdAt":{"$createdAt":5}}',
            b'"f","$createdAt"',
        ),
        ({"version": "x"}, b'{"version":"x"}', b"dateCreated"),
    ],
)
def test_a_record_for_0_14_has_its_dates(record: Any, has: bytes, has_not: bytes) -> None:
    body = answer(200, record, "0.14.0").body
    assert has in bytes(body)
    assert has_not not in bytes(body)
    assert b"dateCreated" not in bytes(answer(200, record).body)


@pytest.mark.parametrize("error", list(ApiError.types.values()))
def test_every_error_has_one_shape(error: type[ApiError]) -> None:
    answered = refusal(error("what is wrong: ü"))
    assert answered.status == error.code
    said = f'{{"message":"what is wrong: ü","code":{error.code},"type":"{error.type}","version":"0.15.3"}}'
    assert bytes(answered.body).decode() == said
