"""How far both Deployments may move at once: what serves goes only when something else serves in its place, and
nothing is made that `maxReplicas` has no room for.

The decision itself returns one replica at a time, and grows into the room that it sees. But its floor moves with the
spec: another `onDemandBase` moves pods from one slice to the other, and none of those that serve may go before as many
others do. And what it remembers may be older than what runs: spot may have come up after growth was noted and before
anybody acted on it. Pods that do not serve may go at any time, so a tier that never became ready can always be made
smaller.

What is held counts against `maxReplicas` (and one more, as in a return): where that leaves no room, the new floor comes
first, then what serves.
"""

from __future__ import annotations

from npc_operator.domain.capacity.facts import CapacityFacts, SliceFact
from npc_operator.domain.replicas import Split, split_replicas


def pace(target: Split, facts: CapacityFacts) -> Split:
    """What both Deployments should have now on the way to `target`, which is what the decision says. Without facts it
    is `target`."""
    spot, on_demand = facts.spot, facts.on_demand
    if spot is None or on_demand is None:
        return target
    floor = split_replicas(facts.wanted, facts.capacity)
    bound = max(facts.max_replicas, facts.wanted) + 1
    overprovision = facts.capacity.overprovision_replicas if floor.spot else 0
    # From here on without pods that leave: they are beside every bound.
    firm = _pace_on_demand(target.on_demand - on_demand.leaving, floor, bound, facts, on_demand, spot)
    room = bound + overprovision - firm
    loose = target.spot - spot.leaving
    if firm > target.on_demand - on_demand.leaving:
        loose = min(loose, max(room, spot.ready + spot.starting))
    # Of on-demand only what stays counts, or both would give way to each other.
    needed = _needed(spot, min(on_demand.ready, firm), facts.wanted)
    loose = max(loose, min(spot.desired - spot.leaving, needed, room))
    # Both may have got nodes that both had waited for.
    running = min(on_demand.ready + on_demand.starting, firm)
    loose = min(loose, max(bound + overprovision - running, needed))
    return Split(on_demand=firm + on_demand.leaving, spot=max(0, loose) + spot.leaving)


def _pace_on_demand(
    target: int, floor: Split, bound: int, facts: CapacityFacts, on_demand: SliceFact, spot: SliceFact
) -> int:
    has = on_demand.desired - on_demand.leaving
    room = bound - min(spot.ready + spot.starting, floor.spot)
    grown = max(floor.on_demand, min(target, max(on_demand.ready, room)))
    return max(grown, min(has, _needed(on_demand, spot.ready, facts.wanted)))


def _needed(mine: SliceFact, others_ready: int, wanted: int) -> int:
    """So many ready pods of a slice cannot be missed, where the other slice's are too few."""
    return max(0, min(mine.ready, wanted - others_ready))
