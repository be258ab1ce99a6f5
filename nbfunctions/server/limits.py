"""How often a user may call a route (spec, section 12.2): a number for each fixed window of time."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from nbfunctions.errors import GeneralRateLimitExceeded
from nbfunctions.server.wire import RawHeaders

__all__ = ["Counted", "RateLimit", "client_address", "is_own"]

ADDRESSES: Final = 100_000
"""Counters of one window; beyond it, all further callers share one."""
ADDRESS_LENGTH: Final = 64
"""Characters of an address: those of IPv6 may name an interface."""
HOPS: Final = 32
"""Addresses of ``X-Forwarded-For`` that are looked at."""


class Counted(msgspec.Struct, frozen=True):
    """Where a caller stands in its window."""

    limit: int
    remaining: int
    reset: int
    """When the next window begins, in seconds since the epoch."""
    exceeded: bool

    def headers(self) -> RawHeaders:
        """Return what says so to the caller."""
        return _headers(self.limit, self.remaining, self.reset)

    def demand(self) -> None:
        """Raises ``GeneralRateLimitExceeded`` when this was one call too many."""
        if self.exceeded:
            raise GeneralRateLimitExceeded


@functools.lru_cache(100)
def _headers(limit: int, remaining: int, reset: int) -> RawHeaders:
    return [
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"x-ratelimit-remaining", b"%d" % remaining),
        (b"x-ratelimit-reset", b"%d" % reset),
    ]


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
    """Return the address that a request comes from; of IPv6 the network, all of which belongs to one client.

    ``X-Forwarded-For`` counts when this machine itself is the peer, as a reverse proxy is: the last address in it that
    isn't this machine's. What stands before that may be anybody's invention, and what is no address is nobody's.
    """
    forwarded = headers.get("x-forwarded-for")
    if forwarded and is_own(peer):
        for text in reversed(forwarded.rsplit(",", HOPS)):
            found = _address(text)
            if found is None:
                break
            if not found.is_loopback:
                return _network(found)
    if ":" not in peer:
        return peer
    found = _address(peer)
    return peer if found is None or found.is_loopback else _network(found)


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


def is_own(address: str) -> bool:
    """Return whether it is an address of this machine's loopback."""
    found = _address(address)
    return found is not None and found.is_loopback


_PORT: Final = re.compile(r"\[([^\[\]]*)\](?::[0-9]+)?|([0-9.]+):[0-9]+", re.ASCII)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a text is, one of IPv4 also in its form for IPv6; a port beside it is ignored."""
    text = text.strip()
    if len(text) > ADDRESS_LENGTH:
        return None
    beside = _PORT.fullmatch(text)
    try:
        found = ipaddress.ip_address((beside[1] or beside[2] or "") if beside else text)
    except ValueError:
        return None
    return (found.version == 6 and found.ipv4_mapped) or found
