"""What the operator relies on in the schemas beyond refusals: merging, defaults, subresources, pruning.

Seen on a real API server, because only it knows what it does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from npc_operator.api.names import MANAGER_STATUS
from tests.contract.crd.api_server import Namespace, Object
from tests.contract.crd.objects import changed, valid
from tests.support.kube_env import KubeEnv

ROOT = Path(__file__).resolve().parents[3]
CRDS = sorted((ROOT / "crds").glob("*.yaml"))
KINDS = ("NPCRegion", "GpuTier", "ArchetypeAdapter")
NOW = "2026-11-21T08:00:00Z"


def condition(kind: str, status: str = "True") -> Object:
    return {"type": kind, "status": status, "reason": "Because", "lastTransitionTime": NOW, "observedGeneration": 1}


def status_of(kind: str, name: str, *conditions: Object) -> Object:
    return {
        "apiVersion": "npcfleet.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "status": {"observedGeneration": 1, "conditions": list(conditions)},
    }


def made(namespace: Namespace, kind: str, name: str, changes: Mapping[str, Any] | None = None) -> Object:
    answer = namespace.create(changed(valid(kind, name), changes or {}))
    assert answer.code == 201, answer.body.get("message")
    return answer.body


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_object_says_that_nobody_has_looked_at_it(namespace: Namespace, kind: str) -> None:
    assert made(namespace, kind, "unseen")["status"] == {"observedGeneration": -1}


def test_defaults_reach_into_objects_that_were_not_written(namespace: Namespace) -> None:
    spec = made(namespace, "GpuTier", "defaults")["spec"]
    assert spec["engine"]["maxCpuLoras"] == 32
    assert spec["agent"] == {
        "cacheSize": "10Gi",
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    }
    assert spec["capacity"] == {
        "onDemandBase": 1,
        "onDemandPercentageAboveBase": 0,
        "overprovisionReplicas": 0,
        "fallback": {"afterSeconds": 60, "returnAfterSeconds": 300},
        "storm": {"windowSeconds": 600, "holdSeconds": 1800},
    }
    assert spec["capacityTypeLabel"] == {}
    assert spec["updateStrategy"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "replicas" not in spec


def test_defaults_fill_up_objects_that_were_half_written(namespace: Namespace) -> None:
    region = made(namespace, "NPCRegion", "half")["spec"]["gateway"]
    assert region["auth"] == {"mode": "ApiKey", "secretRef": {"name": "keys"}}
    assert region["service"] == {"type": "ClusterIP", "port": 80}
    assert region["replicas"] == 2
    adapter = made(namespace, "ArchetypeAdapter", "half")["spec"]
    assert adapter["variants"][0]["rank"] == 16
    assert adapter["rollout"] == {
        "strategy": "Canary",
        "steps": [10, 25, 50, 100],
        "stepSeconds": 60,
        "ceilingPercent": 100,
        "loadTimeoutSeconds": 300,
        "onTooLittleTraffic": "Probe",
        "analysis": {
            "minRequests": 50,
            "maxErrorPercent": 5,
            "maxSlowerPercent": 115,
            "maxFirstTokenMilliseconds": 0,
        },
    }


def test_a_writer_of_one_condition_leaves_those_of_others_alone(namespace: Namespace) -> None:
    made(namespace, "NPCRegion", "conditions")
    first = status_of("NPCRegion", "conditions", condition("Ready"), condition("Reconciling"))
    assert namespace.apply(first, manager=MANAGER_STATUS, subresource="status").code == 200
    other = status_of("NPCRegion", "conditions", condition("Backup"))
    assert namespace.apply(other, manager="somebody-else", subresource="status").code == 200
    types = [item["type"] for item in namespace.get("NPCRegion", "conditions")["status"]["conditions"]]
    assert sorted(types) == ["Backup", "Ready", "Reconciling"]
    second = status_of("NPCRegion", "conditions", condition("Ready", "False"))
    answer = namespace.apply(second, manager=MANAGER_STATUS, subresource="status")
    left = {item["type"]: item["status"] for item in answer.body["status"]["conditions"]}
    assert left == {"Ready": "False", "Backup": "True"}


def test_two_conditions_of_one_type_are_refused(namespace: Namespace) -> None:
    made(namespace, "GpuTier", "twice")
    patch = {"status": {"observedGeneration": 1, "conditions": [condition("Ready"), condition("Ready", "False")]}}
    answer = namespace.merge("GpuTier", "twice", patch, subresource="status")
    assert answer.code == 422
    assert answer.causes[0][0] == "status.conditions[1]"


def test_one_voice_for_a_tier_is_replaced_without_touching_those_of_others(namespace: Namespace) -> None:
    def variant(tier: str, rank: int) -> Object:
        return {**valid("ArchetypeAdapter")["spec"]["variants"][0], "tier": tier, "rank": rank}

    def voice(*variants: Object) -> Object:
        manifest = valid("ArchetypeAdapter", "merged")
        return changed(manifest, {"spec.variants": list(variants)})

    assert namespace.apply(voice(variant("gold", 8)), manager="team-gold").code == 201
    assert namespace.apply(voice(variant("silver", 8)), manager="team-silver", force=False).code == 200
    answer = namespace.apply(voice(variant("gold", 16)), manager="team-gold")
    assert {item["tier"]: item["rank"] for item in answer.body["spec"]["variants"]} == {"gold": 16, "silver": 8}


def test_the_status_is_out_of_reach_of_those_who_write_specs(namespace: Namespace) -> None:
    made(namespace, "GpuTier", "separate")
    answer = namespace.merge("GpuTier", "separate", {"spec": {"suspend": True}, "status": {"replicas": 7}})
    assert answer.body["spec"]["suspend"] is True
    assert "replicas" not in answer.body["status"]
    assert answer.body["metadata"]["generation"] == 2


def test_a_status_write_moves_no_generation_and_no_spec(namespace: Namespace) -> None:
    made(namespace, "GpuTier", "status-only")
    patch = {"spec": {"suspend": True}, "status": {"replicas": 7}}
    answer = namespace.merge("GpuTier", "status-only", patch, subresource="status")
    assert answer.body["status"]["replicas"] == 7
    assert answer.body["spec"]["suspend"] is False
    assert answer.body["metadata"]["generation"] == 1


def test_a_status_applied_twice_changes_nothing(namespace: Namespace) -> None:
    made(namespace, "GpuTier", "same")
    status = status_of("GpuTier", "same", condition("Ready"))
    first = namespace.apply(status, manager=MANAGER_STATUS, subresource="status").body
    second = namespace.apply(status, manager=MANAGER_STATUS, subresource="status").body
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


@pytest.fixture
def scaled(namespace: Namespace) -> Iterator[str]:
    """The path of a tier's scale subresource."""
    made(namespace, "GpuTier", "scaled", {"spec.replicas": 2})
    status = {"status": {"replicas": 3, "selector": "npcfleet.dev/tier=scaled"}}
    assert namespace.merge("GpuTier", "scaled", status, subresource="status").code == 200
    yield namespace.path("GpuTier", "scaled", "scale")
    namespace.server.request("DELETE", namespace.path("GpuTier", "scaled"))


def test_the_scale_subresource_shows_what_an_autoscaler_needs(namespace: Namespace, scaled: str) -> None:
    scale = namespace.server.request("GET", scaled).body
    assert scale["kind"] == "Scale"
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"] == {"replicas": 3, "selector": "npcfleet.dev/tier=scaled"}


def test_scaling_goes_through_the_scale_subresource_and_within_bounds(
    namespace: Namespace, scaled: str, env: KubeEnv
) -> None:
    env.kubectl("scale", "gput/scaled", "--replicas=9", "-n", namespace.name)
    assert namespace.get("GpuTier", "scaled")["spec"]["replicas"] == 9
    with pytest.raises(AssertionError, match="must lie between minReplicas and maxReplicas"):
        env.kubectl("scale", "gput/scaled", "--replicas=11", "-n", namespace.name)
    assert namespace.get("GpuTier", "scaled")["spec"]["replicas"] == 9


def test_the_scale_of_a_tier_whose_replicas_are_derived_cannot_be_read(namespace: Namespace) -> None:
    """An autoscaler takes over only once somebody has set replicas: the server has no number to show before."""
    made(namespace, "GpuTier", "derived")
    answer = namespace.server.request("GET", namespace.path("GpuTier", "derived", "scale"))
    assert answer.code != 200
    assert 'the spec replicas field ".spec.replicas" does not exist' in answer.body["message"]


def test_an_unknown_field_is_named_to_careful_clients_and_pruned_for_others(namespace: Namespace) -> None:
    manifest = changed(valid("GpuTier", "typo"), {"spec.engine.maxLoraz": 3})
    strict = namespace.create(manifest)
    assert strict.code == 400
    assert 'unknown field "spec.engine.maxLoraz"' in strict.body["message"]
    path = namespace.path("GpuTier")
    lenient = namespace.server.request("POST", path, manifest, fieldValidation="Ignore")
    assert lenient.code == 201
    assert "maxLoraz" not in lenient.body["spec"]["engine"]


def test_a_field_with_a_default_that_is_given_as_null_gets_its_default(namespace: Namespace) -> None:
    created = made(namespace, "GpuTier", "null", {"spec.npcsPerReplica": None, "spec.replicas": None})
    assert created["spec"]["npcsPerReplica"] == 50
    assert "replicas" not in created["spec"]


def test_a_dry_run_tells_everything_and_leaves_nothing(namespace: Namespace, env: KubeEnv) -> None:
    good, bad = valid("GpuTier", "dry"), changed(valid("GpuTier", "dry"), {"spec.minReplicas": 11})
    out = env.kubectl("apply", "--dry-run=server", "-n", namespace.name, "-f", "-", stdin=json.dumps(good))
    assert "gputier.npcfleet.dev/dry created (server dry run)" in out
    with pytest.raises(AssertionError, match=r"spec\.minReplicas: Invalid value: .*must not be above maxReplicas"):
        env.kubectl("apply", "--dry-run=server", "-n", namespace.name, "-f", "-", stdin=json.dumps(bad))
    assert namespace.get("GpuTier", "dry")["code"] == 404


@pytest.mark.parametrize("kind", KINDS)
def test_what_kubectl_shows_can_be_applied_again_without_a_change(
    namespace: Namespace, kind: str, env: KubeEnv
) -> None:
    made(namespace, kind, "round")
    text = env.kubectl("get", kind.lower(), "round", "-n", namespace.name, "-o", "yaml")
    before = namespace.get(kind, "round")["metadata"]
    env.kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "-n",
        namespace.name,
        "-f",
        "-",
        stdin=text,
    )
    after = namespace.get(kind, "round")["metadata"]
    assert after["generation"] == before["generation"]


@pytest.mark.parametrize(
    ("word", "kinds"), [("npc", KINDS), ("npcr", KINDS[:1]), ("gput", KINDS[1:2]), ("npca", KINDS[2:])]
)
def test_kubectl_finds_the_kinds_by_category_and_short_name(
    namespace: Namespace, env: KubeEnv, word: str, kinds: tuple[str, ...]
) -> None:
    for kind in KINDS:
        namespace.create(valid(kind, "listed"))
    names = env.kubectl("get", word, "-n", namespace.name, "-o", "name").split()
    assert {f"{kind.lower()}.npcfleet.dev/listed" for kind in kinds} <= set(names)
    assert {name.partition(".")[0] for name in names} == {kind.lower() for kind in kinds}


def test_kubectl_get_all_shows_the_region_alone_of_our_kinds(namespace: Namespace, env: KubeEnv) -> None:
    for kind in KINDS:
        namespace.create(valid(kind, "listed"))
    names = env.kubectl("get", "all", "-n", namespace.name, "-o", "name").split()
    assert {name.partition("/")[0] for name in names if "npcfleet" in name} == {"npcregion.npcfleet.dev"}


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("NPCRegion", ["NAME", "READY", "REASON", "NPCS", "TIERS", "READY-TIERS", "ARCHETYPES", "AGE"]),
        ("GpuTier", ["NAME", "QUALITY", "READY", "REASON", "WANTED", "RUNNING", "ADAPTERS", "RESIDENT", "AGE"]),
        ("ArchetypeAdapter", ["NAME", "ARCHETYPE", "READY", "REASON", "VARIANTS", "DIGEST", "AGE"]),
    ],
)
def test_the_columns_answer_the_first_question(
    namespace: Namespace, env: KubeEnv, kind: str, columns: list[str]
) -> None:
    namespace.create(valid(kind, "shown"))
    ready = condition("Ready") | {"reason": "Serving", "message": "all is well"}
    namespace.apply(status_of(kind, "shown", ready), manager=MANAGER_STATUS, subresource="status")
    table = env.kubectl("get", kind.lower(), "shown", "-n", namespace.name)
    assert table.splitlines()[0].split() == columns
    assert " True " in table
    assert " Serving " in table
    assert "all is well" in env.kubectl("get", kind.lower(), "shown", "-n", namespace.name, "-o", "wide")


def field_paths(schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield f"{prefix}.{name}"
        yield from field_paths(field.get("items", field), f"{prefix}.{name}")


@pytest.mark.parametrize("crd", CRDS, ids=lambda path: path.stem)
def test_kubectl_explains_every_field(server: object, env: KubeEnv, crd: Path) -> None:
    loaded = yaml.safe_load(crd.read_text())
    schema = loaded["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    plural = loaded["spec"]["names"]["plural"]
    document = json.loads(env.kubectl("get", "--raw", "/openapi/v3/apis/npcfleet.dev/v1alpha1"))
    published = document["components"]["schemas"][f"dev.npcfleet.v1alpha1.{loaded['spec']['names']['kind']}"]
    paths = [path for part in ("spec", "status") for path in field_paths(schema["properties"][part], part)]
    assert len(paths) > 25
    explained = env.kubectl("explain", f"{plural}.spec")
    assert "<no description>" not in explained
    for path in paths:
        assert described(published, path), path


def described(schema: Mapping[str, Any], path: str) -> str:
    node: Mapping[str, Any] = schema
    for part in path.split("."):
        node = node.get("items", node)["properties"][part]
    return str(node.get("description", ""))
