"""A small API server in memory for the reconcilers' own tests: server-side apply with owned fields, versions,
preconditions, and garbage collection. Every write is counted, and a test may end the process before or after any.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npc_operator.ports import Conflict, Manifest, NotFound, ObjectRef

KEYED = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
    "variants": ("tier",),
    "imagePullSecrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
PORTS = {"containers": ("containerPort", "protocol"), "initContainers": ("containerPort", "protocol")}

Id = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Write:
    verb: str
    kind: str
    name: str
    manager: str
    subresource: str
    changed: bool


class SmallKube:
    """ports.Kube over a dictionary."""

    def __init__(self, now: Callable[[], str]) -> None:
        self.objects: dict[Id, dict[str, Any]] = {}
        self.writes: list[Write] = []
        self.before: Callable[[str], None] = lambda what: None
        self.after: Callable[[str], None] = lambda what: None
        self.listeners: list[Callable[[Mapping[str, Any] | None, Mapping[str, Any]], None]] = []
        self._versions = itertools.count(100)
        self._uids = itertools.count(1)
        self._now = now

    # --- the port ---

    async def get(self, ref: ObjectRef) -> Manifest | None:
        found = self.objects.get((ref.kind, ref.namespace, ref.name))
        return copy.deepcopy(found) if found is not None else None

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[Manifest]:
        for (found, where, _), manifest in list(self.objects.items()):
            if found == kind and namespace in (None, where):
                yield copy.deepcopy(manifest)

    async def apply(self, manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        meta = manifest["metadata"]
        what = f"apply {manifest['kind']}/{meta['name']}{'/' + subresource if subresource else ''}"
        self.before(what)
        live = self.objects.get((manifest["kind"], meta["namespace"], meta["name"]))
        if live is None and subresource:
            raise NotFound(f"{what}: not found")
        if live is None and (meta.get("uid") or meta.get("resourceVersion")):
            raise Conflict(f"{what}: precondition failed")
        if live is not None:
            for key in ("uid", "resourceVersion"):
                if meta.get(key) and meta[key] != live["metadata"][key]:
                    raise Conflict(f"{what}: precondition failed")
        changed = self._merge(manifest, live, manager=manager, subresource=subresource)
        self.writes.append(Write("apply", manifest["kind"], meta["name"], manager, subresource, changed))
        self.after(what)
        return copy.deepcopy(self.objects[manifest["kind"], meta["namespace"], meta["name"]])

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        raise AssertionError("the reconcilers apply, they never create")

    async def delete(self, ref: ObjectRef, *, resource_version: str) -> None:
        self.before(f"delete {ref.kind}/{ref.name}")
        live = self.objects.get((ref.kind, ref.namespace, ref.name))
        if live is not None:
            if live["metadata"]["uid"] != ref.uid or live["metadata"]["resourceVersion"] != resource_version:
                raise Conflict("it changed")
            self.remove(ref.kind, ref.namespace, ref.name)
        self.writes.append(Write("delete", ref.kind, ref.name, "", "", live is not None))
        self.after(f"delete {ref.kind}/{ref.name}")

    # --- what users and controllers do ---

    def put(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create or replace as somebody else: fields whose values change are not ours any more."""
        new = copy.deepcopy(dict(manifest))
        meta = new["metadata"]
        key = (new["kind"], meta["namespace"], meta["name"])
        old = self.objects.get(key)
        if old is None:
            meta["uid"] = meta.get("uid") or f"uid-{next(self._uids)}"
            meta.setdefault("creationTimestamp", self._now())
            meta["generation"] = 1
        else:
            meta["uid"] = old["metadata"]["uid"]
            meta["creationTimestamp"] = old["metadata"]["creationTimestamp"]
            changed = old.get("spec") != new.get("spec")
            meta["generation"] = old["metadata"]["generation"] + (1 if changed else 0)
            new.setdefault("status", old.get("status", {}))
            for entry in meta.get("managedFields") or ():
                _disown(entry["fieldsV1"], old, new)
        if "stringData" in new:
            import base64

            data = new.pop("stringData")
            new["data"] = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self._store(key, old, new)
        return new

    def edit(self, kind: str, namespace: str, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change a live object as somebody else."""
        manifest = copy.deepcopy(self.objects[kind, namespace, name])
        change(manifest)
        self.put(manifest)

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object and, as the garbage collector does, everything whose last owner is gone."""
        gone = self.objects.pop((kind, namespace, name), None)
        if gone is None:
            return
        gone["metadata"]["resourceVersion"] = str(next(self._versions))
        for listener in self.listeners:
            listener(None, gone)
        uids = {manifest["metadata"]["uid"] for manifest in self.objects.values()}
        for (other, where, child), manifest in list(self.objects.items()):
            owners = manifest["metadata"].get("ownerReferences") or ()
            if owners and not any(owner["uid"] in uids for owner in owners):
                self.remove(other, where, child)

    # --- inside ---

    def _store(self, key: Id, old: Mapping[str, Any] | None, new: dict[str, Any]) -> None:
        new["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[key] = new
        for listener in self.listeners:
            listener(copy.deepcopy(new), copy.deepcopy(new))

    def _merge(self, manifest: Manifest, live: dict[str, Any] | None, *, manager: str, subresource: str) -> bool:
        meta = manifest["metadata"]
        key = (manifest["kind"], meta["namespace"], meta["name"])
        body: dict[str, Any]
        if subresource == "status":
            body = {"status": manifest["status"]}
        else:
            body = {k: copy.deepcopy(v) for k, v in manifest.items() if k not in ("apiVersion", "kind", "status")}
            for server_side in ("name", "namespace", "uid", "resourceVersion"):
                body["metadata"].pop(server_side, None)
        new = (
            copy.deepcopy(live)
            if live is not None
            else {
                "apiVersion": manifest["apiVersion"],
                "kind": manifest["kind"],
                "metadata": {
                    "name": meta["name"],
                    "namespace": meta["namespace"],
                    "uid": f"uid-{next(self._uids)}",
                    "creationTimestamp": self._now(),
                    "generation": 1,
                },
            }
        )
        entries = new["metadata"].setdefault("managedFields", [])
        entry = next((e for e in entries if e["manager"] == manager and e.get("subresource", "") == subresource), None)
        fields = _fields(body, ())
        if entry is not None:
            _prune(new, entry["fieldsV1"], fields)
            entries.remove(entry)
        _overlay(new, body, ())
        fresh = {"manager": manager, "operation": "Apply", "fieldsV1": fields}
        if subresource:
            fresh["subresource"] = subresource
        entries.append(fresh)
        if live is not None and new.get("spec") != live.get("spec"):
            new["metadata"]["generation"] += 1
        if live is not None and new == live:
            return False
        self._store(key, live, new)
        return True


def _identity(path: Sequence[str]) -> tuple[str, ...] | None:
    name = path[-1] if path else ""
    if name == "ports" and len(path) > 1:
        return PORTS.get(path[-2])
    return KEYED.get(name)


def _fields(value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """fieldsV1 of what is applied."""
    if isinstance(value, Mapping):
        return {f"f:{key}": _fields(below, (*path, key)) for key, below in value.items()}
    keys = _identity(path)
    if isinstance(value, list) and keys is not None:
        found = {}
        for item in value:
            identity = json.dumps({key: item[key] for key in keys}, separators=(",", ":"))
            found[f"k:{identity}"] = {".": {}, **_fields(item, path)}
        return found
    return {}


def _overlay(live: dict[str, Any], body: Mapping[str, Any], path: tuple[str, ...]) -> None:
    for key, value in body.items():
        where = (*path, key)
        keys = _identity(where)
        if isinstance(value, Mapping) and isinstance(live.get(key), dict):
            _overlay(live[key], value, where)
        elif isinstance(value, list) and keys is not None and isinstance(live.get(key), list):
            for item in value:
                mine = next((one for one in live[key] if all(one.get(k) == item[k] for k in keys)), None)
                if mine is None:
                    live[key].append(copy.deepcopy(item))
                else:
                    _overlay(mine, item, where)
        else:
            live[key] = copy.deepcopy(value)


def _prune(live: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Take away what was owned and is not applied any more."""
    for key, below in before.items():
        if key == ".":
            continue
        kind, _, text = key.partition(":")
        if kind == "f":
            if not isinstance(live, dict) or text not in live:
                continue
            if key not in after:
                del live[text]
            else:
                _prune(live[text], below, after[key])
        elif kind == "k" and isinstance(live, list):
            identity = json.loads(text)
            item = next((one for one in live if all(one.get(k) == v for k, v in identity.items())), None)
            if item is None:
                continue
            if key not in after:
                live.remove(item)
            else:
                _prune(item, below, after[key])


def _disown(fields: dict[str, Any], old: Any, new: Any) -> None:
    """Somebody else's update takes over what it changes or removes."""
    for key in list(fields):
        kind, _, text = key.partition(":")
        if kind == "f":
            before = old.get(text) if isinstance(old, Mapping) else None
            after = new.get(text) if isinstance(new, Mapping) else None
        elif kind == "k":
            identity = json.loads(text)
            before, after = (
                next((one for one in side or () if all(one.get(k) == v for k, v in identity.items())), None)
                for side in (old, new)
            )
        else:
            continue
        if before == after:
            continue
        if fields[key] and isinstance(after, (Mapping, list)):
            _disown(fields[key], before, after)
        else:
            del fields[key]
