"""Engine processes that ended while they had a candidate: more than chance makes the candidate suspect.

An agent tells of each new process of its engine, so the end of one is seen where the pod had proven the candidate
before and now has another process. A pod that goes away, or never had it, says nothing about the candidate, and a pod
whose agent began anew with its engine was stopped from outside: its node started anew, or its sandbox did. Nor do two
engines that end days apart in a step that takes a week say anything: an end counts for as long as a loop may need for
the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from npc_operator.domain.engines import Engine

Place = tuple[str, str, str]
"""Namespace, adapter, tier."""
WINDOW_SECONDS = 1800.0
"""How long an end counts: an engine that keeps ending has its model loaded again within this time."""


@dataclass(slots=True)
class _Case:
    served_name: str
    ends: list[float]
    """When they were seen (monotonic seconds)."""
    had: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The engine process that had it, and the agent that told so, by the pod's uid."""


class CrashWatch:
    """Counts per candidate. Lives as long as one leadership; what an earlier one counted is in the status."""

    def __init__(self) -> None:
        self._cases: dict[Place, _Case] = {}

    def count(self, place: Place, served_name: str, engines: Iterable[Engine], *, known: int, now: float) -> int:
        """Ends within WINDOW_SECONDS until `now` (monotonic). `known`: how many the status tells of; when they were,
        nobody knows, so they count as new. `engines`: all pods of the tier, whatever their state."""
        case = self._cases.get(place)
        if case is None or case.served_name != served_name:
            case = self._cases[place] = _Case(served_name, [now] * known)
        present: dict[str, tuple[str, str]] = {}
        for engine in engines:
            if not engine.alive() or engine.agent is None:
                continue
            uid, process, agent = engine.pod.uid, engine.agent.engine.instance, engine.agent.boot_id
            had = case.had.get(uid)
            if had is not None and process and process != had[0]:
                if agent == had[1]:
                    case.ends.append(now)
                had = None
            if engine.proven(served_name):
                had = (process, agent)
            if had is not None:
                # An agent that began anew while its engine ran on has told of the very process that had it.
                present[uid] = (had[0], agent) if process == had[0] else had
        case.had = present
        case.ends = [end for end in case.ends if now - end < WINDOW_SECONDS]
        return len(case.ends)

    def forget(self, place: Place) -> None:
        """No candidate has traffic there."""
        self._cases.pop(place, None)

    def forget_adapter(self, namespace: str, name: str) -> None:
        """The voice is gone."""
        for place in [place for place in self._cases if place[:2] == (namespace, name)]:
            del self._cases[place]
