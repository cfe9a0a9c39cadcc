"""Carries out what was decided about pods that go: the note at the pod, then the words about it, then the eviction.

The note comes first, so that whoever leads next knows what was begun. Each write is preceded by a comparison, and
before an eviction the pod is read again: exactly the pod that was decided about goes, or none.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field

from npc_operator.api import names
from npc_operator.domain.facts import Pod
from npc_operator.domain.interruption.joining import steps_begin
from npc_operator.domain.interruption.machine import tell_eviction
from npc_operator.domain.interruption.record import Record, is_marked
from npc_operator.domain.interruption.wishes import Steps, Told
from npc_operator.ports import Blocked, Clock, Conflict, Kube, Meter, NotFound, ObjectRef, PortError, Recorder
from npc_operator.reconcilers import events

AT_ONCE = 8
"""Pods that are written to at the same time, of all tiers together: a zone that goes takes hundreds of each, and what
asks for their replacements must not stand behind all their notes."""
STEPS = {
    "unrouted": "Unrouted",
    "covered": "Covered",
    "replaced": "Replaced",
    "drained": "Drained",
}
"""Of a record's times, those that are measured as they are decided, and what they are called."""
EVICTED = "Evicted"
"""The step that is measured when a budget granted it: the wish alone may stand for minutes."""
MOST_IN_A_ROW = 64
"""Pods of one tier that are worked on before it is looked at again: news of others must not wait for a whole zone."""
ROW_SECONDS = 1.0
"""No further pod of a row is begun later than this: where the API server is slow, a row takes as long as a zone."""
ASK_AGAIN_SECONDS = 1.0
"""Between two wishes for an eviction that a budget forbids, of the same pod or of another one that the budget counts,
however often the tier is looked at meanwhile."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One pod, its record until now, and what is wished for it."""

    pod: Pod
    before: Record | None
    steps: Steps


@dataclass(slots=True)
class Result:
    blocked: bool = False
    """An eviction has to be asked for again."""
    more: bool = False
    """There is more to do at once."""
    failed: dict[str, str] = field(default_factory=dict)
    """What could not be done, by uid."""


class Acts:
    """Lives as long as one leadership."""

    def __init__(self, *, kube: Kube, recorder: Recorder, meter: Meter, clock: Clock) -> None:
        self._kube = kube
        self._recorder = recorder
        self._meter = meter
        self._clock = clock
        self._written: dict[str, str] = {}
        """By pod uid: what was written and is not yet seen at the pod."""
        self._untold: dict[str, list[Told]] = {}
        self._evicted: set[str] = set()
        self._blocked: set[str] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._asked: dict[str, float] = {}
        """When the eviction of a pod was asked for last, and not granted."""
        self._refused: dict[tuple[str, str], float] = {}
        """When a tier's budget said no last."""

    def forget(self, uids: Iterable[str]) -> None:
        """These pods are gone."""
        for uid in uids:
            self._written.pop(uid, None)
            self._untold.pop(uid, None)
            self._evicted.discard(uid)
            self._blocked.discard(uid)
            self._asked.pop(uid, None)

    async def carry_out(self, wishes: Sequence[Wish], *, first: Set[str] = frozenset()) -> Result:
        """Do what there is to do, MOST_IN_A_ROW pods at most and for ROW_SECONDS, those of the uids `first` in any
        case: notes before evictions, and of these the ones that were not asked for lately."""
        for wish in wishes:
            self._measure(wish)
            self._untold.setdefault(wish.pod.uid, []).extend(wish.steps.events)
        due = sorted((wish for wish in wishes if self._is_due(wish)), key=lambda wish: self._rank(wish, first))
        count = max(MOST_IN_A_ROW, sum(wish.pod.uid in first for wish in due))
        result, until = Result(), self._clock.monotonic() + ROW_SECONDS
        result.blocked = any(self._is_held_up(wish) for wish in wishes)

        async def act(wish: Wish) -> None:
            async with self._turns:
                if self._clock.monotonic() >= until and wish.pod.uid not in first:
                    result.more = True
                    return
                try:
                    await self._note(wish.pod, wish.steps)
                    self._say(wish.pod)
                    if self._may_ask(wish) and not await self._evict(wish.pod, wish.steps.record):
                        result.blocked = True
                except PortError as error:
                    result.failed[wish.pod.uid] = f"pod {wish.pod.name}: {error}"

        tasks = [asyncio.create_task(act(wish)) for wish in due[:count]]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()  # what one of them could not bear is no reason to leave others running alone
            if tasks:
                await asyncio.wait(tasks)
        result.more |= any(map(self._is_due, due[count:]))
        return result

    def _is_due(self, wish: Wish) -> bool:
        return self._is_unsaid(wish) or self._may_ask(wish)

    def _is_unsaid(self, wish: Wish) -> bool:
        return bool(self._untold.get(wish.pod.uid)) or self._is_unwritten(wish)

    def _rank(self, wish: Wish, first: Set[str]) -> tuple[bool, bool, bool, float, float]:
        record = wish.steps.record
        end = math.inf if record is None or record.deadline is None else record.deadline
        uid = wish.pod.uid
        # A budget does not keep pods that do not serve anyway.
        return uid not in first, not self._is_unwritten(wish), wish.pod.ready, self._asked.get(uid, 0.0), end

    def _is_unwritten(self, wish: Wish) -> bool:
        """Whether the note at the pod is another one. A pod that is being deleted needs none: nothing is left to
        decide about it."""
        pod = wish.pod
        if self._written.get(pod.uid) == pod.interruption:
            del self._written[pod.uid]
        return not pod.deleting and _text(wish.steps) != self._written.get(pod.uid, pod.interruption)

    def _may_ask(self, wish: Wish) -> bool:
        """Whether the pod's eviction is to be asked for now."""
        pod = wish.pod
        if not wish.steps.evict or pod.deleting or pod.uid in self._evicted:
            return False
        return not self._is_held_up(wish)

    def _is_held_up(self, wish: Wish) -> bool:
        """Whether the pod's eviction, or another one that counts with the same budget, was refused a moment ago."""
        pod, since = wish.pod, self._clock.monotonic() - ASK_AGAIN_SECONDS
        if self._asked.get(pod.uid, -math.inf) > since:
            return True
        # A budget does not keep pods that do not serve anyway.
        return wish.steps.evict and pod.ready and self._refused.get((pod.namespace, pod.tier), -math.inf) > since

    async def _note(self, pod: Pod, steps: Steps) -> None:
        """Write the record at the pod, if it is not there."""
        if not self._is_unwritten(Wish(pod, None, steps)):
            return
        text = _text(steps)
        metadata: dict[str, object] = {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}
        if steps.record is not None:
            metadata["annotations"] = _annotations(text, steps)
        try:
            await self._kube.apply(
                {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}, manager=names.MANAGER_INTERRUPTIONS
            )
        except (Conflict, NotFound):
            return  # the pod is gone; the watch says so
        self._written[pod.uid] = text

    async def _evict(self, pod: Pod, record: Record | None) -> bool:
        """Ask for the eviction; False if it has to be asked for again."""
        ref = ref_of(pod)
        self._asked[pod.uid] = self._clock.monotonic()
        live = await self._kube.get(ref)
        if live is None or live["metadata"]["uid"] != pod.uid or live["metadata"].get("deletionTimestamp"):
            return True
        try:
            await self._kube.evict(ref, resource_version=live["metadata"]["resourceVersion"])
        except Blocked as blocked:
            self._refuse(pod)
            if pod.uid not in self._blocked:
                self._blocked.add(pod.uid)
                events.emit(self._recorder, ref, events.eviction_blocked(str(blocked)))
            return False
        except Conflict:
            return False  # it changed between the look and the wish
        told = tell_eviction(record)
        events.emit(self._recorder, ref, events.Event(told.reason, told.message, told.warning))
        if record is not None:
            self._meter.interruption_step(pod.namespace, EVICTED, max(0.0, self._clock.now() - steps_begin(record)))
        self._evicted.add(pod.uid)
        self._blocked.discard(pod.uid)
        del self._asked[pod.uid]
        return True

    def _refuse(self, pod: Pod) -> None:
        now = self._clock.monotonic()
        recent = {tier: at for tier, at in self._refused.items() if at > now - ASK_AGAIN_SECONDS}
        self._refused = {**recent, (pod.namespace, pod.tier): now}

    def _say(self, pod: Pod) -> None:
        for told in self._untold.pop(pod.uid, ()):
            events.emit(self._recorder, ref_of(pod), events.Event(told.reason, told.message, told.warning))

    def _measure(self, wish: Wish) -> None:
        pod, before, after = wish.pod, wish.before, wish.steps.record
        if after is None:
            return
        if before is None or before.kind is not after.kind:
            self._meter.interrupted(pod.namespace, pod.tier, after.kind.value)
        for name, step in STEPS.items():
            at = getattr(after, name)
            if at is not None and (before is None or getattr(before, name) != at):
                self._meter.interruption_step(pod.namespace, step, max(0.0, at - steps_begin(after)))


def _text(steps: Steps) -> str:
    return "" if steps.record is None else steps.record.write()


def ref_of(pod: Pod) -> ObjectRef:
    return ObjectRef("v1", "Pod", pod.namespace, pod.name, pod.uid)


def _annotations(text: str, steps: Steps) -> dict[str, str]:
    annotations = {names.ANNOTATION_INTERRUPTION: text}
    if is_marked(steps.record):
        # Whoever makes the Deployment smaller meanwhile takes this pod and none that stays.
        annotations[names.ANNOTATION_DELETION_COST] = names.DELETION_COST_GOING
    return annotations
