"""Children: as wanted, put back when others change them, and left as they are when only the operator is newer."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.facts import Region
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.manifests import engine_deployment
from npc_operator.manifests.engine_pod import build_pod_template
from npc_operator.manifests.labels import controller_reference, gateway_labels
from npc_operator.manifests.pod_layout import EngineInputs
from npc_operator.ports import Images, PortError
from npc_operator.reconcilers.route_tables import read_routes
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, adapter, region, tier
from tests.support.fake_kube import Call


async def settled(**options: Any) -> World:
    world = World()
    world.put(region(), tier(**options), adapter())
    await world.settle()
    world.api.forget_calls()
    return world


async def test_a_foreign_change_of_an_owned_field_is_put_back() -> None:
    world = await settled()
    world.edit("Deployment", "gold-spot", lambda live: live["spec"].update(replicas=7))
    world.edit("Service", "eu-west-gateway", lambda live: live["spec"].update(type="NodePort"))
    world.edit(
        "PodDisruptionBudget",
        "gold-engine",
        lambda live: live["spec"].update(unhealthyPodEvictionPolicy="IfHealthyBudget"),
    )
    await world.settle()
    assert world.live("Deployment", "gold-spot")["spec"]["replicas"] == 1
    assert world.live("Service", "eu-west-gateway")["spec"]["type"] == "ClusterIP"
    assert world.live("PodDisruptionBudget", "gold-engine")["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


async def test_a_deleted_child_is_made_again() -> None:
    world = await settled()
    for kind, name in (
        ("Service", "gold-engine"),
        ("PodDisruptionBudget", "gold-engine"),
        ("Secret", "eu-west-routes"),
    ):
        world.api.remove(kind, NAMESPACE, name)
    await world.settle()
    for kind, name in (
        ("Service", "gold-engine"),
        ("PodDisruptionBudget", "gold-engine"),
        ("Secret", "eu-west-routes"),
    ):
        assert world.live(kind, name)


async def test_a_child_whose_owner_was_taken_away_gets_it_back() -> None:
    world = await settled()
    world.edit("Service", "gold-engine", lambda live: live["metadata"].update(ownerReferences=[]))
    await world.settle()
    (owner,) = world.live("Service", "gold-engine")["metadata"]["ownerReferences"]
    assert owner["kind"] == names.KIND_TIER


async def test_what_was_orphaned_is_taken_over_by_the_object_that_comes_back_and_no_pod_goes() -> None:
    """`kubectl delete --cascade=orphan` of everything, and the same manifests applied again."""
    world = await settled()
    kinds = ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "Secret")
    before = {(kind, one["metadata"]["name"]): one["metadata"]["uid"] for kind in kinds for one in world.peek(kind)}
    pods = {one["metadata"]["uid"] for one in world.peek("Pod")}
    keys = world.live("Secret", names.SECRET_ENGINE_KEY)["data"]
    for kind, name in before:
        world.edit(kind, name, lambda live: live["metadata"].update(ownerReferences=[]))
    for kind, name in ((names.KIND_TIER, "gold"), (names.KIND_REGION, "eu-west")):
        world.api.remove(kind, NAMESPACE, name)
    await world.settle()
    assert {one["metadata"]["uid"] for one in world.peek("Pod")} == pods, "what was orphaned runs on"

    world.put(region(), tier())
    await world.settle()
    after = {(kind, one["metadata"]["name"]): one for kind in kinds for one in world.peek(kind)}
    assert {place: one["metadata"]["uid"] for place, one in after.items()} == before
    owners = {
        world.live(kind, name)["metadata"]["uid"]
        for kind, name in ((names.KIND_TIER, "gold"), (names.KIND_REGION, "eu-west"))
    }
    for place, one in after.items():
        references = one["metadata"]["ownerReferences"]
        assert references, place
        assert {reference["uid"] for reference in references} <= owners, place
    assert {one["metadata"]["uid"] for one in world.peek("Pod")} == pods
    assert world.live("Secret", names.SECRET_ENGINE_KEY)["data"] == keys
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"


async def test_an_owner_that_is_going_is_not_given_back_to_what_it_orphans() -> None:
    world = await settled()
    world.delivering = False  # nobody told the operator yet
    going = "2026-11-21T00:00:00Z"
    world.edit(names.KIND_TIER, "gold", lambda live: live["metadata"].update(deletionTimestamp=going))
    world.delivering = True
    world.edit("Service", "gold-engine", lambda live: live["metadata"].update(ownerReferences=[]))
    await world.settle()
    assert world.live("Service", "gold-engine")["metadata"]["ownerReferences"] == []


async def test_a_child_of_an_earlier_tier_of_the_same_name_is_waited_for() -> None:
    world = await settled()
    world.controllers_run = False  # nor does the garbage collector
    world.edit("Service", "gold-engine", lambda live: live["metadata"]["ownerReferences"][0].update(uid="earlier"))
    await world.settle(seconds=3)
    assert world.said(names.KIND_TIER, "gold", "Reconciling")[1] == reasons.RETRYING
    assert world.writes_of("Service") == 0
    world.controllers_run = True
    await world.settle()
    assert world.said(names.KIND_TIER, "gold", "Reconciling") == ("", "", "")


async def test_while_the_watch_is_silent_nothing_is_written_twice() -> None:
    world = await settled()
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(replicas=3))
    world.delivering = False
    for _ in range(3):
        world.queue.add(Key(KeyKind.TIER, NAMESPACE, "gold"))
        await world.settle(seconds=5)
    assert world.writes_of("Deployment") == 1


async def test_the_last_routes_are_written_at_most_every_five_seconds_and_without_residency() -> None:
    world = await settled()
    for number in range(8):
        world.put(adapter(f"archetype-{number}"))
        await world.settle(seconds=1)
    assert 1 <= world.writes_of("Secret") <= 3
    await world.settle(seconds=10)
    kept = read_routes(world.live("Secret", "eu-west-routes"))
    assert kept is not None
    assert len(kept.aliases) == 9
    assert all(endpoint.resident is None for endpoint in kept.tiers[0].endpoints)


async def test_foreign_fields_are_left_alone_and_cost_no_write() -> None:
    world = await settled()

    def annotate(live: dict[str, Any]) -> None:
        live["metadata"].setdefault("annotations", {})["example.com/note"] = "mine"
        live["metadata"].setdefault("labels", {})["example.com/team"] = "games"

    for kind, name in (("Deployment", "gold-spot"), ("Service", "eu-west-gateway"), ("Secret", "npc-fleet-internal")):
        world.edit(kind, name, annotate)
    await world.settle()
    assert world.writes() == []
    assert world.live("Deployment", "gold-spot")["metadata"]["annotations"]["example.com/note"] == "mine"


async def test_a_label_taken_off_by_the_user_is_taken_off_the_pods() -> None:
    world = await settled(spec={"podLabels": {"team": "games"}})
    template = world.live("Deployment", "gold-spot")["spec"]["template"]
    assert template["metadata"]["labels"]["team"] == "games"
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].pop("podLabels"))
    await world.settle()
    template = world.live("Deployment", "gold-spot")["spec"]["template"]
    assert "team" not in template["metadata"]["labels"]


async def test_replicas_follow_the_population_until_they_are_set() -> None:
    world = World()
    world.put(region(tiers={"gold": 320}), tier(spec={"maxReplicas": 6, "capacity": {"onDemandBase": 2}}), adapter())
    await world.settle()
    status = world.status(names.KIND_TIER, "gold")
    assert status["wantedReplicas"] == 6  # 320 / 50 = 7, at most 6
    assert (status["slices"]["onDemand"]["desired"], status["slices"]["spot"]["desired"]) == (2, 4)
    assert status["replicas"] == 6

    # What an HPA or kubectl scale writes through the scale subresource.
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(replicas=3))
    await world.settle()
    status = world.status(names.KIND_TIER, "gold")
    assert status["replicas"] == 3
    assert len(world.pods("gold")) == 3
    pods = [pod for pod in world.peek("Pod") if pod["metadata"]["labels"].get(names.LABEL_TIER) == "gold"]
    selector = dict(part.split("=", 1) for part in status["selector"].split(","))
    assert all(selector.items() <= pod["metadata"]["labels"].items() for pod in pods)

    world.edit(
        names.KIND_REGION, "eu-west", lambda live: live["spec"]["tiers"][0].update(npcs={"min": 900, "max": 900})
    )
    await world.settle()
    assert world.status(names.KIND_TIER, "gold")["wantedReplicas"] == 3


async def test_a_newer_operator_replaces_no_engine_pod_and_its_image_comes_with_the_next_change() -> None:
    world = await settled()
    before = set(world.pods("gold"))
    world.images = Images(engine="vllm:newer", fleet="npc-fleet:2")
    world.lead()
    await world.settle()
    assert set(world.pods("gold")) == before
    assert all(f"Deployment {NAMESPACE}/gold" not in write for write in world.writes())
    # The gateway is no engine: it is rolled.
    gateway = world.live("Deployment", "eu-west-gateway")["spec"]["template"]["spec"]
    assert gateway["containers"][0]["image"] == "npc-fleet:2"

    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"]["engine"].update(extraArgs=["--max-num-seqs=8"]))
    await world.settle()
    agent = world.live("Deployment", "gold-spot")["spec"]["template"]["spec"]["initContainers"][0]
    assert agent["image"] == "npc-fleet:2"
    assert not before & set(world.pods("gold"))


async def test_a_newer_builder_of_pods_leaves_running_pods_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settled()
    before = set(world.pods("gold"))

    def build_otherwise(inputs: EngineInputs) -> dict[str, Any]:
        template = build_pod_template(inputs)
        template["spec"]["containers"][0]["args"].append("--something-new")
        template["spec"]["containers"][0]["env"].insert(0, {"name": "NEW", "value": "1"})
        return template

    monkeypatch.setattr(engine_deployment, "TEMPLATE_VERSION", 99)
    monkeypatch.setattr(engine_deployment, "build_pod_template", build_otherwise)
    world.lead()
    await world.settle()
    assert set(world.pods("gold")) == before
    assert world.writes() == []

    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(replicas=3))
    await world.settle()
    assert before < set(world.pods("gold"))

    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"]["engine"].update(maxModelLen=2048))
    await world.settle()
    assert not before & set(world.pods("gold"))
    args = world.live("Deployment", "gold-spot")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--something-new" in args


async def test_an_engine_argument_rolls_the_pods_one_after_the_other_with_a_proven_one_first() -> None:
    world = await settled()
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"]["engine"].update(maxModelLen=2048))
    await world.settle()
    for gateway in world.doors().values():
        for table in gateway.history:
            routed = {alias.targets[0].served_name for alias in table.aliases}
            endpoints = table.tiers[0].endpoints
            if routed and len(gateway.history) > 1:
                assert any(set(endpoint.resident or ()) >= routed for endpoint in endpoints)
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"


async def test_a_service_of_another_name_takes_the_place_of_the_former() -> None:
    world = await settled()
    world.edit(names.KIND_REGION, "eu-west", lambda live: live["spec"]["gateway"].update(service={"name": "npc"}))
    await world.settle()
    assert world.live("Service", "npc")
    assert world.api.find("Service", NAMESPACE, "eu-west-gateway") is None
    assert world.status(names.KIND_REGION, "eu-west")["endpoint"] == "http://npc.eu-west.svc"


KINDS = ((names.KIND_REGION, "eu-west"), (names.KIND_TIER, "gold"), (names.KIND_ADAPTER, "vampire"))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_objects_can_be_deleted_in_any_order(order: tuple[int, ...]) -> None:
    world = await settled()
    for index in order:
        kind, name = KINDS[index]
        world.api.remove(kind, NAMESPACE, name)
        await world.settle(seconds=5)
    world.api.forget_calls()
    await world.settle(seconds=300)
    assert world.writes() == []
    left = [(found["kind"], found["metadata"]["name"]) for kind in ALL for found in world.peek(kind)]
    assert left == []


ALL = ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "Secret", "Pod", *names.PLURALS)


async def test_engine_policies_of_a_former_build_go_when_the_one_that_replaces_them_is_there() -> None:
    world = World()
    world.put(region())
    await world.settle()
    owning = world.store.get(Region, NAMESPACE, "eu-west")
    assert owning is not None
    owner = controller_reference(names.KIND_REGION, owning.meta)

    def policy(name: str, labels: dict[str, str], *owners: dict[str, Any]) -> dict[str, Any]:
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels, "ownerReferences": list(owners)}
        spec = {"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress"]}
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}

    world.api.put(policy("eu-west-gold-engine", gateway_labels("eu-west"), owner), manager=names.MANAGER_CHILDREN)
    world.api.put(policy("eu-west-of-a-user", {}, owner))
    world.api.put(policy("somebody-elses", gateway_labels("eu-west")))
    kept = {"eu-west-gateway", "eu-west-of-a-user", "somebody-elses"}

    def guards(call: Call) -> bool:
        return call.name == names.ENGINE_POLICY

    works_again = world.api.fail(PortError("the API server is busy"), where=guards)
    world.put(tier(), adapter())
    await world.settle()
    assert {one["metadata"]["name"] for one in world.peek("NetworkPolicy")} == {*kept, "eu-west-gold-engine"}
    works_again()
    await world.settle()
    assert {one["metadata"]["name"] for one in world.peek("NetworkPolicy")} == {*kept, names.ENGINE_POLICY}
    world.api.forget_calls()
    world.resync()
    await world.settle()
    assert world.writes() == []


async def test_a_whole_namespace_can_go() -> None:
    world = await settled()
    world.api.end_namespace(NAMESPACE)
    await world.settle(seconds=120)
    assert [found for kind in ALL for found in world.peek(kind)] == []


async def test_the_secrets_belong_to_regions_and_tiers_and_no_controller() -> None:
    world = await settled()
    for name in (names.SECRET_INTERNAL, names.SECRET_ENGINE_KEY):
        owners = world.live("Secret", name)["metadata"]["ownerReferences"]
        assert [(owner["kind"], owner["name"]) for owner in owners] == [("GpuTier", "gold"), ("NPCRegion", "eu-west")]
        assert not any(owner.get("controller") for owner in owners)


async def test_what_is_published_belongs_to_the_status_manager_alone() -> None:
    world = await settled()
    for kind, name in KINDS:
        managers = {
            (entry["manager"], entry.get("subresource", ""))
            for entry in world.live(kind, name)["metadata"]["managedFields"]
            if entry["manager"].startswith("npc-")
        }
        assert managers == {(names.MANAGER_STATUS, "status")}
