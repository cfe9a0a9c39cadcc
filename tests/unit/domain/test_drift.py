"""When a live object already is what is wanted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.drift import extract_owned, find_drift, parse_quantity
from tests.support.fake_ssa import fields_of

US = "npc-operator"


def live(manifest: dict[str, Any], owned: dict[str, Any] | None = None) -> dict[str, Any]:
    """What an API server would hold after `owned` was applied by us."""
    entry = {"manager": US, "operation": "Apply", "fieldsV1": fields_of(owned if owned is not None else manifest)}
    meta = {**manifest.get("metadata", {}), "managedFields": [entry]}
    return {**manifest, "metadata": meta}


@pytest.mark.parametrize(
    ("wanted", "have"),
    [
        ({"spec": {"replicas": 1}}, {"spec": {"replicas": 1, "paused": True}}),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}),
        ({"limits": {"cpu": "0.5"}}, {"limits": {"cpu": "500m"}}),
        ({"requests": {"nvidia.com/gpu": "1"}}, {"requests": {"nvidia.com/gpu": 1}}),
        ({"emptyDir": {"sizeLimit": "1073741824"}}, {"emptyDir": {"sizeLimit": "1Gi"}}),
        ({"mount": {"readOnly": False, "subPath": ""}}, {"mount": {}}),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "B"}, {"name": "A", "value": "1"}]}),
        ({"ports": [{"port": 80}]}, {"ports": [{"port": 80, "protocol": "TCP"}]}),
        ({"emptyDir": {}}, {"emptyDir": {}}),
    ],
)
def test_the_same_in_the_api_servers_words(wanted: dict[str, Any], have: dict[str, Any]) -> None:
    assert find_drift(wanted, live(have, wanted), manager=US) == ()


@pytest.mark.parametrize(
    ("wanted", "have", "path"),
    [
        ({"spec": {"replicas": 1}}, {"spec": {"replicas": 2}}, "spec.replicas"),
        ({"spec": {"replicas": 0}}, {"spec": {"replicas": 2}}, "spec.replicas"),
        ({"spec": {"paused": False}}, {"spec": {"paused": True}}, "spec.paused"),
        ({"args": ["a", "b"]}, {"args": ["a"]}, "args"),
        ({"args": ["a", "b"]}, {"args": ["a", "c"]}, "args[1]"),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "2"}]}, "env[A].value"),
        ({"env": [{"name": "A"}]}, {"env": [{"name": "B"}]}, "env[A]"),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1G"}}, "limits.memory"),
        ({"args": ["1000m"]}, {"args": ["1"]}, "args[0]"),
        ({"a": {"b": 1}}, {"a": "text"}, "a"),
        ({"nodeSelector": {"a": "1"}}, {"nodeSelector": {"a": "1", "b": "2"}}, "nodeSelector"),
        ({"flag": True}, {"flag": 1}, "flag"),
    ],
)
def test_a_difference_is_named(wanted: dict[str, Any], have: dict[str, Any], path: str) -> None:
    assert find_drift(wanted, live(have, wanted), manager=US) == (path,)


def test_what_we_applied_once_and_want_no_more_is_drift() -> None:
    before = {
        "metadata": {"labels": {"team": "games", "tier": "gold"}},
        "spec": {"env": [{"name": "A"}, {"name": "B"}]},
    }
    wanted = {"metadata": {"labels": {"tier": "gold"}}, "spec": {"env": [{"name": "B"}]}}
    found = find_drift(wanted, live(before), manager=US)
    assert found == (
        "metadata.labels.team (no longer wanted)",
        'spec.env.{"name":"A"} (no longer wanted)',
    )


def test_what_others_added_is_theirs() -> None:
    ours = {"spec": {"replicas": 1}}
    assert find_drift(ours, live({"spec": {"replicas": 1, "extra": 5}}, ours), manager=US) == ()


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1", 1), ("1k", 1000), ("1Ki", 1024), ("500m", 0.5), ("1e3", 1000), ("0.5Gi", 2**29), ("2E", 2 * 10**18)],
)
def test_quantities(text: str, amount: float) -> None:
    found = parse_quantity(text)
    assert found is not None
    assert float(found) == amount


@pytest.mark.parametrize("text", ["", "abc", "1Xi", "Gi", "--1"])
def test_what_is_no_quantity(text: str) -> None:
    assert parse_quantity(text) is None


SCALARS = st.one_of(st.booleans(), st.integers(1, 9), st.text("ab", min_size=1, max_size=3))
TREES = st.recursive(
    SCALARS, lambda below: st.dictionaries(st.sampled_from("pqrs"), below, min_size=1, max_size=3), max_leaves=8
)
MANIFESTS = st.fixed_dictionaries({"spec": st.dictionaries(st.sampled_from("xyz"), TREES, min_size=1, max_size=3)})


@given(MANIFESTS)
def test_what_was_just_applied_does_not_drift(manifest: dict[str, Any]) -> None:
    assert find_drift(manifest, live(manifest), manager=US) == ()


@given(MANIFESTS, MANIFESTS)
def test_two_manifests_drift_exactly_when_they_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (find_drift(one, live(other), manager=US) == ()) == (one == other)


@given(MANIFESTS, st.dictionaries(st.sampled_from("uvw"), SCALARS, max_size=3))
def test_what_is_taken_out_of_a_live_object_is_what_was_applied(
    manifest: dict[str, Any], foreign: dict[str, Any]
) -> None:
    mixed = {"spec": {**manifest["spec"], **foreign}}
    assert extract_owned(mixed, fields_of(manifest)) == manifest


def test_lists_by_key_keep_their_order_when_taken_out() -> None:
    env = [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]
    ours = {"spec": {"env": env, "args": ["x", "y"]}}
    mixed = {"spec": {"env": [{"name": "F"}, *env], "args": ["x", "y"], "other": 1}}
    assert extract_owned(mixed, fields_of(ours)) == ours
