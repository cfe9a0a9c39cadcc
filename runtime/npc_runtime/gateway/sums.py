"""What several event loops counted, as one process would have: counters that never fall, also when a worker ends.

Prometheus takes a counter that falls for one that began anew, and adds all that is left to its rate: without this the
end of one worker would look like a burst of everything the others ever counted, errors included.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from typing import Any

from npc_runtime.gateway.plane import Counts

Said = dict[str, Any]
"""One worker's answer: its `pid`, and everything that it counted."""


def say(pid: int, counts: Counts) -> Said:
    """What a worker answers."""
    return {
        "pid": pid,
        "series": counts.metrics.dump(),
        "connections": counts.connections,
        "engine_connections": counts.engine_connections,
        "dropped_lines": counts.dropped_lines,
        "ejected": counts.ejected,
        "ejections": counts.ejections,
        "waiting": counts.waiting,
    }


class Sums:
    """The sums over the workers that live and those that are gone."""

    def __init__(self) -> None:
        self._last: dict[int, Said] = {}
        """By process id."""
        self._gone = Counts()
        """What those counted that are gone, as far as they were heard."""

    def keep_only(self, known: Collection[tuple[str, str]]) -> None:
        """Forget the (archetype, tier) of gone workers that are not among `known`."""
        self._gone.metrics.keep_only(known)

    def hear(self, said: Iterable[Said], living: Set[int]) -> Counts:
        """Everything up to now. Of a worker that lives and did not answer, what it said last."""
        self._last |= {one["pid"]: one for one in said}
        for pid in self._last.keys() - living:
            _add_counters(self._gone, _without_gauges(self._last.pop(pid)))
        total = Counts()
        _add_counters(total, say(0, self._gone))
        for one in self._last.values():
            _add_counters(total, one)
            total.connections += one["connections"]
            total.engine_connections += one["engine_connections"]
            total.ejected += one["ejected"]
            for tier, count in one["waiting"].items():
                total.waiting[tier] = total.waiting.get(tier, 0) + count
        return total


def _without_gauges(said: Said) -> Said:
    """The third value of each series (`metrics.Dumped`) is what runs there: nothing does any more."""
    return {**said, "series": [[*one[:2], 0, *one[3:]] for one in said["series"]]}


def _add_counters(total: Counts, said: Said) -> None:
    total.metrics.add(said["series"])
    total.dropped_lines += said["dropped_lines"]
    for tier, count in said["ejections"].items():
        total.ejections[tier] = total.ejections.get(tier, 0) + count
