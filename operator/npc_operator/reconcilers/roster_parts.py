"""One adapter's part of one tier: the verdict about its variant, and what it contributes to what pods should hold and
to what lines may ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from npc_operator.api.archetypeadapter import Variant
from npc_operator.domain.adapter import Check, VariantFacts, check_variant, suspended_by
from npc_operator.domain.aliases import pick_alias
from npc_operator.domain.desired import Piece, build_piece, is_unsettled, pick_quarantined
from npc_operator.domain.facts import Adapter, Region, SecretFact, Tier
from npc_operator.loop.slim import Pool, share
from npc_operator.loop.store import Store
from npc_runtime.wire import Alias, DesiredAdapter, Probe


@dataclass(frozen=True, slots=True)
class Part:
    """One variant of one adapter: the verdict about it, and what it contributes."""

    variant: Variant
    check: Check
    piece: Piece | None
    alias: Alias | None
    unsettled: bool = False
    """Nothing is known to be stable, so that what pods have of it may turn out to be."""


class Parts:
    """Builds the parts of one namespace, with what is alike in them kept once."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._probes: Pool[Probe] = Pool(lambda probe: probe.prompt)

    def build(self, adapter: Adapter, variant: Variant, region: Region | None, holder: str) -> Part:
        """What one variant is now. `holder`: the adapter that has the archetype, by name; empty if none has."""
        tier = self._store.get(Tier, self._namespace, variant.tier)
        reference = variant.source.secret_ref
        secret = None if reference is None else self._store.get(SecretFact, self._namespace, reference.name)
        facts = VariantFacts(adapter=adapter, variant=variant, holder=holder, region=region, tier=tier, secret=secret)
        check = check_variant(facts)
        if not check.usable():
            return Part(variant, check, None, None)
        frozen = suspended_by(adapter, tier, region) is not None
        quarantined = pick_quarantined(adapter, region)
        piece = self._slim(
            build_piece(
                adapter,
                variant,
                # A new leader has read no Secret at first: until it has, pods keep what the status says.
                frozen=frozen or check.unread is not None,
                barred=not check.may_load(),
                credentials=self._credentials,
                quarantined=quarantined,
            )
        )
        alias = pick_alias(adapter, variant, frozen=frozen, quarantined=quarantined)
        return Part(
            variant=variant,
            check=check,
            piece=piece,
            alias=None if alias is None else share(alias),
            unsettled=is_unsettled(adapter, variant.tier),
        )

    def _slim(self, piece: Piece) -> Piece:
        """The same, with what is alike in a thousand entries kept once."""
        return replace(piece, stable=self._slim_entry(piece.stable), candidate=self._slim_entry(piece.candidate))

    def _slim_entry(self, entry: DesiredAdapter | None) -> DesiredAdapter | None:
        if entry is None:
            return None
        # Most voices are asked the same question.
        return share(entry.model_copy(update={"probe": self._probes.shared(entry.probe)}))

    def _credentials(self, name: str) -> Mapping[str, str] | None:
        secret = self._store.get(SecretFact, self._namespace, name)
        return None if secret is None else secret.data
