"""Cron expressions: which ones are taken, and when they fire (spec, section 10.1). Times are UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nbfunctions.server.cron import is_cron, next_time

TAKEN = [
    "* * * * *",
    "*/5 * * * *",
    "0-59/5 * * * *",
    "0 0 1 1 *",
    "1,2,30-40 3 * * *",
    "0 0 * JAN *",
    "0 0 * dec Mon-Fri",
    "0 0 * * 0",
    "0 0 * * 7",
    "0 0 * * 5-7",
    "0 0 ? * 1",
    "0 0 1 * ?",
    "0 0 L * *",
    "0 0 15W * *",
    "0 0 1W * *",
    "0 0 31W * *",
    "0 0 * * 2#3",
    "0 0 * * 5L",
    "0\t0 1  1 *",
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
    "@HOURLY",
]


@pytest.mark.parametrize("expression", [*TAKEN, "", "0"])
def test_five_fields_and_the_usual_names_are_taken(expression: str) -> None:
    assert is_cron(expression)


@pytest.mark.parametrize(
    "expression",
    [
        " ",
        "00",
        "* * * *",
        "* * * * * *",
        "0 0 1 1 * 2026",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 0 *",
        "* * * 13 *",
        "* * * * 8",
        "-1 * * * *",
        "5-1 * * * *",
        "1- * * * *",
        "1,,2 * * * *",
        "1, * * * *",
        "5/10 * * * *",
        "1,5/10 * * * *",
        "0 0 * JAN/2 *",
        "*/0 * * * *",
        "*/x * * * *",
        "٣ * * * *",
        "+5 * * * *",
        "5_0 * * * *",
        "JAN * * * *",
        "0 0 32W * *",
        "0 0 0W * *",
        "0 0 W * *",
        "0 0 15W,3 * *",
        "0 0 3,15W * *",
        "0 0 L,3 * *",
        "0 0 3,L * *",
        "15W * * * *",
        "0 0 * * 15W",
        "0 0 * * 1#6",
        "0 0 * * 1#0",
        "@reboot",
        "@every 5m",
        "hello",
        "* * * * *\0",
        "0 0 31 2 *",
        ",".join(["1"] * 100) + " * * * *",
    ],
)
def test_anything_else_is_refused(expression: str) -> None:
    assert not is_cron(expression)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("expression", "after", "fires"),
    [
        ("* * * * *", "2026-01-01T00:00:00", "2026-01-01T00:01:00"),
        ("* * * * *", "2026-01-01T00:00:59.999", "2026-01-01T00:01:00"),
        ("0 * * * *", "2026-01-01T12:00:00", "2026-01-01T13:00:00"),
        ("0 * * * *", "2026-01-01T12:00:30", "2026-01-01T13:00:00"),
        ("0 * * * *", "2026-01-01T11:59:59.5", "2026-01-01T12:00:00"),
        ("*/15 * * * *", "2026-01-01T00:16:00", "2026-01-01T00:30:00"),
        ("50-59/3 * * * *", "2026-01-01T00:51:00", "2026-01-01T00:53:00"),
        ("0 0 1 1 *", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
        ("@yearly", "2026-06-01T00:00:00", "2027-01-01T00:00:00"),
        ("@annually", "2026-06-01T00:00:00", "2027-01-01T00:00:00"),
        ("@monthly", "2026-06-02T00:00:00", "2026-07-01T00:00:00"),
        ("@weekly", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),  # a Thursday; Sunday
        ("@daily", "2026-01-01T05:00:00", "2026-01-02T00:00:00"),
        ("@midnight", "2026-01-01T05:00:00", "2026-01-02T00:00:00"),
        ("@Hourly", "2026-01-01T05:30:00", "2026-01-01T06:00:00"),
        ("0 0 * * 7", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("0 0 * * sun", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("0 0 * FEB *", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 13 * 5", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),  # either day: Friday
        ("0 0 13 * 5", "2026-01-10T00:00:00", "2026-01-13T00:00:00"),  # or the 13th
        ("0 0 */20 * 5", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),  # a step is a restriction, too
        ("0 0 */20 * 5", "2026-01-17T00:00:00", "2026-01-21T00:00:00"),
        ("0 0 ? * 5", "2026-01-03T00:00:00", "2026-01-09T00:00:00"),
        ("0 0 L * *", "2026-02-01T00:00:00", "2026-02-28T00:00:00"),
        ("0 0 L * *", "2028-02-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 * * 2#3", "2026-01-01T00:00:00", "2026-01-20T00:00:00"),
        ("0 0 * * 5L", "2026-01-01T00:00:00", "2026-01-30T00:00:00"),
        ("0 0 15W * *", "2026-01-01T00:00:00", "2026-01-15T00:00:00"),  # a Thursday
        ("0 0 15W * *", "2026-02-01T00:00:00", "2026-02-16T00:00:00"),  # a Sunday: Monday after
        ("0 0 15W * *", "2026-08-01T00:00:00", "2026-08-14T00:00:00"),  # a Saturday: Friday before
        ("0 0 15W * *", "2026-08-14T00:00:00", "2026-09-15T00:00:00"),
        ("0 0 1W * *", "2026-07-31T00:00:00", "2026-08-03T00:00:00"),  # a Saturday: not the month before
        ("0 0 31W * *", "2026-05-01T00:00:00", "2026-05-29T00:00:00"),  # a Sunday: not the month after
        ("0 0 31W * *", "2026-04-01T00:00:00", "2026-05-29T00:00:00"),  # April has no 31st
        ("0 12 15W 3 *", "2026-01-01T00:00:00", "2026-03-16T12:00:00"),
        ("30 4 1 1 *", "1999-12-31T23:59:00", "2000-01-01T04:30:00"),
    ],
)
def test_it_fires_next_after_the_current_minute(expression: str, after: str, fires: str) -> None:
    found = next_time(expression, seconds(after))
    assert datetime.fromtimestamp(found, UTC).isoformat() == fires + "+00:00"
    assert isinstance(found, int)


@pytest.mark.parametrize("expression", ["", "0", "0 0 31 2 *", "not one"])
def test_what_never_fires_has_no_next_time(expression: str) -> None:
    assert next_time(expression, seconds("2026-01-01T00:00:00")) == 0


@pytest.mark.parametrize("expression", TAKEN)
def test_whatever_is_taken_fires_at_a_whole_minute_within_four_years(expression: str) -> None:
    after = seconds("2026-03-05T07:08:09.5")
    found = next_time(expression, after)
    assert after < found < after + 4 * 366 * 86_400
    assert found % 60 == 0
