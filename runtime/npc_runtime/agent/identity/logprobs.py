"""How far two accounts of a first token are apart: what a model would say first, as an engine tells it.

Each account names the likeliest tokens only, and which those are varies at its end. So a token that only one of them
names is taken to be, for the other, as likely as the least likely it names: it can only be less, and the distance only
larger than said.
"""

from __future__ import annotations

from collections.abc import Mapping

FirstToken = Mapping[str, float]
"""Natural log-probabilities by token, of the likeliest tokens."""

TOP = 20
"""Tokens asked for: as many as vLLM tells by default (`--max-logprobs`)."""

NOISE = 0.25
"""The largest mean distance of log-probabilities that is still the same model.

What else is in a batch changes the order of sums, and so how logits are rounded. bfloat16 has 8 significant bits: the
logits that matter, between 16 and 32, lie 0.125 apart, so one rounding that falls the other way moves a token by 0.125,
and by as much again through the sum that all share. The mean over some twenty tokens stays below 0.25 even if most of
them moved so; float16 and float32 stay far below. Another adapter is beyond it by far: what differs less at the first
token of a probe is not told apart (see DISTINCT).
"""

DISTINCT = 2 * NOISE
"""The least distance from the base model at which an adapter is told from it: an engine that falls back to the base is
then further than NOISE from what was seen at load, and an adapter that is as it was is further than NOISE from the
base.
"""


def distance(one: FirstToken, other: FirstToken) -> float:
    """Mean absolute difference of log-probabilities over all tokens either account names. Raises ValueError for an
    empty account.
    """
    if not one or not other:
        raise ValueError("an account of no tokens")
    least_of_one, least_of_other = min(one.values()), min(other.values())
    total = 0.0
    tokens = one.keys() | other.keys()
    for token in tokens:
        if token not in other:
            total += max(0.0, one[token] - least_of_other)
        elif token not in one:
            total += max(0.0, other[token] - least_of_one)
        else:
            total += abs(one[token] - other[token])
    return total / len(tokens)
