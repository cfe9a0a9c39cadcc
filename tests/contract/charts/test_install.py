"""Charts on a real API server: accepted, upgraded, kept, and with exactly the rights of the table."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from npc_operator.rights import RIGHTS, Scope
from tests.contract.charts.helm import CHARTS, Helm, HelmRefused, Object, one
from tests.support.granting import refused, still_refused
from tests.support.kube_env import KubeEnv

EXAMPLES = CHARTS.parent / "examples"
USER = "system:serviceaccount:npc-system:npc-operator"


@pytest.fixture(scope="module")
def operator(helm: Helm, with_crds: KubeEnv) -> KubeEnv:
    helm.install("npc-operator", "npc-operator", "npc-system")
    return with_crds


@pytest.fixture(scope="module")
def region(helm: Helm, operator: KubeEnv) -> KubeEnv:
    helm.install("eu-west", "npc-region", "eu-west")
    return operator


@pytest.fixture
def restricted(env: KubeEnv) -> Iterator[str]:
    """A namespace under Pod Security "restricted"."""
    name = "restricted"
    env.kubectl("create", "namespace", name)
    env.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    env.kubectl("delete", "namespace", name, "--wait=false")


def pods_of(rendered: list[Object], namespace: str) -> list[Object]:
    """Every pod that objects would make, as a pod of its own."""
    pods = []
    for item in rendered:
        if item["kind"] == "Pod":
            pods.append(copy.deepcopy(item))
        elif "template" in item.get("spec", {}):
            pods.append({"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(item["spec"]["template"])})
            pods[-1]["metadata"]["name"] = item["metadata"]["name"]
    for pod in pods:
        pod["metadata"]["namespace"] = namespace
        del pod["spec"]["serviceAccountName"]
    return pods


def test_pod_security_restricted_accepts_every_pod_of_the_charts(helm: Helm, env: KubeEnv, restricted: str) -> None:
    pods = pods_of(helm.render("npc-operator"), restricted)
    assert len(pods) == 2
    for pod in pods:
        env.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
        del pod["spec"]["containers"][0]["securityContext"]
        with pytest.raises(AssertionError, match="violates PodSecurity"):
            env.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def test_installing_gives_exactly_the_rights_of_the_table(region: KubeEnv) -> None:
    places = {
        Scope.WATCHED: ("", "eu-west"),
        Scope.REGION: ("eu-west",),
        Scope.OWN: ("npc-system",),
        Scope.NODES: ("",),
        Scope.POOLS: (),
    }
    questions = [
        (verb, right.group, right.resource, namespace)
        for right in RIGHTS
        for verb in right.verbs
        for namespace in places[right.scope]
    ]
    assert still_refused(region, USER, questions) == []


def test_installing_gives_no_other_right(region: KubeEnv) -> None:
    questions = [
        ("get", "", "secrets", ""),
        ("list", "", "secrets", "npc-system"),
        ("delete", "", "secrets", "eu-west"),
        ("create", "", "pods", "eu-west"),
        ("delete", "", "pods", "eu-west"),
        ("create", "", "pods/exec", "eu-west"),
        ("create", "rbac.authorization.k8s.io", "rolebindings", "eu-west"),
        ("update", "npcfleet.dev", "npcregions", "eu-west"),
        ("patch", "npcfleet.dev", "gputiers", "eu-west"),
        ("get", "coordination.k8s.io", "leases", "eu-west"),
        ("get", "", "configmaps", "eu-west"),
        ("patch", "", "nodes", ""),
        ("patch", "", "nodes/status", ""),
    ]
    assert refused(region, USER, questions) == questions


def test_a_region_with_nothing_but_a_name_is_accepted(region: KubeEnv) -> None:
    kinds = json.loads(region.kubectl("get", "npc", "-n", "eu-west", "-o", "json"))["items"]
    assert sorted((item["kind"], item["metadata"]["name"]) for item in kinds) == [
        ("GpuTier", "bronze"),
        ("GpuTier", "gold"),
        ("GpuTier", "silver"),
        ("NPCRegion", "eu-west"),
    ]


def test_what_the_api_server_refuses_fails_the_install_with_its_reason(helm: Helm, operator: KubeEnv) -> None:
    values = {"tiers": {"gold": {"model": {"parametersMillions": 3000}}}}
    with pytest.raises(HelmRefused, match="a Gold tier needs a base model of at least 7000 million parameters"):
        helm.install("refused", "npc-region", "refused", values)


def test_keys_are_made_once_and_added_ones_stay(helm: Helm, region: KubeEnv) -> None:
    def keys() -> dict[str, str]:
        secret = json.loads(region.kubectl("get", "secret", "eu-west-api-keys", "-n", "eu-west", "-o", "json"))
        return {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}

    first = keys()
    assert set(first) == {"game-server"}
    assert len(first["game-server"]) == 40
    added = {"data": {"by-hand": base64.b64encode(b"x" * 40).decode()}}
    region.kubectl("patch", "secret", "eu-west-api-keys", "-n", "eu-west", "--type=merge", "-p", json.dumps(added))
    helm.install("eu-west", "npc-region", "eu-west", {"apiKeys": {"names": ["game-server", "tool"]}})
    second = keys()
    assert second["game-server"] == first["game-server"]
    assert second["by-hand"] == "x" * 40
    assert set(second) == {"game-server", "by-hand", "tool"}


def test_the_notes_say_what_to_do_next(helm: Helm, with_crds: KubeEnv) -> None:
    kinds = helm.install("npc-crds", "npc-crds", "npc-system")
    assert "kubectl wait --for=condition=Established crd/npcregions.npcfleet.dev crd/gputiers" in kinds
    assert "helm install npc-operator charts/npc-operator -n npc-system \\\n" in kinds
    assert "--set image.repository=REGISTRY/npc-fleet --set image.tag=TAG" in kinds
    assert "keeps the kinds and every object of theirs" in kinds
    deleting = helm.install("npc-crds", "npc-crds", "npc-system", {"keep": False})
    assert "deletes the kinds, and with them every region" in deleting
    helm.install("npc-crds", "npc-crds", "npc-system")
    operator = helm.install("npc-operator", "npc-operator", "npc-system")
    assert "helm test npc-operator -n npc-system" in operator
    notes = helm.install("noted", "npc-region", "noted", {"region": {"gateway": {"service": {"name": "npcs"}}}})
    for command in (
        "kubectl get npc -n noted",
        "kubectl wait npcregion/noted --for=condition=Ready",
        "kubectl get secret noted-api-keys -n noted -o jsonpath='{.data.game-server}'",
        "kubectl port-forward service/npcs 8080:80 -n noted",
    ):
        assert command in notes
    open_gateway = {"region": {"gateway": {"auth": {"mode": "None"}}}}
    assert "KEY" not in helm.install("open", "npc-region", "open", open_gateway)


def test_an_upgrade_of_the_crd_chart_upgrades_the_crds(helm: Helm, with_crds: KubeEnv) -> None:
    def label() -> str:
        return with_crds.kubectl("get", "crd", "gputiers.npcfleet.dev", "-o", "jsonpath={.metadata.labels.wave}")

    assert label() == ""
    helm.install("npc-crds", "npc-crds", "npc-system", {"labels": {"wave": "two"}})
    assert label() == "two"
    helm.install("npc-crds", "npc-crds", "npc-system")
    assert label() == ""


def test_uninstalling_the_crd_chart_keeps_crds_and_objects_and_it_can_come_back(helm: Helm, region: KubeEnv) -> None:
    before = region.kubectl("get", "npc", "-n", "eu-west", "-o", "name")
    assert "gputier.npcfleet.dev/gold" in before
    helm.run("uninstall", "npc-crds", "-n", "npc-system")
    assert region.kubectl("get", "npc", "-n", "eu-west", "-o", "name") == before
    helm.install("npc-crds", "npc-crds", "npc-system")
    assert region.kubectl("get", "npc", "-n", "eu-west", "-o", "name") == before


def test_an_upgrade_without_changes_changes_no_object(helm: Helm, region: KubeEnv) -> None:
    def generations() -> dict[str, Any]:
        items = json.loads(region.kubectl("get", "npc", "-n", "eu-west", "-o", "json"))["items"]
        return {item["metadata"]["name"]: item["metadata"]["generation"] for item in items}

    before = generations()
    helm.install("eu-west", "npc-region", "eu-west")
    assert generations() == before


def test_an_upgrade_leaves_replicas_to_whoever_scaled(helm: Helm, region: KubeEnv) -> None:
    region.kubectl("patch", "gput", "silver", "-n", "eu-west", "--type=merge", "-p", '{"spec":{"replicas":3}}')
    region.kubectl("scale", "gput/silver", "--replicas=5", "-n", "eu-west")
    helm.install("eu-west", "npc-region", "eu-west", {"tiers": {"silver": {"npcsPerReplica": 90}}})
    spec = json.loads(region.kubectl("get", "gput", "silver", "-n", "eu-west", "-o", "json"))["spec"]
    assert spec["npcsPerReplica"] == 90
    assert spec["replicas"] == 5


def test_uninstalling_a_region_takes_its_objects_and_rights(helm: Helm, operator: KubeEnv) -> None:
    helm.install("short", "npc-region", "short")
    helm.run("uninstall", "short", "-n", "short")
    left = operator.kubectl("get", "npc,secrets,roles,rolebindings", "-n", "short", "-o", "name").split()
    assert left == []


def test_an_operator_for_named_namespaces_may_act_there_and_nowhere_else(helm: Helm, with_crds: KubeEnv) -> None:
    user = "system:serviceaccount:narrow:npc-operator"
    for namespace in ("watched", "unwatched"):
        with_crds.kubectl("create", "namespace", namespace)
    helm.install(
        "npc-operator", "npc-operator", "narrow", {"watchNamespaces": ["watched"], "rbac": {"aggregate": False}}
    )
    questions = [("patch", "apps", "deployments", namespace) for namespace in ("watched", "unwatched", "")]
    assert still_refused(with_crds, user, questions[:1]) == []
    assert refused(with_crds, user, questions) == questions[1:]


@pytest.mark.parametrize(
    "name", sorted(path.name for path in EXAMPLES.glob("*.yaml") if path.name != "region-values.yaml")
)
def test_every_example_object_is_accepted_by_the_api_server(with_crds: KubeEnv, name: str) -> None:
    out = with_crds.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-n", "default", "-f", str(EXAMPLES / name)
    )
    assert "created (server dry run)" in out


def test_the_example_region_installs(helm: Helm, operator: KubeEnv) -> None:
    values = yaml.safe_load((EXAMPLES / "region-values.yaml").read_text())
    helm.install("example", "npc-region", "example", values)
    items = json.loads(operator.kubectl("get", "npc", "-n", "example", "-o", "json"))["items"]
    kinds = sorted(item["kind"] for item in items)
    assert kinds == ["ArchetypeAdapter", "ArchetypeAdapter", "GpuTier", "GpuTier", "NPCRegion"]
    assert one(items, "ArchetypeAdapter", "vampire")["spec"]["archetype"] == "vampire"
