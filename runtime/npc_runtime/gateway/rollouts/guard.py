"""When a gateway takes a candidate off with nobody to ask. Pure.

The operator's analysis is the judge and compares with the stable digest; this is for the minutes in which there is no
operator. It holds the candidate against its limit alone, by a test that may be looked at after every answer: the
chance that it ever takes off a candidate within its limit is ALARM_CHANCE, however often it looks (a mixture of bets
over all shares of bad answers, evenly; Ville's inequality). So it waits for no number of answers: three bad ones of
three are enough where 5% are allowed, as for the operator.
"""

from __future__ import annotations

from math import lgamma, log

from npc_runtime import wire

ALARM_CHANCE = 0.0006
"""Of taking off a candidate whose share of bad answers is just the limit, over a whole rollout (`wire.Guard`)."""

_ENOUGH = -log(ALARM_CHANCE)


def bad_answers(counts: wire.AnswerCounts) -> int:
    """Answers that are bad in one way or another; each is counted in one of them only."""
    return counts.errors + counts.truncated + counts.empty + counts.mismatched


def exceeds(guard: wire.Guard, *, requests: int, bad: int) -> bool:
    """Whether so many bad answers among so many are too many to be within the limit."""
    if bad * 100 <= guard.max_error_percent * requests:
        return False
    limit, good = guard.max_error_percent / 100, requests - bad
    if limit == 0:
        return True
    evidence = lgamma(bad + 1) + lgamma(good + 1) - lgamma(requests + 2) - bad * log(limit) - good * log(1 - limit)
    return evidence >= _ENOUGH


def why_withdrawn(guard: wire.Guard | None, counts: wire.AnswerCounts) -> str:
    """Why a candidate with these answers is taken off, in numbers; empty while it is not."""
    bad = bad_answers(counts)
    if guard is None or not exceeds(guard, requests=counts.requests, bad=bad):
        return ""
    kinds = (
        ("failed", counts.errors),
        ("truncated", counts.truncated),
        ("empty", counts.empty),
        ("matching a forbidden pattern", counts.mismatched),
    )
    parts = ", ".join(f"{count} {kind}" for kind, count in kinds if count)
    return f"{bad} of {counts.requests} answers were bad ({parts}); allowed are {guard.max_error_percent}%"
