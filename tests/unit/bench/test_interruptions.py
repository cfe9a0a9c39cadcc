"""The pure parts of the interruption rows: the fleet, what is timed about it, and what its agents answer."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from types import ModuleType
from typing import Any

import pytest

from hack.bench import row_interruptions, row_interruptions_kwok
from hack.bench.interruption_following import Following
from hack.bench.interruption_plan import (
    DOOMED,
    ENGINES,
    INTERRUPTED,
    NODES,
    TIERS,
    Scheduler,
    build_deployment_status,
    build_node_spec,
    build_objects,
    build_pod,
    deployment_names,
    going_nodes,
    node_names,
)
from hack.bench.interruption_ports import BOOT, Agents, Gateways
from hack.bench.row_interruptions import check_run, read_runs
from hack.bench.row_interruptions_kwok import describe_run
from hack.bench.waiting import BenchFault
from npc_operator.api import names
from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.npcregion import NPCRegionSpec
from npc_operator.domain.facts import NodeFact, Pod
from npc_operator.domain.interruption.notices import Kind
from npc_operator.domain.interruption.sources.node import read_node
from npc_operator.domain.interruption.tier_view import DrainingPod, TierInterruptions
from npc_operator.edge.parse import learn, parse
from npc_operator.loop.store import Store
from npc_runtime.wire import DesiredAdapter, DesiredSet, RouteTable, Stamp
from npc_runtime.wire.routes import Endpoint, TierRoutes
from tests.support.fake_clock import FakeClock

SPECS: dict[str, Any] = {
    names.KIND_REGION: NPCRegionSpec,
    names.KIND_TIER: GpuTierSpec,
    names.KIND_ADAPTER: ArchetypeAdapterSpec,
}
TAINT = {"key": "aws-node-termination-handler/spot-itn", "value": "id", "effect": "NoSchedule"}


def deployment(name: str, replicas: int, *, spot: bool, version: int = 1) -> dict[str, Any]:
    labels = {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_COMPONENT: names.COMPONENT_ENGINE,
        names.LABEL_TIER: name.partition("-")[0],
        names.LABEL_SLICE: names.SLICE_SPOT if spot else names.SLICE_ON_DEMAND,
    }
    container = {"name": names.CONTAINER_ENGINE, "image": "engine:1", "args": ["--max-num-seqs=4"], "resources": {}}
    metadata = {"name": name, "namespace": "region-1", "uid": "u", "generation": 3, "resourceVersion": str(version)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": []}},
        },
    }


def test_the_objects_of_the_fleet_are_what_the_product_understands() -> None:
    found = list(build_objects(1))
    for one in found:
        SPECS[one["kind"]].model_validate(one["spec"])
    assert Counter(one["kind"] for one in found)[names.KIND_TIER] == len(TIERS)
    assert len(list(build_objects(3))) == 3 * len(found)


def test_as_many_pods_lie_on_the_nodes_that_go_as_the_figures_speak_of() -> None:
    scheduler, lying = Scheduler(), Counter[str]()
    for tier, pods in TIERS.items():
        for count, spot in ((pods // 10, False), (pods - pods // 10, True)):
            one = deployment(f"{tier}-x", count, spot=spot)
            lying.update(scheduler.pick(one) for _ in range(count))
    assert sum(lying.values()) == ENGINES
    assert set(lying) == set(node_names(2)[NODES:])
    assert sum(lying[node] for node in going_nodes(2)) == DOOMED
    assert len(going_nodes(10)) == 10 * INTERRUPTED == 300


def test_a_pod_of_the_fleet_is_its_deployments_to_the_operator() -> None:
    made = build_pod(deployment("gold-spot", 4, spot=True), 2, "node-0100")
    made["metadata"]["uid"] = "pod-uid"
    seen = parse("v1", "Pod", made).fact
    assert (seen.name, seen.tier, seen.slice, seen.node, seen.slots) == ("gold-spot-2", "gold", "spot", "node-0100", 4)
    status = build_deployment_status(deployment("gold-spot", 4, spot=True))
    assert (status["readyReplicas"], status["observedGeneration"]) == (4, 3)
    assert len(deployment_names()) == 7


def test_a_node_of_the_fleet_is_a_machine_of_ec2s_to_the_operator() -> None:
    node = {"metadata": {"name": "node-0255"}, "spec": build_node_spec("node-0255", TAINT)}
    seen = read_node(node)
    assert seen.instance == "i-000000000000000ff"
    assert [notice.kind for notice in seen.notices] == [Kind.INTERRUPTION]


def order(generation: int) -> DesiredSet:
    digest = f"sha256:{'a' * 64}"
    one = DesiredAdapter(served_name="v--aaaaaaaaaaaa", archetype="v", digest=digest, uri="s3://x/v", rank=8)
    return DesiredSet(stamp=Stamp(epoch=1, generation=generation), adapters=(one,))


async def test_an_agent_that_proves_at_once_answers_a_long_poll_as_soon_as_it_is_told() -> None:
    agents = Agents()

    async def watch(after: int, boot: str, seconds: int) -> Any:
        return await agents.watch("ns", "address", pod_uid="a", after=after, boot_id=boot, wait_seconds=seconds)

    first = await watch(0, "", 60)
    assert (first.revision, first.adapters) == (0, ())
    waiting = asyncio.create_task(watch(0, BOOT, 60))
    await asyncio.sleep(0)
    accepted = await agents.push("ns", "address", order(7), pod_uid="a")
    heard = await waiting
    assert heard.stamp == accepted.stamp == order(7).stamp
    assert [one.served_name for one in heard.adapters] == ["v--aaaaaaaaaaaa"]
    # Nothing new: the same word after the time that the asker waits.
    assert await watch(heard.revision, BOOT, 0) == heard


async def test_a_gateway_that_applies_at_once_says_which_pods_its_table_names() -> None:
    gateways, stamp = Gateways(), Stamp(epoch=1, generation=2)
    ends = tuple(Endpoint(pod=uid, uid=uid, address="198.18.0.1", port=8000) for uid in ("a", "b"))
    table = RouteTable(
        stamp=stamp, namespace="ns", region="region", default_tier="gold",
        tiers=(TierRoutes(name="gold", quality="Gold", endpoints=ends),),
    )  # fmt: skip
    await gateways.push("ns", "address", table, pod_uid="g")
    heard = await gateways.watch("ns", "address", pod_uid="g", after=0, boot_id=BOOT, wait_seconds=60)
    assert (heard.stamp, heard.counted) == (stamp, stamp)
    assert gateways.routed == {"g": frozenset({"a", "b"})}


def fleet_of_one(store: Store) -> Pod:
    learn(store, parse("apps/v1", "Deployment", deployment("gold-spot", 1, spot=True)))
    made = build_pod(deployment("gold-spot", 1, spot=True), 0, "node-0100")
    made["metadata"] |= {"uid": "pod-uid", "resourceVersion": "2"}
    learn(store, parse("v1", "Pod", made))
    pod = store.get(Pod, "region-1", "gold-spot-0")
    assert pod is not None
    return pod


def draining(pod: Pod) -> DrainingPod:
    return DrainingPod(
        uid=pod.uid, pod=pod.name, node=pod.node, slice="spot", kind=Kind.INTERRUPTION, since=1.0, deadline=None,
        stage="Noticed", replaced=True,
    )  # fmt: skip


async def test_everything_done_about_a_node_is_timed_from_its_event_on() -> None:
    store, routed = Store(FakeClock()), {"g": frozenset({"pod-uid"})}
    pod = fleet_of_one(store)
    following = Following(store, ["node-0100", "node-0101"], routed.values)
    found = asyncio.create_task(following.found(60.0))
    node = {"metadata": {"name": "node-0100"}, "spec": build_node_spec("node-0100", TAINT)}
    store.put(NodeFact, "", "node-0100", read_node(node))
    store.put(TierInterruptions, "region-1", "gold", TierInterruptions(draining=(draining(pod),)))
    store.put(Pod, "region-1", pod.name, dataclasses.replace(pod, interruption="{}"))
    learn(store, parse("apps/v1", "Deployment", deployment("gold-spot", 2, spot=True, version=5)))
    routed["g"] = frozenset()
    seen = await found
    assert (seen["pods"], seen["missing"]) == (1, [])
    steps = ("notice -> decided, worst, s", "written down at every pod, s", "off every gateway's routes, s")
    assert all(0 <= seen[name] < 60 for name in steps)


def test_a_pod_that_serves_nothing_is_no_interruption_to_measure() -> None:
    store = Store(FakeClock())
    pod = fleet_of_one(store)
    with pytest.raises(ValueError, match="1 of 1 pods are on no gateway's routes"):
        Following(store, [pod.node], {"g": frozenset({"another"})}.values)


async def test_what_was_not_done_in_time_is_missing() -> None:
    store = Store(FakeClock())
    pod = fleet_of_one(store)
    following = Following(store, [pod.node], {"g": frozenset({pod.uid})}.values)
    found = asyncio.create_task(following.found(0.05))
    node = {"metadata": {"name": pod.node}, "spec": build_node_spec(pod.node, TAINT)}
    store.put(NodeFact, "", pod.node, read_node(node))
    assert (await found)["missing"] == [
        "decided", "off every gateway's routes", "replacements asked for", "written down at every pod",
    ]  # fmt: skip


@pytest.mark.parametrize("row", [row_interruptions, row_interruptions_kwok], ids=lambda row: row.ROW)
def test_the_figures_are_those_of_every_run_and_bars_are_the_issues(row: ModuleType) -> None:
    runs = [dict.fromkeys(row.FIGURES, value) for value in (1.0, 2.0, 400.0)]
    figures = read_runs(runs, row=row.ROW, what=row.FIGURES, note=row.NOTE)
    assert len({figure.what for figure in figures}) == len(row.FIGURES)
    assert [figure.row for figure in figures] == [row.ROW] * len(figures)
    assert all(figure.runs == (1.0, 2.0, 400.0) for figure in figures)
    bars = sorted(figure.bar.text(figure.unit) for figure in figures if figure.bar is not None)
    assert bars == ["<= 260 MB", "<= 3 s", "<= 3 s"]


@pytest.mark.parametrize("broken", [{"pods": 1499}, {"panics": {"pod": 1.0}}, {"missing": ["decided"]}])
def test_a_run_in_which_something_was_not_done_does_not_count(broken: dict[str, Any]) -> None:
    whole = {"pods": 1500, "panics": {}, "missing": []}
    check_run(whole, pods=1500)
    with pytest.raises(BenchFault):
        check_run({**whole, **broken}, pods=1500)


def test_what_was_asked_and_refused_is_told() -> None:
    found = {"writes": {"Pod apply": 1500.0}, "errors": {}}
    assert describe_run(found) == "writes 1500 Pod apply; errors none"
