"""An API server in memory for one benchmark: it keeps objects, merges what is applied, and says at once what changed.

No schemas and no field owners: what they would refuse is not what is measured. It implements ports.Kube.
"""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from npc_operator.ports import Blocked, Conflict, Manifest, ObjectRef

Object = dict[str, Any]
Place = tuple[str, str, str]
"""Kind, namespace, name."""


class MemoryKube:
    """`told` is called with every object that changed."""

    def __init__(self, told: Callable[[Object], None]) -> None:
        self.objects: dict[Place, Object] = {}
        self.writes: Counter[str] = Counter()
        """By verb and kind."""
        self._told = told
        self._versions = itertools.count(1)

    def put(self, manifest: Mapping[str, Any]) -> Object:
        """What users, controllers and kubelets write: the whole object."""
        metadata = {"uid": str(uuid.uuid4()), "generation": 1, **manifest["metadata"]}
        return self._keep({**manifest, "metadata": metadata})

    async def get(self, ref: ObjectRef) -> Manifest | None:
        return self.objects.get((ref.kind, ref.namespace, ref.name))

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[Manifest]:
        if selector:
            raise ValueError("no selector is understood here")
        for place, found in sorted(self.objects.items()):
            if place[0] == kind and namespace in (None, place[1]):
                yield found

    async def apply(self, manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        place = _place(manifest)
        self.writes[f"apply {place[0]}{subresource and '/' + subresource}"] += 1
        live = self.objects.get(place)
        if live is None:
            return self.put(manifest)
        if subresource:
            return self._keep({**live, "status": manifest["status"]})
        merged = _merge(live, manifest)
        if merged.get("spec") != live.get("spec"):
            merged["metadata"]["generation"] = live["metadata"]["generation"] + 1
        return self._keep(merged)

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        if _place(manifest) in self.objects:
            raise Conflict("it is there", code=409)
        return await self.apply(manifest, manager=manager)

    async def delete(self, ref: ObjectRef, *, resource_version: str) -> None:
        raise Conflict("nothing is deleted here", code=409)

    async def evict(self, ref: ObjectRef, *, resource_version: str) -> None:
        """No budget ever allows it: nothing here would bring the pods back that it counts."""
        self.writes["evict Pod"] += 1
        raise Blocked("the budget allows none", reason="DisruptionBudget", code=429)

    def _keep(self, manifest: Object) -> Object:
        metadata = {**manifest["metadata"], "resourceVersion": str(next(self._versions))}
        kept = {**manifest, "metadata": metadata}
        self.objects[_place(kept)] = kept
        self._told(kept)
        return kept


def _place(manifest: Mapping[str, Any]) -> Place:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def _merge(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Object:
    """Maps are merged, all else is taken as it is wanted."""
    merged = dict(live)
    for key, value in wanted.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
