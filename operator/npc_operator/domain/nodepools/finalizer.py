"""How long a tier that is being deleted waits for what it has outside.

The finalizer is there only while something outside may be. It goes when nothing is left, and at the latest after a
leader has tried for REMOVAL_SECONDS: a cloud that does not answer must not keep a namespace from going. What is left
then is named. Time in which no operator ran does not count: nothing was tried in it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from npc_operator.domain.nodepools.places import Place

REMOVAL_SECONDS = 900.0
"""Instances of an AutoScaling group are given 120 s by a spot notice and up to 10 minutes by a lifecycle hook that
drains them (the default of AWS NTH's queue mode); a quarter of an hour covers both with a retry."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What the tier should carry now."""

    places: frozenset[Place]
    """To be written as the annotation."""
    finalizer: bool
    abandoned: tuple[Place, ...] = ()
    """Places that may still have something, which is not waited for any longer."""


def decide_hold(
    *,
    recorded: Collection[Place],
    wanted: Collection[Place],
    empty: Collection[Place],
    deleting_since: float | None,
    now: float,
) -> Hold:
    """`empty` are places that were just looked at and have nothing of the tier; `deleting_since` is when this leader
    first saw to the deletion. Times are of one clock that nobody sets, in seconds."""
    if deleting_since is None:
        places = frozenset(recorded) - frozenset(empty) | frozenset(wanted)
        return Hold(places, any(place.outside for place in places))
    left = frozenset(place for place in recorded if place.outside and place not in empty)
    if left and now - deleting_since >= REMOVAL_SECONDS:
        return Hold(frozenset(), finalizer=False, abandoned=tuple(sorted(left)))
    return Hold(left, bool(left))
