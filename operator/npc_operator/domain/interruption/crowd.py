"""What the other pods of a tier can do for one that goes away: take its lines, hold its adapters, stand in its place.

Built once for all pods that go at the same moment: a pod that goes itself is no help to another. One whose node is only
cordoned, or may be taken some day, is: were it left out, lines would stay on the pod whose end is certain. One that is
not heard any more is none, either: a zone that goes takes some machines without a word, and a pod that serves until its
end is better than one that may be no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass

from npc_operator.domain.engines import Engine
from npc_operator.domain.interruption.joining import LEAVING, SCHEDULED_LEAD_SECONDS
from npc_operator.domain.interruption.notices import Kind
from npc_operator.domain.interruption.record import Record


def is_going(record: Record, now: float) -> bool:
    """Whether what is said means that the pod is about to end, or may have ended."""
    if record.kind is Kind.SCHEDULED:
        return record.deadline is not None and now >= record.deadline - SCHEDULED_LEAD_SECONDS
    return record.kind in LEAVING or record.kind is Kind.NODE_LOST


@dataclass(frozen=True, slots=True)
class Help:
    """What others can do for one pod."""

    others_can_take: bool
    covered: bool
    replacement_ready: bool


class Crowd:
    """The pods of one tier. `routed` are the served names that lines may ask for there, `wanted_names` those that its
    pods should have, `wanted` its replicas, `going` the uids of the pods that go, and `silent` those of the pods whose
    agents are not heard any more."""

    def __init__(
        self,
        engines: Iterable[Engine],
        *,
        going: Set[str],
        silent: Set[str] = frozenset(),
        routed: frozenset[str],
        wanted_names: frozenset[str],
        wanted: int,
    ) -> None:
        self._routed = routed
        self._wanted_names = wanted_names
        self._wanted = wanted
        staying = [engine for engine in engines if engine.pod.uid not in going and engine.routable()]
        self._takers = {
            engine.pod.uid: engine.resident() or frozenset() for engine in staying if engine.pod.uid not in silent
        }
        self._ready = {engine.pod.uid for engine in staying if engine.pod.ready}
        self._copies = Counter(name for names in self._takers.values() for name in names)
        self._known: dict[frozenset[str] | None, tuple[bool, bool]] = {}
        """Most pods of a tier hold the same."""

    def help_for(self, engine: Engine) -> Help:
        """What the others can do for this pod."""
        uid, has = engine.pod.uid, engine.resident()
        own = self._takers.get(uid)
        if own is None:
            found = self._known.get(has)
            if found is None:
                found = self._known[has] = self._elsewhere(has, frozenset())
        else:
            found = self._elsewhere(has, own)
        taken, covered = found
        return Help(
            others_can_take=len(self._takers) > (own is not None) and taken,
            covered=covered,
            replacement_ready=len(self._ready) - (uid in self._ready) >= self._wanted,
        )

    def _elsewhere(self, has: frozenset[str] | None, own: frozenset[str]) -> tuple[bool, bool]:
        """Whether what lines ask for of a pod, and what it should have of what it has, is on others, too. `own` is
        what it counts with itself."""
        # What a pod holds that was never heard may be anything that lines ask for.
        asked = self._routed if has is None else self._routed & has
        held = self._wanted_names if has is None else self._wanted_names & has
        copies = self._copies
        return (
            all(copies[name] > (name in own) for name in asked),
            all(copies[name] > (name in own) for name in held),
        )
