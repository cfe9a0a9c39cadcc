"""The objects that commands about one of ours are given by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import paths
from .. import vocabulary as v
from ..answers import Code
from ..changes.suspending import KINDS, Around
from ..explain.target import KINDS as SPOKEN
from ..explain.target import Target, TargetError, find_target
from ..facts import Adapter, Region, Tier, World
from ..parse import parse_region, parse_tier
from ..parse_voices import parse_adapter
from ..ports import CliError, Cluster, Forbidden, NotFound, Object
from .session import Session


@dataclass(frozen=True, slots=True)
class Found:
    """One object as the API server has it, and as facts."""

    kind: str
    raw: Object
    target: Target


def find_thing(cluster: Cluster, namespace: str, text: str) -> Found:
    """A region, tier or adapter; only the kind that is named is read. Raises CliError."""
    prefix, slash, _ = text.partition("/")
    spoken = SPOKEN.get(prefix.lower(), "") if slash else ""
    if spoken == "pod":
        raise CliError("a pod cannot be paused: name its tier", Code.USAGE)
    kinds = [KINDS[spoken]] if spoken else list(KINDS.values())
    raws = {kind: tuple(cluster.list(paths.own(kind, namespace))) for kind in kinds}
    world = World(
        namespace=namespace,
        regions=tuple(map(parse_region, raws.get(v.KIND_REGION, ()))),
        tiers=tuple(map(parse_tier, raws.get(v.KIND_TIER, ()))),
        adapters=tuple(map(parse_adapter, raws.get(v.KIND_ADAPTER, ()))),
    )
    try:
        target = find_target(text, world)
    except TargetError as error:
        raise CliError(str(error), Code.USAGE if error.ambiguous else Code.NOT_FOUND) from None
    kind = KINDS[target.kind]
    raw = next(one for one in raws[kind] if one["metadata"]["name"] == target.thing.meta.name)
    return Found(kind, raw, target)


def find_adapter(cluster: Cluster, namespace: str, text: str) -> tuple[Object, Adapter]:
    """An adapter by its name or its archetype, as the API server has it and as facts. Raises CliError."""
    found = find_thing(cluster, namespace, text if "/" in text else f"adapter/{text}")
    if not isinstance(found.target.thing, Adapter):
        raise CliError(f"{text} is no adapter", Code.USAGE)
    return found.raw, found.target.thing


def read_adapters(cluster: Cluster, namespace: str) -> Sequence[tuple[Object, Adapter]]:
    """All adapters of a namespace. Raises NotFound if there is none."""
    raws = cluster.list(paths.own(v.KIND_ADAPTER, namespace))
    if not raws:
        raise NotFound(f"there is no ArchetypeAdapter in namespace {namespace}", step="kubectl get npca -A")
    return [(raw, parse_adapter(raw)) for raw in raws]


def look_around(session: Session, cluster: Cluster, namespace: str) -> Around:
    """The region and the tiers beside an adapter. What the caller may not read is left out, and said."""
    unread: list[str] = []
    region: Region | None = None
    tiers: tuple[Tier, ...] = ()
    try:
        region = parse_region(session.region(cluster, namespace))
    except NotFound:
        pass  # without a region nothing is paused or quarantined by one
    except Forbidden as refused:
        unread.append(f"not looked at: whether the region pauses or quarantines it: {refused}")
    try:
        tiers = tuple(map(parse_tier, cluster.list(paths.own(v.KIND_TIER, namespace))))
    except Forbidden as refused:
        unread.append(f"not looked at: whether a tier is paused: {refused}")
    return Around(region=region, tiers=tiers, unread=tuple(unread))
