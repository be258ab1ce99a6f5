"""One parameter of each kind, all optional; answers how Python shows them."""

import dataclasses
import datetime
import decimal
import enum
import pathlib
import typing
import uuid


class Colour(enum.Enum):
    RED = "red"
    ONE = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


class Options(typing.TypedDict, total=False):
    depth: int


class Pair(typing.NamedTuple):
    left: str
    right: int = 2


def main(
    whole: int = 0,
    number: float = 0.0,
    flag: bool = False,
    text: str = "",
    raw: bytes = b"",
    moment: typing.Optional[datetime.datetime] = None,
    day: typing.Optional[datetime.date] = None,
    clock: typing.Optional[datetime.time] = None,
    span: typing.Optional[datetime.timedelta] = None,
    money: typing.Optional[decimal.Decimal] = None,
    ident: typing.Optional[uuid.UUID] = None,
    path: typing.Optional[pathlib.Path] = None,
    colour: typing.Optional[Colour] = None,
    mode: typing.Literal["fast", 1] = "fast",
    either: typing.Union[int, str] = 0,
    many: typing.List[int] = (),
    unique: typing.Set[str] = frozenset(),
    fixed: typing.Tuple[int, str] = (0, ""),
    mapping: typing.Dict[int, float] = {},
    point: typing.Optional[Point] = None,
    options: Options = {},
    pair: typing.Optional[Pair] = None,
):
    values = dict(locals())
    return {name: repr(value) for name, value in values.items()}
