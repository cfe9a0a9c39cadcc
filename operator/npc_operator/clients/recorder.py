"""Kubernetes Events for people: what changed, once, with a count when it happens again, and never at the price of the
work itself.

Writing happens in the background, bounded in number and rate: an Event that cannot be written is counted and
forgotten. The same words about the same object within TTL_SECONDS are one Event with a series, written again at most
every SERIES_SECONDS.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from npc_operator.clients.metrics import Metrics
from npc_operator.ports import Clock, Manifest, NotFound, ObjectRef, PortError

logger = logging.getLogger(__name__)

CONTROLLER = "npcfleet.dev/npc-operator"
MANAGER_EVENTS = "npc-operator-events"
TTL_SECONDS = 600.0
SERIES_SECONDS = 60.0
REMEMBERED = 4096
PENDING = 1024
PER_SECOND = 20.0
BURST = 100.0
NOTE_BYTES = 1024
"""The API server's own limit for an Event's note."""


class EventSink(Protocol):
    """Where Events go (the Kube port)."""

    async def apply(self, manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest: ...


@dataclass(slots=True)
class _Told:
    """One Event that was or will be written."""

    name: str
    ref: ObjectRef
    type: str
    reason: str
    note: str
    first: float
    last: float
    count: int = 1
    written: float | None = None
    queued: bool = False


class EventRecorder:
    """Implements ports.Recorder. `run` writes; without it Events pile up to PENDING and the oldest are lost."""

    def __init__(self, *, sink: EventSink, clock: Clock, metrics: Metrics, instance: str) -> None:
        self._sink = sink
        self._clock = clock
        self._metrics = metrics
        self._instance = instance
        self._told: OrderedDict[tuple[str, str, str, str], _Told] = OrderedDict()
        self._pending: deque[_Told] = deque()
        self._wake = asyncio.Event()
        self._tokens = BURST
        self._refilled = clock.monotonic()

    def normal(self, ref: ObjectRef, reason: str, message: str) -> None:
        self._tell(ref, "Normal", reason, message)

    def warning(self, ref: ObjectRef, reason: str, message: str) -> None:
        self._tell(ref, "Warning", reason, message)

    def _tell(self, ref: ObjectRef, type_: str, reason: str, message: str) -> None:
        now = self._clock.now()
        note = _shorten(message)
        key = (ref.uid or f"{ref.kind}/{ref.namespace}/{ref.name}", type_, reason, note)
        known = self._told.get(key)
        if known is not None and now - known.last < TTL_SECONDS:
            known.count += 1
            known.last = now
            if known.written is not None and now - known.written >= SERIES_SECONDS:
                self._queue(known)
            return
        self._told[key] = told = _Told(_name(ref, key, now), ref, type_, reason, note, first=now, last=now)
        self._told.move_to_end(key)
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self._queue(told)

    def _queue(self, told: _Told) -> None:
        if told.queued:
            return
        if len(self._pending) >= PENDING:
            self._pending.popleft().queued = False
            self._metrics.event_lost("TooMany")
        told.queued = True
        self._pending.append(told)
        self._wake.set()

    async def run(self) -> None:
        """Writes what is pending until cancelled."""
        while True:
            while self._pending:
                await self._spend()
                if self._pending:
                    told = self._pending.popleft()
                    told.queued = False
                    await self._write(told)
            self._wake.clear()
            await self._wake.wait()

    async def flush(self, *, seconds: float) -> None:
        """Write what is pending now, without waiting for the rate (a last word before going); what is not written after
        `seconds` is lost, and counted.
        """
        try:
            async with asyncio.timeout(seconds):
                while self._pending:
                    told = self._pending.popleft()
                    told.queued = False
                    await self._write(told)
        except TimeoutError:
            unwritten = 1 + len(self._pending)  # with the one that was being written
            self._pending.clear()
            for _ in range(unwritten):
                self._metrics.event_lost("Ended")
            logger.info("the last %d Events were not written within %.1f s and are lost", unwritten, seconds)

    async def _spend(self) -> None:
        """Take one token of the bucket, waiting for it if need be."""
        while True:
            now = self._clock.monotonic()
            self._tokens = min(BURST, self._tokens + (now - self._refilled) * PER_SECOND)
            self._refilled = now
            if self._tokens >= 1:
                self._tokens -= 1
                return
            await asyncio.sleep(max(0.001, (1 - self._tokens) / PER_SECOND))

    async def _write(self, told: _Told) -> None:
        told.written = self._clock.now()
        try:
            await self._sink.apply(self._manifest(told), manager=MANAGER_EVENTS)
        except NotFound:
            return  # the namespace is going away, and its Events with it
        except PortError as error:
            self._metrics.event_lost(error.reason)
            logger.info("an Event was not written: %s", error, extra={"key": _about(told.ref)})
        except Exception:
            # Whatever is wrong with it: a leadership does not end for the sake of an Event.
            self._metrics.event_lost("Panic")
            logger.exception("an Event was not written", extra={"key": _about(told.ref)})

    def _manifest(self, told: _Told) -> dict[str, Any]:
        ref = told.ref
        regarding = {"apiVersion": ref.api_version, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}
        manifest: dict[str, Any] = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": told.name, "namespace": ref.namespace or "default"},
            "eventTime": _micro_time(told.first),
            "type": told.type,
            "reason": told.reason,
            "action": told.reason,
            "note": told.note,
            "regarding": {**regarding, "uid": ref.uid} if ref.uid else regarding,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance[:128],
        }
        if told.count > 1:
            manifest["series"] = {"count": told.count, "lastObservedTime": _micro_time(told.last)}
        return manifest


def _name(ref: ObjectRef, key: tuple[str, ...], now: float) -> str:
    digest = hashlib.sha256("\0".join((*key, repr(now))).encode()).hexdigest()[:16]
    return f"{ref.name[:200]}.{digest}"


def _shorten(message: str) -> str:
    raw = message.encode()
    return message if len(raw) <= NOTE_BYTES else raw[: NOTE_BYTES - 3].decode(errors="ignore") + "..."


def _about(ref: ObjectRef) -> str:
    return f"{ref.kind}/{ref.namespace}/{ref.name}"


def _micro_time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
