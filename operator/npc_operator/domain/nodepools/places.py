"""Where something that belongs to a tier may be although its spec no longer says so.

A spec that moves from one provider, region or cluster name to another leaves something behind, and so does a crash
between making it and saying so. So the places are written on the tier, in the same write as the finalizer and before
anything is made there; a place leaves the list once a look found nothing of the tier in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from npc_operator.api.gputier import GpuTierSpec


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """`kind` is `karpenter`, `autoscaling` or `headroom`; the rest is for AutoScaling groups."""

    kind: str
    region: str = ""
    cluster: str = ""

    @property
    def outside(self) -> bool:
        """Whether what is there survives the tier unless somebody removes it."""
        return self.kind != "headroom"

    def __str__(self) -> str:
        return "/".join(part for part in (self.kind, self.region, self.cluster) if part)


KARPENTER = Place("karpenter")
HEADROOM = Place("headroom")
KINDS = frozenset({"karpenter", "autoscaling", "headroom"})


def wanted_places(spec: GpuTierSpec) -> frozenset[Place]:
    """Where the spec wants something."""
    pools = spec.node_pools
    if pools is None:
        return frozenset()
    places = set()
    if pools.provider.karpenter is not None:
        places.add(KARPENTER)
    group = pools.provider.auto_scaling_group
    if group is not None:
        places.add(Place("autoscaling", group.region, group.cluster_name))
    if pools.headroom_replicas:
        places.add(HEADROOM)
    return frozenset(places)


def format_places(places: Iterable[Place]) -> str:
    """As the annotation has them; empty for none."""
    found = [str(place) for place in sorted(places)]
    return json.dumps(found, separators=(",", ":")) if found else ""


def parse_places(text: str) -> frozenset[Place]:
    """From the annotation. What somebody else wrote there and nobody can read is left out."""
    try:
        found = json.loads(text) if text else []
    except ValueError:
        return frozenset()
    places = set()
    for entry in found if isinstance(found, list) else ():
        kind, *rest = str(entry).split("/")
        if kind in KINDS and len(rest) == (2 if kind == "autoscaling" else 0):
            places.add(Place(kind, *rest))
    return frozenset(places)
