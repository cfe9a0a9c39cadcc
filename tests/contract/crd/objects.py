"""One small valid object of each kind, and a way to say how another differs from it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]

REMOVE = object()
"""As a change: take the field away."""

DIGEST = "sha256:" + "0123456789abcdef" * 4

_SPECS: Mapping[str, Object] = {
    "NPCRegion": {
        "tiers": [
            {"tier": "gold", "npcs": {"min": 80, "max": 200}},
            {"tier": "bronze", "npcs": {"min": 300, "max": 600}},
        ],
        "defaultTier": "bronze",
        "gateway": {"auth": {"secretRef": {"name": "keys"}}},
    },
    "GpuTier": {
        "quality": "Gold",
        "model": {"uri": "s3://models/llama-8b", "parametersMillions": 8000},
    },
    "ArchetypeAdapter": {
        "archetype": "vampire",
        "variants": [{"tier": "gold", "source": {"uri": "s3://voices/vampire", "digest": DIGEST}}],
    },
}


def valid(kind: str, name: str = "sample") -> Object:
    return {
        "apiVersion": "npcfleet.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": copy.deepcopy(_SPECS[kind]),
    }


def changed(base: Object, changes: Mapping[str, Any]) -> Object:
    """A copy with each dotted path set to its value; list items are reached by number, missing objects are made."""
    result = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node: Any = result
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if value is REMOVE:
            del node[last]
        elif isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    return result
