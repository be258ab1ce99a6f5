"""Cron expressions: which ones the API takes and when they fire (spec, section 10). Pure functions of a given time."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime
from typing import Final

from cronsim import CronSim, CronSimError

__all__ = ["is_cron", "next_time"]

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
NO_SCHEDULE: Final = ("", "0")
"""Texts that are accepted and never fire."""
LENGTH_LIMIT: Final = 128
"""Characters of an expression (spec, section 3.4)."""
STEP_OF_NUMBER: Final = re.compile(r"(?:^|,)[^*,/-]+/")
"""``5/10``: a step needs a range or ``*`` (spec, section 10.1); cronsim would take it."""
NEAREST_WEEKDAY: Final = re.compile(r"([1-9]|[12][0-9]|3[01])W", re.IGNORECASE)
"""``15W``: the weekday nearest to the 15th, in the same month."""


def is_cron(text: str) -> bool:
    """Return whether the API takes ``text`` as a ``schedule``."""
    if text in NO_SCHEDULE:
        return True
    try:
        _Cron(text, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        return False
    return True


def next_time(schedule: str, after: float) -> int:
    """Return the first time (whole seconds since the epoch, UTC) after the minute of ``after`` at which it fires.

    0 when there is no schedule, or it never fires within 50 years.
    """
    if schedule in NO_SCHEDULE:
        return 0
    try:
        return int(next(_Cron(schedule, datetime.fromtimestamp(after, UTC))).timestamp())
    except (CronSimError, StopIteration):
        return 0


class _Cron(CronSim):
    """cronsim with the contract's own rules; raises ``CronSimError``."""

    def __init__(self, text: str, after: datetime) -> None:
        fields = ALIASES.get(text.strip().lower(), text).split()
        if len(text) > LENGTH_LIMIT or len(fields) != 5 or any(STEP_OF_NUMBER.search(field) for field in fields):
            raise CronSimError(text)
        # `?` means "any". `*/2` restricts like any other step: two restricted day fields are a union.
        fields = [field.replace("?", "*") for field in fields]
        fields[2] = re.sub(r"^\*/", "1-31/", fields[2])
        fields[4] = re.sub(r"^\*/", "0-6/", fields[4])
        if "," in fields[2] and "L" in fields[2].upper():
            raise CronSimError(text)
        nearest = NEAREST_WEEKDAY.fullmatch(fields[2])
        self._nearest = int(nearest[1]) if nearest else 0
        if nearest:
            fields[2] = nearest[1]
        super().__init__(" ".join(fields), after)

    def match_dom(self, d: date) -> bool:
        return d.day == _nearest_weekday(d, self._nearest) if self._nearest else super().match_dom(d)


def _nearest_weekday(month: date, day: int) -> int:
    """Return the day of ``month`` that is the weekday nearest to ``day``; 0 when there is no such day in it."""
    last = calendar.monthrange(month.year, month.month)[1]
    if day > last:
        return 0
    weekday = month.replace(day=day).weekday()
    if weekday == calendar.SATURDAY:
        return day - 1 if day > 1 else 3
    if weekday == calendar.SUNDAY:
        return day + 1 if day < last else day - 2
    return day
