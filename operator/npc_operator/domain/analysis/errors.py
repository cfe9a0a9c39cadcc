"""Whether the candidate answers badly more often than stable does.

The claim that evidence is held against: at most TOLERATED of the candidate's answers are bad, or the odds of a bad one
are at most WORSE times those of stable. Both halves must be refuted, each by an e-process of its own; the lesser of the
two is an e-process for the whole claim. Turner, Ly and Grünwald ("Generic E-variables for exact sequential k-sample
tests", JSPI 230, 2024) treat the same question in blocks of paired answers; ours needs sums only, which gateways that
come and go can give.

The room in the claim is for characters: a bucket of the canary may be a single NPC, with lines that are cut off or fail
more often than those of others, under any adapter. It also covers a load that changes while the shares do. At the 100%
step stable answers nobody but pinned NPCs: its answers of the steps before are what is left to compare with, and the
absolute limit.
"""

from __future__ import annotations

import math

from npc_operator.domain.analysis.betting import Mixture, log_evidence, log_likelihood
from npc_operator.domain.analysis.evidence import Side

WORSE = 1.2
"""Ratio of odds up to which the candidate counts as no worse than stable."""
TOLERATED = 0.02
"""Share of bad answers up to which a candidate is never taken back for being worse than stable."""
OF_STABLE = Mixture(1.0, 40.0)
"""Stable digests answer badly now and then: two in a hundred on average, hardly ever one in ten."""
OF_CANDIDATE = Mixture(1.0, 3.0)
"""A bad candidate may do so at any rate."""


def log_worse(stable: Side, candidate: Side) -> float:
    """Evidence that the candidate is worse; 0 while there is none, so also without answers of one of the two."""
    against_tolerated = log_evidence(candidate.bad, candidate.requests, TOLERATED, OF_CANDIDATE)
    if against_tolerated <= 0.0:
        return 0.0
    return min(against_tolerated, log_worse_than(stable.bad, stable.requests, candidate.bad, candidate.requests))


def log_worse_than(stable_bad: int, stable_all: int, bad: int, total: int) -> float:
    """Evidence against "the candidate's odds of a bad answer are at most WORSE times stable's"."""
    stable_good, good = stable_all - stable_bad, total - bad
    if stable_good < 0 or good < 0 or stable_all <= 0 or bad * stable_good <= WORSE * stable_bad * good:
        return 0.0
    odds = likeliest_odds(stable_bad, stable_good, bad, good)
    claimed = log_likelihood(stable_bad, stable_good, odds) + log_likelihood(bad, good, WORSE * odds)
    mixed = OF_STABLE.log_likelihood(stable_bad, stable_good) + OF_CANDIDATE.log_likelihood(bad, good)
    return max(0.0, mixed - claimed)


def likeliest_odds(stable_bad: int, stable_good: int, bad: int, good: int) -> float:
    """Stable's odds that explain the counts best where the candidate's are WORSE times them.

    There as many bad answers are expected as were seen: a quadratic equation, solved without taking like from like.
    Needs a bad answer and a good one.
    """
    seen = stable_bad + bad
    square = WORSE * (stable_good + good)
    linear = seen * (1.0 + WORSE) - (stable_bad + stable_good) - WORSE * (bad + good)
    root = math.sqrt(linear * linear + 4.0 * square * seen)
    return (linear + root) / (2.0 * square) if linear > 0.0 else 2.0 * seen / (root - linear)
