"""Server-side apply as FakeKube does it: who owns which field, in the API server's own notation (fieldsV1).

A field set is a nested dict like fieldsV1 itself: `f:name` for fields and map entries, `k:{...}` for items of keyed
lists, `v:...` for items of sets, and `{}` where ownership ends. There is no schema here, so what the real server
reads from one is a table by field name: enough for the kinds this operator applies, and held to the real server by
tests/contract/kube.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

Fields = dict[str, Any]

LIST_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "conditions": ("type",),
    "variants": ("tier",),
}
ATOMIC_MAPS = frozenset(
    {
        "selector",
        "labelSelector",
        "nodeSelector",
        "podSelector",
        "namespaceSelector",
        "secretKeyRef",
        "configMapKeyRef",
        "fieldRef",
    }
)
SETS = frozenset({"finalizers"})
_KEY_DEFAULTS = {"protocol": "TCP"}


def keys_of(name: str, items: list[Any]) -> tuple[str, ...] | None:
    """The key fields of a keyed list, or None for an atomic one. `ports` differ by what they hold."""
    if name == "ports" and items and all(isinstance(item, dict) for item in items):
        if all("containerPort" in item for item in items):
            return ("containerPort", "protocol")
        if all("from" not in item and "endPort" not in item for item in items) and any(
            "targetPort" in item for item in items
        ):
            return ("port", "protocol")
        return None
    return LIST_KEYS.get(name)


def key_of(item: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """`k:{...}` of one item, as the API server writes it: sorted and compact."""
    identity = {key: item.get(key, _KEY_DEFAULTS.get(key)) for key in keys}
    return "k:" + json.dumps(identity, sort_keys=True, separators=(",", ":"))


def fields_of(value: Any, name: str = "") -> Fields:
    """The field set of an applied value."""
    if isinstance(value, Mapping):
        if name in ATOMIC_MAPS:
            return {}
        return {f"f:{key}": fields_of(below, key) for key, below in value.items()}
    if isinstance(value, list) and value:
        keys = keys_of(name, value)
        if keys is not None:
            return {key_of(item, keys): {".": {}, **fields_of(item)} for item in value}
        if name in SETS:
            return {"v:" + json.dumps(item): {} for item in value}
    return {}


def union(one: Fields, other: Fields) -> Fields:
    merged = dict(one)
    for key, below in other.items():
        merged[key] = union(merged[key], below) if key in merged else below
    return merged


def subtract(one: Fields, other: Fields) -> Fields:
    """What of `one` is not in `other`; ends of ownership in `other` take everything below them."""
    left: Fields = {}
    for key, below in one.items():
        if key not in other:
            left[key] = below
        elif below and other[key]:
            rest = subtract(below, other[key])
            if rest:
                left[key] = rest
    return left


def merge(live: Any, applied: Any, name: str = "") -> Any:
    """The live value with everything applied laid over it."""
    if isinstance(applied, Mapping):
        if name in ATOMIC_MAPS or not isinstance(live, Mapping):
            return _pruned(applied)
        merged = dict(live)
        for key, value in applied.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = merge(live.get(key), value, key)
        return merged
    if isinstance(applied, list) and isinstance(live, list):
        keys = keys_of(name, applied)
        if keys is not None:
            return _merge_keyed(live, applied, keys)
        if name in SETS:
            return [*live, *(item for item in applied if item not in live)]
    return copy.deepcopy(applied)


def _pruned(value: Any) -> Any:
    return {key: copy.deepcopy(below) for key, below in value.items() if below is not None}


def _merge_keyed(live: list[Any], applied: list[Any], keys: tuple[str, ...]) -> list[Any]:
    """Applied items in their order, then those of others."""
    known = {key_of(item, keys): item for item in live}
    merged = [merge(known.pop(key_of(item, keys), {}), item) for item in applied]
    return [*merged, *known.values()]


def remove(live: Any, fields: Fields, name: str = "") -> Any:
    """The live value without the given fields; emptied maps go, too."""
    if isinstance(live, Mapping):
        left = dict(live)
        for key, below in fields.items():
            field = key[2:]
            if not key.startswith("f:") or field not in left:
                continue
            if not below:
                del left[field]
                continue
            left[field] = remove(left[field], below, field)
            if left[field] in ({}, []):
                del left[field]
        return left
    if isinstance(live, list):
        keys = keys_of(name, live)
        if keys is not None:
            items = []
            for item in live:
                below = fields.get(key_of(item, keys))
                if below is None:
                    items.append(item)
                elif "." not in below:
                    items.append(remove(item, below))
            return items
        if name in SETS:
            gone = {key[2:] for key in fields if key.startswith("v:")}
            return [item for item in live if json.dumps(item) not in gone]
    return live


def differing(fields: Fields, before: Any, after: Any, name: str = "") -> Fields:
    """Those of `fields` whose values differ between the two."""
    changed: Fields = {}
    for key, below in fields.items():
        if key == ".":
            continue
        old, new, field = _pick(before, key, name), _pick(after, key, name), key[2:] if key.startswith("f:") else ""
        if not below:
            if old != new:
                changed[key] = {}
        else:
            rest = differing(below, old, new, field)
            if rest:
                changed[key] = rest
    return changed


@cache
def _parse(text: str) -> Any:
    """What a key names. The same few keys come again and again, and nobody changes what comes out."""
    return json.loads(text)


def _pick(value: Any, key: str, name: str) -> Any:
    if key.startswith("f:"):
        return value.get(key[2:]) if isinstance(value, Mapping) else None
    if key.startswith("v:"):
        return key if isinstance(value, list) and _parse(key[2:]) in value else None
    if isinstance(value, list):
        wanted = _parse(key[2:])
        for item in value:
            if all(item.get(field, _KEY_DEFAULTS.get(field)) == part for field, part in wanted.items()):
                return item
    return None
