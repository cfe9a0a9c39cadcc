"""Lines that were lost with the connection to their pod: did the digest break them, or did the pod end?

A pod that ends breaks all its lines at once, whatever digest was asked for. Counted one by one they would be as many
bad answers, and a good candidate would be taken back whenever a spot node goes. So lost lines are counted a moment
later: as one where their pod is not there any more, else each by itself. A candidate that ends engines again and again
is still found here, one line for each; the operator counts those ends, too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from npc_runtime.gateway.rollouts.observer import Pod


class Losses:
    """Those of one tally."""

    __slots__ = ("_count", "_waiting")

    def __init__(self, count: Callable[[bool, bool], None]) -> None:
        """`count` is called with (was it the candidate's, was it a probe) for each line that counts as failed."""
        self._count = count
        self._waiting: dict[Pod, list[tuple[bool, bool]]] = {}

    def note(self, pod: Pod, *, candidate: bool, probe: bool) -> None:
        """A line was lost that `pod` was asked for."""
        lost = self._waiting.get(pod)
        if lost is None:
            lost = self._waiting[pod] = []
            pod.find_out(partial(self._settle, pod))
        lost.append((candidate, probe))

    def _settle(self, pod: Pod, is_there: bool) -> None:
        lost = self._waiting.pop(pod)
        if not is_there:
            lost = list({candidate: (candidate, probe) for candidate, probe in lost}.values())
        for candidate, probe in lost:
            self._count(candidate, probe)
