"""One status write per object, only when it differs, and in good time rather than in a flood.

A write that matters at once (traffic moves) is made at once. Others that say something new are made at once too while
there are few; when a thousand objects change together, each waits up to a second for its own next change. Where only
numbers moved it is at most one a second, so that counting from 0 to 10 pods costs two writes instead of ten.

Every write names the version it was decided from: a request of a past leader that arrives late cannot undo what the
present one decided, and whoever decided from old news decides again. What was written is in the store at once, without
waiting for the watch: routes follow a rollback while the watch is silent, and no transition is done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from npc_operator.api import names
from npc_operator.api.archetypeadapter import ArchetypeAdapterStatus
from npc_operator.api.gputier import GpuTierStatus
from npc_operator.api.meta import Condition
from npc_operator.api.npcregion import NPCRegionStatus
from npc_operator.domain.conditions import READY, STALLED, Finding, condition, holds
from npc_operator.domain.facts import Adapter, Region, Tier
from npc_operator.loop.slim import share
from npc_operator.loop.store import Store
from npc_operator.ports import Clock, Conflict, Kube, Manifest, NotFound, PortError, Recorder
from npc_operator.reconcilers import events

Fact = TypeVar("Fact", Region, Tier, Adapter)
Status = NPCRegionStatus | GpuTierStatus | ArchetypeAdapterStatus

PATIENCE_SECONDS = 1.0
"""Longest time a status may be behind what is known."""
BURST = 40.0
"""Ordinary writes that are made at once."""
RATE = 40.0
"""Ordinary writes a second that are made at once; beyond it patience begins."""
HEARING_SECONDS = 3.0
"""How long a new leader listens before it says that less serves than its predecessor knew of: it has heard no agent and
no gateway at first, and what it did not hear yet is no news."""
TRIES = 3
"""Writes of one status whose object others keep changing, before its key has to wait."""

KINDS: dict[type, str] = {Region: names.KIND_REGION, Tier: names.KIND_TIER, Adapter: names.KIND_ADAPTER}


@dataclass(frozen=True, slots=True)
class _News:
    """What there is to tell once a status is known to be written."""

    uid: str
    status: Status
    events: tuple[events.Event, ...]
    tell: Callable[[], None]


def _tell_nothing() -> None:
    """Most statuses have no decision to put on record."""


class Publisher:
    """Writes statuses. Lives as long as one leadership."""

    def __init__(self, kube: Kube, recorder: Recorder, clock: Clock, store: Store) -> None:
        self._kube = kube
        self._recorder = recorder
        self._clock = clock
        self._store = store
        self._waiting: dict[tuple[str, str, str], float] = {}
        self._wrote: dict[tuple[str, str, str], float] = {}
        """When each status was last written."""
        self._unsure: dict[tuple[str, str, str], _News] = {}
        """Writes that nobody answered: they may have been made."""
        self._tokens = BURST
        self._filled = clock.monotonic()
        self._begun: float | None = None
        """When this leader looked at the first status."""

    async def publish(
        self,
        fact: Fact,
        status: Status,
        *,
        urgent: bool = False,
        more: Iterable[events.Event] = (),
        tell: Callable[[], None] = _tell_nothing,
    ) -> float | None:
        """Write `status` if it differs from the fact's. Returns after how many seconds to come again if the write was
        put off.

        Events of transitions, and `tell`, follow the write, so that a crash before it repeats them and one after it
        loses at most them. Where the answer was lost they follow as soon as the write is seen to have been made.
        Raises PortError; Conflict where somebody else wrote the status meanwhile, which is in the store by then.
        """
        if self._begun is None:
            self._begun = self._clock.monotonic()
        key = _key(fact)
        lost = self._unsure.get(key)
        if lost is not None and lost.uid == fact.meta.uid and lost.status == fact.status:
            self._announce(fact, lost)
        if fact.status == status:
            self._waiting.pop(key, None)
            return None
        if not urgent and (delay := self._delay(key, fact.status, status)) > 0:
            return delay
        self._waiting.pop(key, None)
        told = (*more, *describe_transition(fact.status.conditions, status.conditions))
        news = _News(fact.meta.uid, status, told, tell)
        live = await self._write(fact, news)
        if live is not None:
            self._wrote[key] = self._clock.monotonic()
            self._learn(fact, status, live)
            self._announce(fact, news)
        return None

    async def _write(self, fact: Fact, news: _News) -> Manifest | None:
        """Apply; None if the object is gone."""
        version = fact.meta.resource_version
        for _ in range(TRIES):
            try:
                return await self._apply(fact, news.status, version)
            except NotFound:
                self.forget(*_key(fact))
                return None
            except Conflict:
                live = await self._kube.get(events.object_ref(KINDS[type(fact)], fact.meta))
                if live is None or live["metadata"]["uid"] != fact.meta.uid:
                    self.forget(*_key(fact))
                    return None
                found = _status_of(fact, live)
                if found != fact.status:
                    self._learn(fact, found, live)
                    raise
                # Others changed the rest of the object. What was decided holds until the watch brings that.
                version = live["metadata"]["resourceVersion"]
            except PortError as error:
                if error.retryable:
                    self._unsure[_key(fact)] = news
                raise
        raise Conflict(f"{KINDS[type(fact)]} {fact.meta.name} changes all the time")

    async def _apply(self, fact: Fact, status: Status, version: str) -> Manifest:
        # With the uid a write meant for an object of the past cannot land on its successor.
        meta = {"name": fact.meta.name, "namespace": fact.meta.namespace, "uid": fact.meta.uid}
        if version:
            meta["resourceVersion"] = version
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": KINDS[type(fact)],
            "metadata": meta,
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        return await self._kube.apply(manifest, manager=names.MANAGER_STATUS, subresource="status")

    def _learn(self, fact: Fact, status: Status, live: Manifest) -> None:
        """The status is on the server. The rest stays as it is known: the watch brings this very version with what
        others changed before it."""
        present = self._store.get(type(fact), fact.meta.namespace, fact.meta.name)
        version = live["metadata"].get("resourceVersion") or ""
        if present is None or present.meta.uid != fact.meta.uid or not version.isdigit():
            return
        meta = share(present.meta.model_copy(update={"resource_version": version}))
        # The fact's type says which status it has.
        known = replace(present, meta=meta, status=cast("Any", share(status)))
        self._store.put(type(fact), fact.meta.namespace, fact.meta.name, known, version=int(version))

    def _announce(self, fact: Fact, news: _News) -> None:
        self._unsure.pop(_key(fact), None)
        news.tell()
        ref = events.object_ref(KINDS[type(fact)], fact.meta)
        for event in news.events:
            events.emit(self._recorder, ref, event)

    def forget(self, kind: str, namespace: str, name: str) -> None:
        """The object is gone."""
        for memory in (self._waiting, self._wrote, self._unsure):
            memory.pop((kind, namespace, name), None)

    def _delay(self, key: tuple[str, str, str], before: Status, after: Status) -> float:
        now, tells = self._clock.monotonic(), tells_news(before, after)
        listening = 0.0 if self._begun is None else self._begun + HEARING_SECONDS - now
        if listening > 0 and (not tells or takes_back(before, after)):
            return listening
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


def takes_back(before: Status, after: Status) -> bool:
    """Whether what was ready is not any more, of the same generation."""
    return (
        before.observed_generation == after.observed_generation
        and holds(before.conditions, READY)
        and not holds(after.conditions, READY)
    )


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


def _status_of(fact: Region | Tier | Adapter, live: Manifest) -> Status:
    """The status that an object has on the server. Raises PortError where another version of the operator wrote it."""
    try:
        return type(fact.status).model_validate(live.get("status") or {})
    except ValidationError as error:
        raise PortError(f"the status of {fact.meta.name} cannot be read ({error.error_count()} faults)") from error
