"""A loop whose time is a number, for what only looks at the clock and sets timers."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import cast


class _Handle:
    def __init__(self, tell: Callable[[], object]) -> None:
        self.tell = tell
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualLoop:
    """`time` and `call_later`, as an event loop has them."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, _Handle]] = []
        self._order = itertools.count()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """For whoever wants a whole loop and uses those two."""
        return cast("asyncio.AbstractEventLoop", self)

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, tell: Callable[..., object], *args: object) -> _Handle:
        handle = _Handle(lambda: tell(*args))
        heapq.heappush(self._queue, (self.now + delay, next(self._order), handle))
        return handle

    def run_until(self, end: float) -> None:
        """Let time pass."""
        while self._queue and self._queue[0][0] <= end:
            self.now, _, handle = heapq.heappop(self._queue)
            if not handle.cancelled:
                handle.tell()
        self.now = end
