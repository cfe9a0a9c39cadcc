"""Whether pods have proven, for the step at hand, that what they serve is what was asked for.

An agent proves again when the number it is asked for grows. So a number is above all that any pod has given for either
digest, also in an earlier rollout, and a restart of anything only makes it prove once more.
"""

from __future__ import annotations

from collections.abc import Iterator

from npc_operator.api.archetypeadapter import RolloutStatus
from npc_operator.domain.engines import Engine
from npc_operator.domain.rollout.facts import RolloutFacts, State


def next_number(facts: RolloutFacts, state: State, rollout: RolloutStatus) -> int:
    """Which proof the next step asks for: the number of the step, or more where pods gave that long ago."""
    given = [
        report.identity_checked
        for engine in facts.engines
        for name in _names(facts, state)
        if (report := engine.report(name)) is not None
    ]
    return max((rollout.step, rollout.check, *given)) + 1


def is_proven(facts: RolloutFacts, state: State, number: int) -> bool:
    """Whether every pod that counts, and at least one, gave it for both digests."""
    return bool(facts.engines) and not any(find_unproven(facts, state, number))


def find_unproven(facts: RolloutFacts, state: State, number: int) -> Iterator[tuple[Engine, str]]:
    """Pods and served names that lack it."""
    for engine in facts.engines:
        for name in _names(facts, state):
            report = engine.report(name)
            if report is None or not engine.proven(name) or report.identity_checked < number:
                yield engine, name


def find_late(
    facts: RolloutFacts, state: State, number: int, since: float, now: float
) -> tuple[list[tuple[Engine, str]], float | None]:
    """Pods, and served names, whose proof has been asked for since `since` and is overdue; and when the next falls due.

    It may take as long as loading may. A pod whose engine came later has its time from then on.
    """
    late: list[tuple[Engine, str]] = []
    deadlines: list[float] = []
    for engine, name in find_unproven(facts, state, number):
        due = max(since, engine.ready_since()) + facts.rollout.load_timeout_seconds
        if due <= now:
            late.append((engine, name))
        else:
            deadlines.append(due)
    return late, min(deadlines, default=None)


def _names(facts: RolloutFacts, state: State) -> tuple[str, ...]:
    digests = (state.stable, facts.wanted)
    return tuple(facts.name(one.digest) for one in digests if one is not None)
