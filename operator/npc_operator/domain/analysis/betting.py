"""Evidence against "this happens at most so often", in a form that may be looked at whenever one likes.

Each statistic is an e-process: where the claim is true, it ever exceeds x with a probability of at most 1 in x, however
often and for whatever cause somebody looks (Ville 1939). Its logarithm is returned, because the evidence of a day's
answers has no place in a float. It is a mixture of likelihoods over the highest likelihood that the claim allows
(Robbins 1970; Wasserman, Ramdas and Balakrishnan, "Universal inference", PNAS 117, 2020, section 8), so it depends on
counts alone: not on their order, not on who counted them, not on when somebody looked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mixture:
    """Which rates of hits are bet on: a beta distribution. Any is valid; one that is near the truth costs less."""

    hits: float = 1.0
    misses: float = 1.0

    def log_likelihood(self, hits: int, misses: int) -> float:
        """Of so many hits and misses in one order, on average over the rates."""
        return _log_beta(self.hits + hits, self.misses + misses) - _log_beta(self.hits, self.misses)


UNIFORM = Mixture()


def log_likelihood(hits: int, misses: int, odds: float) -> float:
    """Of so many hits and misses in one order, each a hit with probability odds / (1 + odds); odds above 0."""
    return hits * (math.log(odds) - math.log1p(odds)) - misses * math.log1p(odds)


def log_evidence(hits: int, trials: int, limit: float, mixture: Mixture = UNIFORM) -> float:
    """Against "a hit has a probability of at most `limit`, whatever came before"; 0 while there is none.

    Infinite where the impossible happened: a hit with limit 0.
    """
    misses = trials - hits
    if hits <= 0 or misses < 0 or hits <= limit * trials:
        return 0.0
    if limit <= 0.0:
        return math.inf
    claimed = log_likelihood(hits, misses, limit / (1.0 - limit))
    return max(0.0, mixture.log_likelihood(hits, misses) - claimed)


def threshold(alpha: float) -> float:
    """What evidence must reach so that a true claim is ever given up with a probability of at most `alpha`."""
    return -math.log(alpha)


def _log_beta(first: float, second: float) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)
