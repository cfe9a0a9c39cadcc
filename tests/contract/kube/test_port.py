"""What the Kube port promises, asked of FakeKube and of a real kube-apiserver alike."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from npc_operator.domain.drift import find_drift
from npc_operator.ports import Conflict, NotFound, ObjectRef, PortError
from tests.contract.kube.conftest import World

OURS = "npc-operator"
STATUS = "npc-operator-status"
NOBODY = "11111111-1111-1111-1111-111111111111"
DIGEST = "sha256:" + "a" * 64


def config(
    world: World, data: dict[str, str], *, name: str = "thing", labels: dict[str, str] | None = None
) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": world.namespace}
    if labels:
        meta["labels"] = labels
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def deployment(world: World, *, image: str = "one", env: list[dict[str, str]] | None = None) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "engine", "image": image, "ports": [{"containerPort": 8000, "name": "http"}]}
    if env is not None:
        container["env"] = env
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "gold-spot", "namespace": world.namespace, "labels": {"a": "1"}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "gold"}},
            "template": {"metadata": {"labels": {"app": "gold"}}, "spec": {"containers": [container]}},
        },
    }


def adapter(world: World, *, importance: str = "Normal") -> dict[str, Any]:
    return {
        "apiVersion": "npcfleet.dev/v1alpha1",
        "kind": "ArchetypeAdapter",
        "metadata": {"name": "vampire", "namespace": world.namespace},
        "spec": {
            "archetype": "vampire",
            "importance": importance,
            "variants": [{"tier": "gold", "source": {"uri": "s3://bucket/vampire", "digest": DIGEST}}],
        },
    }


def adapter_status(world: World, *, ready: str, generation: int = 1) -> dict[str, Any]:
    condition = {
        "type": "Ready",
        "status": ready,
        "reason": "Resident",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": generation,
    }
    return {
        "apiVersion": "npcfleet.dev/v1alpha1",
        "kind": "ArchetypeAdapter",
        "metadata": {"name": "vampire", "namespace": world.namespace},
        "status": {"observedGeneration": generation, "conditions": [condition]},
    }


def ref(manifest: Any, *, uid: str = "") -> ObjectRef:
    meta = manifest["metadata"]
    return ObjectRef(manifest["apiVersion"], manifest["kind"], meta.get("namespace", ""), meta["name"], uid)


def owned(manifest: Any, manager: str, subresource: str = "") -> Any:
    for entry in manifest["metadata"]["managedFields"]:
        if entry["manager"] == manager and entry.get("subresource", "") == subresource:
            return entry["fieldsV1"]
    return None


async def test_what_was_applied_can_be_read_back_with_an_identity(world: World) -> None:
    applied = await world.kube.apply(config(world, {"k": "v"}), manager=OURS)
    live = await world.kube.get(ref(applied))
    assert live is not None
    assert live["data"] == {"k": "v"}
    assert live["apiVersion"] == "v1"
    assert live["kind"] == "ConfigMap"
    assert live["metadata"]["uid"]
    assert int(live["metadata"]["resourceVersion"]) > 0


async def test_an_object_that_is_not_there_is_none_and_no_error(world: World) -> None:
    assert await world.kube.get(ref(config(world, {}))) is None


async def test_applying_the_same_again_changes_nothing(world: World) -> None:
    first = await world.kube.apply(deployment(world), manager=OURS)
    second = await world.kube.apply(deployment(world), manager=OURS)
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert find_drift(deployment(world), second, manager=OURS) == ()


async def test_a_change_moves_the_version_and_of_the_spec_also_the_generation(world: World) -> None:
    first = await world.kube.apply(deployment(world), manager=OURS)
    second = await world.kube.apply(deployment(world, image="two"), manager=OURS)
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    assert second["metadata"]["generation"] == first["metadata"]["generation"] + 1
    relabelled = copy.deepcopy(deployment(world, image="two"))
    relabelled["metadata"]["labels"]["a"] = "2"
    third = await world.kube.apply(relabelled, manager=OURS)
    assert third["metadata"]["generation"] == second["metadata"]["generation"]


async def test_a_field_no_longer_applied_goes_unless_somebody_else_has_it(world: World) -> None:
    await world.kube.apply(config(world, {"ours": "1", "shared": "1"}), manager=OURS)
    await world.kube.apply(config(world, {"shared": "1"}), manager="other")
    live = await world.kube.apply(config(world, {"new": "1"}), manager=OURS)
    assert live["data"] == {"shared": "1", "new": "1"}


async def test_a_field_of_somebody_else_stays_when_we_apply(world: World) -> None:
    await world.kube.apply(config(world, {"ours": "1"}), manager=OURS)
    await world.kube.apply(config(world, {"theirs": "1"}), manager="other")
    live = await world.kube.apply(config(world, {"ours": "2"}), manager=OURS)
    assert live["data"] == {"ours": "2", "theirs": "1"}


async def test_a_field_of_ours_that_somebody_changed_is_taken_back_by_force(world: World) -> None:
    await world.kube.apply(config(world, {"k": "ours"}), manager=OURS)
    await world.kube.apply(config(world, {"k": "theirs"}), manager="other")
    live = await world.kube.apply(config(world, {"k": "ours"}), manager=OURS)
    assert live["data"] == {"k": "ours"}
    assert owned(live, "other") is None
    assert owned(live, OURS) == {"f:data": {"f:k": {}}}


async def test_a_field_two_managers_agree_on_belongs_to_both(world: World) -> None:
    await world.kube.apply(config(world, {"k": "v"}), manager="other")
    live = await world.kube.apply(config(world, {"k": "v"}), manager=OURS)
    assert owned(live, OURS) == owned(live, "other") == {"f:data": {"f:k": {}}}


async def test_items_of_a_keyed_list_are_owned_one_by_one(world: World) -> None:
    await world.kube.apply(deployment(world, env=[{"name": "A", "value": "1"}]), manager=OURS)
    theirs = deployment(world, env=[{"name": "B", "value": "2"}])
    container = theirs["spec"]["template"]["spec"]["containers"][0]
    theirs["spec"] = {"template": {"spec": {"containers": [{"name": "engine", "env": container["env"]}]}}}
    del theirs["metadata"]["labels"]
    await world.kube.apply(theirs, manager="other")
    live = await world.kube.apply(deployment(world, env=[{"name": "A", "value": "3"}]), manager=OURS)
    env = live["spec"]["template"]["spec"]["containers"][0]["env"]
    assert sorted((entry["name"], entry["value"]) for entry in env) == [("A", "3"), ("B", "2")]
    without = await world.kube.apply(deployment(world), manager=OURS)
    env = without["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [entry["name"] for entry in env] == ["B"]


async def test_ownership_is_written_as_the_api_server_writes_it(world: World) -> None:
    live = await world.kube.apply(deployment(world, env=[{"name": "A", "value": "1"}]), manager=OURS)
    assert owned(live, OURS) == {
        "f:metadata": {"f:labels": {"f:a": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:template": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"engine"}': {
                            ".": {},
                            "f:name": {},
                            "f:image": {},
                            "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
                            "f:ports": {
                                'k:{"containerPort":8000,"protocol":"TCP"}': {
                                    ".": {},
                                    "f:containerPort": {},
                                    "f:name": {},
                                }
                            },
                        }
                    }
                },
            },
        },
    }


async def test_the_status_is_written_by_its_subresource_alone(world: World) -> None:
    wanted = {**adapter(world), "status": {"observedGeneration": 7}}
    created = await world.kube.apply(wanted, manager="user")
    assert (created.get("status") or {}).get("observedGeneration") != 7
    live = await world.kube.apply(adapter_status(world, ready="True"), manager=STATUS, subresource="status")
    assert live["status"]["conditions"][0]["status"] == "True"
    assert live["metadata"]["generation"] == created["metadata"]["generation"]
    assert live["spec"]["archetype"] == "vampire"
    assert owned(live, STATUS, "status") is not None


async def test_a_status_written_again_unchanged_changes_nothing(world: World) -> None:
    await world.kube.apply(adapter(world), manager="user")
    first = await world.kube.apply(adapter_status(world, ready="True"), manager=STATUS, subresource="status")
    second = await world.kube.apply(adapter_status(world, ready="True"), manager=STATUS, subresource="status")
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_conditions_of_another_manager_stay_beside_ours(world: World) -> None:
    await world.kube.apply(adapter(world), manager="user")
    theirs = adapter_status(world, ready="Unknown")
    theirs["status"]["conditions"][0]["type"] = "Theirs"
    await world.kube.apply(theirs, manager="other", subresource="status")
    live = await world.kube.apply(adapter_status(world, ready="True"), manager=STATUS, subresource="status")
    assert sorted(condition["type"] for condition in live["status"]["conditions"]) == ["Ready", "Theirs"]


async def test_a_status_of_nothing_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        await world.kube.apply(adapter_status(world, ready="True"), manager=STATUS, subresource="status")


async def test_applying_with_the_uid_of_another_object_is_a_conflict(world: World) -> None:
    await world.kube.apply(config(world, {"k": "v"}), manager=OURS)
    wanted = config(world, {"k": "w"})
    wanted["metadata"]["uid"] = NOBODY
    with pytest.raises(Conflict):
        await world.kube.apply(wanted, manager=OURS)


async def test_applying_with_a_uid_where_nothing_is_is_a_conflict(world: World) -> None:
    wanted = config(world, {"k": "w"})
    wanted["metadata"]["uid"] = NOBODY
    with pytest.raises(Conflict):
        await world.kube.apply(wanted, manager=OURS)
    assert await world.kube.get(ref(wanted)) is None


async def test_applying_onto_an_outdated_version_is_a_conflict(world: World) -> None:
    first = await world.kube.apply(config(world, {"k": "v"}), manager=OURS)
    await world.kube.apply(config(world, {"k": "w"}), manager=OURS)
    wanted = config(world, {"k": "x"})
    wanted["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await world.kube.apply(wanted, manager=OURS)


async def test_a_status_decided_from_an_outdated_version_is_a_conflict(world: World) -> None:
    made = await world.kube.apply(adapter(world), manager=OURS)
    version = made["metadata"]["resourceVersion"]
    first, late = adapter_status(world, ready="True"), adapter_status(world, ready="False")
    for one in (first, late):
        one["metadata"]["resourceVersion"] = version
    written = await world.kube.apply(first, manager=STATUS, subresource="status")
    with pytest.raises(Conflict):
        await world.kube.apply(late, manager=STATUS, subresource="status")
    live = await world.kube.get(ref(made))
    assert live is not None
    assert live["metadata"]["resourceVersion"] == written["metadata"]["resourceVersion"] != version
    assert live["status"]["conditions"][0]["status"] == "True"


async def test_creating_what_exists_is_a_conflict(world: World) -> None:
    await world.kube.create(config(world, {"k": "v"}), manager=OURS)
    with pytest.raises(Conflict):
        await world.kube.create(config(world, {"k": "v"}), manager=OURS)


async def test_a_delete_takes_exactly_what_was_seen(world: World) -> None:
    seen = await world.kube.apply(config(world, {"k": "v"}), manager=OURS)
    changed = await world.kube.apply(config(world, {"k": "w"}), manager=OURS)
    version = seen["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await world.kube.delete(ref(seen, uid=seen["metadata"]["uid"]), resource_version=version)
    with pytest.raises(Conflict):
        await world.kube.delete(ref(changed, uid=NOBODY), resource_version=changed["metadata"]["resourceVersion"])
    assert await world.kube.get(ref(seen)) is not None
    await world.kube.delete(
        ref(changed, uid=changed["metadata"]["uid"]), resource_version=changed["metadata"]["resourceVersion"]
    )
    assert await world.kube.get(ref(seen)) is None


async def test_deleting_what_is_gone_is_success(world: World) -> None:
    await world.kube.delete(ref(config(world, {}), uid=NOBODY), resource_version="1")


async def test_a_list_is_limited_by_namespace_and_label_and_names_the_kind(world: World) -> None:
    await world.kube.apply(config(world, {}, name="one", labels={"mine": "yes"}), manager=OURS)
    await world.kube.apply(config(world, {}, name="two"), manager=OURS)
    listed = world.kube.list("v1", "ConfigMap", namespace=world.namespace, selector="mine=yes")
    found = [item async for item in listed]
    assert [(item["kind"], item["apiVersion"], item["metadata"]["name"]) for item in found] == [
        ("ConfigMap", "v1", "one")
    ]


async def test_a_kind_that_is_not_in_the_table_is_refused_for_good(world: World) -> None:
    with pytest.raises(PortError) as caught:
        await world.kube.get(ObjectRef("v1", "Unheard", world.namespace, "x"))
    assert caught.value.reason == "UnknownKind"
    assert not caught.value.retryable
