"""Cron expressions: which ones the API takes and when they fire (spec, section 10). Pure functions of a given time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
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
STEP_OF_NUMBER: Final = re.compile(r"(?:^|,)[^*,/-]+/")
"""``5/10``: a step needs a range or ``*`` (spec, section 10.1); cronsim would take it."""


def is_cron(text: str) -> bool:
    """Return whether the API takes ``text`` as a ``schedule``."""
    if text in NO_SCHEDULE:
        return True
    expression = _expression(text)
    if len(expression.split()) != 5 or any(STEP_OF_NUMBER.search(field) for field in expression.split()):
        return False
    try:
        CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        return False
    return True


def next_time(schedule: str, after: float) -> int:
    """Return the first time (whole seconds since the epoch, UTC) after the minute of ``after`` at which it fires.

    0 when there is no schedule, or it never fires within 50 years, as on a 31st of February.
    """
    if schedule in NO_SCHEDULE:
        return 0
    try:
        return int(next(CronSim(_expression(schedule), datetime.fromtimestamp(after, UTC))).timestamp())
    except (CronSimError, StopIteration):
        return 0


def _expression(text: str) -> str:
    # `?` in a day field means "any" to the reference; names and specials are cronsim's own.
    return ALIASES.get(text.strip().lower(), text).replace("?", "*")
