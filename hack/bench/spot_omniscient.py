"""What a policy would pay that knows every interruption in advance: the yardstick for ours.

The idea is that of Mao et al., "SkyServe: Serving AI Models across Regions and Clouds with Spot Instances" (arXiv
2411.01438), who solve an integer program over a recorded trace. Here: the same on-demand floor as ours, and each other
replica is held by spot nodes one after the other. The next is the one that lasts longest of those that can be taken one
start (reaction, node, engine) before the present one is interrupted, paid from then on; where there is none, on demand
until a spot node can be ready. It never overprovisions nor waits, leaves a node at its interruption, and serves
everything. Taking what lasts longest gives one replica the fewest starts; replicas choose in turn, so it is no proven
optimum. Where no zone goes out it pays at most 2% more than if starts cost nothing.

The goal allows some unavailability. What that could save at most (its share of the demand, at the on-demand price) is
taken off its cost.
"""

from __future__ import annotations

import math

from hack.bench.spot_market import SPOT_PRICE, Outcome, World
from hack.bench.spot_trace import Market, Slot
from npc_operator.api.capacity import Capacity
from npc_operator.domain.replicas import Split, split_replicas


def play_omniscient(world: World, market: Market, capacity: Capacity, *, slack: float, floor: bool = True) -> Outcome:
    """`slack`: the unavailability that the goal allows; `floor` False leaves out the floor as well."""
    split = split_replicas(world.replicas, capacity) if floor else Split(0, world.replicas)
    held: dict[tuple[int, int], set[float]] = {}
    paid_spot = paid_on_demand = 0.0
    for _ in range(split.spot):
        spot, on_demand = _cover(world, market, held)
        paid_spot += spot
        paid_on_demand += on_demand
    whole = world.replicas * market.seconds
    paid = split.on_demand * market.seconds + paid_on_demand + SPOT_PRICE * paid_spot
    return Outcome(
        cost=paid / whole - slack,
        availability=1.0,
        on_demand=split.on_demand + paid_on_demand / market.seconds,
    )


def _cover(world: World, market: Market, held: dict[tuple[int, int], set[float]]) -> tuple[float, float]:
    """Paid seconds on spot and on demand of one replica that always serves; the nodes it takes are noted in `held`."""
    start, end = world.start, market.seconds
    time = spot = on_demand = 0.0
    while time < end:
        first = time == 0.0
        taking = 0.0 if first else time - start
        best: tuple[float, tuple[int, int]] | None = None
        for zone, slots in enumerate(market.zones):
            for number, slot in enumerate(slots):
                until = slot.end(max(0.0, taking))
                free = until is not None and until not in held.get((zone, number), ())
                if until is not None and free and until > time and (best is None or until > best[0]):
                    best = (until, (zone, number))
        if best is None:
            back = min(end, _next_ready(market, held, time, start))
            on_demand += back - time + (0.0 if first else start)
            time = back
            continue
        until, key = best
        held.setdefault(key, set()).add(until)
        spot += until - max(0.0, taking)
        time = until
    return spot, on_demand


def _next_ready(market: Market, held: dict[tuple[int, int], set[float]], time: float, start: float) -> float:
    """When a spot node can next have been started."""
    return min(
        (
            begin + start
            for zone, slots in enumerate(market.zones)
            for number, slot in enumerate(slots)
            if (begin := _next_free(slot, held.get((zone, number), set()), time - start)) is not None
        ),
        default=math.inf,
    )


def _next_free(slot: Slot, held: set[float], time: float) -> float | None:
    begin = slot.next_begin(time)
    while begin < math.inf:
        if slot.end(begin) not in held:
            return begin
        begin = slot.next_begin(begin)
    return None
