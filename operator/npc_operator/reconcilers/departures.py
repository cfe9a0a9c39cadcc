"""Whether lines still run on a pod that routes leave out: gateways alone know it."""

from __future__ import annotations

from collections.abc import Sequence

from npc_operator.domain.doors import may_serve
from npc_operator.domain.facts import Pod
from npc_operator.reconcilers.routebook import RouteBook
from npc_operator.reconcilers.world import Door


def lines_of(pod: Pod, *, region: str, doors: Sequence[Door] | None, routes: RouteBook) -> int | None:
    """Lines that gateways have running on a pod; None while any of them may still send it one, or has not said.

    A gateway is believed once it counted after all its workers had left a table behind that names the pod, and as long
    as no other one that does may be on its way. `doors` are the gateways of the region; None where no region is known,
    which may have left gateways behind that serve on.
    """
    if doors is None:
        return None
    lines = 0
    for door in doors:
        if routes.is_gone(door):
            continue
        fact = door.fact
        if fact is None:
            if may_serve(door.pod, heard=False):
                return None
            continue
        if not fact.reachable or not routes.leaves_out(door, region, pod.uid):
            return None
        lines += sum(one.lines for one in fact.departures if one.uid == pod.uid)
    return lines
