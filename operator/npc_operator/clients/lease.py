"""Who leads: one process at a time, by a Lease, with promises the client library's elector does not make.

Every request is bounded by what is left of the renew deadline (a hanging API server cannot stretch a leadership),
transitions are counted, the Lease is given back on the way out so that the other replica follows within a second, and
losing it is survivable: all work is cancelled and awaited and the process stands by again. Only if work cannot be
stopped in STOP_SECONDS is the process of no use, and must end.

Whoever observes a Lease trusts no foreign clock: it expires when it has not changed for its duration as seen here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from npc_operator.ports import Clock, Conflict, Manifest, PortError
from npc_runtime.wire import Stamp

logger = logging.getLogger(__name__)

STOP_SECONDS = 2.0
"""How long cancelled work may take to end before the process gives itself up."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds. A standby acts `lease` after the last renewal it saw; a leader stops `renew_deadline` after the last
    that succeeded.

    renew_deadline + STOP_SECONDS must stay below lease, so that two never work at once; lease + retry is the longest
    that nobody leads.
    """

    lease: int = 9
    renew_deadline: float = 5.0
    renew_every: float = 2.0
    retry: float = 0.5
    attempt: float = 1.0
    """One request's share of the deadline, so that a single lost answer does not cost a leadership."""

    def __post_init__(self) -> None:
        if self.renew_deadline + STOP_SECONDS >= self.lease:
            raise ValueError(
                f"renew deadline {self.renew_deadline} s + {STOP_SECONDS} s must be below the lease of {self.lease} s"
            )


class Leases(Protocol):
    """The one Lease object this election is about."""

    async def read(self, *, seconds: float) -> Manifest | None:
        """The live Lease or None; raises PortError, after `seconds` at the latest."""
        ...

    async def write(self, lease: Manifest, *, seconds: float) -> Manifest:
        """Create it (no metadata.resourceVersion) or replace exactly that version; raises Conflict when it changed."""
        ...


class LeadershipStuck(Exception):
    """Work did not stop within STOP_SECONDS of the leadership's end: end this process at once, another one leads."""


class Term:
    """One leadership: the source of stamps, valid while it lasts. Implements ports.Stamps."""

    def __init__(self, epoch: int, still_mine: Callable[[], Awaitable[bool]]) -> None:
        self._stamp = Stamp(epoch=epoch, generation=0)
        self._still_mine = still_mine

    @property
    def epoch(self) -> int:
        return self._stamp.epoch

    def next(self) -> Stamp:
        self._stamp = Stamp(epoch=self._stamp.epoch, generation=self._stamp.generation + 1)
        return self._stamp

    async def outrank(self, current: Stamp) -> bool:
        if current.epoch < self._stamp.epoch:
            return True
        if not await self._still_mine():
            return False
        if current.epoch >= self._stamp.epoch:
            logger.warning(
                "an order of epoch %d is out there although this process leads: going above it", current.epoch
            )
            self._stamp = Stamp(epoch=current.epoch + 1, generation=0)
        return True


@dataclass(frozen=True, slots=True)
class _Seen:
    """The Lease as last read, and when (monotonic) this version was first seen here."""

    lease: Manifest
    version: str
    since: float

    @property
    def spec(self) -> dict[str, Any]:
        return self.lease.get("spec") or {}

    @property
    def holder(self) -> str:
        return self.spec.get("holderIdentity") or ""


class Elector:
    """Stands by, leads, stands by again, until cancelled; then gives the Lease back."""

    def __init__(
        self,
        *,
        leases: Leases,
        namespace: str,
        name: str,
        identity: str,
        clock: Clock,
        timings: Timings | None = None,
        jitter: Callable[[], float] = random.random,
        on_change: Callable[[int], None] = lambda _epoch: None,
    ) -> None:
        self._leases = leases
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._timings = timings or Timings()
        self._jitter = jitter
        self._on_change = on_change
        self._seen: _Seen | None = None
        self._renewed = 0.0
        self.leading = False

    async def run(self, lead: Callable[[Term], Awaitable[None]]) -> None:
        """Call `lead` once per leadership; it is cancelled when the leadership ends. Raises LeadershipStuck, or what
        `lead` raised."""
        try:
            while True:
                epoch = await self._stand_by()
                self.leading = True
                self._on_change(epoch)
                logger.info("leading with epoch %d", epoch)
                try:
                    await self._lead(Term(epoch, self._still_mine), lead)
                finally:
                    self.leading = False
                    self._on_change(0)
                logger.warning("leadership lost, standing by")
        finally:
            await self._release()

    # --- standing by ---

    async def _stand_by(self) -> int:
        """Wait until the Lease is ours; returns the epoch."""
        complained = False
        while True:
            try:
                epoch = await self._try_acquire()
            except PortError as error:
                if not complained:
                    logger.warning("the Lease cannot be read or written, trying on: %s", error)
                complained = True
                await asyncio.sleep(self._pause())
                continue
            complained = False
            if epoch is not None:
                return epoch
            await asyncio.sleep(min(self._pause(), max(0.01, self._expires_in())))

    def _pause(self) -> float:
        return self._timings.retry * (0.9 + 0.2 * self._jitter())

    def _expires_in(self) -> float:
        seen = self._seen
        if seen is None:
            return self._timings.retry
        duration = float(seen.spec.get("leaseDurationSeconds") or self._timings.lease)
        return seen.since + duration - self._clock.monotonic()

    async def _try_acquire(self) -> int | None:
        await self._look(self._timings.attempt)
        seen = self._seen
        if seen is not None and seen.holder not in ("", self._identity) and self._expires_in() > 0:
            return None
        started = self._clock.monotonic()
        try:
            written = await self._leases.write(self._claim(seen), seconds=self._timings.attempt)
        except Conflict:
            return None
        self._note(written)
        self._renewed = started
        return int(written["metadata"]["resourceVersion"])

    async def _look(self, seconds: float) -> None:
        lease = await self._leases.read(seconds=seconds)
        if lease is None:
            self._seen = None
        else:
            self._note(lease)

    def _note(self, lease: Manifest) -> None:
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(lease, version, self._clock.monotonic())

    def _claim(self, seen: _Seen | None) -> dict[str, Any]:
        now = _micro_time(self._clock.now())
        spec: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._timings.lease,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        metadata: dict[str, Any] = {"name": self._name, "namespace": self._namespace}
        if seen is not None:
            transitions = int(seen.spec.get("leaseTransitions") or 0)
            spec["leaseTransitions"] = transitions + (seen.holder != self._identity)
            if seen.holder == self._identity and seen.spec.get("acquireTime"):
                spec["acquireTime"] = seen.spec["acquireTime"]
            metadata = {**seen.lease["metadata"], "resourceVersion": seen.version}
            metadata.pop("managedFields", None)
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    # --- leading ---

    async def _lead(self, term: Term, lead: Callable[[Term], Awaitable[None]]) -> None:
        work = asyncio.ensure_future(lead(term))
        renewing = asyncio.create_task(self._renew(), name="renew the lease")
        try:
            await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                raise RuntimeError("the work of a leadership ended by itself")
        finally:
            renewing.cancel()
            await self._stop(work)
            with contextlib.suppress(asyncio.CancelledError):
                await renewing

    async def _stop(self, work: asyncio.Future[None]) -> None:
        """Cancel and await. The Lease of work that does not stop is not given back: nobody else may start beside it."""
        work.cancel()
        done, _ = await asyncio.wait({work}, timeout=STOP_SECONDS)
        if not done:
            self._seen = None
            raise LeadershipStuck(f"the work of a leadership did not stop within {STOP_SECONDS} s")
        if not work.cancelled() and work.exception() is not None:
            logger.error("the work of a leadership failed while it stopped", exc_info=work.exception())

    async def _renew(self) -> None:
        """Renews until the Lease is somebody else's or the deadline passed."""
        while True:
            left = self._renewed + self._timings.renew_deadline - self._clock.monotonic()
            if left <= 0:
                logger.warning("the Lease could not be renewed for %.1f s", self._timings.renew_deadline)
                return
            started = self._clock.monotonic()
            share = min(left, self._timings.attempt)
            try:
                async with asyncio.timeout(share):
                    if not await self._renew_once(share):
                        return
            except (PortError, TimeoutError) as error:
                elapsed = self._clock.monotonic() - started
                logger.warning("renewing the Lease failed, %.1f s left: %s", left - elapsed, str(error) or "no answer")
                await asyncio.sleep(max(0.05, min(self._timings.retry, left) - elapsed))
                continue
            self._renewed = started
            await asyncio.sleep(self._timings.renew_every)

    async def _renew_once(self, seconds: float) -> bool:
        """True when renewed, False when another process holds the Lease."""
        try:
            self._note(await self._leases.write(self._claim(self._seen), seconds=seconds))
            return True
        except Conflict:
            await self._look(seconds)
        if self._seen is not None and self._seen.holder != self._identity:
            logger.warning("the Lease is held by %s", self._seen.holder or "nobody")
            return False
        self._note(await self._leases.write(self._claim(self._seen), seconds=seconds))
        return True

    async def _still_mine(self) -> bool:
        lease = await self._leases.read(seconds=self._timings.attempt)
        return self.leading and lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self._identity

    async def _release(self) -> None:
        """Give the Lease back if it is ours, so that nobody has to wait for its end."""
        seen = self._seen
        if seen is None or seen.holder != self._identity:
            return
        lease = self._claim(seen)
        lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._leases.write(lease, seconds=1.0)
            logger.info("gave the Lease back")
        except PortError as error:
            logger.warning("could not give the Lease back, it will run out: %s", error)
        self._seen = replace(seen, lease=lease)


def _micro_time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
