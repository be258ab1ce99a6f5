"""Returns one of many kinds of value."""

import dataclasses
import datetime
import decimal
import enum
import pathlib
import uuid


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date


VALUES = {
    "none": None,
    "text": "héllo",
    "bytes": b"\x00\xff",
    "nan": {"x": float("nan"), "y": [float("inf"), 1.5]},
    "point": Point(1, datetime.date(2026, 1, 2)),
    "moment": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
    "span": datetime.timedelta(minutes=1, milliseconds=500),
    "money": decimal.Decimal("1.10"),
    "colour": [Colour.RED, {Colour.RED: 1}],
    "set": {3, 1, 2},
    "id": uuid.UUID(int=1),
    "path": pathlib.PurePosixPath("a/b"),
    "tuple_keys": {(1, 2): 3, datetime.date(2026, 1, 1): 4},
    "iterator": (number for number in [1, 2]),
    "nested_bytes": {"raw": b"ab"},
    "large": "x" * 1_000_001,
    "impossible": object(),
}
VALUES["itself"] = loop = []
loop.append(loop)


def main(which):
    return VALUES[which]
