"""Who changed what moves traffic, from the field managers that the API server keeps: an audit trail should name more
than a policy.

An entry's time is that of its manager's last change of anything, so where several own a field the one that wrote last
is named: the best that can be known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from npc_operator.domain.facts import NOBODY, ChangedBy

LONGEST = 128
"""Characters of a manager's name, as the API server bounds them."""
_KEY = "k:"


def find_managers(meta: Mapping[str, Any]) -> ChangedBy:
    """Of an ArchetypeAdapter's metadata. What cannot be understood is left out."""
    digests: dict[str, str] = {}
    approval = quarantine = ""
    # Stable: of equally old entries the later one counts, as the API server appends.
    for entry in sorted(meta.get("managedFields") or (), key=lambda one: one.get("time") or ""):
        if entry.get("subresource"):
            continue
        spec = _below(entry.get("fieldsV1"), "f:spec")
        manager = str(entry.get("manager") or "")[:LONGEST]
        digests |= dict.fromkeys(_tiers_of(spec), manager)
        if "f:approvedDigest" in _below(spec, "f:rollout"):
            approval = manager
        if "f:quarantinedDigests" in spec:
            quarantine = manager
    if not (digests or approval or quarantine):
        return NOBODY
    return _shared(tuple(sorted(digests.items())), approval, quarantine)


def _tiers_of(spec: Mapping[str, Any]) -> Iterator[str]:
    """Tiers of the variants whose digest is among the fields."""
    for key, fields in _below(spec, "f:variants").items():
        if key.startswith(_KEY) and "f:digest" in _below(fields, "f:source"):
            try:
                yield str(json.loads(key.removeprefix(_KEY))["tier"])
            except (ValueError, KeyError, TypeError):
                continue


def _below(fields: Any, name: str) -> Mapping[str, Any]:
    found = fields.get(name) if isinstance(fields, Mapping) else None
    return found if isinstance(found, Mapping) else {}


@lru_cache(maxsize=256)
def _shared(digests: tuple[tuple[str, str], ...], approval: str, quarantine: str) -> ChangedBy:
    """Most of a thousand voices were changed by the same hands."""
    return ChangedBy(digests, approval, quarantine)
