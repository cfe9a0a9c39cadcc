"""The objects that commands about one of ours are given by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import paths
from .. import vocabulary as v
from ..answers import Code
from ..changes.suspending import KINDS
from ..explain.target import KINDS as SPOKEN
from ..explain.target import Target, TargetError, find_target
from ..facts import Adapter, World
from ..parse import parse_region, parse_tier
from ..parse_voices import parse_adapter
from ..ports import CliError, Cluster, NotFound, Object


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
