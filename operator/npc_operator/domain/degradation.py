"""Which archetypes players hear less of than their adapter, how that is said, and when it is over.

Gateways tell a level while lines were answered from it. That a level is told no more does not say that the voice is
back: perhaps nobody asks. So what is worse counts at once, and what is better only after a quiet time, and not while
the tier that was asked is known to be unable to answer. A voice that falls again soon after it came back has to be
quiet for longer each time: what flaps is one story, not a hundred Events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from npc_operator.domain.conditions import join_messages
from npc_operator.domain.engines import Engine

Level = Literal["Tier", "BaseModel", "Scripted"]
LEVELS: tuple[Level, ...] = ("Tier", "BaseModel", "Scripted")
"""Best first: another tier's adapter, the base model with the persona's prompt, scripted lines."""

CALM_SECONDS = 10.0
"""How long nobody must have told a level before it counts as over. A gateway tells it for ten seconds after its last
line (npc_runtime.gateway.degradation), so a voice has been whole for twenty when that is said."""
LONGEST_CALM_SECONDS = 640.0
"""For a voice that flaps."""
RELAPSE = 10
"""What falls again within so many quiet times belongs to the same story."""


@dataclass(frozen=True, slots=True)
class Rung:
    """What is known of one archetype on one tier."""

    tier: str
    variant: bool
    """Its spec names the tier."""
    exists: bool
    """There is such a tier."""
    quarantined: bool
    """None of its digests may be used there."""
    served_name: str
    """Of what is stable there; empty while nothing is."""
    wanted: int
    """Replicas."""
    engines: Sequence[Engine]


def find_obstacle(rung: Rung) -> str | None:
    """Why the adapter cannot answer there; empty where nothing is in its way, None where that is not known."""
    tier = rung.tier
    if not rung.exists:
        return f"there is no tier {tier}"
    if not rung.variant:
        return f"it has no variant for tier {tier}"
    if rung.quarantined:
        return f"its digest on tier {tier} is quarantined, and no earlier one is known"
    if not rung.served_name:
        return f"no digest of it was proven on tier {tier} yet"
    if not rung.wanted:
        return f"tier {tier} is scaled to 0"
    proven = [engine.resident() for engine in rung.engines if engine.counts()]
    if not proven:
        return f"no pod of tier {tier} has a ready engine"
    if any(one is not None and rung.served_name in one for one in proven):
        return ""
    return None if None in proven else f"no ready pod of tier {tier} has it resident"


def pick_level(
    told: Set[Level], ended: Mapping[Level, float], *, calm: float, now: float
) -> tuple[Level | None, float | None]:
    """(the worst level that is told or was told within the last `calm` seconds, seconds until a better one may be due).

    `ended`: since when (seconds, like `now`) a level is told no more. None where none is left.
    """
    waiting = {level: since + calm - now for level, since in ended.items() if level not in told}
    counting = told | {level for level, left in waiting.items() if left > 0}
    if not counting:
        return None, None
    worst = max(counting, key=LEVELS.index)
    again = waiting.get(worst)
    return worst, again


def next_calm(calm: float, *, over_for: float | None) -> float:
    """The quiet time of a voice that fell, `over_for` seconds after it had come up (None: it never had)."""
    if is_forgotten(calm, over_for=over_for):
        return CALM_SECONDS
    return min(2 * calm, LONGEST_CALM_SECONDS)


def is_forgotten(calm: float, *, over_for: float | None) -> bool:
    """Whether nothing is left to remember of a voice that came up `over_for` seconds ago."""
    return over_for is None or over_for > RELAPSE * calm


def describe_answer(level: Level, chain: Sequence[Rung]) -> str:
    """What answers in place of the adapter on the first tier of the chain of fallbacks."""
    match level:
        case "Tier":
            serving = next((rung.tier for rung in chain[1:] if find_obstacle(rung) == ""), "")
            return f"its adapter on tier {serving}" if serving else "its adapter on a fallback tier"
        case "BaseModel":
            return "the base model with its persona's prompt"
        case "Scripted":
            return "scripted lines"


def describe_cause(level: Level, chain: Sequence[Rung], *, has_prompt: bool) -> str:
    """Why: what is known of the tiers that would be better, the one that was asked first."""
    causes = [_describe_obstacle(rung) for rung in (chain[:1] if level == "Tier" else chain)]
    if level == "Scripted" and not has_prompt:
        causes.append("persona.systemPrompt is empty, so the base model is not asked")
    return join_messages(causes, limit=4)


def _describe_obstacle(rung: Rung) -> str:
    obstacle = find_obstacle(rung)
    if obstacle is None:
        return f"what pods of tier {rung.tier} have resident is not known yet"
    late = "failed, were full, or would have answered later than objectives.firstTokenMilliseconds"
    return obstacle or f"pods of tier {rung.tier} {late}"
