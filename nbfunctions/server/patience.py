"""How long a client may take to read what waits for it."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["LEAVING", "Patience"]

READING: Final = 60.0
"""Seconds that a client may take to read anything of what waits for it."""
LEAVING: Final = 5.0
"""Seconds that it may take when its connection is to end."""


class Patience:
    """Cuts a connection off whose client reads nothing: closing it would wait until everything is read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._waiting: asyncio.TimerHandle | None = None

    def begin(self, seconds: float = READING) -> None:
        """From now on it has so long."""
        self.end()
        self._waiting = self._loop.call_later(seconds, self._transport.abort)

    def end(self) -> None:
        """It has read, or is gone."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def hurry(self) -> None:
        """Shorten the time, if it has begun: the server stops."""
        if self._waiting is not None or self._transport.is_closing():
            self.begin(LEAVING)
