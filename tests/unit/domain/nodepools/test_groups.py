"""What is to be done about an AutoScaling group, in tables: what is there, what is wanted, what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.api import names
from npc_operator.api.nodepools import AutoScalingGroup
from npc_operator.domain.nodepools.groups import (
    AUTOSCALER,
    Adopt,
    Await,
    Create,
    Delete,
    GroupDescription,
    Keep,
    LiveGroup,
    Refuse,
    Shrink,
    TemplateRef,
    Update,
    describe_groups,
    find_changes,
    plan_group,
)
from tests.support.builders import tier_fact

GIVEN: dict[str, Any] = {
    "clusterName": "games",
    "region": "eu-west-1",
    "launchTemplate": {"name": "gpu-nodes"},
    "subnets": ["subnet-0a", "subnet-0b"],
    "instanceTypes": ["g6.2xlarge", "g5.2xlarge"],
    "maxSize": 6,
}


def described(slice_: str = "spot", *, uid: str = "uid-1", tier: dict[str, Any] | None = None, **more: Any) -> Any:
    fact = tier_fact(uid=uid, spec=tier)
    return describe_groups(fact.meta, fact.spec, AutoScalingGroup.model_validate({**GIVEN, **more}))[slice_]


WANTED: GroupDescription = described()
IDENTITY = WANTED.identity()
LIVE = LiveGroup(WANTED)
NAMELESS = replace(WANTED, name="by-hand")


def changed(**fields: Any) -> LiveGroup:
    return LiveGroup(replace(WANTED, **fields))


def tagged(**tags: str) -> LiveGroup:
    return LiveGroup(replace(WANTED, tags={**WANTED.tags, **tags}))


EMPTY = replace(WANTED, min_size=0, max_size=0)
FOREIGN = LiveGroup(replace(WANTED, tags={"team": "other"}))

TAGGED_BY_HAND = LiveGroup(replace(WANTED, tags=IDENTITY))


@pytest.mark.parametrize(
    ("live", "desired", "plan"),
    [
        ([], WANTED, Create()),
        ([LIVE], WANTED, Keep()),
        ([LiveGroup(WANTED, instances=5)], WANTED, Keep()),
        ([changed(max_size=9)], WANTED, Update(WANTED.name, ("maximum",))),
        ([changed(spot_strategy="lowest-price")], WANTED, Update(WANTED.name, ("spot allocation strategy",))),
        ([changed(capacity_rebalance=False)], WANTED, Update(WANTED.name, ("capacity rebalance",))),
        ([changed(on_demand_percentage=50)], WANTED, Update(WANTED.name, ("on-demand percentage",))),
        ([changed(on_demand_base=2)], WANTED, Update(WANTED.name, ("on-demand base",))),
        ([changed(subnets=WANTED.subnets[::-1])], WANTED, Keep()),
        ([changed(instance_types=WANTED.instance_types[::-1])], WANTED, Update(WANTED.name, ("instance types",))),
        ([tagged(extra="theirs")], WANTED, Keep()),
        ([tagged(**{f"{AUTOSCALER}/enabled": "false"})], WANTED, Update(WANTED.name, ("tags",))),
        ([tagged(**{names.LABEL_TIER_UID: "another"})], WANTED, Adopt(WANTED.name)),
        ([LiveGroup(NAMELESS)], WANTED, Keep()),
        ([LiveGroup(replace(NAMELESS, max_size=1))], WANTED, Update("by-hand", ("maximum",))),
        ([LiveGroup(WANTED, deleting=True)], WANTED, Await(WANTED.name, "it is being deleted")),
        ([FOREIGN], None, Keep()),
        ([TAGGED_BY_HAND], WANTED, Adopt(WANTED.name)),
        ([TAGGED_BY_HAND], None, Keep()),
        ([], None, Keep()),
        ([LIVE], None, Shrink(WANTED.name)),
        ([LiveGroup(replace(WANTED, min_size=1))], None, Shrink(WANTED.name)),
        ([LiveGroup(EMPTY, instances=2)], None, Await(WANTED.name, "2 instances end")),
        ([LiveGroup(EMPTY)], None, Delete(WANTED.name)),
        ([LiveGroup(EMPTY, deleting=True)], None, Await(WANTED.name, "it is being deleted")),
    ],
)
def test_what_is_there_and_what_is_wanted_say_what_to_do(
    live: list[LiveGroup], desired: GroupDescription | None, plan: Any
) -> None:
    assert plan_group(live, desired, identity=IDENTITY) == plan


@pytest.mark.parametrize("desired", [WANTED, None])
@pytest.mark.parametrize("live", [[LIVE, LiveGroup(NAMELESS)]], ids=["two with our tags"])
def test_what_is_ambiguous_is_left_to_a_person(live: list[LiveGroup], desired: GroupDescription | None) -> None:
    plan = plan_group(live, desired, identity=IDENTITY)
    assert isinstance(plan, Refuse)
    assert "by-hand" in plan.why


def test_a_group_of_our_name_without_our_tags_is_left_alone() -> None:
    assert isinstance(plan_group([FOREIGN], WANTED, identity=IDENTITY), Refuse)


@given(
    tags=st.dictionaries(
        st.sampled_from([*IDENTITY, names.LABEL_TIER_UID, "other"]), st.sampled_from(["", "x", *IDENTITY.values()])
    ),
    instances=st.integers(0, 3),
    wanted=st.booleans(),
)
def test_whatever_its_tags_nothing_is_changed_that_lacks_one_of_ours(
    tags: dict[str, str], instances: int, wanted: bool
) -> None:
    group = LiveGroup(replace(WANTED, tags=tags), instances=instances)
    plan = plan_group([group], WANTED if wanted else None, identity=IDENTITY)
    if isinstance(plan, Update | Adopt | Shrink | Delete):
        assert IDENTITY.items() <= tags.items()
    if isinstance(plan, Shrink | Delete):
        assert tags.get(names.LABEL_TIER_UID)


def test_the_slices_are_all_and_nothing_on_demand() -> None:
    on_demand, spot = described("on-demand"), described("spot")
    assert (on_demand.on_demand_percentage, spot.on_demand_percentage) == (100, 0)
    assert (on_demand.capacity_rebalance, spot.capacity_rebalance) == (False, True)
    assert on_demand.name != spot.name
    key = f"{AUTOSCALER}/node-template/label/karpenter.sh/capacity-type"
    assert (on_demand.tags[key], spot.tags[key]) == ("on-demand", "spot")


def test_the_fields_own_strategy_is_the_default_and_the_other_is_offered() -> None:
    assert described().spot_strategy == "capacity-optimized"
    assert described(spotAllocationStrategy="PriceCapacityOptimized").spot_strategy == "price-capacity-optimized"
    assert described(onDemandAllocationStrategy="Prioritized").on_demand_strategy == "prioritized"


def test_our_tags_win_over_the_users() -> None:
    tags = described(tags={f"{AUTOSCALER}/node-template/label/karpenter.sh/capacity-type": "wrong", "team": "a"}).tags
    assert tags[f"{AUTOSCALER}/node-template/label/karpenter.sh/capacity-type"] == "spot"
    assert tags["team"] == "a"


@pytest.mark.parametrize(
    ("want", "have", "same"),
    [
        (TemplateRef(name="gpu"), TemplateRef(id="lt-1", name="gpu"), True),
        (TemplateRef(id="lt-1"), TemplateRef(id="lt-1", name="gpu"), True),
        (TemplateRef(id="lt-1"), TemplateRef(id="lt-2", name="gpu"), False),
        (TemplateRef(name="gpu", version="3"), TemplateRef(id="lt-1", name="gpu"), False),
    ],
)
def test_a_template_is_the_same_by_id_or_by_name(want: TemplateRef, have: TemplateRef, same: bool) -> None:
    assert (find_changes(replace(WANTED, template=have), replace(WANTED, template=want)) == ()) is same


def test_what_aws_adds_to_requirements_or_orders_otherwise_is_no_difference() -> None:
    given = {"vcpus": {"min": 4}, "memoryMebibytes": {"min": 8}, "acceleratorNames": ["l4", "a10g"]}
    want = described(instanceTypes=[], instanceRequirements=given)
    have = {**want.requirements, "AcceleratorNames": ["a10g", "l4"], "BareMetal": "excluded"}
    assert find_changes(replace(want, requirements=have), want) == ()
    more = {**want.requirements, "AcceleratorManufacturers": ["nvidia"]}
    assert find_changes(replace(want, requirements=more), want) == ("instance requirements",)


def test_names_are_apart_and_short_enough_for_the_longest_words() -> None:
    pieces = [("a-b", "c"), ("a", "b-c")]
    assert len({names.auto_scaling_group("x", namespace, tier, "spot") for namespace, tier in pieces}) == 2
    assert len({names.node_pool(namespace, tier, "spot") for namespace, tier in pieces}) == 2
    assert len(names.auto_scaling_group("c" * 100, "n" * 63, "t" * 36, "on-demand")) <= 255
    assert len(names.node_pool("n" * 63, "t" * 36, "on-demand")) <= 63
