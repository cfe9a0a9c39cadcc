"""Which route table is in force: accepts newer ones, applies them everywhere, keeps them on disk, and tells who
waits for a change."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from npc_runtime import wire
from npc_runtime.gateway.disturbances import Report
from npc_runtime.gateway.persistence import save_table
from npc_runtime.gateway.rollouts.tally import Seen
from npc_runtime.gateway.table import CompiledTable

log = logging.getLogger(__name__)


class StaleOrder(Exception):
    """The pushed table is older than the one in force."""

    def __init__(self, current: wire.Stamp) -> None:
        super().__init__(f"a table with epoch {current.epoch}, generation {current.generation} is in force")
        self.current = current


class Applier(Protocol):
    """Whatever serves from the table: this process's data plane, or the worker processes'."""

    async def apply_everywhere(self, table: CompiledTable) -> None:
        """Return once every event loop serves from the table."""
        ...


class Routes:
    """The table in force."""

    def __init__(
        self,
        *,
        applier: Applier,
        state_dir: Path,
        on_coming: Callable[[CompiledTable], None],
        on_change: Callable[[CompiledTable], None],
    ) -> None:
        """`on_coming` is called with a table just before it is applied, `on_change` once it is in force."""
        self._applier = applier
        self._state_dir = state_dir
        self._on_coming = on_coming
        self._on_change = on_change
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._unsaved: wire.RouteTable | None = None
        self._saving: asyncio.Task[None] | None = None
        self.boot_id = uuid.uuid4().hex
        self.revision = 0
        self.current: CompiledTable | None = None
        self.candidates: tuple[Seen, ...] = ()
        """What became of the candidates' answers, as told last."""
        self.degraded: tuple[wire.DegradedReport, ...] = ()
        """Who speaks from a lower level, as told last."""
        self.disturbed = Report()
        """What pods that go do to lines, as told last."""

    @property
    def stamp(self) -> wire.Stamp:
        """The stamp of the table in force; (0, 0) without one."""
        return wire.NO_STAMP if self.current is None else self.current.stamp

    def report(self) -> wire.GatewayReport:
        """What the operator learns from a long poll."""
        return wire.GatewayReport(
            boot_id=self.boot_id,
            revision=self.revision,
            stamp=self.stamp,
            rollouts=self.candidates,
            degraded=self.degraded,
            counted=self.disturbed.counted,
            departures=self.disturbed.departures,
            lines=self.disturbed.lines,
        )

    def tell(self, candidates: tuple[Seen, ...]) -> None:
        """What became of the candidates' answers up to now; whoever waits hears of it if that changed."""
        if candidates != self.candidates:
            self.candidates = candidates
            self._announce()

    def tell_degraded(self, degraded: tuple[wire.DegradedReport, ...]) -> None:
        """Who speaks from a lower level now; whoever waits hears of it if that changed."""
        if degraded != self.degraded:
            self.degraded = degraded
            self._announce()

    def tell_disturbed(self, disturbed: Report) -> None:
        """What pods that go do to lines; whoever waits hears of it if it is news."""
        before, self.disturbed = self.disturbed, disturbed
        if disturbed.is_news(before):
            self._announce()

    async def accept(self, table: CompiledTable, *, save: bool = True) -> wire.Accepted:
        """Put a table in force everywhere. An equal stamp is accepted again: the sender did not hear the first answer.

        Raises:
            StaleOrder: a newer table is in force.

        """
        async with self._turn:
            if table.stamp.order() < self.stamp.order():
                raise StaleOrder(self.stamp)
            self._on_coming(table)
            await self._applier.apply_everywhere(table)
            self.current = table
            self._on_change(table)
            self._announce()
            accepted = wire.Accepted(boot_id=self.boot_id, stamp=table.stamp, revision=self.revision)
        if save:
            self._unsaved = table.source
            if self._saving is None:
                self._saving = asyncio.create_task(self._save())
        return accepted

    async def wait_for_news(self, *, boot_id: str, after: int, seconds: float) -> wire.GatewayReport:
        """The report, at once if it is news to someone who knows `after` of boot `boot_id`, else after a change or
        `seconds`."""
        changed = self._changed
        if boot_id == self.boot_id and self.revision <= after:
            try:
                async with asyncio.timeout(seconds):
                    await changed.wait()
            except TimeoutError:
                pass
        return self.report()

    async def saved(self) -> None:
        """Wait until the table in force is on disk (or could not be written)."""
        if self._saving is not None:
            await asyncio.shield(self._saving)

    def _announce(self) -> None:
        self.revision += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _save(self) -> None:
        # Off the loop, and only the newest: while one is written, pushes merely replace what comes next.
        try:
            while (table := self._unsaved) is not None:
                self._unsaved = None
                try:
                    await asyncio.to_thread(save_table, self._state_dir, table)
                except OSError as error:
                    log.error(
                        "cannot keep the route table; a restart would begin with an older one",
                        extra={"folder": str(self._state_dir), "error": error.strerror},
                    )
                except Exception:  # nobody awaits this task: what is not said here is never said
                    log.exception("cannot keep the route table; a restart would begin with an older one")
        finally:
            self._saving = None
