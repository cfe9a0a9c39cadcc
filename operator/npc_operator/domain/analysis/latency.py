"""Whether the candidate's first tokens come later than those of the characters that kept the stable digest.

A sign test by betting: gateways compare times of the same pod within seconds, one with one, and count how often the
candidate took more than analysis.maxSlowerPercent of the other's. Load, hardware and the time of day hit both sides of
a pair alike, so no shape of the times is assumed: a candidate within the limit is slower in at most half of the pairs.

Half, if both sides are many characters. Some have longer prompts than others whatever the adapter, and with few on a
side the pairs compare those few people: then the candidate must be slower more often before it is called slow. One
character on each side, and twice as slow cannot be told from one who talks more: no test could.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from npc_operator.domain.analysis.betting import Mixture, log_evidence

NPC_SPREAD = 0.25
"""Standard deviation of the logarithm of a character's typical time: two in three are within 28% of the middle."""
LINE_SPREAD = 0.5
"""Of the times of one character's lines."""
DEVIATIONS = 1.5
"""How many standard deviations two groups of characters may be apart before it is the adapter's doing."""
OF_SLOWER = Mixture(6.0, 1.0)
"""A slow candidate is slower in most pairs."""


def log_slower(pairs: int, slower: int, *, npcs: int, max_slower_percent: int) -> float:
    """Evidence that the candidate is slower than allowed; 0 while there is none. `npcs` as in `Evidence.npcs`."""
    return log_evidence(slower, pairs, tolerated(npcs, max_slower_percent), OF_SLOWER)


def tolerated(npcs: int, max_slower_percent: int) -> float:
    """Share of the pairs in which a candidate that is no slower may be: a half, more with few characters on a side."""
    apart = DEVIATIONS * NPC_SPREAD * math.sqrt(2.0 / max(1, npcs)) - math.log(max_slower_percent / 100.0)
    return max(0.5, NormalDist(0.0, LINE_SPREAD * math.sqrt(2.0)).cdf(apart))
