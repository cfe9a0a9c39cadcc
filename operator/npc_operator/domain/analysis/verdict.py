"""What the evidence against a candidate comes to: named rules, of which the first that speaks decides.

Every rule may be asked at every look, for as long as a rollout lasts: each is wrong about a candidate that is as good
as stable with at most the probability beside it, over all looks together. What the gateways' own guards may add (twice
LIMIT, for two gateways) included, the sum stays below 1% a rollout.
"""

from __future__ import annotations

from collections.abc import Callable

from npc_operator.api.rollouts import Analysis
from npc_operator.domain.analysis.betting import threshold
from npc_operator.domain.analysis.errors import log_worse
from npc_operator.domain.analysis.evidence import Evidence, Side, Verdict
from npc_operator.domain.analysis.latency import log_slower
from npc_operator.domain.analysis.limits import log_late, log_over_limit
from npc_operator.domain.conditions import Finding, clip
from npc_operator.domain.reasons import (
    CANDIDATE_ERRORS,
    CANDIDATE_INCOMPLETE,
    CANDIDATE_MISMATCHED,
    CANDIDATE_SLOW,
    WITHDRAWN_BY_GATEWAY,
)

WORSE = 0.005
LIMIT = 0.0006
SLOWER = 0.0025
LATE = 0.0006
NUMBERS_LIMIT = 256
"""Characters of `Verdict.numbers`: what history has room for."""

Rule = Callable[[Evidence, Analysis], Finding | None]


def judge(evidence: Evidence, analysis: Analysis) -> Verdict:
    """What is known of a candidate now. The order of answers and the moments of looking do not matter."""
    findings = (rule(evidence, analysis) for rule in RULES)
    return Verdict(
        bad=next((finding for finding in findings if finding is not None), None),
        enough=evidence.step_requests >= analysis.min_requests,
        numbers=describe(evidence),
    )


def withdrawn_by_gateway(evidence: Evidence, _: Analysis) -> Finding | None:
    """A gateway that alone saw the error limit exceeded needs no second opinion: it serves stable already."""
    return Finding(WITHDRAWN_BY_GATEWAY, evidence.withdrawn) if evidence.withdrawn else None


def over_error_limit(evidence: Evidence, analysis: Analysis) -> Finding | None:
    """More bad answers than the spec allows any digest."""
    limit = analysis.max_error_percent
    if log_over_limit(evidence.candidate, limit) < threshold(LIMIT):
        return None
    return _bad(evidence, f"more than the {limit}% that are allowed")


def worse_than_stable(evidence: Evidence, _: Analysis) -> Finding | None:
    """More bad answers than the stable digest gives."""
    if log_worse(evidence.stable, evidence.candidate) < threshold(WORSE):
        return None
    return _bad(evidence, _stable(evidence.stable))


def too_late(evidence: Evidence, analysis: Analysis) -> Finding | None:
    """First tokens later than the spec allows any digest."""
    limit = analysis.max_first_token_milliseconds
    if not limit or log_late(evidence.timed, evidence.over_limit) < threshold(LATE):
        return None
    return Finding(CANDIDATE_SLOW, _late(evidence, f"first tokens came later than {limit} ms"))


def slower_than_stable(evidence: Evidence, analysis: Analysis) -> Finding | None:
    """First tokens later than those of the stable digest, on the same pods at the same time."""
    percent = analysis.max_slower_percent
    against = log_slower(evidence.pairs, evidence.slower, npcs=evidence.npcs, max_slower_percent=percent)
    if against < threshold(SLOWER):
        return None
    return Finding(CANDIDATE_SLOW, _slower(evidence, f"first tokens took more than {percent}% of stable's beside them"))


RULES: tuple[Rule, ...] = (withdrawn_by_gateway, over_error_limit, worse_than_stable, too_late, slower_than_stable)


def describe(evidence: Evidence) -> str:
    """The evidence in one line, at most NUMBERS_LIMIT characters."""
    said = [_answers(evidence.candidate), _stable(evidence.stable)]
    if evidence.candidate.probes:
        said.append(f"{evidence.candidate.probes} were probes")
    if evidence.pairs:
        said.append(_slower(evidence, "pairs slower"))
    if evidence.over_limit:
        said.append(_late(evidence, "late"))
    return clip(", ".join(said), NUMBERS_LIMIT)


def _bad(evidence: Evidence, beside: str) -> Finding:
    """By the kind of most of the bad answers, which says where to look."""
    side = evidence.candidate
    most = max(side.errors, side.mismatched, side.truncated + side.empty)
    if side.mismatched == most:
        reason = CANDIDATE_MISMATCHED
    else:
        reason = CANDIDATE_ERRORS if side.errors == most else CANDIDATE_INCOMPLETE
    return Finding(reason, f"{_answers(side)}, {beside}")


def _answers(side: Side) -> str:
    kinds = (
        (side.errors, "failed"),
        (side.truncated, "cut off"),
        (side.empty, "empty"),
        (side.mismatched, "with forbidden words"),
    )
    said = ", ".join(f"{count} {kind}" for count, kind in kinds if count)
    return _share(side.bad, side.requests, "answers were bad") + (f": {said}" if said else "")


def _stable(side: Side) -> str:
    return f"stable {_share(side.bad, side.requests)}"


def _slower(evidence: Evidence, what: str) -> str:
    return _share(evidence.slower, evidence.pairs, what)


def _late(evidence: Evidence, what: str) -> str:
    return _share(evidence.over_limit, evidence.timed, what)


def _share(part: int, whole: int, what: str = "") -> str:
    """`12 of 80 answers were bad (15.0%)`, without the percentage where there is nothing to take it of."""
    said = f"{part} of {whole} {what}".rstrip()
    return f"{said} ({100.0 * part / whole:.1f}%)" if whole else said
