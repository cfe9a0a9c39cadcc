"""From the pods of a tier to what the capacity decision looks at: each pod in one place, by what it will be worth."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from npc_operator.domain.capacity.facts import SliceFact
from npc_operator.domain.conditions import parse_rfc3339
from npc_operator.domain.engines import Engine


def look_at_slice(engines: Iterable[Engine], slice_: str, *, desired: int, leaving: Collection[str]) -> SliceFact:
    """One slice. Pods that are being deleted, or are over, are in none of its numbers: their Deployment has replaced
    them already. `leaving`: uids of pods whose node goes away, which it still counts."""
    going = ready = starting = pending = 0
    oldest: float | None = None
    for engine in engines:
        pod = engine.pod
        if pod.slice != slice_ or not engine.alive():
            continue
        if pod.uid in leaving:
            going += 1
        elif pod.ready:
            ready += 1
        elif pod.node:
            starting += 1
        else:
            pending += 1
            created = parse_rfc3339(pod.created)
            if created is not None:
                oldest = created if oldest is None else min(oldest, created)
    return SliceFact(
        desired=desired, ready=ready, starting=starting, pending=pending, oldest_pending=oldest, leaving=going
    )
