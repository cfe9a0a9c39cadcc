"""When a gateway takes a candidate off with nobody to ask. Pure.

Deliberately blunt: the operator's analysis is the judge, and has better tests; this is for the minutes in which there
is no operator. A share of bad answers over the limit is only believed once there are enough answers, and never on one
or two of them.
"""

from __future__ import annotations

from npc_runtime import wire

FEWEST_BAD = 3
"""Bad answers below which nothing is concluded, whatever their share."""


def bad_answers(counts: wire.AnswerCounts) -> int:
    """Answers that are bad in one way or another; each is counted in one of them only."""
    return counts.errors + counts.truncated + counts.empty + counts.mismatched


def exceeds(guard: wire.Guard, *, requests: int, bad: int) -> bool:
    """Whether so many bad answers among so many are over the limit."""
    return requests >= guard.min_requests and bad >= FEWEST_BAD and bad * 100 > guard.max_error_percent * requests


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
    return f"{bad} of {counts.requests} answers were bad ({parts}), more than {guard.max_error_percent}%"
