"""How often a user may call a route (spec, section 12.2): a number for each fixed window of time."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

import msgspec

from nbfunctions.errors import GeneralRateLimitExceeded

__all__ = ["Counted", "RateLimit", "client_address"]

ADDRESSES: Final = 100_000
"""Counters of one window; beyond it, all further callers share one."""


class Counted(msgspec.Struct, frozen=True):
    """Where a caller stands in its window."""

    limit: int
    remaining: int
    reset: int
    """When the next window begins, in seconds since the epoch."""
    exceeded: bool

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return what says so to the caller."""
        return [
            (b"x-ratelimit-limit", b"%d" % self.limit),
            (b"x-ratelimit-remaining", b"%d" % self.remaining),
            (b"x-ratelimit-reset", b"%d" % self.reset),
        ]

    def demand(self) -> None:
        """Raises ``GeneralRateLimitExceeded`` when this was one call too many."""
        if self.exceeded:
            raise GeneralRateLimitExceeded


class RateLimit:
    """Counts calls by key. Counters of past windows are forgotten with the first call of a new one."""

    def __init__(self, limit: int, window: int) -> None:
        self._limit = limit
        self._window = window
        self._start = 0
        self._used: dict[str, int] = {}

    def count(self, key: str, now: float, *, exempt: bool) -> Counted:
        """Count one call; an ``exempt`` one is told where it would stand, uses nothing up and is never too many."""
        start = int(now // self._window) * self._window
        if start != self._start:
            self._start = start
            self._used.clear()
        if key not in self._used and len(self._used) >= ADDRESSES:
            key = ""
        used = self._used.get(key, 0)
        exceeded = used >= self._limit and not exempt
        if not exempt and not exceeded:
            self._used[key] = used + 1
        return Counted(self._limit, max(self._limit - used - 1, 0), start + self._window, exceeded)


def client_address(peer: str, headers: Mapping[str, str]) -> str:
    """Return the address that a request comes from.

    ``X-Forwarded-For`` counts when this machine itself is the peer, as a reverse proxy is: the last address in it that
    isn't this machine's. What stands before that may be anybody's invention.
    """
    forwarded = headers.get("x-forwarded-for")
    if not forwarded or not _is_own(peer):
        return peer
    for address in reversed([one.strip() for one in forwarded.split(",")]):
        if address and not _is_own(address):
            return address
    return peer


def _is_own(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
