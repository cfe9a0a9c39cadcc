"""What must be resident on the pods of a tier, as the entries of a desired set.

An adapter contributes its stable digest and the digest its spec names, so a change of the spec reaches the agents
without waiting for any status to be written. Both come with all that is needed to load them again, and with the number
of the proof of identity that their rollout asks for. What is quarantined or was taken back is wanted nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from pydantic import SecretStr

from npc_operator.api.archetypeadapter import Revision, RolloutStatus, Variant, VariantStatus
from npc_operator.domain.facts import Adapter, AgentFact, Region
from npc_operator.domain.holdings import Held
from npc_operator.domain.placement import EVERYTHING_FITS, Claim, Placement, place
from npc_runtime.wire import AdapterPhase, DesiredAdapter, Probe, served_name

Credentials = Callable[[str], Mapping[str, str] | None]
"""Data of a Secret by name; None if it is unknown or does not exist."""

ANY_RANK = 512
"""The highest rank a variant can declare. What is only kept was let in under its variant's own rank; a lower one here
would make the agent refuse, and withdraw, what still serves."""

ON_THE_POD = frozenset({AdapterPhase.RESIDENT, AdapterPhase.DRAINING})


@dataclass(frozen=True, slots=True)
class Piece:
    """One adapter's part of one tier: what it wants there, ready to be put into desired sets."""

    adapter: str
    claim: Claim
    stable: DesiredAdapter | None
    candidate: DesiredAdapter | None
    """The digest being brought in; None where it is the stable one, or must not be brought in."""

    def served(self, placement: Placement) -> tuple[DesiredAdapter, ...]:
        """Its entries under a placement."""
        if placement.excludes(self.adapter):
            return ()
        candidate = None if self.stable is not None and self.adapter in placement.held_back else self.candidate
        return tuple(entry for entry in (self.stable, candidate) if entry is not None)


def wanted_revision(variant: Variant) -> Revision:
    """What the spec names."""
    source = variant.source
    return Revision(digest=source.digest, uri=source.uri, secret_ref=source.secret_ref, rank=variant.rank)


def variant_status(adapter: Adapter, tier: str) -> VariantStatus | None:
    """What is known of one tier's view of the voice."""
    return next((status for status in adapter.status.variants if status.tier == tier), None)


def build_piece(
    adapter: Adapter,
    variant: Variant,
    *,
    frozen: bool,
    barred: bool,
    credentials: Credentials,
    quarantined: Set[str] = frozenset(),
) -> Piece:
    """The adapter's part of the variant's tier.

    `frozen` (suspended, or something was not read yet): only what the status says. `barred`: the spec's digest has a
    fault, so only the stable one is wanted. `quarantined`: digests that must not be used, whatever the status still
    says.
    """
    status = variant_status(adapter, variant.tier)
    stable = status.stable if status is not None else None
    if stable is not None and stable.digest in quarantined:
        stable = None
    wanted = wanted_revision(variant)
    if frozen:
        newest = status.candidate if status is not None else None
    elif barred or (stable is not None and stable.digest == wanted.digest) or was_taken_back(status, wanted.digest):
        newest = None
    else:
        newest = wanted
    if newest is not None and newest.digest in quarantined:
        newest = None
    if stable is not None and stable.digest == wanted.digest and not frozen:
        stable = wanted  # the same bytes, possibly from a better place
    if newest is not None and stable is not None:
        name = served_name(adapter.spec.archetype, newest.digest)
        if name == served_name(adapter.spec.archetype, stable.digest):
            newest = None  # a clash of names is refused before any pod sees it
    rollout = pick_rollout(status, newest)
    check = 0 if rollout is None else rollout.check
    # A pod that comes up when everybody hears the candidate is of no use without it.
    takes_all = rollout is not None and rollout.percent == 100
    return Piece(
        adapter=adapter.meta.name,
        claim=Claim(
            adapter.meta.name,
            adapter.spec.importance,
            stable is not None,
            newest is not None,
            moving=rollout is not None and bool(rollout.since),
        ),
        stable=None if stable is None else build_entry(adapter, stable, credentials, serving=True, check=check),
        candidate=None if newest is None else build_entry(adapter, newest, credentials, serving=takes_all, check=check),
    )


def pick_quarantined(adapter: Adapter, region: Region | None) -> frozenset[str]:
    """Digests that the voice must not use."""
    common = () if region is None else region.spec.quarantined_digests
    return frozenset((*adapter.spec.quarantined_digests, *common))


def was_taken_back(status: VariantStatus | None, digest: str) -> bool:
    """Whether a digest is not to be tried again."""
    return status is not None and status.rejected is not None and status.rejected.digest == digest


def pick_rollout(status: VariantStatus | None, newest: Revision | None) -> RolloutStatus | None:
    """How far the digest being brought in is, unless the status speaks of another one."""
    if status is None or newest is None or status.candidate is None or status.candidate.digest != newest.digest:
        return None
    return status.rollout


def is_unsettled(adapter: Adapter, tier: str) -> bool:
    """Whether nothing is known to be stable on a tier, although no quarantine is the cause of that."""
    status = variant_status(adapter, tier)
    return status is None or (status.stable is None and status.serving in ("", "Stable", "LastGood"))


def build_entry(
    adapter: Adapter, revision: Revision, credentials: Credentials, *, serving: bool = False, check: int = 0
) -> DesiredAdapter:
    """One entry of a desired set. `check`: the proof of identity that is asked for."""
    data = credentials(revision.secret_ref.name) if revision.secret_ref is not None else None
    return DesiredAdapter(
        served_name=served_name(adapter.spec.archetype, revision.digest),
        archetype=adapter.spec.archetype,
        digest=revision.digest,
        uri=revision.uri,
        rank=max(1, revision.rank),
        importance=adapter.spec.importance,
        serving=serving,
        identity_check=check,
        probe=build_probe(adapter),
        credentials={key: SecretStr(value) for key, value in (data or {}).items()},
    )


def build_probe(adapter: Adapter) -> Probe:
    """The question that is put to every digest of a voice."""
    probe = adapter.spec.probe
    return Probe(
        prompt=probe.prompt,
        max_tokens=probe.max_tokens,
        must_match=probe.must_match,
        must_not_match=probe.must_not_match,
        timeout_seconds=probe.timeout_seconds,
    )


def pick_kept(
    agent: AgentFact,
    wanted: Set[str],
    *,
    routed: Callable[[str], bool],
    unsettled: Callable[[str], bool],
) -> tuple[Held, ...]:
    """What is on a pod, is wanted by no adapter, and must stay for now.

    `routed` says whether a gateway may still send lines to a served name: traffic leaves before the adapter does.
    `unsettled` says whether an archetype has no stable digest on this tier, so that what is resident may turn out to be
    it (a lost status).
    """
    # The few that are left over are found without a step for each of a thousand.
    unwanted = sorted(agent.adapters.entries.keys() - wanted)
    return tuple(
        held
        for held in map(agent.adapters.entries.__getitem__, unwanted)
        if held.phase in ON_THE_POD and (routed(held.served_name) or unsettled(held.archetype))
    )


def fit_kept(
    pick: Callable[[Set[str]], tuple[Held, ...]],
    beside: Callable[[int], tuple[DesiredAdapter, ...]],
) -> tuple[tuple[Held, ...], tuple[DesiredAdapter, ...]]:
    """What a pod keeps, and what it is asked for beside that.

    `pick` says what is kept beside a set of wanted names, `beside` gives the wanted entries where so many slots are
    kept. What is kept may push out others that must be kept then: the two are asked until they agree, so that nothing
    falls between them. More that is kept never makes more wanted, so they do.
    """
    kept: tuple[Held, ...] = ()
    while True:
        entries = beside(len(kept))
        wider = pick(frozenset(entry.served_name for entry in entries))
        if len(wider) <= len(kept):
            return kept, entries
        kept = wider


def keep_entry(report: Held, uri: str) -> DesiredAdapter:
    """An entry that asks the agent to leave alone what it has; `uri` may be empty where nobody knows it any more."""
    return DesiredAdapter(
        served_name=report.served_name,
        archetype=report.archetype,
        digest=report.digest,
        uri=uri,
        rank=ANY_RANK,
        importance="Critical",
    )


def differ_in_marks_alone(one: Sequence[DesiredAdapter], other: Sequence[DesiredAdapter]) -> bool:
    """Whether two sets ask for the same bytes in the same way, and only say otherwise what traffic goes to."""
    return len(one) == len(other) and all(
        mine is its or mine.model_copy(update={"serving": its.serving}) == its
        for mine, its in zip(one, other, strict=True)
    )


def share_pod(
    pieces: Sequence[Piece], agent: AgentFact, placement: Placement, *, slots: int, taken: int
) -> tuple[DesiredAdapter, ...]:
    """The desired set of one pod that holds these alone, of `slots` slots of which `taken` have what is only kept.

    A voice that the pod does not have yet is brought in by its stable digest first, and its candidate follows.
    """
    here = {name for name, held in agent.adapters.entries.items() if held.phase in ON_THE_POD}
    claims = []
    for piece in pieces:
        has = piece.stable is not None and piece.stable.served_name in here
        waits = piece.adapter in placement.held_back
        more = not has or (piece.candidate is not None and not waits)
        claims.append(replace(piece.claim, stable=has, candidate=more))
    fits = sum(claim.stable + claim.candidate for claim in claims) + taken <= slots
    local = EVERYTHING_FITS if fits else place(claims, slots=slots, taken=taken)
    entries: list[DesiredAdapter] = []
    for piece, claim in zip(pieces, claims, strict=True):
        if piece.adapter in local.left_out:
            continue
        wanted = [entry for entry in (piece.stable, piece.candidate) if entry is not None]
        both = claim.stable and claim.candidate and piece.adapter not in local.held_back
        entries += wanted if both else wanted[:1]
    return tuple(entries)


def collect_entries(pieces: Iterable[Piece], placement: Placement) -> tuple[DesiredAdapter, ...]:
    """The desired set of every pod of a tier, before what a pod must keep for a while."""
    return tuple(entry for piece in pieces for entry in piece.served(placement))
