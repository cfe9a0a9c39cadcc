"""The adapters of one namespace, broken down by tier and kept up to date one adapter at a time.

With a thousand adapters, what one pod must hold is asked again after every change of any of them. So each adapter's
part is built once and kept until that adapter, or something it depends on, changes; a tier's whole set is then a walk
over ready-made parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from npc_operator.domain.desired import Piece, collect_entries, share_pod
from npc_operator.domain.facts import Adapter, AgentFact, Pod, Region, SecretFact, Tier
from npc_operator.domain.interruption.tier_view import TierInterruptions, covering_pods
from npc_operator.domain.placement import EVERYTHING_FITS, Claim, Placement, place
from npc_operator.domain.region import pick_active_region, pick_holder
from npc_operator.domain.spreading import Seat, list_seats, must_spread, sits, spread
from npc_operator.loop.store import Change, Store
from npc_operator.reconcilers.roster_parts import Part, Parts
from npc_runtime.wire import Alias, DesiredAdapter


@dataclass(slots=True)
class TierRoster:
    """All parts of one tier by adapter, with what follows from them; derived values are dropped whenever a part
    changes.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    entries: tuple[DesiredAdapter, ...] | None = None
    placement: Placement | None = None
    names: frozenset[str] | None = None


class Roster:
    """The adapters of one namespace. Reads the store; is told of changes and catches up when asked."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._tiers: dict[str, TierRoster] = {}
        self._archetypes: dict[str, set[str]] = {}
        self._known: dict[str, Adapter] = {}
        self._dirty: set[str] = set()
        self._everything = True
        self._parts = Parts(store, namespace)
        self._homes: dict[str, dict[str, frozenset[str]]] = {}
        """By tier: pods by served name, where pods do not all hold the same."""
        self._aliases: tuple[Alias, ...] | None = None
        self._unrouted: frozenset[tuple[str, str]] = frozenset()
        """(tier, adapter) of those that the aliases were made without."""
        self.version = 0
        """Grows with every change of any part: what is derived from the roster may be kept until then."""

    # --- being told ---

    def note(self, change: Change) -> None:
        """A fact of this namespace changed; only remembers what to look at again."""
        if change.kind is Adapter:
            self._dirty.add(change.name)
        elif change.kind is Region or change.kind is Tier:
            if change.old is None or change.new is None or _shape(change.old) != _shape(change.new):
                self._everything = True
        elif change.kind is SecretFact:
            self._everything = True
        elif change.kind is TierInterruptions:
            if covering_pods(change.old) != covering_pods(change.new):
                self._move(change.name)
        elif change.kind is Pod and sits(change.old) != sits(change.new):
            for tier in {pod.tier for pod in (change.old, change.new) if pod is not None}:
                self._move(tier)

    # --- being asked ---

    def part(self, tier: str, adapter: str) -> Part | None:
        """One adapter's part of one tier."""
        self._catch_up()
        roster = self._tiers.get(tier)
        return None if roster is None else roster.parts.get(adapter)

    def entries(self, tier: str) -> tuple[DesiredAdapter, ...]:
        """The desired set of every pod of a tier; the same object as long as nothing changed."""
        self._catch_up()
        roster = self._tiers.get(tier)
        if roster is None:
            return ()
        if roster.entries is None:
            roster.entries = collect_entries(_pieces(roster), self.placement(tier))
        return roster.entries

    def share_of(self, tier: str, pod: str, agent: AgentFact, kept: int) -> tuple[DesiredAdapter, ...]:
        """The desired set of one pod, where pods of the tier do not all hold the same, or `kept` slots are taken by
        what is on its way out. What the pod does not have waits for a slot, what is there keeps its own."""
        placement, found = self.placement(tier), self._store.get(Tier, self._namespace, tier)
        pieces = [piece for piece in self.pieces(tier) if not placement.excludes(piece.adapter)]
        mine = [piece for piece in pieces if placement.holds(piece.adapter, pod)]
        slots = 0 if found is None else found.spec.engine.max_cpu_loras
        return share_pod(mine, agent, placement, slots=slots, taken=kept)

    def placed_on(self, tier: str, served_name: str) -> frozenset[str] | None:
        """Pods on which an adapter belongs that is wanted under a served name; None: it is wanted nowhere."""
        if self._homes.get(tier) is None:
            where = self.placement(tier).where or {}
            self._homes[tier] = {
                entry.served_name: where[piece.adapter]
                for piece in self.pieces(tier)
                for entry in (piece.stable, piece.candidate)
                if entry is not None and piece.adapter in where
            }
        return self._homes[tier].get(served_name)

    def pieces(self, tier: str) -> list[Piece]:
        """What each adapter wants on a tier."""
        self._catch_up()
        roster = self._tiers.get(tier)
        return [] if roster is None else _pieces(roster)

    def names(self, tier: str) -> frozenset[str]:
        """Served names in `entries(tier)`."""
        entries = self.entries(tier)
        roster = self._tiers.get(tier)
        if roster is None:
            return frozenset()
        if roster.names is None:
            roster.names = frozenset(entry.served_name for entry in entries)
        return roster.names

    def placement(self, tier: str) -> Placement:
        """Which adapters fit the tier."""
        self._catch_up()
        roster = self._tiers.get(tier)
        if roster is None:
            return EVERYTHING_FITS
        if roster.placement is None:
            roster.placement = self._place(tier, roster)
        return roster.placement

    def aliases(self) -> tuple[Alias, ...]:
        """Every archetype on every tier that has a stable digest and a slot, or had one that is quarantined, by tier
        and archetype; the same object while nothing changed. What has no slot leaves the routes here, and its pods once
        no gateway uses it.
        """
        self._catch_up()
        unrouted = frozenset((tier, name) for tier in self._tiers for name in self.placement(tier).left_out)
        if self._aliases is None or unrouted != self._unrouted:
            self._unrouted = unrouted
            found = [
                part.alias
                for tier, roster in self._tiers.items()
                for name, part in roster.parts.items()
                if part.alias is not None and (tier, name) not in unrouted
            ]
            self._aliases = tuple(sorted(found, key=lambda alias: (alias.tier, alias.archetype)))
        return self._aliases

    def unsettled(self, tier: str, archetype: str) -> bool:
        """Whether the voice that holds an archetype has no stable digest on a tier it is wanted on."""
        self._catch_up()
        roster = self._tiers.get(tier)
        if roster is None:
            return False
        parts = (roster.parts.get(name) for name in self._archetypes.get(archetype, ()))
        return any(part is not None and part.unsettled for part in parts)

    def count(self, tier: str) -> int:
        """Adapters wanted on a tier."""
        self._catch_up()
        roster = self._tiers.get(tier)
        return 0 if roster is None else sum(part.piece is not None for part in roster.parts.values())

    def uri_of(self, archetype: str, digest: str) -> str:
        """Where a digest that nobody wants any more came from, as far as histories remember."""
        for name in self._archetypes.get(archetype, ()):
            adapter = self._known.get(name)
            for variant in adapter.status.variants if adapter is not None else ():
                for entry in variant.history:
                    if entry.digest == digest:
                        return entry.uri
        return ""

    # --- keeping up ---

    def _place(self, tier: str, roster: TierRoster) -> Placement:
        found = self._store.get(Tier, self._namespace, tier)
        if found is None:
            return EVERYTHING_FITS
        slots = found.spec.engine.max_cpu_loras
        claims = [piece.claim for piece in _pieces(roster)]
        if sum(claim.stable + claim.candidate for claim in claims) <= slots:
            return EVERYTHING_FITS
        seats = list_seats(self._store.list(Pod, self._namespace).values(), tier)
        if not seats:
            return EVERYTHING_FITS  # pods that are still to come may hold it all: no call for anybody yet
        covering = covering_pods(self._store.get(TierInterruptions, self._namespace, tier))
        staying = [seat for seat in seats if seat.pod not in covering]
        placement = _lay_out(claims, seats, slots)
        if not staying or len(staying) == len(seats):
            return placement
        # Pods that go away hold nothing any more, unless somebody's voice would have no place at all without them.
        without = _lay_out(claims, staying, slots)
        return without if without.left_out <= placement.left_out else placement

    def _move(self, tier: str) -> None:
        """What belongs where on a tier may be another."""
        roster = self._tiers.get(tier)
        if roster is not None:
            roster.entries = roster.placement = roster.names = None
            self._homes.pop(tier, None)
            self.version += 1

    def _catch_up(self) -> None:
        if self._everything:
            self._everything = False
            self._dirty = set(self._store.list(Adapter, self._namespace)) | set(self._known)
            for tier in self._tiers:
                self._move(tier)  # its slots may have changed
        while self._dirty:
            dirty, self._dirty = self._dirty, set()
            siblings: set[str] = set()
            region = pick_active_region(self._store.list(Region, self._namespace).values())
            for name in dirty:
                siblings |= self._register(name)
            for name in dirty | siblings:
                self._refresh(name, region)

    def _register(self, name: str) -> set[str]:
        """Note who wants which archetype; returns the others that want what this one wants or wanted."""
        adapter = self._store.get(Adapter, self._namespace, name)
        before = self._known.get(name)
        touched: set[str] = set()
        if before is not None and (adapter is None or adapter.spec.archetype != before.spec.archetype):
            holders = self._archetypes.get(before.spec.archetype, set())
            holders.discard(name)
            touched |= holders
            if not holders:
                self._archetypes.pop(before.spec.archetype, None)
        if adapter is None:
            self._known.pop(name, None)
            return touched
        self._known[name] = adapter
        holders = self._archetypes.setdefault(adapter.spec.archetype, set())
        if name not in holders:
            holders.add(name)
        if len(holders) > 1:
            touched |= holders
        return touched - {name}

    def _refresh(self, name: str, region: Region | None) -> None:
        adapter = self._known.get(name)
        built: dict[str, Part] = {}
        if adapter is not None:
            holder = pick_holder(self._known[other] for other in self._archetypes[adapter.spec.archetype])
            for variant in adapter.spec.variants:
                built[variant.tier] = self._parts.build(adapter, variant, region, holder.meta.name if holder else "")
        for tier in {*self._tiers, *built}:
            roster = self._tiers.setdefault(tier, TierRoster())
            old, new = roster.parts.get(name), built.get(tier)
            if old == new:
                continue
            if new is None:
                del roster.parts[name]
            else:
                roster.parts[name] = new
            if (old.piece if old else None) != (new.piece if new else None):
                self._move(tier)
            if (old.alias if old else None) != (new.alias if new else None):
                self._aliases = None
            self.version += 1


def _lay_out(claims: Sequence[Claim], seats: Sequence[Seat], slots: int) -> Placement:
    if must_spread(claims, seats=len(seats), slots=slots):
        return spread(claims, seats, slots=slots)
    return place(claims, slots=slots)


def _pieces(roster: TierRoster) -> list[Piece]:
    return [part.piece for part in roster.parts.values() if part.piece is not None]


def _shape(fact: Region | Tier) -> object:
    """What of a region or tier matters to adapters: everything but its status."""
    return (fact.spec, fact.meta.uid, fact.meta.creation_timestamp, fact.meta.deletion_timestamp)
