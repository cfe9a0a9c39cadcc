"""Places for requests that run at once, given to those that wait in order of arrival or of priority."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """So many places (0: no bound). By priority, the lowest number goes first; equal ones, and without priorities all,
    go by arrival.
    """

    def __init__(self, count: int, *, by_priority: bool) -> None:
        self._count = count
        self._by_priority = by_priority
        self._held = 0
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()

    @property
    def waiting(self) -> int:
        """Requests without a place."""
        return len(self._queue)

    @asynccontextmanager
    async def place(self, priority: int) -> AsyncIterator[None]:
        """A place for as long as the block runs; waits for it."""
        await self._take(priority if self._by_priority else 0)
        try:
            yield
        finally:
            self._free()

    async def _take(self, priority: int) -> None:
        if not self._count or self._held < self._count:
            self._held += 1
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (priority, next(self._arrivals), turn)
        heapq.heappush(self._queue, entry)
        try:
            await turn
        except asyncio.CancelledError:
            if entry in self._queue:
                self._queue.remove(entry)
                heapq.heapify(self._queue)
            else:  # it had just got a place
                self._free()
            raise

    def _free(self) -> None:
        if self._queue:
            heapq.heappop(self._queue)[2].set_result(None)
        else:
            self._held -= 1
