"""What three accounts of a first token say about a served name: the adapter's at load and now, and the base model's.

The base model's is that of the time of the load. It cannot change within an engine process, and asked among lines of
adapters some engines tell it wrongly (vLLM 0.32 on a CPU gives such a request the adapter in its last slot).
"""

from __future__ import annotations

from .logprobs import DISTINCT, NOISE, FirstToken, distance

UNTOLD = "the engine tells no log-probabilities, so identity rests on the folder and the engine's root alone"
"""Said where an engine was started so that it tells none (`--max-logprobs 0`, some parsers)."""


def note_of(adapter: FirstToken, base: FirstToken) -> str:
    """What to say of an adapter that the probe's first token does not tell from the base model; empty if it does.

    That is no fault: an adapter may change nothing (B is all zeros before training), or nothing at this place.
    """
    apart = distance(adapter, base)
    if apart >= DISTINCT:
        return ""
    return (
        f"the probe's first token does not tell it from the base model (log-probabilities {apart:.2f} apart, "
        f"{DISTINCT} are needed), so identity rests on its being as at load"
    )


def mismatch_of(*, at_load: FirstToken, now: FirstToken, base: FirstToken, distinct: bool) -> str:
    """Which of the proofs by log-probabilities fails now, in words; empty when they hold. `distinct`: at load it was
    told from the base model.
    """
    if distinct and (apart := distance(now, base)) <= NOISE:
        return (
            f"the engine answers like the base model: first-token log-probabilities are {apart:.2f} apart, up to "
            f"{NOISE} is noise"
        )
    if (apart := distance(now, at_load)) > NOISE:
        return (
            f"the engine does not answer as at load: first-token log-probabilities are {apart:.2f} apart, up to "
            f"{NOISE} is noise"
        )
    return ""
