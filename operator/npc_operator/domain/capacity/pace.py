"""How far both Deployments may move at once: what serves goes only when something else serves in its place.

The decision itself returns one replica at a time. But its floor moves with the spec: another `onDemandBase` moves pods
from one slice to the other, and none of those that serve may go before as many others do. Pods that do not serve may
go at any time, so a tier that never became ready can always be made smaller.

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
    overprovision = facts.capacity.overprovision_replicas if floor.spot else 0
    bound = max(facts.max_replicas, facts.wanted) + 1
    held = max(target.on_demand, min(on_demand.desired, _keep(on_demand, spot, facts.wanted)))
    room = bound + overprovision + spot.leaving - (held - on_demand.leaving)
    if held > target.on_demand:
        # Spot comes as far as there is room, and at least what is there of it stays.
        grown = min(target.spot, max(room, spot.ready + spot.starting + spot.leaving))
        return Split(on_demand=held, spot=grown)
    kept = min(spot.desired, _keep(spot, on_demand, facts.wanted), room)
    return Split(on_demand=held, spot=max(target.spot, kept))


def _keep(mine: SliceFact, other: SliceFact, wanted: int) -> int:
    """So many of a slice's replicas must stay for its ready pods to serve on where the other slice's are too few."""
    needed = min(mine.ready, wanted - other.ready)
    return needed + mine.leaving if needed > 0 else 0
