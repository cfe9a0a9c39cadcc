"""How many pods, and how many of them on demand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.api.gputier import Capacity
from npc_operator.domain.replicas import Split, decide_replicas, split_replicas
from tests.support.builders import tier_fact


@pytest.mark.parametrize(
    ("wanted", "base", "percentage", "expected"),
    [
        (0, 1, 0, Split(0, 0)),
        (1, 1, 0, Split(1, 0)),
        (5, 1, 0, Split(1, 4)),
        (5, 0, 0, Split(0, 5)),
        (5, 0, 100, Split(5, 0)),
        (5, 9, 0, Split(5, 0)),
        (10, 1, 25, Split(4, 6)),  # 1 + ceil(2.25)
        (10, 2, 50, Split(6, 4)),
        (3, 1, 1, Split(2, 1)),  # a percentage above zero rounds up
    ],
)
def test_the_split_of_design(wanted: int, base: int, percentage: int, expected: Split) -> None:
    capacity = Capacity(on_demand_base=base, on_demand_percentage_above_base=percentage)
    assert split_replicas(wanted, capacity) == expected


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 100))
def test_no_replica_is_lost_and_the_floor_holds(wanted: int, base: int, percentage: int) -> None:
    split = split_replicas(wanted, Capacity(on_demand_base=base, on_demand_percentage_above_base=percentage))
    assert split.on_demand + split.spot == wanted
    assert min(wanted, base) <= split.on_demand <= wanted
    assert split.spot >= 0


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_one_more_replica_never_takes_one_from_a_slice(wanted: int, base: int, percentage: int) -> None:
    capacity = Capacity(on_demand_base=base, on_demand_percentage_above_base=percentage)
    before, after = split_replicas(wanted, capacity), split_replicas(wanted + 1, capacity)
    assert after.on_demand >= before.on_demand
    assert after.spot >= before.spot


@pytest.mark.parametrize(
    ("spec", "population", "expected"),
    [
        ({"npcsPerReplica": 50}, 100, 2),
        ({"npcsPerReplica": 50}, 101, 3),
        ({"npcsPerReplica": 50}, 0, 1),
        ({"npcsPerReplica": 50, "minReplicas": 0}, 0, 0),
        ({"npcsPerReplica": 50, "maxReplicas": 4}, 1000, 4),
        ({"npcsPerReplica": 50, "minReplicas": 3}, None, 3),
        ({"replicas": 7}, 100, 7),
        ({"replicas": 0, "minReplicas": 0}, 100, 0),
        ({"replicas": 7, "maxReplicas": 5}, 100, 5),
        ({"replicas": 1, "minReplicas": 2}, None, 2),
    ],
)
def test_wanted_replicas(spec: dict[str, int], population: int | None, expected: int) -> None:
    assert decide_replicas(tier_fact(spec=spec).spec, population) == expected
