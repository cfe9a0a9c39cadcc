"""All other children, by value."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.manifests.disruption import build_engine_budget, build_gateway_budget
from npc_operator.manifests.engine_service import build_engine_service
from npc_operator.manifests.gate_job import gate_labels
from npc_operator.manifests.gateway_deployment import build_gateway_deployment
from npc_operator.manifests.gateway_service import build_gateway_service, gateway_endpoint
from npc_operator.manifests.labels import engine_labels, gateway_labels, owner_reference, selector_text
from npc_operator.manifests.network import OperatorPeer, build_engine_policy, build_gateway_policy
from npc_operator.manifests.secrets import build_namespace_secret, build_routes_secret, decode
from npc_runtime.wire import AGENT_HEALTH_PORT, AGENT_PORT, GATEWAY_ADMIN_PORT, GATEWAY_PORT
from tests.support.builders import region_fact, tier_fact

TIER = tier_fact()
REGION = region_fact()
OPERATOR = OperatorPeer("npc-system", {"app.kubernetes.io/name": "npc-operator"})
OWNERS = [owner_reference(names.KIND_REGION, REGION.meta), owner_reference(names.KIND_TIER, TIER.meta)]

ALL: list[dict[str, Any]] = [
    build_engine_service(TIER.meta, TIER.spec),
    build_engine_budget(TIER.meta, TIER.spec.quality, wanted=1),
    build_gateway_budget(REGION.meta),
    build_gateway_service(REGION.meta, REGION.spec),
    build_gateway_policy(REGION.meta, OPERATOR),
    build_engine_policy(REGION.meta.namespace, OPERATOR, owners=OWNERS),
    build_gateway_deployment(REGION.meta, REGION.spec, image="npc-fleet:1", pull_policy=""),
    build_routes_secret(REGION.meta, b"packed"),
]


@pytest.mark.parametrize("manifest", ALL, ids=lambda manifest: f"{manifest['kind']}-{manifest['metadata']['name']}")
def test_every_child_has_one_controller_our_labels_and_no_empty_values(manifest: dict[str, Any]) -> None:
    metadata = manifest["metadata"]
    shared = metadata["name"] == names.ENGINE_POLICY
    controllers = [owner.get("controller") for owner in metadata["ownerReferences"]]
    assert controllers == ([None, None] if shared else [True])
    assert metadata["namespace"] == "eu-west"
    for label in (names.LABEL_NAME, names.LABEL_INSTANCE, names.LABEL_COMPONENT, names.LABEL_PART_OF):
        assert metadata["labels"][label]
    assert metadata["labels"][names.LABEL_MANAGED_BY] == names.MANAGED_BY
    assert not list(empties(manifest)), "the API server would drop them, and they would look like drift for ever"


def empties(value: Any, path: str = "") -> Any:
    if value is None or value == "":
        yield path
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from empties(below, f"{path}.{key}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from empties(below, f"{path}[{index}]")


def test_a_tiers_service_is_headless_and_spans_both_slices() -> None:
    spec = ALL[0]["spec"]
    assert spec["clusterIP"] == "None"
    assert names.LABEL_SLICE not in spec["selector"]
    assert spec["selector"].items() <= engine_labels(tier="gold", quality="gold", slice_="spot").items()


def test_one_budget_never_blocks_a_drain_for_ever() -> None:
    assert ALL[1]["spec"]["minAvailable"] == 0
    assert ALL[2]["spec"]["maxUnavailable"] == 1
    for manifest in (ALL[1], ALL[2]):
        assert manifest["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert names.LABEL_SLICE not in ALL[1]["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize(("wanted", "least"), [(0, 0), (1, 0), (2, 1), (20, 19)])
def test_a_tiers_budget_counts_from_what_is_wanted_and_not_from_pods_that_wait_for_nodes(
    wanted: int, least: int
) -> None:
    spec = build_engine_budget(TIER.meta, TIER.spec.quality, wanted=wanted)["spec"]
    assert spec["minAvailable"] == least
    assert "maxUnavailable" not in spec


def rules(policy: dict[str, Any]) -> dict[int, list[dict[str, Any]] | None]:
    """Who may reach each port; None is everybody."""
    return {port["port"]: rule.get("from") for rule in policy["spec"]["ingress"] for port in rule["ports"]}


def picks(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector picks a pod."""
    assert all(expression["operator"] == "Exists" for expression in selector.get("matchExpressions", ()))
    return all(labels.get(key) == value for key, value in selector["matchLabels"].items()) and all(
        expression["key"] in labels for expression in selector.get("matchExpressions", ())
    )


def test_engines_are_reached_by_gateways_and_agents_by_the_operator_too() -> None:
    policy = build_engine_policy(REGION.meta.namespace, OPERATOR, owners=OWNERS)
    to_all, admin, health = policy["spec"]["ingress"]
    gateways, gates = to_all["from"]
    assert "namespaceSelector" not in gateways | gates, "those of the same namespace"
    assert picks(gates["podSelector"], gate_labels("vampire", "vampire"))
    assert not picks(gates["podSelector"], gateway_labels("eu-west"))
    assert "ports" not in to_all
    assert picks(gateways["podSelector"], gateway_labels("eu-west"))
    (operator,) = admin["from"]
    assert operator["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "npc-system"}
    assert [port["port"] for port in admin["ports"]] == [AGENT_PORT]
    assert "from" not in health
    assert [port["port"] for port in health["ports"]] == [AGENT_HEALTH_PORT]


def test_the_engines_policy_guards_every_tier_and_nobody_else() -> None:
    selector = build_engine_policy(REGION.meta.namespace, OPERATOR, owners=OWNERS)["spec"]["podSelector"]
    assert picks(selector, engine_labels(tier="gold", quality="Gold", slice_="spot"))
    assert picks(selector, engine_labels(tier="any", quality="Bronze", slice_="on-demand"))
    assert not picks(selector, gateway_labels("eu-west"))
    assert not picks(selector, {names.LABEL_COMPONENT: "engine"}), "somebody else's"


def test_the_gateways_data_port_is_open_and_its_admin_port_is_not() -> None:
    found = rules(build_gateway_policy(REGION.meta, OPERATOR))
    assert found[GATEWAY_PORT] is None
    assert len(found[GATEWAY_ADMIN_PORT] or ()) == 1


def test_an_operator_outside_the_cluster_is_not_locked_out() -> None:
    assert rules(build_gateway_policy(REGION.meta, None))[GATEWAY_ADMIN_PORT] is None


def test_a_gateway_holds_no_rights_and_starts_without_routes() -> None:
    spec = ALL[6]["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    routes = next(volume for volume in spec["volumes"] if volume["name"] == "npc-routes")
    assert routes["secret"]["optional"] is True
    assert spec["terminationGracePeriodSeconds"] >= 75
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_gateway_knows_which_pod_it_is() -> None:
    (container,) = ALL[6]["spec"]["template"]["spec"]["containers"]
    assert {"name": "NPC_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}} in container["env"]


def test_gateways_go_where_the_user_wants_them_and_pull_with_the_users_secrets() -> None:
    scheduling = {
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "team", "operator": "Exists"}],
        "priorityClassName": "high",
    }
    gateway = {"auth": {"mode": "None"}, "scheduling": scheduling, "imagePullSecrets": [{"name": "registry"}]}
    region = region_fact(spec={"gateway": gateway})
    built = build_gateway_deployment(region.meta, region.spec, image="npc-fleet:1", pull_policy="")
    pod = built["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "cpu"}
    assert pod["tolerations"] == [{"operator": "Exists", "key": "team"}]
    assert pod["priorityClassName"] == "high"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_the_gateways_service_as_the_user_wants_it() -> None:
    service = {"name": "npc", "type": "LoadBalancer", "port": 8443, "annotations": {"lb": "internal"}}
    region = region_fact(spec={"gateway": {"service": service, "auth": {"mode": "None"}}})
    built = build_gateway_service(region.meta, region.spec)
    assert built["metadata"]["name"] == "npc"
    assert built["metadata"]["annotations"] == {"lb": "internal"}
    assert built["spec"]["type"] == "LoadBalancer"
    assert built["spec"]["ports"][0]["port"] == 8443
    assert gateway_endpoint(region.meta, region.spec) == "http://npc.eu-west.svc:8443"
    assert gateway_endpoint(REGION.meta, REGION.spec) == "http://eu-west-gateway.eu-west.svc"


def test_secrets_survive_being_written() -> None:
    data = {"token": "t", "ca.crt": "PEM\n"}
    owners = [{"kind": "GpuTier", "uid": "u"}]
    built = build_namespace_secret("npc-fleet-internal", "eu-west", data=data, handled="{}", owners=owners)
    assert decode(built["data"]) == data
    assert built["metadata"]["annotations"] == {names.ANNOTATION_HANDLED: "{}"}
    assert decode({"bad": "%%%", "good": "Z29vZA=="}) == {"good": "good"}
    assert decode(None) == {}


def test_a_selector_as_kubectl_writes_it() -> None:
    assert selector_text({"b": "2", "a": "1"}) == "a=1,b=2"


def test_a_gateway_with_a_certificate_speaks_https_and_only_then() -> None:
    tls = region_fact(
        spec={"gateway": {"auth": {"mode": "None"}, "tls": {"secretName": "cert"}, "service": {"port": 443}}}
    )
    for fact, protocol in ((REGION, "http"), (tls, "https")):
        built = build_gateway_deployment(fact.meta, fact.spec, image="npc-fleet:1", pull_policy="")
        pod = built["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        env = {one["name"]: one.get("value") for one in container["env"]}
        mounts = {one["name"]: one for one in container["volumeMounts"]}
        volumes = {one["name"]: one for one in pod["volumes"]}
        assert container["ports"][0] == {"name": protocol, "containerPort": GATEWAY_PORT, "protocol": "TCP"}
        (port,) = build_gateway_service(fact.meta, fact.spec)["spec"]["ports"]
        assert (port["name"], port["targetPort"], port["appProtocol"]) == (protocol, protocol, protocol)
        assert gateway_endpoint(fact.meta, fact.spec) == f"{protocol}://eu-west-gateway.eu-west.svc"
        if protocol == "https":
            assert env["NPC_TLS_DIR"] == mounts["npc-tls"]["mountPath"] == "/etc/npc/tls"
            assert volumes["npc-tls"]["secret"] == {"secretName": "cert", "defaultMode": 0o440}
            assert "optional" not in volumes["npc-tls"]["secret"]
        else:
            assert "NPC_TLS_DIR" not in env
            assert "npc-tls" not in mounts
            assert "npc-tls" not in volumes
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert "scheme" not in container[probe]["httpGet"], "the health port stays plain"
