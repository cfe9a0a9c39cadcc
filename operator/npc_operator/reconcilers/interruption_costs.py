"""What the interruption of a tier costs while it lasts: the ledger fed with what gateways count, and what the tier's
status says of it.

The ledger changes with every look, and every change of a status is a write. So what the status has may be older where
only time went by: by LATE_SECONDS, and of an interruption that does not end by a tenth of what it lasts already.
Whoever takes over counts from there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from npc_operator.api.interruption import InterruptionStatus
from npc_operator.domain.conditions import rfc3339
from npc_operator.domain.interruption.ledger import Counts, Ledger, Sample, account, read_ledger
from npc_operator.reconcilers.world import Door

LATE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Bill:
    """What was added since the last look."""

    lost: int = 0
    rerouted: int = 0
    downgraded: int = 0
    seconds: float = 0.0
    over: Ledger | None = None
    """The whole interruption, where it has just ended."""


class Costs:
    """One tier's, as long as a leadership."""

    def __init__(self, status: InterruptionStatus) -> None:
        self._ledger = read_ledger(status.ledger)
        self._told = status
        self._told_ledger = self._ledger

    @property
    def open(self) -> bool:
        """Whether an interruption is being accounted for."""
        return self._ledger is not None and not self._ledger.over

    def look(self, tier: str, doors: Iterable[Door], *, ready: int, target: int, leaving: int, now: float) -> Bill:
        """Account for one more look; returns what it added."""
        before = self._ledger
        gateways = {
            f"{door.pod.name}/{door.fact.boot_id}": counts
            for door in doors
            if door.fact is not None and (counts := _counts(door, tier)) is not None
        }
        after = account(before, Sample(at=now, gateways=gateways, ready=ready, target=target, leaving=leaving))
        self._ledger = after
        if after is None:
            return Bill()
        base = before if before is not None and before.since == after.since else None
        return Bill(
            lost=after.lost - (base.lost if base else 0),
            rerouted=after.rerouted - (base.rerouted if base else 0),
            downgraded=after.downgraded - (base.downgraded if base else 0),
            seconds=after.seconds_below_target - (base.seconds_below_target if base else 0.0),
            over=after if after.over and (base is None or not base.over) else None,
        )

    def tell(self, *, pods: int, unrouted: int, nodes: str, replacements: str, heard: str) -> InterruptionStatus:
        """What the tier's status says now."""
        self._refresh()
        told = self._told
        self._told = told.model_copy(
            update={
                "pods": pods,
                "unrouted": unrouted,
                "nodes": nodes,
                "replacements": replacements,
                "heard": heard,
            }
        )
        return self._told

    def _refresh(self) -> None:
        now, said = self._ledger, self._told_ledger
        if now is None or now == said:
            return
        late = max(LATE_SECONDS, (now.at - now.since) / 10)
        if said is not None and _words(said) == _words(now) and now.at - said.at < late:
            return
        self._told_ledger = now
        self._told = self._told.model_copy(
            update={
                "since": rfc3339(now.since),
                "over": now.over,
                "lost_lines": now.lost,
                "rerouted_lines": now.rerouted,
                "downgraded_lines": now.downgraded,
                "seconds_below_target": math.ceil(now.seconds_below_target),
                "ledger": "" if now.over else now.write(),
            }
        )


def _words(ledger: Ledger) -> tuple[object, ...]:
    """What of a ledger is worth a write at once."""
    return (ledger.since, ledger.over, ledger.below, ledger.lost, ledger.rerouted, ledger.downgraded)


def _counts(door: Door, tier: str) -> Counts | None:
    """What a gateway counted of a tier; None of one that does not count."""
    if door.fact is None or door.fact.counted.order() == (0, 0):
        return None
    for lines in door.fact.lines:
        if lines.tier == tier:
            return Counts(lines.lost, lines.rerouted, lines.downgraded)
    return Counts()
