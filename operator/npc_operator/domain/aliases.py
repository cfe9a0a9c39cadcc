"""Where one archetype's traffic on one tier goes: to its stable digest, or shared with a candidate that takes over.

Made from what is published alone, so that gateways never hear of a step that the status does not know; what the spec
has come to forbid or to want no more is taken out at once, without waiting for the status to say so.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from npc_operator.api.archetypeadapter import Variant
from npc_operator.api.rollouts import Rollout
from npc_operator.domain.desired import build_probe, pick_rollout, variant_status, wanted_revision
from npc_operator.domain.facts import Adapter
from npc_operator.domain.rollout import STAND_INS
from npc_runtime.wire import NPC_BUCKETS, Alias, AliasRollout, Guard, Override, Probe, Target, served_name


@dataclass(frozen=True, slots=True)
class Candidate:
    """A digest that takes over, and how far it is."""

    digest: str
    percent: int
    below: int
    """NPCs in lower hash buckets get it."""
    spec: Rollout
    """What it is watched by, and whose NPCs are pinned."""
    probe: Probe | None = None
    """The question that gateways ask both digests while too few players speak."""
    attempt: int = 0
    """Which try of bringing a digest in this is."""


def pick_alias(
    adapter: Adapter, variant: Variant, *, frozen: bool, quarantined: Set[str] = frozenset()
) -> Alias | None:
    """The alias of one variant; None while nothing was ever stable, so that there is nothing to say of it.

    `frozen` (suspended): the candidate stays although the spec names another. `quarantined`: digests that must not be
    used, whatever the status still says.
    """
    status = variant_status(adapter, variant.tier)
    if status is None or (status.stable is None and status.serving not in STAND_INS):
        return None
    stable = "" if status.stable is None or status.serving in STAND_INS else status.stable.digest
    archetype = adapter.spec.archetype
    if not stable or stable in quarantined:
        return build_alias(archetype, variant.tier, "")
    newest = status.candidate if frozen else wanted_revision(variant)
    rollout = pick_rollout(status, newest)
    if newest is None or rollout is None or not rollout.since or newest.digest in quarantined:
        return build_alias(archetype, variant.tier, stable)
    candidate = Candidate(
        digest=newest.digest,
        percent=rollout.percent,
        below=rollout.below,
        spec=adapter.spec.rollout,
        probe=build_probe(adapter) if rollout.phase == "Probing" else None,
        attempt=status.attempt,
    )
    return build_alias(archetype, variant.tier, stable, candidate)


def build_alias(archetype: str, tier: str, digest: str, candidate: Candidate | None = None) -> Alias:
    """An alias for one digest, shared with a candidate if there is one. Without a digest the archetype is known, and
    has no adapter there that may be used.
    """
    if not digest:
        return Alias(archetype=archetype, tier=tier, targets=())
    share = 0 if candidate is None else candidate.percent
    stable = Target(served_name=served_name(archetype, digest), digest=digest, percent=100 - share)
    if candidate is None:
        return Alias(archetype=archetype, tier=tier, targets=(stable,))
    name = served_name(archetype, candidate.digest)
    newest = Target(served_name=name, digest=candidate.digest, percent=share)
    return Alias(archetype=archetype, tier=tier, targets=(stable, newest), rollout=build_share(candidate))


def build_share(candidate: Candidate) -> AliasRollout:
    """Which NPCs get the candidate, and by what gateways watch it. Those it is compared with are as many, right above:
    that they hear the stable digest is the only difference.
    """
    analysis = candidate.spec.analysis
    return AliasRollout(
        attempt=candidate.attempt,
        candidate_below=candidate.below,
        control_below=min(NPC_BUCKETS, 2 * candidate.below),
        overrides=tuple(
            Override(
                npc=pinned.npc or pinned.npc_prefix or "",
                prefix=pinned.npc is None,
                candidate=pinned.to == "Candidate",
            )
            for pinned in candidate.spec.overrides
        ),
        # Without analysis.minRequests: that is how many answers a step waits for before it is good enough, and bad
        # enough may be known by the third.
        guard=Guard(max_error_percent=analysis.max_error_percent),
        slower_percent=analysis.max_slower_percent,
        first_token_milliseconds=analysis.max_first_token_milliseconds,
        probe=candidate.probe,
    )
