"""Steps that wait for a free place, between two looks at everything.

A plan looks at every adapter; with a thousand of them and a few places per kind of step, a plan for each step that ends
would be most of the agent's work. So what a plan could not start waits here, and a place that becomes free is given on
at once. Whoever is taken from here is looked at again first: the world may have changed since the plan.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from .facts import Stage
from .plan import Step

_LAST = 1 << 30


class Backlog:
    """One queue per kind of step, in the order of the desired set (`ranks`: position by served name); what is not in
    it comes last.
    """

    def __init__(self) -> None:
        self._ranks: Mapping[str, int] = {}
        self._queues: dict[Stage, list[tuple[int, str]]] = {stage: [] for stage in Stage}

    def replace(self, steps: Iterable[Step], ranks: Mapping[str, int]) -> None:
        """What a new plan could not start, instead of all that waited."""
        self._ranks = ranks
        queues: dict[Stage, list[tuple[int, str]]] = {stage: [] for stage in Stage}
        for step in steps:
            queues[step.stage].append(self._entry(step))
        for queue in queues.values():
            heapq.heapify(queue)
        self._queues = queues

    def add(self, step: Step) -> None:
        """One more that waits."""
        heapq.heappush(self._queues[step.stage], self._entry(step))

    def pop(self, stage: Stage) -> str | None:
        """The name that comes first for this kind of step; None when none waits."""
        queue = self._queues[stage]
        return heapq.heappop(queue)[1] if queue else None

    def _entry(self, step: Step) -> tuple[int, str]:
        return (self._ranks.get(step.name, _LAST), step.name)
