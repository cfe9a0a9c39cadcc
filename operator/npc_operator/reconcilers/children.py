"""Keeping child objects as they are wanted: compare first, look at the live object before the first write, then one
server-side apply.

An object of the same name that somebody else made is never taken over, and one that is still going away with an earlier
owner is waited for. Ours that lost their owner (`kubectl delete --cascade=orphan`) belong to the object of that name
that comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding
from npc_operator.domain.drift import find_drift
from npc_operator.domain.facts import Child
from npc_operator.ports import Conflict, Kube, Manifest, NotFound, ObjectRef, PortError, Recorder
from npc_operator.reconcilers import events
from npc_operator.reconcilers.world import World


@dataclass(frozen=True, slots=True)
class Ensured:
    """How keeping one child went; nothing is said where it went well."""

    fault: Finding | None = None
    """A person is needed."""
    error: str = ""
    """It may work later."""


class Children:
    """Writes children of our objects."""

    def __init__(self, kube: Kube, world: World, recorder: Recorder) -> None:
        self._kube = kube
        self._world = world
        self._recorder = recorder

    async def present(self, namespace: str, api_version: str, kind: str, name: str) -> Manifest | None:
        """What is there: as the store knows it, otherwise read live (a missing fact is unknown, not absent)."""
        child = self._world.child(namespace, kind, name)
        if child is not None:
            return child.manifest
        return await self._kube.get(ObjectRef(api_version, kind, namespace, name))

    async def ensure(self, manifest: dict[str, Any], owner: ObjectRef) -> Ensured:
        """Make one child as wanted. Raises nothing but what is not a PortError."""
        metadata = manifest["metadata"]
        ref = ObjectRef(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"])
        child = self._world.child(ref.namespace, ref.kind, ref.name)
        if child is not None and not _differs(manifest, child.manifest):
            return Ensured()
        try:
            live = await self._kube.get(ref)
            if live is not None and (hindrance := check_ownership(live, owner)) is not None:
                return hindrance
            if live is not None and not _controller(live) and not await self._stays(owner):
                return Ensured()
            changed = () if live is None else _differs(manifest, live)
            if live is not None and not changed:
                return Ensured()  # the store is behind
            applied = await self._kube.apply(manifest, manager=names.MANAGER_CHILDREN)
        except NotFound:
            return Ensured(error=f"namespace {ref.namespace} is gone")
        except PortError as error:
            if error.retryable:
                return Ensured(error=f"{ref.kind} {ref.name}: {error}")
            return Ensured(fault=Finding(reasons.INVALID_CHILD, f"{ref.kind} {ref.name} was refused: {error}"))
        self._tell(owner, ref, live, applied, changed)
        return Ensured()

    async def _stays(self, owner: ObjectRef) -> bool:
        """Whether an owner is there to stay. A child loses its owner when that is deleted and leaves its children as
        orphans; given back meanwhile, by somebody whose news is late, it would be collected after all."""
        found = await self._kube.get(owner)
        metadata = (found or {}).get("metadata") or {}
        return metadata.get("uid") == owner.uid and not metadata.get("deletionTimestamp")

    async def remove(self, child: Child, owner: ObjectRef) -> Ensured:
        """Delete a child that is not wanted any more, after reading it anew: only ours, only as it was just seen."""
        ref = ObjectRef(child.api_version, child.kind, child.namespace, child.name)
        try:
            live = await self._kube.get(ref)
            if live is None or _controller(live).get("uid") != owner.uid:
                return Ensured()
            metadata = live["metadata"]
            exact = ObjectRef(ref.api_version, ref.kind, ref.namespace, ref.name, metadata["uid"])
            await self._kube.delete(exact, resource_version=metadata["resourceVersion"])
        except Conflict:
            return Ensured(error=f"{ref.kind} {ref.name} changed while it was to be deleted")
        except PortError as error:
            return Ensured(error=f"{ref.kind} {ref.name}: {error}")
        return Ensured()

    def _tell(
        self, owner: ObjectRef, ref: ObjectRef, before: Manifest | None, after: Manifest, changed: tuple[str, ...]
    ) -> None:
        if before is None:
            events.emit(self._recorder, owner, events.created(ref.kind, ref.name))
            return
        old, new = before.get("spec", {}).get("replicas"), after.get("spec", {}).get("replicas")
        if ref.kind == "Deployment" and old != new:
            events.emit(self._recorder, owner, events.scaled(ref.name, old or 0, new or 0))
        if changed != ("spec.replicas",):
            events.emit(self._recorder, owner, events.restored(ref.kind, ref.name, changed))


def check_ownership(live: Manifest, owner: ObjectRef) -> Ensured | None:
    """Why a live object of the wanted name must not be written, if there is a reason."""
    ref = f"{live['kind']} {live['metadata']['name']}"
    if live["metadata"].get("deletionTimestamp"):
        return Ensured(error=f"{ref} is still being deleted")
    controller = _controller(live)
    if controller.get("uid") == owner.uid:
        return None
    if controller.get("kind") == owner.kind and controller.get("name") == owner.name:
        return Ensured(error=f"{ref} still belongs to an earlier {owner.kind} {owner.name} and is being collected")
    labels = live["metadata"].get("labels") or {}
    if not controller and labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY:
        return None  # ours, with its owner reference taken away: put it back
    message = f"{ref} exists and is not ours; delete or rename it"
    return Ensured(fault=Finding(reasons.NAME_TAKEN, message))


def _controller(live: Manifest) -> Mapping[str, Any]:
    references: list[Mapping[str, Any]] = live["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), {})


def _differs(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[str, ...]:
    return find_drift(manifest, live, manager=names.MANAGER_CHILDREN)
