"""What all gateways together saw of a candidate and of the stable digest beside it, and what that comes to."""

from __future__ import annotations

from dataclasses import dataclass

from npc_operator.domain.conditions import Finding


@dataclass(frozen=True, slots=True)
class Side:
    """Answers of one digest since the candidate first had traffic."""

    requests: int = 0
    probes: int = 0
    """Of those, the gateways' own."""
    errors: int = 0
    truncated: int = 0
    empty: int = 0
    mismatched: int = 0

    @property
    def bad(self) -> int:
        """Answers that are bad in one way or another; an answer is counted in one of them only."""
        return self.errors + self.truncated + self.empty + self.mismatched


@dataclass(frozen=True, slots=True)
class Evidence:
    """Sums over the gateways, also over those that are gone."""

    stable: Side = Side()
    candidate: Side = Side()
    step_requests: int = 0
    """The candidate's answers since its present step began."""
    pairs: int = 0
    """First-token times of the candidate that were compared with the control's, same pod, about the same time."""
    slower: int = 0
    """Of those, how often it was slower by analysis.maxSlowerPercent."""
    npcs: int = 0
    """About how many characters the pairs compare, on the side that has fewer; 0 where no gateway tells, which counts
    as one."""
    timed: int = 0
    """The candidate's first tokens after its warm-up."""
    over_limit: int = 0
    """Of those, how many came later than analysis.maxFirstTokenMilliseconds."""
    first_bad_at: float | None = None
    """Unix seconds of the candidate's first bad answer."""
    lowest_heard: int | None = None
    """The lowest hash bucket of the NPCs heard in the last hour."""
    withdrawn: str = ""
    """Why a gateway alone took it off, with the gateway's name; empty while none did."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence comes to."""

    bad: Finding | None
    """Why the candidate must be taken back, in numbers; None while nothing says so."""
    enough: bool
    """Whether the step has the answers it needs to move on."""
    numbers: str
    """The evidence in a line for people and history, at most 256 characters."""
