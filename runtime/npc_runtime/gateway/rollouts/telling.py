"""Keeps the operator's long poll up to date with what becomes of candidates: twice a second while something is being
tried, and not at all at rest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from npc_runtime.gateway.rollouts.tally import Seen, pairs_of
from npc_runtime.gateway.table import CompiledTable

TELL_SECONDS = 0.5
"""How often counts are gathered; a long poll is answered at most as often for their sake."""


class Telling:
    """Asks the data plane, and passes on what changed."""

    def __init__(
        self, *, ask: Callable[[], Awaitable[Sequence[Seen]]], tell: Callable[[tuple[Seen, ...]], None]
    ) -> None:
        """`ask` gathers, `tell` is called with all of it, whether it changed or not."""
        self._ask = ask
        self._tell = tell
        self._trying = asyncio.Event()

    def follow(self, table: CompiledTable) -> None:
        """Go by this table from now on."""
        if pairs_of(table):
            self._trying.set()
        elif self._trying.is_set():
            self._trying.clear()
            self._tell(())

    async def tell_for_ever(self) -> None:
        """Run until cancelled."""
        while True:
            await self._trying.wait()
            seen = tuple(await self._ask())
            if self._trying.is_set():
                self._tell(seen)
            await asyncio.sleep(TELL_SECONDS)
