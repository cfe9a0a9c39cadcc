"""Notices that a stream has stopped in the middle.

Nothing is done for each token: a few times per limit it is looked whether anything came since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

LOOKS: Final = 8
"""Per limit: a stall is noticed at most an eighth of the limit late."""


class StallWatch:
    """Watches one stream from now on, until it is cancelled or has called `on_stall` once."""

    __slots__ = ("_every", "_left", "_loop", "_on_stall", "_progress", "_seen", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        *,
        progress: Callable[[], object],
        on_stall: Callable[[], None],
    ) -> None:
        """`progress` returns another object whenever something came."""
        self._loop = loop
        self._every = seconds / LOOKS
        self._progress = progress
        self._on_stall = on_stall
        self._left = LOOKS
        # The object itself and not its id, which could be used again.
        self._seen = progress()
        self._timer: asyncio.TimerHandle = loop.call_later(self._every, self._look)

    def cancel(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _look(self) -> None:
        seen = self._progress()
        if seen is not self._seen:
            self._seen = seen
            self._left = LOOKS
        else:
            self._left -= 1
            if self._left <= 0:
                self._on_stall()
                return
        self._timer = self._loop.call_later(self._every, self._look)
