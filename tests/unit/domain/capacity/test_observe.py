"""Each pod counts once, as what it will be worth; and what its slice gives up waits for the other one."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain.capacity import SliceFact, decide_capacity, look_at_slice, pace
from npc_operator.domain.conditions import rfc3339
from npc_operator.domain.engines import Engine
from npc_operator.domain.replicas import Split
from tests.support.builders import pod_fact
from tests.unit.domain.capacity.worlds import NOW, facts, slice_, state

WAITS: dict[str, Any] = {"ready": False, "node": "", "ip": "", "phase": "Pending"}


def look(*pods: dict[str, Any], leaving: frozenset[str] = frozenset()) -> SliceFact:
    engines = [Engine(pod_fact(f"pod-{number}", **fields), None) for number, fields in enumerate(pods)]
    return look_at_slice(engines, names.SLICE_SPOT, desired=3, leaving=leaving)


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param({}, SliceFact(desired=3, ready=1), id="serves"),
        pytest.param({"ready": False}, SliceFact(desired=3, starting=1), id="starts"),
        pytest.param(
            {**WAITS, "created": rfc3339(NOW)},
            SliceFact(desired=3, pending=1, oldest_pending=NOW),
            id="waits for a node",
        ),
        pytest.param(WAITS, SliceFact(desired=3, pending=1), id="waits, nobody knows since when"),
        pytest.param({"deleting": True}, SliceFact(desired=3), id="is being deleted: its Deployment has replaced it"),
        pytest.param({"phase": "Failed", "ready": False}, SliceFact(desired=3), id="is over"),
        pytest.param({"slice": names.SLICE_ON_DEMAND}, SliceFact(desired=3), id="of the other slice"),
        pytest.param({"uid": "goes"}, SliceFact(desired=3, leaving=1), id="its node goes away"),
        pytest.param({"uid": "goes", "ready": False}, SliceFact(desired=3, leaving=1), id="goes before it served"),
    ],
)
def test_a_pod_counts_once(pod: dict[str, Any], expected: SliceFact) -> None:
    assert look(pod, leaving=frozenset({"goes"})) == expected


def test_the_oldest_that_waits_is_told() -> None:
    times = (NOW - 30, NOW - 90, NOW - 60)
    assert look(*({**WAITS, "created": rfc3339(one)} for one in times)).oldest_pending == NOW - 90


@pytest.mark.parametrize(
    ("base", "target", "spot", "on_demand", "max_replicas", "expected"),
    [
        pytest.param(1, Split(1, 9), slice_(9), slice_(1), 20, Split(1, 9), id="nothing moves"),
        pytest.param(5, Split(5, 5), slice_(9), slice_(1), 20, Split(5, 9), id="a higher floor: spot stays for now"),
        pytest.param(5, Split(5, 5), slice_(9), slice_(3, starting=2), 20, Split(5, 7), id="and goes as others serve"),
        pytest.param(5, Split(5, 5), slice_(9), slice_(5), 20, Split(5, 5), id="and is gone"),
        pytest.param(5, Split(5, 5), slice_(9), slice_(1), 10, Split(5, 6), id="without room the floor comes first"),
        pytest.param(1, Split(1, 9), slice_(5), slice_(5), 20, Split(5, 9), id="a lower floor: on-demand stays"),
        pytest.param(1, Split(1, 9), slice_(7, starting=2), slice_(5), 20, Split(3, 9), id="and goes as spot serves"),
        pytest.param(1, Split(1, 9), slice_(5), slice_(5), 10, Split(5, 6), id="without room one at a time"),
        pytest.param(1, Split(1, 9), slice_(0, starting=9), slice_(0, starting=5), 20, Split(1, 9), id="nobody served"),
        pytest.param(
            1, Split(9, 8), slice_(8, starting=1), slice_(1), 10, Split(2, 8),
            id="growth that was noted before spot came up",
        ),
        pytest.param(
            1, Split(10, 1), slice_(0, pending=9), slice_(1), 10, Split(10, 1),
            id="growth into all that waiting pods leave free",
        ),
        pytest.param(
            1, Split(5, 6), slice_(5, pending=4), slice_(1), 10, Split(5, 6), id="and into what serving ones leave",
        ),
        pytest.param(
            1, Split(2, 10), slice_(8, leaving=1), slice_(1, leaving=1), 10, Split(2, 10), id="what leaves is beside it"
        ),
    ],
)  # fmt: skip
def test_what_serves_goes_only_when_something_else_serves(
    base: int, target: Split, spot: SliceFact, on_demand: SliceFact, max_replicas: int, expected: Split
) -> None:
    told = facts(spot, on_demand, max_replicas=max_replicas, capacity={"onDemandBase": base})
    assert pace(target, told) == expected


def test_without_facts_there_is_nothing_to_pace() -> None:
    assert pace(Split(1, 9), facts(None)) == Split(1, 9)


def test_an_on_demand_pod_that_leaves_is_replaced_before_it_is_gone() -> None:
    told = facts(slice_(9), slice_(0, leaving=1), state=state())
    decision = decide_capacity(told, NOW)
    assert decision.split == Split(2, 9)
    assert decision.state is not None
    assert (decision.state.mode, decision.state.extra_on_demand) == ("Normal", 0)
