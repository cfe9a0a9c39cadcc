"""What gateways tell the operator: the table they go by, and what became of the candidates' answers."""

from __future__ import annotations

from npc_runtime.wire.base import NO_STAMP, PROTOCOL, Stamp, Wire


class AnswerCounts(Wire):
    """Answers of one digest; grows for as long as the gateway process and the pair of digests are the same."""

    requests: int = 0
    probes: int = 0
    """Of those, the gateway's own."""
    errors: int = 0
    """Failed at the engine, or broke off."""
    truncated: int = 0
    """Ended without saying that they were done."""
    empty: int = 0
    mismatched: int = 0
    """Contained what no answer may contain."""
    first_bad_ms: int | None = None
    """Unix milliseconds of the first that was bad in any of these ways."""


class RolloutReport(Wire):
    """What one gateway saw of one alias with a candidate."""

    archetype: str
    tier: str
    stable: str
    """Digest."""
    candidate: str
    """Digest."""
    attempt: int = 0
    """Of which try this is, as `AliasRollout` has it."""
    stable_counts: AnswerCounts = AnswerCounts()
    candidate_counts: AnswerCounts = AnswerCounts()
    pairs: int = 0
    """First-token times of the candidate that were compared with one of the control's, on the same pod at about the
    same time."""
    slower: int = 0
    """Of those, how often the candidate was slower by `slower_percent`."""
    npcs: int = 0
    """How many NPCs the pairs compare, on the side that has fewer: as many as would be if all spoke as much, which is
    (sum of lines)^2 / sum of (lines of one NPC)^2. With few of them, their own differences look like the candidate's.
    """
    timed: int = 0
    """First tokens of the candidate after its warm-up."""
    over_limit: int = 0
    """Of those, how many came later than `first_token_milliseconds`."""
    lowest_heard: int | None = None
    """The lowest bucket of the NPCs heard in the last hour."""
    withdrawn: str = ""
    """Why this gateway alone took the candidate off; empty while it did not."""


class DegradedReport(Wire):
    """An archetype of which a gateway answered lines from a lower level, within the last ten seconds."""

    archetype: str
    tier: str
    """The tier that was asked."""
    level: str
    """`Tier` (another tier's adapter), `BaseModel`, or `Scripted`."""


class TierLines(Wire):
    """Lines of one tier that did not go as they should, since the gateway began."""

    tier: str
    lost: int = 0
    """They ended in an error after they had begun, or nobody answered them."""
    rerouted: int = 0
    """Another pod was asked, because the first one gave nothing or broke off."""
    downgraded: int = 0
    """Answered by less than the archetype's adapter on the tier that was asked."""


class Departure(Wire):
    """A pod that the table does not name any more and that still answers lines."""

    uid: str
    lines: int


class GatewayReport(Wire):
    """GET /v1/status?after=<revision>&boot=<bootId>&wait=<seconds> of a gateway: which table every worker has,
    what became of the candidates' answers, and which archetypes are answered for by less than their adapter.
    """

    protocol: int = PROTOCOL
    boot_id: str
    revision: int
    stamp: Stamp
    rollouts: tuple[RolloutReport, ...] = ()
    degraded: tuple[DegradedReport, ...] = ()
    counted: Stamp = NO_STAMP
    """The table that every worker served from before `departures` were counted: a pod that this table does not name,
    and that is not among them, answers no line of this gateway. (0, 0) of a gateway that does not count them."""
    departures: tuple[Departure, ...] = ()
    lines: tuple[TierLines, ...] = ()
