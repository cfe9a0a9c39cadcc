"""Every rule of the API with an object that keeps it and one that breaks it, and what the user then reads.

A change is written against the small valid objects of `objects.py`. `test_rules.py` runs all of them on a real API
server, and a unit test holds that no rule of the CRDs is without a case.
"""

from __future__ import annotations

from tests.contract.crd.adapter_cases import ADAPTER
from tests.contract.crd.capacity_cases import CAPACITY
from tests.contract.crd.case import Case
from tests.contract.crd.engine_cases import ENGINE
from tests.contract.crd.node_pool_cases import NODE_POOLS
from tests.contract.crd.region_cases import REGION
from tests.contract.crd.tier_cases import MODEL_LOCATIONS, QUANTITIES, TIER

NAMES = (
    *(
        Case(
            name=f"a name of kind {kind} leaves room for suffixes",
            kind=kind,
            accept=({"metadata.name": "a" * length},),
            refuse=({"metadata.name": "a" * (length + 1)},),
            field="<nil>",
            message=f"metadata.name must have at most {length} characters",
        )
        for kind, length in (("GpuTier", 36), ("NPCRegion", 38), ("ArchetypeAdapter", 63))
    ),
    *(
        Case(
            name=f"a name of kind {kind} can be a DNS label",
            kind=kind,
            accept=({"metadata.name": "eu-west-1"},),
            refuse=({"metadata.name": "eu.west"}, {"metadata.name": "1-eu"}),
            field="<nil>",
            message="metadata.name must be a DNS label that begins with a letter",
        )
        for kind in ("GpuTier", "NPCRegion", "ArchetypeAdapter")
    ),
)

IMMUTABLE = (
    ("GpuTier", {"spec": {"quality": "Silver"}}, "spec.quality", "cannot be changed"),
    ("ArchetypeAdapter", {"spec": {"archetype": "zombie"}}, "spec.archetype", "cannot be changed"),
)
"""Kind, a merge patch that breaks it, where, and what is said."""

CASES = (*TIER, *CAPACITY, *ENGINE, *MODEL_LOCATIONS, *ADAPTER, *REGION, *NAMES, *QUANTITIES, *NODE_POOLS)
