"""An API server in memory that honours the Kube port's words: enough of server-side apply, versions and preconditions
to test an operator against.

It is fast, it records every mutating call, and it can crash before or after any of them. tests/contract/kube runs the
same assertions on it and on a real kube-apiserver, which is what keeps it honest.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import orjson

from npc_operator.clients.resources import find_resource
from npc_operator.ports import Blocked, Conflict, Manifest, NotFound, ObjectRef, PortError
from tests.support import fake_ssa as ssa

T = TypeVar("T")
Listener = Callable[[str, dict[str, Any]], None]
"""(ADDED, MODIFIED or DELETED, the object)."""

WITHOUT_STATUS = frozenset({"Secret", "ConfigMap", "Lease", "Event", "NetworkPolicy"})
_STAMP = "2026-01-01T00:00:00Z"
_PLAIN = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
"""What the client could not write must not be copied either."""
_IDENTITY = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")


class Crash(BaseException):
    """The process ended here. Not an Exception: no handler may swallow it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One mutating call as it was made, whatever became of it."""

    verb: str
    kind: str
    namespace: str
    name: str
    manager: str = ""
    subresource: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return (
            f"{self.verb} {self.kind}{'/' + self.subresource if self.subresource else ''} {self.namespace}/{self.name}"
        )


class FakeKube:
    """Implements ports.Kube. Namespaces exist unless `end_namespace` said otherwise."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._version = 100
        self._listeners: list[Listener] = []
        self._ended: set[str] = set()
        self._crash: tuple[int, str] | None = None
        self._failures: list[tuple[Callable[[Call], bool], PortError]] = []
        self.unlisted: dict[str, PortError] = {}
        """Kinds that cannot be listed, and why."""
        self.calls: list[Call] = []
        """Every mutating call through the port since the start (or `forget_calls`)."""

    # --- the port ---

    async def get(self, ref: ObjectRef) -> Manifest | None:
        find_resource(ref.api_version, ref.kind)
        found = self._objects.get((ref.kind, ref.namespace, ref.name))
        return copied(found) if found is not None else None

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[Manifest]:
        find_resource(api_version, kind)
        if kind in self.unlisted:
            raise self.unlisted[kind]
        for (of_kind, where, _), found in sorted(self._objects.items()):
            if of_kind == kind and namespace in (None, where) and matches(found, selector):
                yield copied(found)

    async def apply(self, manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        meta = manifest["metadata"]
        call = Call(
            "apply",
            manifest["kind"],
            meta.get("namespace", ""),
            meta["name"],
            manager,
            subresource,
            copied(manifest),
        )
        return self._mutate(call, lambda: self._apply(call))

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        meta = manifest["metadata"]
        call = Call("create", manifest["kind"], meta.get("namespace", ""), meta["name"], manager, "", copied(manifest))

        def create() -> dict[str, Any]:
            if (call.kind, call.namespace, call.name) in self._objects:
                raise Conflict(f'{call}: "{call.name}" already exists', reason="AlreadyExists", code=409)
            return self._apply(call, operation="Update")

        return self._mutate(call, create)

    async def delete(self, ref: ObjectRef, *, resource_version: str) -> None:
        call = Call("delete", ref.kind, ref.namespace, ref.name)

        def delete() -> dict[str, Any]:
            found = self._objects.get((ref.kind, ref.namespace, ref.name))
            if found is None:
                return {}
            meta = found["metadata"]
            if (ref.uid and ref.uid != meta["uid"]) or (
                resource_version and resource_version != meta["resourceVersion"]
            ):
                raise Conflict(f"{call}: the precondition does not hold", code=409)
            self._remove((ref.kind, ref.namespace, ref.name))
            return {}

        self._mutate(call, delete)

    async def evict(self, ref: ObjectRef, *, resource_version: str) -> None:
        call = Call("evict", ref.kind, ref.namespace, ref.name)

        def evict() -> dict[str, Any]:
            found = self._objects.get((ref.kind, ref.namespace, ref.name))
            if found is None:
                return {}
            meta = found["metadata"]
            if (ref.uid and ref.uid != meta["uid"]) or (
                resource_version and resource_version != meta["resourceVersion"]
            ):
                raise Conflict(f"{call}: the precondition does not hold", code=409)
            if "deletionTimestamp" not in meta and not self._may_go(found):
                raise Blocked(f"{call}: the budget does not allow it", reason="DisruptionBudget", code=429)
            self.end_pod(ref.namespace, ref.name, disrupted=True)
            return {}

        self._mutate(call, evict)

    def _may_go(self, pod: Mapping[str, Any]) -> bool:
        """By the budgets of its namespace, as far as their controller has said how many may go."""
        if pod.get("status", {}).get("phase") != "Running":
            return True
        for budget in self.all("PodDisruptionBudget", pod["metadata"]["namespace"]):
            labels = budget["spec"]["selector"]["matchLabels"]
            selector = ",".join(f"{key}={value}" for key, value in labels.items())
            if matches(pod, selector) and budget.get("status", {}).get("disruptionsAllowed", 1) < 1:
                return False
        return True

    # --- the world beside the operator: none of this is recorded ---

    def end_pod(self, namespace: str, name: str, *, disrupted: bool = False, ends: str = _STAMP) -> None:
        """Somebody deletes a pod gracefully: on a node it is there until its kubelet says that it ended (`remove`),
        without one it is gone. `disrupted` as the eviction API marks it."""
        live = copied(self._objects["Pod", namespace, name])
        if not live["spec"].get("nodeName"):
            self._remove(("Pod", namespace, name))
            return
        live["metadata"].setdefault("deletionTimestamp", ends)
        if disrupted:
            status = live.setdefault("status", {})
            others = [one for one in status.get("conditions", ()) if one["type"] != "DisruptionTarget"]
            status["conditions"] = [
                *others,
                {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"},
            ]
        self._store(("Pod", namespace, name), live)

    def put(self, manifest: Mapping[str, Any], *, manager: str = "kubectl") -> dict[str, Any]:
        """Somebody else applies an object, status included; a new one gets the uid and creation time it names."""
        wanted = copied(dict(manifest))
        meta = wanted["metadata"]
        given = {part: meta.pop(part, None) for part in ("uid", "creationTimestamp", "resourceVersion", "generation")}
        call = Call("apply", wanted["kind"], meta.get("namespace", ""), meta["name"], manager, "", wanted)
        live = self._apply(call, uid=given["uid"] or "", created=given["creationTimestamp"] or _STAMP)
        if "status" in manifest:
            live = self.set_status(wanted["kind"], call.namespace, call.name, manifest["status"])
        return live

    def set_status(self, kind: str, namespace: str, name: str, status: Mapping[str, Any]) -> dict[str, Any]:
        """A controller of the cluster reports (replaces the whole status)."""
        live = copied(self._objects[kind, namespace, name])
        live["status"] = copied(dict(status))
        return self._store((kind, namespace, name), live)

    def edit(self, kind: str, namespace: str, name: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Somebody edits the live object in place (kubectl edit): the manager of that is not tracked."""
        live = copied(self._objects[kind, namespace, name])
        change(live)
        return self._store((kind, namespace, name), live)

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Somebody deletes an object; its children stay until `collect_garbage`."""
        self._remove((kind, namespace, name))

    def find(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        found = self._objects.get((kind, namespace, name))
        return copied(found) if found is not None else None

    def all(self, kind: str, namespace: str | None = None) -> tuple[dict[str, Any], ...]:
        chosen = sorted(key for key in self._objects if key[0] == kind and namespace in (None, key[1]))
        return tuple(copied(self._objects[key]) for key in chosen)

    def end_namespace(self, namespace: str) -> None:
        """The namespace goes, with everything in it; writes into it fail from now on."""
        self._ended.add(namespace)
        for key in [key for key in self._objects if key[1] == namespace]:
            self._remove(key)

    def collect_garbage(self) -> None:
        """What the cluster's garbage collector does: objects whose owners are all gone go, too."""
        while True:
            uids = {found["metadata"]["uid"] for found in self._objects.values()}
            orphans = [
                key
                for key, found in self._objects.items()
                if (owners := found["metadata"].get("ownerReferences")) and not any(o["uid"] in uids for o in owners)
            ]
            if not orphans:
                return
            for key in orphans:
                self._remove(key)

    def listen(self, listener: Listener, *, replay: bool = True) -> Callable[[], None]:
        """Be told of every change from now on (and of what is there already); returns the way to stop."""
        if replay:
            for found in list(self._objects.values()):
                listener("ADDED", copied(found))
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # --- faults ---

    def crash_at(self, number: int, when: str) -> None:
        """Raise Crash `before` or `after` the number-th (from 1) mutating call from now on."""
        assert when in ("before", "after")
        self._crash = (len(self.calls) + number, when)

    def fail(self, error: PortError, *, where: Callable[[Call], bool] = lambda _call: True) -> Callable[[], None]:
        """Every matching mutating call fails with `error` until the returned function is called."""
        entry = (where, error)
        self._failures.append(entry)
        return lambda: self._failures.remove(entry)

    def forget_calls(self) -> None:
        self.calls.clear()
        self._crash = None

    # --- inside ---

    def _mutate(self, call: Call, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        find_resource(call.manifest.get("apiVersion") or _API_VERSIONS[call.kind], call.kind)
        self.calls.append(call)
        crash = self._crash if self._crash is not None and self._crash[0] == len(self.calls) else None
        if crash is not None and crash[1] == "before":
            raise Crash(str(call))
        for where, error in self._failures:
            if where(call):
                raise error
        result = act()
        if crash is not None:
            raise Crash(str(call))
        return copied(result)

    def _apply(self, call: Call, operation: str = "Apply", *, uid: str = "", created: str = _STAMP) -> dict[str, Any]:
        key = (call.kind, call.namespace, call.name)
        live = copied(self._objects.get(key))
        if call.namespace in self._ended:
            raise NotFound(
                f'{call}: namespace "{call.namespace}" not found', reason="NotFound", retryable=False, code=404
            )
        if live is None and call.subresource:
            raise NotFound(f'{call}: "{call.name}" not found', reason="NotFound", retryable=False, code=404)
        asked = call.manifest["metadata"]
        have: Mapping[str, Any] = live["metadata"] if live is not None else {}
        if any(asked.get(part) and asked[part] != have.get(part) for part in ("uid", "resourceVersion")):
            raise Conflict(f"{call}: the object is another one or another version than was asked for", code=409)
        wanted = _wanted(call)
        if live is None:
            live = {
                "apiVersion": call.manifest["apiVersion"],
                "kind": call.kind,
                "metadata": {"name": call.name, "uid": uid or str(uuid.uuid4()), "creationTimestamp": created},
            }
            if call.namespace:
                live["metadata"]["namespace"] = call.namespace
            if call.kind not in WITHOUT_STATUS:
                live["metadata"]["generation"] = 1
        entries = live["metadata"].pop("managedFields", [])
        before = copied(live)
        fields = ssa.fields_of(wanted)
        mine = _entry(entries, call.manager, operation, call.subresource)
        others = [entry for entry in entries if entry is not mine]
        given_up = ssa.subtract(mine["fieldsV1"] if mine else {}, fields)
        for entry in others:
            given_up = ssa.subtract(given_up, entry["fieldsV1"])
        live = ssa.merge(ssa.remove(live, given_up), wanted)
        taken = ssa.differing(fields, before, live)
        for entry in others:
            entry["fieldsV1"] = ssa.subtract(entry["fieldsV1"], taken)
        entry = {
            "manager": call.manager,
            "operation": operation,
            "apiVersion": call.manifest["apiVersion"],
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        if call.subresource:
            entry["subresource"] = call.subresource
        live["metadata"]["managedFields"] = [*(entry for entry in others if entry["fieldsV1"]), entry]
        return self._store(key, live)

    def _store(self, key: tuple[str, str, str], live: dict[str, Any]) -> dict[str, Any]:
        """Keep it; a version and an event only if something changed."""
        old = self._objects.get(key)
        if old is not None and _content(old) == _content(live) and _owners(old) == _owners(live):
            return old
        self._version += 1
        live["metadata"]["resourceVersion"] = str(self._version)
        if old is not None and "generation" in old["metadata"]:
            same = _desired(old) == _desired(live)
            live["metadata"]["generation"] = old["metadata"]["generation"] + (not same)
        self._objects[key] = live
        self._tell("ADDED" if old is None else "MODIFIED", live)
        return live

    def _remove(self, key: tuple[str, str, str]) -> None:
        gone = self._objects.pop(key, None)
        if gone is not None:
            self._version += 1
            gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self._version)}}
            self._tell("DELETED", gone)

    def _tell(self, event: str, found: dict[str, Any]) -> None:
        for listener in tuple(self._listeners):
            listener(event, copied(found))


def copied(value: T) -> T:
    """A copy by way of JSON: faster than copy.deepcopy, and what is no JSON fails here as it would on the wire."""
    return cast(T, orjson.loads(orjson.dumps(value, option=_PLAIN)))


def matches(manifest: Mapping[str, Any], selector: str) -> bool:
    """Equality selectors (`a=b,c=d`) only."""
    labels = manifest["metadata"].get("labels") or {}
    return all(labels.get(part.partition("=")[0]) == part.partition("=")[2] for part in selector.split(",") if part)


def _wanted(call: Call) -> dict[str, Any]:
    """What a call may change: the subresource alone, or everything but the status."""
    body = {
        key: value for key, value in call.manifest.items() if key not in ("apiVersion", "kind", "metadata", "status")
    }
    if call.subresource:
        return {call.subresource: copied(call.manifest.get(call.subresource) or {})}
    if call.kind in WITHOUT_STATUS and "status" in call.manifest:
        body["status"] = call.manifest["status"]
    if "stringData" in body:
        raise AssertionError("stringData is write-only: apply data, so that what is read can be compared")
    meta = {key: value for key, value in call.manifest["metadata"].items() if key not in _IDENTITY}
    return copied({**body, **({"metadata": meta} if meta else {})})


def _entry(entries: list[dict[str, Any]], manager: str, operation: str, subresource: str) -> dict[str, Any] | None:
    for entry in entries:
        if (entry["manager"], entry["operation"], entry.get("subresource", "")) == (manager, operation, subresource):
            return entry
    return None


def _content(manifest: Mapping[str, Any]) -> dict[str, Any]:
    meta = {
        key: value
        for key, value in manifest["metadata"].items()
        if key not in ("resourceVersion", "managedFields", "generation")
    }
    return {**manifest, "metadata": meta}


def _owners(manifest: Mapping[str, Any]) -> list[Any]:
    entries = manifest["metadata"].get("managedFields") or []
    return sorted(entries, key=lambda entry: (entry["manager"], entry["operation"], entry.get("subresource", "")))


def _desired(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in manifest.items() if key not in ("metadata", "status")}


_API_VERSIONS = {
    "Pod": "v1",
    "Node": "v1",
    "Service": "v1",
    "Secret": "v1",
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "NPCRegion": "npcfleet.dev/v1alpha1",
    "GpuTier": "npcfleet.dev/v1alpha1",
    "ArchetypeAdapter": "npcfleet.dev/v1alpha1",
    "NodePool": "karpenter.sh/v1",
    "CapacityBuffer": "autoscaling.x-k8s.io/v1beta1",
}
