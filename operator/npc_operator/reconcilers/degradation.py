"""What the gateways tell of degraded voices, over all of them and over time: the level that a voice's status says.

The status is what the next leader goes on from, so a level is one Event however many gateways tell it and whoever
leads. Kept here is only since when a level is told no more, and how quiet a voice that flaps has to be; a new leader
gives every level a whole quiet time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from npc_operator.api.archetypeadapter import Degradation
from npc_operator.domain.conditions import clip, rfc3339
from npc_operator.domain.degradation import (
    CALM_SECONDS,
    LEVELS,
    LONGEST_CALM_SECONDS,
    Level,
    Rung,
    describe_answer,
    describe_cause,
    find_obstacle,
    is_forgotten,
    next_calm,
    pick_level,
)
from npc_operator.domain.desired import variant_status
from npc_operator.domain.doors import may_serve
from npc_operator.domain.facts import Adapter, GatewayFact, Region, Tier
from npc_operator.domain.fallbacks import pick_fallbacks
from npc_operator.domain.region import pick_holder, selects, tier_population
from npc_operator.domain.replicas import decide_replicas
from npc_operator.domain.rollout import STAND_INS
from npc_operator.ports import Clock
from npc_operator.reconcilers import events
from npc_operator.reconcilers.changes import archetype_of
from npc_operator.reconcilers.routebook import RouteBook
from npc_operator.reconcilers.world import World
from npc_runtime.wire import DegradedReport, served_name

MESSAGE_LIMIT = 512
Words = Mapping[str, frozenset[tuple[str, Level]]]
"""(tier, level) by archetype."""


@dataclass(slots=True)
class _Case:
    """One voice on one tier."""

    level: Level | None
    """What was made of it last."""
    told: frozenset[Level] = frozenset()
    ended: dict[Level, float] = field(default_factory=dict)
    """Since when levels are told no more."""
    calm: float = CALM_SECONDS
    better_since: float | None = None
    """When it last came up, wholly or by a level."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a voice came to."""

    degraded: tuple[Degradation, ...] = ()
    """What its status should say."""
    told: tuple[events.Event, ...] = ()
    """What changed since the status that is known."""
    again: float | None = None
    """Seconds until to look again."""


class DegradationWatch:
    """Levels of all voices. Lives as long as one leadership."""

    def __init__(self, world: World, routes: RouteBook, clock: Clock) -> None:
        self._world = world
        self._routes = routes
        self._clock = clock
        self._cases: dict[tuple[str, str], dict[str, _Case]] = {}
        self._words: dict[tuple[str, str], tuple[tuple[DegradedReport, ...], Words]] = {}
        """By gateway pod: what it told, and the same by archetype."""

    def look(self, adapter: Adapter) -> Look:
        """Where one voice stands now."""
        namespace, name = adapter.meta.namespace, adapter.meta.name
        told = self._gather(namespace, adapter.spec.archetype)
        known = {one.tier: one for one in adapter.status.degraded}
        if not told and not known and (namespace, name) not in self._cases:
            return Look()
        region = self._world.active_region(namespace)
        if region is None or not self._speaks(adapter, region):
            self.forget(namespace, name)
            return Look()
        cases = self._cases.setdefault((namespace, name), {})
        found: list[Degradation] = []
        news: list[events.Event] = []
        again: list[float] = []
        for tier in (entry.tier for entry in region.spec.tiers):
            levels, before = told.get(tier, frozenset()), known.get(tier)
            case = cases.get(tier)
            if case is None:
                if not levels and before is None:
                    continue
                case = cases[tier] = self._open(before)
            chain = self._chain(adapter, region, tier)
            after = self._follow(case, levels, chain, region)
            if after is not None:
                again.append(after)
            entry = None if case.level is None else self._describe(adapter, case.level, chain, before)
            if entry is not None:
                found.append(entry)
            news += describe_change(adapter.spec.archetype, tier, before, entry)
            if case.level is None and not levels and is_forgotten(case.calm, over_for=self._over_for(case)):
                del cases[tier]
        if not cases:
            self.forget(namespace, name)
        return Look(tuple(found), tuple(news), min(again, default=None))

    def forget(self, namespace: str, name: str) -> None:
        """The voice is gone, or nobody asks for it."""
        self._cases.pop((namespace, name), None)

    def _open(self, before: Degradation | None) -> _Case:
        """Of a level that an earlier leader left nobody knows how long it is quiet."""
        if before is None:
            return _Case(None)
        return _Case(before.level, ended={before.level: self._clock.monotonic()})

    def _follow(self, case: _Case, told: frozenset[Level], chain: list[Rung], region: Region) -> float | None:
        """Bring one case to what is told now; seconds until to look again."""
        now = self._clock.monotonic()
        for ended in case.told - told:
            case.ended[ended] = now
        for renewed in told:
            case.ended.pop(renewed, None)
        case.told = told
        # Where it has no variant it cannot come back by itself, and nobody may ask for it there again.
        calm = case.calm if chain[0].variant else LONGEST_CALM_SECONDS
        level, again = pick_level(told, case.ended, calm=calm, now=now)
        if level is None and case.level is not None:
            obstacle = find_obstacle(chain[0]) if chain[0].variant else ""
            unknown = obstacle is None or not self._all_heard(region)
            if unknown or obstacle:
                level, again = case.level, CALM_SECONDS if unknown else None  # the end of an obstacle is news
        if _rank(level) > _rank(case.level):
            case.calm = next_calm(case.calm, over_for=self._over_for(case))
        elif _rank(level) < _rank(case.level):
            case.better_since = now
        case.level = level
        return again

    def _over_for(self, case: _Case) -> float | None:
        return None if case.better_since is None else self._clock.monotonic() - case.better_since

    def _describe(self, adapter: Adapter, level: Level, chain: list[Rung], before: Degradation | None) -> Degradation:
        same = before is not None and before.level == level
        if before is not None and same and find_obstacle(chain[0]) is None:
            return before  # what is not known yet is no news
        cause = describe_cause(level, chain, has_prompt=bool(adapter.spec.persona.system_prompt))
        return Degradation(
            tier=chain[0].tier,
            level=level,
            since=before.since if before is not None and same else rfc3339(self._clock.now()),
            message=clip(f"answered by {describe_answer(level, chain)}: {cause}", MESSAGE_LIMIT),
        )

    def _gather(self, namespace: str, archetype: str) -> dict[str, frozenset[Level]]:
        """Levels by tier, over all gateways. What one that is not heard now said last still counts."""
        found: dict[str, frozenset[Level]] = {}
        for pod, fact in self._world.store.list(GatewayFact, namespace).items():
            if fact.degraded:
                for tier, level in self._index(namespace, pod, fact.degraded).get(archetype, ()):
                    found[tier] = found.get(tier, frozenset()) | {level}
            elif self._words:
                self._words.pop((namespace, pod), None)
        return found

    def _index(self, namespace: str, pod: str, said: tuple[DegradedReport, ...]) -> Words:
        known = self._words.get((namespace, pod))
        if known is not None and known[0] is said:
            return known[1]
        words: dict[str, frozenset[tuple[str, Level]]] = {}
        for one in said:
            if one.level in LEVELS:  # of a newer gateway it may be none of these
                words[one.archetype] = words.get(one.archetype, frozenset()) | {(one.tier, one.level)}
        for space, name in list(self._words):
            if space == namespace and self._world.store.get(GatewayFact, space, name) is None:
                del self._words[space, name]
        self._words[namespace, pod] = (said, words)
        return words

    def _speaks(self, adapter: Adapter, region: Region) -> bool:
        """Whether the region's gateways answer for the archetype by this very object."""
        store, namespace = self._world.store, adapter.meta.namespace
        names = store.having(Adapter, namespace, archetype_of, adapter.spec.archetype)
        holder = pick_holder(found for name in names if (found := store.get(Adapter, namespace, name)) is not None)
        return (
            holder is not None and holder.meta.name == adapter.meta.name and selects(region.spec, adapter.meta.labels)
        )

    def _all_heard(self, region: Region) -> bool:
        """Whether every gateway that may serve is heard: silence is no good news."""
        for door in self._world.doors(region.meta.namespace, region.meta.name):
            heard = door.fact is not None and door.fact.reachable
            if not heard and may_serve(door.pod, heard=door.fact is not None) and not self._routes.is_gone(door):
                return False
        return True

    def _chain(self, adapter: Adapter, region: Region, tier: str) -> list[Rung]:
        """The tier and its fallbacks."""
        named = {entry.tier for entry in region.spec.tiers}
        links = pick_fallbacks(self._world.fallback_links(adapter.meta.namespace), named=named)
        chain = [self._rung(adapter, region, tier)]
        while (tier := links.get(tier, "")) and len(chain) < len(named):
            chain.append(self._rung(adapter, region, tier))
        return chain

    def _rung(self, adapter: Adapter, region: Region, name: str) -> Rung:
        namespace = adapter.meta.namespace
        tier, status = self._world.store.get(Tier, namespace, name), variant_status(adapter, name)
        stable = None if status is None else status.stable
        return Rung(
            tier=name,
            variant=any(variant.tier == name for variant in adapter.spec.variants),
            exists=tier is not None,
            quarantined=status is not None and status.serving in STAND_INS,
            served_name="" if stable is None else served_name(adapter.spec.archetype, stable.digest),
            wanted=0 if tier is None else decide_replicas(tier.spec, tier_population(region.spec, name)),
            engines=self._world.engines(namespace, name),
        )


def describe_change(
    archetype: str, tier: str, before: Degradation | None, after: Degradation | None
) -> Iterator[events.Event]:
    """An Event where the level of one tier changes."""
    old = None if before is None else before.level
    new = None if after is None else after.level
    if after is not None and _rank(new) > _rank(old):
        yield events.degraded(archetype, after)
    elif after is not None and old != new:
        yield events.less_degraded(archetype, after)
    elif after is None and before is not None:
        yield events.not_degraded(archetype, tier)


def _rank(level: Level | None) -> int:
    """How far down; -1 for not at all."""
    return -1 if level is None else LEVELS.index(level)
