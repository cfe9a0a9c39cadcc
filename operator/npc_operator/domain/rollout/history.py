"""The record of what a tier served and why.

It is bounded, and it is also where the way back to an older digest is found: the last few digests that were stable stay
in it however many steps were taken since.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from npc_operator.api.archetypeadapter import HistoryEntry, Revision
from npc_operator.domain import reasons
from npc_operator.domain.conditions import clip, rfc3339
from npc_operator.domain.rollout.facts import State

HISTORY = 10
"""Entries of history kept per variant (the schema's bound)."""
LASTING = 4
"""Of those, the newest that made a digest stable, which no number of steps pushes out."""
VERDICT_LIMIT = 256
BECAME_STABLE = frozenset({reasons.FIRST, reasons.MOVED, reasons.ADOPTED, reasons.RESTORED})

BY_STEPS = "rollout.steps"
BY_STRATEGY = "rollout.strategy"
BY_CEILING = "rollout.ceilingPercent"
BY_TRAFFIC = "rollout.onTooLittleTraffic"
BY_ANALYSIS = "rollout.analysis"
BY_GATE = "rollout.analysis.gate"
BY_PROOF = "probe"
BY_ENGINE = "engine"
BY_QUARANTINE = "quarantinedDigests"
BY_OBSERVATION = "observed"
"""Policies that decide; people are named by their field manager."""


def remember(
    state: State,
    revision: Revision,
    reason: str,
    now: float,
    *,
    by: str,
    previous: str = "",
    from_percent: int = 0,
    to_percent: int = 0,
    verdict: str = "",
) -> State:
    """The state with one more decision in its history."""
    entry = HistoryEntry(
        time=rfc3339(now),
        digest=revision.digest,
        uri=revision.uri,
        previous=previous,
        reason=reason,
        from_percent=from_percent,
        to_percent=to_percent,
        verdict=clip(verdict, VERDICT_LIMIT),
        by=clip(by, 128),
    )
    return replace(state, history=_trim((entry, *state.history)), made=(*state.made, entry))


def halt(state: State, now: float, *, by: str, why: str = "") -> State:
    """The state in which the candidate, if it had traffic, has none any more and is no further than before its turn."""
    if state.candidate is not None and state.rollout is not None and state.has_traffic():
        state = remember(
            state, state.candidate, reasons.CANCELLED, now, by=by, from_percent=state.rollout.percent, verdict=why
        )
    return replace(state, rollout=None)


def was_stable(history: tuple[HistoryEntry, ...]) -> Iterator[HistoryEntry]:
    """Entries that made a digest stable, newest first."""
    return (entry for entry in history if entry.reason in BECAME_STABLE)


def _trim(history: tuple[HistoryEntry, ...]) -> tuple[HistoryEntry, ...]:
    kept = list(history)
    lasting = list(was_stable(history))[:LASTING]
    while len(kept) > HISTORY:
        # From the end: the oldest that is not needed for a way back.
        at = next(at for at in reversed(range(len(kept))) if not any(kept[at] is entry for entry in lasting))
        del kept[at]
    return tuple(kept)
