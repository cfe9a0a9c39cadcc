"""What holds in any market: the floor, the bounds, one step back at a time, and no flapping, across crashes at any
moment and clocks that are set back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from npc_operator.api.capacity import Capacity
from npc_operator.domain.capacity import (
    CapacityDecision,
    CapacityFacts,
    CapacityState,
    SliceFact,
    decide_capacity,
    read_capacity,
    write_capacity,
)
from npc_operator.domain.replicas import Split, split_replicas
from tests.unit.domain.capacity.worlds import NOW

COUNTS = st.integers(0, 25)
TIMES = st.none() | st.floats(NOW - 5000, NOW + 5000)
CAPACITIES = st.builds(
    lambda base, percent, more, after, back, storm, window: Capacity.model_validate(
        {
            "onDemandBase": base,
            "onDemandPercentageAboveBase": percent,
            "overprovisionReplicas": 0 if percent == 100 else more,
            "fallback": {"afterSeconds": after, "returnAfterSeconds": back},
            "storm": {"interruptions": storm, "windowSeconds": window, "holdSeconds": 2 * window},
        }
    ),
    st.integers(0, 5),
    st.sampled_from([0, 0, 0, 20, 100]),
    st.integers(0, 3),
    st.sampled_from([1, 60, 300]),
    st.sampled_from([1, 120, 600]),
    st.sampled_from([None, 0, 2, 5]),
    st.sampled_from([60, 600]),
)


def slices() -> st.SearchStrategy[SliceFact]:
    return st.builds(
        SliceFact, desired=COUNTS, ready=COUNTS, starting=COUNTS, pending=COUNTS, oldest_pending=TIMES, leaving=COUNTS
    )


STATES = st.builds(
    CapacityState,
    mode=st.sampled_from(["Normal", "Fallback", "Returning", "Storm"]),
    since=st.floats(NOW - 5000, NOW + 5000),
    extra_on_demand=COUNTS,
    proven_spot=COUNTS,
    storm_until=TIMES,
    last_reversal=TIMES,
    last_return=TIMES,
    enough_since=TIMES,
    waiting_since=TIMES,
)


@given(
    wanted=COUNTS,
    max_replicas=COUNTS,
    capacity=CAPACITIES,
    spot=slices(),
    on_demand=slices(),
    before=st.none() | STATES,
    interruptions=st.lists(st.floats(NOW - 900, NOW + 900), max_size=30),
)
def test_no_facts_and_no_memory_break_the_floor_or_the_bounds(
    wanted: int,
    max_replicas: int,
    capacity: Capacity,
    spot: SliceFact,
    on_demand: SliceFact,
    before: CapacityState | None,
    interruptions: list[float],
) -> None:
    told = CapacityFacts(
        wanted=wanted,
        max_replicas=max_replicas,
        capacity=capacity,
        spot=spot,
        on_demand=on_demand,
        interruptions=tuple(interruptions),
        state=before,
    )
    decision = decide_capacity(told, NOW)
    check_bounds(told, decision)
    assert decision.wake_at is None or decision.wake_at > NOW


def check_bounds(told: CapacityFacts, decision: CapacityDecision) -> None:
    """What each single decision must keep, whatever came before."""
    assert told.spot is not None
    assert told.on_demand is not None
    assert decision.split is not None
    assert decision.state is not None
    floor = split_replicas(told.wanted, told.capacity)
    on_demand, spot = decision.split.on_demand - told.on_demand.leaving, decision.split.spot - told.spot.leaving
    assert floor.on_demand <= on_demand <= told.wanted
    more = told.capacity.overprovision_replicas
    assert 0 <= spot <= floor.spot + more
    alive = told.spot.ready + told.spot.starting
    limit = max(told.max_replicas, told.wanted) + 1
    assert on_demand + spot - more <= limit + told.on_demand.pending or spot <= alive
    # What serves is never asked to go before something else does.
    if decision.state.mode == "Storm":
        assert spot >= min(alive, floor.spot, told.wanted - told.on_demand.ready)
    else:
        assert spot >= min(alive, floor.spot)
    # Growth goes into what running and starting pods leave of maxReplicas; in a storm one further.
    before = 0 if told.state is None else max(0, min(told.state.extra_on_demand, floor.spot))
    if told.state is not None and on_demand > floor.on_demand + before:
        running = min(alive, floor.spot)
        assert on_demand + running <= limit - 1 + int(decision.state.mode == "Storm")


@dataclass(slots=True)
class Tier:
    """A tier in a market, moved by hypothesis: pods by phase, a clock that may be wrong, and a status."""

    capacity: Capacity
    wanted: int
    max_replicas: int
    time: float = NOW
    """True time; the operator reads `clock`."""
    skew: float = 0.0
    open: bool = True
    ready: int = 0
    starting: int = 0
    pending: list[float] = field(default_factory=list)
    leaving: int = 0
    on_demand: int = 0
    on_demand_ready: int = 0
    interruptions: list[float] = field(default_factory=list)
    status: CapacityState | None = None
    acted: Split | None = None

    @property
    def clock(self) -> float:
        return self.time + self.skew

    def look(self) -> CapacityFacts:
        return CapacityFacts(
            wanted=self.wanted,
            max_replicas=self.max_replicas,
            capacity=self.capacity,
            spot=SliceFact(
                desired=0 if self.acted is None else self.acted.spot,
                ready=self.ready,
                starting=self.starting,
                pending=len(self.pending),
                oldest_pending=min(self.pending, default=None),
                leaving=self.leaving,
            ),
            on_demand=SliceFact(
                desired=self.on_demand,
                ready=self.on_demand_ready,
                starting=self.on_demand - self.on_demand_ready,
            ),
            interruptions=tuple(self.interruptions),
            state=self.status,
        )

    def publish(self, decision: CapacityDecision) -> None:
        self.status = read_capacity(write_capacity(decision))

    def act(self, split: Split) -> None:
        self.acted = split
        self.on_demand = split.on_demand
        self.on_demand_ready = min(self.on_demand_ready, split.on_demand)
        while self.ready + self.starting + len(self.pending) + self.leaving > split.spot:
            if self.pending:
                self.pending.pop()
            elif self.starting:
                self.starting -= 1
            elif self.ready:
                self.ready -= 1
            else:
                break
        missing = split.spot - self.ready - self.starting - len(self.pending) - self.leaving
        self.pending += [self.clock] * max(0, missing)

    def pass_time(self, seconds: float) -> None:
        self.time += seconds
        if seconds >= 60:
            self.ready += self.starting
            self.starting = 0
            self.on_demand_ready = self.on_demand
        if seconds >= 30:
            self.leaving = 0
            if self.open:
                self.starting += len(self.pending)
                self.pending = []

    def interrupt(self, pods: int) -> None:
        pods = min(pods, self.ready)
        self.ready -= pods
        self.leaving += pods
        self.interruptions += [self.clock] * pods


SEEDS = st.integers(0, 2**32)
"""A market is long, or nothing ever returns: moves come from a seed, which hypothesis cannot cut short."""


def make_moves(seed: int, count: int = 120) -> list[tuple[str, int]]:
    """Mostly time that passes, in between a market that has a temper of its own."""
    chance = random.Random(seed)
    waits = chance.choice(((1, 20, 31, 61), (31, 61, 299), (61, 299, 601, 2000)))
    calm = chance.choice((2, 5, 12))
    moves = []
    for _ in range(count):
        if chance.random() * (calm + 1) > 1:
            moves.append(("wait", chance.choice(waits)))
        else:
            what = chance.choice(("interrupt", "interrupt", "crash", "market", "market", "wanted", "clock back"))
            amount = {
                "interrupt": chance.randint(1, 8),
                "crash": chance.randint(1, 4),
                "market": chance.randint(0, 1),
                "wanted": chance.randint(0, 15),
                "clock back": chance.choice((5, 700, 100_000)),
            }[what]
            moves.append((what, amount))
    return moves


FATES = ("ok", "ok", "ok", "ok", "ok", "killed early", "killed between", "blind")


@given(
    capacity=CAPACITIES,
    wanted=st.integers(0, 15),
    room=st.integers(0, 10),
    seed=SEEDS,
)
def test_no_market_makes_it_flap(capacity: Capacity, wanted: int, room: int, seed: int) -> None:
    tier = Tier(capacity, wanted, wanted + room)
    extra, rising = 0, False
    last_reversal = -1e18
    needed = True
    """Whether ready capacity was lost, or more is wanted, since the last return."""
    fates = random.Random(f"fates {seed}")
    for what, amount in make_moves(seed):
        move(tier, what, amount)
        # Interruptions noted before the clock was set back come round once more.
        needed |= what in ("interrupt", "crash", "wanted", "clock back")
        fate = fates.choice(FATES)
        told = tier.look()
        if fate == "blind":
            assert decide_capacity(replace(told, spot=None), tier.clock).split is None
            continue
        decision = decide_capacity(told, tier.clock)
        check_bounds(told, decision)
        if fate == "killed early":
            continue
        # What counts is what was published: nothing else is ever acted on, by whoever leads then.
        tier.publish(decision)
        assert decision.split is not None
        floor = split_replicas(tier.wanted, capacity)
        now_extra = decision.split.on_demand - floor.on_demand
        clipped = min(extra, floor.spot)
        if now_extra < clipped:
            assert now_extra == clipped - 1
            assert tier.ready >= floor.spot - now_extra
            if rising:
                assert tier.time - last_reversal >= 600
                last_reversal = tier.time
            rising, needed = False, False
        elif now_extra > clipped:
            assert needed
            if not rising:
                last_reversal = tier.time
            rising = True
        extra = now_extra
        if fate != "killed between":
            tier.act(decision.split)


def move(tier: Tier, what: str, amount: int) -> None:
    if what == "wait":
        tier.pass_time(amount)
    elif what == "interrupt":
        tier.interrupt(amount)
    elif what == "crash":
        crashed = min(amount, tier.ready)
        tier.ready -= crashed
        tier.starting += crashed
    elif what == "market":
        tier.open = bool(amount)
    elif what == "wanted":
        tier.wanted = amount
        tier.max_replicas = max(tier.max_replicas, amount)
    else:
        tier.skew -= amount
    if what != "wait":
        tier.time += 1


@given(capacity=CAPACITIES, wanted=st.integers(1, 15), seed=SEEDS)
def test_when_the_market_is_calm_again_the_tier_returns_to_its_floor(
    capacity: Capacity, wanted: int, seed: int
) -> None:
    tier = Tier(capacity, wanted, 2 * wanted)
    calm: list[tuple[str, int]] = [("market", 1), *[("wait", 700)] * 60]
    for what, amount in [*make_moves(seed, 40), *calm]:
        move(tier, what, amount)
        decision = decide_capacity(tier.look(), tier.clock)
        tier.publish(decision)
        assert decision.split is not None
        tier.act(decision.split)
    floor = split_replicas(tier.wanted, capacity)
    more = capacity.overprovision_replicas if floor.spot else 0
    assert tier.acted == Split(floor.on_demand, floor.spot + more)
    assert tier.status is not None
    assert tier.status.mode == "Normal"


@given(seed=SEEDS, capacity=CAPACITIES)
def test_ready_capacity_is_replaced_by_the_decision_that_sees_it_go(seed: int, capacity: Capacity) -> None:
    """Where maxReplicas leaves room, what was interrupted is on demand in the same decision."""
    tier = Tier(capacity, 12, 60)
    for what, amount in make_moves(seed):
        if what == "wanted":
            continue
        before: Any = tier.status
        known = len(tier.interruptions)
        move(tier, what, amount)
        struck = len(tier.interruptions) - known
        decision = decide_capacity(tier.look(), tier.clock)
        assert decision.split is not None
        floor = split_replicas(12, capacity)
        if what == "interrupt" and before is not None and before.proven_spot == floor.spot:
            gone = max(0, floor.spot - tier.ready)
            assert decision.split.on_demand >= floor.on_demand + min(gone, struck)
        tier.publish(decision)
        tier.act(decision.split)
