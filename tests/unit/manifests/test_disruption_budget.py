"""What a tier's budget lets go, counted as Kubernetes' disruption controller counts it (docs/decisions/0014)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.manifests.disruption import build_engine_budget
from tests.support.builders import tier_fact

TIER = tier_fact("gold")


def allowed(spec: Mapping[str, Any], *, asked: int, ready: int) -> int:
    """How many ready pods may be evicted now: `asked` is what the pods' Deployments want together."""
    desired: int = spec["minAvailable"] if "minAvailable" in spec else asked - spec["maxUnavailable"]
    return max(0, ready - desired)


def budget(wanted: int) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = build_engine_budget(TIER.meta, TIER.spec.quality, wanted=wanted)["spec"]
    return spec


@pytest.mark.parametrize(
    ("wanted", "asked", "ready", "may_go"),
    [
        pytest.param(6, 6, 6, 1, id="in quiet times one at a time"),
        pytest.param(1, 1, 1, 1, id="a tier of one never blocks a drain"),
        pytest.param(6, 6, 5, 0, id="one is missing already"),
        pytest.param(6, 9, 6, 1, id="three replacements wait for nodes that do not come"),
        pytest.param(6, 12, 6, 1, id="a storm: as many stand-ins start"),
        pytest.param(6, 12, 9, 4, id="half of the stand-ins are ready, so half of the others may go"),
        pytest.param(6, 7, 7, 2, id="overprovisioned by one"),
        pytest.param(0, 2, 2, 2, id="nothing is wanted"),
    ],
)
def test_evictions_leave_one_pod_fewer_than_are_wanted_and_pods_that_wait_block_none(
    wanted: int, asked: int, ready: int, may_go: int
) -> None:
    assert allowed(budget(wanted), asked=asked, ready=ready) == may_go


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_however_many_go_at_once_no_fewer_stay_and_it_never_locks_a_whole_tier(
    wanted: int, ready: int, waiting: int
) -> None:
    gone = allowed(budget(wanted), asked=ready + waiting, ready=ready)
    assert ready - gone >= min(ready, wanted - 1)
    if ready and ready >= wanted:
        assert gone >= 1
