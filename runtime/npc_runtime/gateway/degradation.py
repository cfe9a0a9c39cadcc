"""Which archetypes speak from a lower level now, for the operator: it makes the Events of it.

Read from the counters of downgraded lines, so that a line costs nothing more. A level is told while its lines grew
within a quiet time: one that answered nobody since is over, whether its tier is back or nobody asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from npc_runtime import wire

Lines = Mapping[tuple[str, str, str], int]
"""Downgraded lines so far by (archetype, tier asked, level)."""

LOOK_SECONDS: Final = 0.5
QUIET_SECONDS: Final = 10.0
"""Longer than the first holds (`holds.FIRST_SECONDS`), so that one outage is one story."""


class Degradation:
    """Looks at the counters twice a second, and tells who is degraded whenever that changed or not."""

    def __init__(
        self, *, ask: Callable[[], Awaitable[Lines]], tell: Callable[[tuple[wire.DegradedReport, ...]], None]
    ) -> None:
        self._ask = ask
        self._tell = tell
        self._known: Lines = {}
        self._grew: dict[tuple[str, str, str], float] = {}

    async def watch_for_ever(self) -> None:
        """Run until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._tell(self.hear(await self._ask(), loop.time()))
            await asyncio.sleep(LOOK_SECONDS)

    def hear(self, lines: Lines, now: float) -> tuple[wire.DegradedReport, ...]:
        """Who is degraded by these counters at `now` (seconds of a clock that only grows). Counters that fall are those
        of a worker that began anew."""
        for key, count in lines.items():
            if count > self._known.get(key, 0):
                self._grew[key] = now
        self._known = dict(lines)
        self._grew = {key: at for key, at in self._grew.items() if now - at <= QUIET_SECONDS}
        return tuple(
            wire.DegradedReport(archetype=archetype, tier=tier, level=level)
            for archetype, tier, level in sorted(self._grew)
        )
