"""Carries out what was decided about pods that go: the note at the pod, then the words about it, then the eviction.

The note comes first, so that whoever leads next knows what was begun. Each write is preceded by a comparison, and
before an eviction the pod is read again: exactly the pod that was decided about goes, or none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from npc_operator.api import names
from npc_operator.domain.facts import Pod
from npc_operator.domain.interruption.record import Record
from npc_operator.domain.interruption.wishes import Steps, Told
from npc_operator.ports import Blocked, Clock, Conflict, Kube, Meter, NotFound, ObjectRef, PortError, Recorder
from npc_operator.reconcilers import events

AT_ONCE = 8
"""Pods that are written to at the same time, of one tier: a zone that goes takes hundreds."""
STEPS = {
    "unrouted": "Unrouted",
    "covered": "Covered",
    "replaced": "Replaced",
    "drained": "Drained",
    "evicted": "Evicted",
}
"""Of a record's times, those that are measured, and what they are called."""


@dataclass(slots=True)
class Result:
    blocked: bool = False
    """An eviction has to be asked for again."""
    errors: list[str] = field(default_factory=list)


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

    def forget(self, uids: Iterable[str]) -> None:
        """These pods are gone."""
        for uid in uids:
            self._written.pop(uid, None)
            self._untold.pop(uid, None)
            self._evicted.discard(uid)
            self._blocked.discard(uid)

    async def carry_out(self, wishes: Sequence[tuple[Pod, Record | None, Steps]]) -> Result:
        """(pod, its record until now, what is wished for it)."""
        result, turns = Result(), asyncio.Semaphore(AT_ONCE)

        async def act(pod: Pod, before: Record | None, steps: Steps) -> None:
            self._measure(pod, before, steps)
            self._untold.setdefault(pod.uid, []).extend(steps.events)
            async with turns:
                try:
                    await self._note(pod, steps)
                    self._say(pod)
                    if steps.evict and not pod.deleting and not await self._evict(pod):
                        result.blocked = True
                except PortError as error:
                    result.errors.append(f"pod {pod.name}: {error}")

        await asyncio.gather(*(act(*wish) for wish in wishes))
        return result

    async def _note(self, pod: Pod, steps: Steps) -> None:
        """Write the record at the pod. One that is being deleted needs none: nothing is left to decide about it."""
        if pod.deleting:
            return
        text = "" if steps.record is None else steps.record.write()
        if self._written.get(pod.uid) == pod.interruption:
            del self._written[pod.uid]
        if text == self._written.get(pod.uid, pod.interruption):
            return
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

    async def _evict(self, pod: Pod) -> bool:
        """Ask for the eviction; False if it has to be asked for again."""
        if pod.uid in self._evicted:
            return True
        ref = ref_of(pod)
        live = await self._kube.get(ref)
        if live is None or live["metadata"]["uid"] != pod.uid or live["metadata"].get("deletionTimestamp"):
            return True
        try:
            await self._kube.evict(ref, resource_version=live["metadata"]["resourceVersion"])
        except Blocked as blocked:
            if pod.uid not in self._blocked:
                self._blocked.add(pod.uid)
                events.emit(self._recorder, ref, events.eviction_blocked(str(blocked)))
            return False
        except Conflict:
            return False  # it changed between the look and the wish
        self._evicted.add(pod.uid)
        self._blocked.discard(pod.uid)
        return True

    def _say(self, pod: Pod) -> None:
        for told in self._untold.pop(pod.uid, ()):
            events.emit(self._recorder, ref_of(pod), events.Event(told.reason, told.message, told.warning))

    def _measure(self, pod: Pod, before: Record | None, steps: Steps) -> None:
        after = steps.record
        if after is None:
            return
        if before is None or before.kind is not after.kind:
            self._meter.interrupted(pod.namespace, pod.tier, after.kind.value)
        for name, step in STEPS.items():
            at = getattr(after, name)
            if at is not None and (before is None or getattr(before, name) != at):
                self._meter.interruption_step(pod.namespace, step, max(0.0, at - after.since))


def ref_of(pod: Pod) -> ObjectRef:
    return ObjectRef("v1", "Pod", pod.namespace, pod.name, pod.uid)


def _annotations(text: str, steps: Steps) -> dict[str, str]:
    annotations = {names.ANNOTATION_INTERRUPTION: text}
    record = steps.record
    if record is not None and (record.replaced is not None or record.unrouted is not None):
        # Whoever makes the Deployment smaller meanwhile takes this pod and none that stays.
        annotations[names.ANNOTATION_DELETION_COST] = names.DELETION_COST_GOING
    return annotations
