"""What the agent says, with a revision for each change, and the long polls that wait for the next one.

Two boards: the status for the operator (everything), and what is routable for gateways (so little that it only moves
when a gateway must act). A reader that names the boot id and revision it knows gets what changed since; anyone else
gets all.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass

from ..wire import (
    LONG_POLL_SECONDS,
    NO_STAMP,
    AdapterReport,
    AgentReport,
    EngineReport,
    EngineState,
    InterruptionReport,
    Routable,
    Stamp,
)

_REMEMBERED_REMOVALS = 1024
"""Names gone that can still be told as a difference; a reader that is further behind gets everything."""


@dataclass(frozen=True, slots=True)
class Content:
    """All that a status report says."""

    stamp: Stamp = NO_STAMP
    ready: bool = False
    draining: bool = False
    accepting: bool = False
    engine: EngineReport = EngineReport(state=EngineState.STARTING)
    adapters: tuple[AdapterReport, ...] = ()
    resident: tuple[str, ...] = ()
    slots_used: int = 0
    slots_total: int = 0
    cache_bytes: int = 0
    cache_limit_bytes: int = 0
    interruption: InterruptionReport | None = None


class Board:
    """The present content and who waits for the next. Used on the event loop only."""

    def __init__(self) -> None:
        self.boot_id = uuid.uuid4().hex
        self.content = Content()
        self.revision = 0
        self.routable_revision = 0
        self._changed_at: dict[str, int] = {}
        self._removed_at: dict[str, int] = {}
        self._forgotten = 0
        self._status_news = asyncio.Event()
        self._routable_news = asyncio.Event()

    def publish(self, content: Content) -> None:
        """Makes the content the present one; wakes readers only if it says something new to them."""
        if content == self.content and self.revision:
            return
        old, self.content = self.content, content
        self.revision += 1
        self._note_adapters(old, content)
        self._status_news.set()
        self._status_news = asyncio.Event()
        if not self.routable_revision or (old.accepting, old.resident) != (content.accepting, content.resident):
            self.routable_revision += 1
            self._routable_news.set()
            self._routable_news = asyncio.Event()

    async def status(self, *, after: int, boot: str, wait: float) -> AgentReport:
        """The report, at once if there is news for this reader, else once there is, at most `wait` seconds later."""
        if boot == self.boot_id and after >= self.revision:
            await self._wait(self._status_news, wait)
        known = boot == self.boot_id and self._forgotten <= after <= self.revision
        return self._report(after=after, full=not known)

    async def routable(self, *, after: int, boot: str, wait: float) -> Routable:
        """As `status`, for gateways."""
        if boot == self.boot_id and after >= self.routable_revision:
            await self._wait(self._routable_news, wait)
        content = self.content
        return Routable(
            boot_id=self.boot_id,
            revision=self.routable_revision,
            accepting=content.accepting,
            resident=content.resident,
        )

    async def _wait(self, news: asyncio.Event, wait: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(0.0, wait), LONG_POLL_SECONDS)):
                await news.wait()

    def _report(self, *, after: int, full: bool) -> AgentReport:
        content = self.content
        adapters = content.adapters
        if not full:
            adapters = tuple(item for item in adapters if self._changed_at[item.served_name] > after)
        return AgentReport(
            boot_id=self.boot_id,
            revision=self.revision,
            stamp=content.stamp,
            full=full,
            ready=content.ready,
            draining=content.draining,
            engine=content.engine,
            adapters=adapters,
            removed=() if full else tuple(name for name, at in self._removed_at.items() if at > after),
            slots_used=content.slots_used,
            slots_total=content.slots_total,
            cache_bytes=content.cache_bytes,
            cache_limit_bytes=content.cache_limit_bytes,
            interruption=content.interruption,
        )

    def _note_adapters(self, old: Content, new: Content) -> None:
        before = {item.served_name: item for item in old.adapters}
        for item in new.adapters:
            known = before.pop(item.served_name, None)
            if known is not item and known != item:  # what did not change is mostly the very same object
                self._changed_at[item.served_name] = self.revision
            self._removed_at.pop(item.served_name, None)
        for name in before:
            self._changed_at.pop(name, None)
            self._removed_at[name] = self.revision
        while len(self._removed_at) > _REMEMBERED_REMOVALS:
            oldest = next(iter(self._removed_at))
            self._forgotten = max(self._forgotten, self._removed_at.pop(oldest))
