"""One status write per object, only when it differs, and in good time rather than in a flood.

A write that matters at once (traffic moves) is made at once. Others that say something new are made at once too while
there are few; when a thousand objects change together, each waits up to a second for its own next change. Where only
numbers moved it is at most one a second, so that counting from 0 to 10 pods costs two writes instead of ten. What was
written is remembered until the watch brings it back: deciding again from an older status would do the same transition
twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from npc_operator.api import names
from npc_operator.api.archetypeadapter import ArchetypeAdapterStatus
from npc_operator.api.gputier import GpuTierStatus
from npc_operator.api.meta import Condition, ObjectMeta
from npc_operator.api.npcregion import NPCRegionStatus
from npc_operator.domain.conditions import READY, STALLED, Finding, condition, holds
from npc_operator.domain.facts import Adapter, Region, Tier
from npc_operator.ports import Clock, Kube, NotFound, Recorder
from npc_operator.reconcilers import events

Fact = TypeVar("Fact", Region, Tier, Adapter)
Status = NPCRegionStatus | GpuTierStatus | ArchetypeAdapterStatus

PATIENCE_SECONDS = 1.0
"""Longest time a status may be behind what is known."""
BURST = 40.0
"""Ordinary writes that are made at once."""
RATE = 40.0
"""Ordinary writes a second that are made at once; beyond it patience begins."""

KINDS: dict[type, str] = {Region: names.KIND_REGION, Tier: names.KIND_TIER, Adapter: names.KIND_ADAPTER}


@dataclass(frozen=True, slots=True)
class _Written:
    uid: str
    version: int
    status: Status


class Publisher:
    """Writes statuses; remembers what it wrote. Lives as long as one leadership."""

    def __init__(self, kube: Kube, recorder: Recorder, clock: Clock) -> None:
        self._kube = kube
        self._recorder = recorder
        self._clock = clock
        self._written: dict[tuple[str, str, str], _Written] = {}
        self._waiting: dict[tuple[str, str, str], float] = {}
        self._wrote: dict[tuple[str, str, str], float] = {}
        """When each status was last written."""
        self._tokens = BURST
        self._filled = clock.monotonic()

    def latest(self, fact: Fact) -> Fact:
        """The fact with the newest status known: the watch's, or what was written since."""
        written = self._written.get(_key(fact))
        if written is None or written.uid != fact.meta.uid:
            return fact
        if _version(fact.meta) >= written.version:
            del self._written[_key(fact)]
            return fact
        # The key names the kind, so the status is of the fact's own type.
        return replace(fact, status=cast("Any", written.status))

    async def publish(
        self, fact: Fact, status: Status, *, urgent: bool = False, more: Iterable[events.Event] = ()
    ) -> float | None:
        """Write `status` if it differs from the fact's. Returns after how many seconds to come again if the write was
        put off.

        Events of transitions are emitted after the write, so that a crash before it repeats them and one after it loses
        at most them.
        """
        key = _key(fact)
        if fact.status == status:
            self._waiting.pop(key, None)
            return None
        if not urgent and (delay := self._delay(key, tells=tells_news(fact.status, status))) > 0:
            return delay
        self._waiting.pop(key, None)
        kind = KINDS[type(fact)]
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": kind,
            # With the uid a write meant for an object of the past cannot land on its successor.
            "metadata": {"name": fact.meta.name, "namespace": fact.meta.namespace, "uid": fact.meta.uid},
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        try:
            live = await self._kube.apply(manifest, manager=names.MANAGER_STATUS, subresource="status")
        except NotFound:
            self.forget(*key)
            return None
        self._wrote[key] = self._clock.monotonic()
        self._written[key] = _Written(fact.meta.uid, int(live["metadata"].get("resourceVersion") or 0), status)
        ref = events.object_ref(kind, fact.meta)
        for event in (*more, *describe_transition(fact.status.conditions, status.conditions)):
            events.emit(self._recorder, ref, event)
        return None

    def forget(self, kind: str, namespace: str, name: str) -> None:
        """The object is gone."""
        self._written.pop((kind, namespace, name), None)
        self._waiting.pop((kind, namespace, name), None)
        self._wrote.pop((kind, namespace, name), None)

    def _delay(self, key: tuple[str, str, str], *, tells: bool) -> float:
        now = self._clock.monotonic()
        since = self._waiting.setdefault(key, now)
        due = since + PATIENCE_SECONDS
        if now >= due:
            return 0.0
        self._tokens = min(BURST, self._tokens + (now - self._filled) * RATE)
        self._filled = now
        calm = now - self._wrote.get(key, -PATIENCE_SECONDS) >= PATIENCE_SECONDS
        if (tells or calm) and self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return due - now


def tells_news(before: Status, after: Status) -> bool:
    """Whether a status says more than other numbers: about another generation, or with other conditions or reasons."""
    return _words(before) != _words(after)


def _words(status: Status) -> tuple[object, ...]:
    conditions = tuple((one.type, one.status, one.reason) for one in status.conditions)
    return (status.observed_generation, conditions)


def describe_transition(before: Sequence[Condition], after: Sequence[Condition]) -> Iterable[events.Event]:
    """Events for what flipped between two sets of conditions."""
    was, now = condition(before, READY), condition(after, READY)
    if now is not None and now.status == "True" and (was is None or was.status != "True"):
        yield events.became_ready(Finding(now.reason, now.message))
    if now is not None and was is not None and was.status == "True" and now.status == "False":
        yield events.lost_ready(Finding(now.reason, now.message))
    stuck, was_stuck = condition(after, STALLED), condition(before, STALLED)
    if stuck is not None and (was_stuck is None or was_stuck.reason != stuck.reason):
        yield events.stalled(Finding(stuck.reason, stuck.message))
    if stuck is None and holds(before, STALLED):
        yield events.recovered()


def _key(fact: Region | Tier | Adapter) -> tuple[str, str, str]:
    return KINDS[type(fact)], fact.meta.namespace, fact.meta.name


def _version(meta: ObjectMeta) -> int:
    return int(meta.resource_version) if meta.resource_version.isdigit() else 0
