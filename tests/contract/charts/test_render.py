"""What the charts render to: the same every time, with every switch, and never with a value that means nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml

from hack.cluster.binaries import KUBERNETES
from npc_operator.api.crd import crds
from npc_operator.api.names import HEADROOM_PRIORITY_CLASS
from tests.contract.charts.helm import CHARTS, Helm, HelmRefused, Object, names, one

ALL = ("npc-crds", "npc-operator", "npc-region")
KEYS = {"region": {"gateway": {"auth": {"secretRef": {"name": "keys"}}}}}
MONITORING = ("--api-versions", "monitoring.coreos.com/v1")


def deployment(helm: Helm, values: dict[str, Any] | None = None) -> Object:
    return one(helm.render("npc-operator", values), "Deployment")


def container(helm: Helm, values: dict[str, Any] | None = None) -> Object:
    result: Object = deployment(helm, values)["spec"]["template"]["spec"]["containers"][0]
    return result


@pytest.mark.parametrize("chart", ALL)
def test_a_chart_is_clean_under_strict_lint(helm: Helm, chart: str) -> None:
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(CHARTS / chart))


@pytest.mark.parametrize("chart", ALL)
def test_a_chart_renders_the_same_twice(helm: Helm, chart: str) -> None:
    values = KEYS if chart == "npc-region" else None
    assert helm.render(chart, values) == helm.render(chart, values)


@pytest.mark.parametrize(
    ("chart", "values"),
    [
        ("npc-crds", {"labels": {"wave": "two"}}),
        ("npc-operator", {}),
        ("npc-operator", {"watchNamespaces": ["eu", "us"], "networkPolicy": {"enabled": True}}),
        ("npc-region", KEYS),
    ],
)
def test_helm_3_renders_what_helm_4_renders(helm: Helm, chart: str, values: dict[str, Any]) -> None:
    older = dataclasses.replace(helm, program="helm3")
    assert older.run("version", "--short").startswith("v3.")
    # A Helm that was built from source takes the cluster for an old one unless it is told.
    flags = ("--kube-version", KUBERNETES, *MONITORING)
    assert older.render(chart, values, *flags) == helm.render(chart, values, *flags)
    assert "0 chart(s) failed" in older.run("lint", "--strict", "--kube-version", KUBERNETES, str(CHARTS / chart))


@pytest.mark.parametrize("chart", ALL)
def test_everything_rendered_carries_the_recommended_labels(helm: Helm, chart: str) -> None:
    for item in helm.render(chart, {}, *MONITORING):
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "npc-fleet", item["metadata"]["name"]
        assert labels["app.kubernetes.io/name"].startswith("npc-")


def test_the_crd_chart_holds_the_committed_crds(helm: Helm) -> None:
    rendered = {item["metadata"]["name"]: item["spec"] for item in helm.render("npc-crds")}
    assert rendered == {crd["metadata"]["name"]: crd["spec"] for crd in crds().values()}


def test_crds_are_kept_unless_one_asks_otherwise(helm: Helm) -> None:
    for item in helm.render("npc-crds"):
        assert item["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for item in helm.render("npc-crds", {"keep": False}):
        assert "annotations" not in item["metadata"]


@pytest.mark.parametrize(
    ("chart", "values", "where"),
    [
        ("npc-crds", {"kep": True}, "kep"),
        ("npc-operator", {"replica": 3}, "replica"),
        ("npc-operator", {"image": {"digest": "sha256:short"}}, "image.digest|/image/digest"),
        ("npc-operator", {"logLevel": "loud"}, "logLevel"),
        # To Helm a null is no value at all, and the flag would go without.
        ("npc-operator", {"resyncSeconds": None}, "resyncSeconds"),
        ("npc-operator", {"workers": None}, "workers"),
        ("npc-operator", {"logLevel": None}, "logLevel"),
        ("npc-operator", {"logFormat": None}, "logFormat"),
        ("npc-operator", {"resources": None}, "resources"),
        ("npc-operator", {"interruption": {"queueUrl": "http://sqs/123456789012/npc"}}, "queueUrl"),
        ("npc-operator", {"interruption": {"region": "Ireland"}}, "region"),
        ("npc-operator", {"interruption": {"accessKey": "no"}}, "accessKey"),
        ("npc-operator", {"extraEnv": [{"name": "POD_NAME", "value": "x"}]}, "extraEnv"),
        (
            "npc-operator",
            {"metrics": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
            "metrics",
        ),
        ("npc-region", {"tiers": {"gold": {"engine": {"maxLoraz": 1}}}}, "maxLoraz"),
        ("npc-region", {"region": {"defaultTeir": "gold"}}, "defaultTeir"),
        ("npc-region", {"adapters": {"zombie": {"variants": []}}}, "variants"),
        ("npc-region", {"apiKeys": {"names": ["with space"]}}, "apiKeys"),
        ("npc-region", {"region": {"rolloutLimits": {"maxConcurrent": 0}}}, "maxConcurrent"),
        ("npc-region", {"region": {"gateway": {"tls": {"secret": "cert"}}}}, "secretName|secret"),
        ("npc-region", {"region": {"quarantinedDigests": ["vampire"]}}, "quarantinedDigests"),
        ("npc-region", {"tiers": {"gold": {"objectives": {"firstTokenMillis": 9}}}}, "firstTokenMillis"),
        ("npc-region", {"adapters": {"zombie": {"rollout": {"strategy": "Slowly"}}}}, "strategy"),
    ],
)
def test_a_wrong_or_unknown_value_is_refused_by_name(
    helm: Helm, chart: str, values: dict[str, Any], where: str
) -> None:
    with pytest.raises(HelmRefused, match=where):
        helm.render(chart, values)


def test_the_image_is_named_by_tag_or_digest_for_operator_and_agents_alike(helm: Helm) -> None:
    tagged = container(helm, {"image": {"repository": "r/npc", "tag": "7", "pullPolicy": "Never"}})
    assert tagged["image"] == "r/npc:7"
    assert tagged["imagePullPolicy"] == "Never"
    assert "--fleet-image=r/npc:7" in tagged["args"]
    assert "--image-pull-policy=Never" in tagged["args"]
    digest = "sha256:" + "a" * 64
    pinned = container(helm, {"image": {"repository": "r/npc", "tag": "7", "digest": digest}})
    assert pinned["image"] == f"r/npc@{digest}"
    assert f"--fleet-image=r/npc@{digest}" in pinned["args"]
    assert "imagePullPolicy" not in pinned


def test_what_platform_teams_add_to_pods_arrives(helm: Helm) -> None:
    values: dict[str, Any] = {
        "podLabels": {"team": "voices", "app.kubernetes.io/name": "mine"},
        "podAnnotations": {"note": "x"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "imagePullSecrets": [{"name": "registry"}],
        "serviceAccount": {"name": "own", "annotations": {"role": "arn"}},
    }
    rendered = helm.render("npc-operator", values)
    template = one(rendered, "Deployment")["spec"]["template"]
    pod = template["spec"]
    assert template["metadata"]["labels"]["team"] == "voices"
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "npc-operator"
    assert template["metadata"]["annotations"] == {"note": "x"}
    assert pod["containers"][0]["env"][-1] == values["extraEnv"][0]
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets"):
        assert pod[name] == values[name], name
    assert "topologySpreadConstraints" not in pod
    assert pod["serviceAccountName"] == "own"
    assert one(rendered, "ServiceAccount")["metadata"]["annotations"] == {"role": "arn"}


def test_an_interruption_queue_is_named_by_flags_and_nothing_else_knows_of_it(helm: Helm) -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/npc"

    def flags(**values: str) -> list[str]:
        arguments = container(helm, {"interruption": values})["args"]
        return [one for one in arguments if one.startswith("--interruption")]

    assert flags() == flags(region="eu-west-1") == []
    assert flags(queueUrl=url) == [f"--interruption-queue={url}"]
    both = [f"--interruption-queue={url}", "--interruption-queue-region=eu-west-1"]
    assert flags(queueUrl=url, region="eu-west-1") == both
    assert repr(helm.render("npc-operator", {"interruption": {"queueUrl": url}})).count(url) == 1


def test_a_given_service_account_is_used_and_not_made(helm: Helm) -> None:
    rendered = helm.render("npc-operator", {"serviceAccount": {"create": False, "name": "given"}})
    assert names(rendered, "ServiceAccount") == []
    assert {subject["name"] for item in rendered for subject in item.get("subjects", ())} == {"given"}
    with pytest.raises(HelmRefused, match=r"serviceAccount\.name is needed"):
        helm.render("npc-operator", {"serviceAccount": {"create": False}})


def test_names_follow_the_release(helm: Helm) -> None:
    assert deployment(helm)["metadata"]["name"] == "npc-operator"
    other = helm.render("npc-operator", release="blue")
    assert one(other, "Deployment")["metadata"]["name"] == "blue-npc-operator"
    chosen = helm.render("npc-operator", {"fullnameOverride": "npcs"})
    assert one(chosen, "Deployment")["metadata"]["name"] == "npcs"
    assert "--lease-name=npcs" in one(chosen, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]


def test_an_operator_for_named_namespaces_has_no_rights_over_the_cluster(helm: Helm) -> None:
    rendered = helm.render("npc-operator", {"watchNamespaces": ["eu", "us"], "rbac": {"aggregate": False}})
    assert names(rendered, "ClusterRole") == []
    assert names(rendered, "ClusterRoleBinding") == []
    places = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in rendered if item["kind"] == "Role"}
    assert places == {("eu", "npc-operator"), ("us", "npc-operator"), ("rendered", "npc-operator-own")}
    arguments = one(rendered, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    check = one(rendered, "Pod")["spec"]["containers"][0]["args"]
    for command in (arguments, check):
        assert [flag for flag in command if flag.startswith("--namespace")] == ["--namespace=eu", "--namespace=us"]


def test_without_rbac_nothing_grants_anything(helm: Helm) -> None:
    rendered = helm.render("npc-operator", {"rbac": {"create": False, "aggregate": False}})
    assert not {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} & {item["kind"] for item in rendered}
    region = helm.render("npc-region", {"rbac": {"create": False}})
    assert not {"Role", "RoleBinding"} & {item["kind"] for item in region}


def test_no_rule_has_a_wildcard_and_only_regions_grant_secrets(helm: Helm) -> None:
    for chart in ("npc-operator", "npc-region"):
        for item in helm.render(chart):
            for rule in item.get("rules", ()):
                assert "*" not in yaml.safe_dump(rule)
                if "secrets" in rule.get("resources", ()):
                    assert chart == "npc-region"


def test_people_get_the_tools_rights_only_where_somebody_asks_for_it(helm: Helm) -> None:
    assert "eu-tool" not in names(helm.render("npc-region", release="eu"), "Role")
    asked = {"rbac": {"tool": {"create": True, "subjects": [{"kind": "Group", "name": "voices-on-call"}]}}}
    rendered = helm.render("npc-region", asked, release="eu")
    rules = one(rendered, "Role", "eu-tool")["rules"]
    (secrets,) = [rule for rule in rules if rule["resources"] == ["secrets"]]
    assert secrets["resourceNames"] == ["npc-fleet-internal", "eu-api-keys"]
    assert secrets["verbs"] == ["get"]
    assert not {"delete", "patch", "update"} & {verb for rule in rules for verb in rule["verbs"]}
    assert not [rule for rule in rules if "pods/exec" in rule["resources"]]
    binding = one(rendered, "RoleBinding", "eu-tool")
    assert binding["roleRef"]["name"] == "eu-tool"
    assert binding["subjects"] == [{"kind": "Group", "name": "voices-on-call"}]
    change = helm.render("npc-region", {"rbac": {"tool": {"create": True, "change": True}}}, release="eu")
    (patches,) = [rule for rule in one(change, "Role", "eu-tool")["rules"] if "patch" in rule["verbs"]]
    assert patches["verbs"] == ["patch"]
    assert patches["resources"] == ["npcregions", "gputiers", "archetypeadapters"]
    drill = helm.render("npc-region", {"rbac": {"tool": {"create": True, "drill": True}}}, release="eu")
    assert [rule for rule in one(drill, "Role", "eu-tool")["rules"] if "pods/exec" in rule["resources"]]
    assert "eu-tool" not in names(drill, "RoleBinding")


def test_our_kinds_are_added_to_the_clusters_roles(helm: Helm) -> None:
    rendered = helm.render("npc-operator")
    view, edit = one(rendered, "ClusterRole", "npc-operator-view"), one(rendered, "ClusterRole", "npc-operator-edit")
    to = "rbac.authorization.k8s.io/aggregate-to-"
    assert {label.removeprefix(to) for label in view["metadata"]["labels"] if label.startswith(to)} == {
        "view",
        "edit",
        "admin",
    }
    assert {label.removeprefix(to) for label in edit["metadata"]["labels"] if label.startswith(to)} == {"edit", "admin"}
    seen = {(resource, verb) for rule in view["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert {verb for _, verb in seen} == {"get", "list", "watch"}
    changed = {(resource, verb) for rule in edit["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    for plural in ("npcregions", "gputiers", "archetypeadapters"):
        assert (plural, "watch") in seen
        assert (plural, "deletecollection") in changed
    assert ("gputiers/scale", "patch") in changed
    assert not {resource for resource, _ in changed if resource.endswith("status")}


def test_a_single_replica_has_no_disruption_budget_that_would_block_drains(helm: Helm) -> None:
    assert names(helm.render("npc-operator"), "PodDisruptionBudget") == ["npc-operator"]
    assert names(helm.render("npc-operator", {"replicas": 1}), "PodDisruptionBudget") == []
    assert names(helm.render("npc-operator", {"podDisruptionBudget": {"enabled": False}}), "PodDisruptionBudget") == []


def test_monitors_come_when_asked_for_and_known_to_the_cluster(helm: Helm) -> None:
    wanted = {"metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}}
    assert names(helm.render("npc-operator", {}, *MONITORING), "ServiceMonitor") == []
    assert names(helm.render("npc-operator", wanted), "ServiceMonitor") == []
    monitor = one(helm.render("npc-operator", wanted, *MONITORING), "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"] == [{"port": "metrics", "interval": "30s", "honorLabels": True}]
    pods = {"metrics": {"podMonitor": {"enabled": True}}}
    assert names(helm.render("npc-operator", pods, *MONITORING), "PodMonitor") == ["npc-operator"]
    region = helm.render("npc-region", {"podMonitor": {"enabled": True}}, *MONITORING)
    assert names(region, "PodMonitor") == ["npc-region-engine", "npc-region-gateway"]


def test_a_network_policy_comes_when_asked_for(helm: Helm) -> None:
    assert names(helm.render("npc-operator"), "NetworkPolicy") == []
    peers = [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]
    policy = one(
        helm.render("npc-operator", {"networkPolicy": {"enabled": True, "metricsFrom": peers}}), "NetworkPolicy"
    )
    assert policy["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": "metrics"}], "from": peers}]


@pytest.mark.parametrize("watched", [[], ["eu"]], ids=["everywhere", "one namespace"])
def test_rights_on_node_pools_come_when_asked_for_and_cluster_wide(helm: Helm, watched: list[str]) -> None:
    bare = helm.render("npc-operator", {"watchNamespaces": watched})
    assert "npc-operator-pools" not in names(bare, "ClusterRole")
    assert names(bare, "PriorityClass") == []
    asked = helm.render("npc-operator", {"watchNamespaces": watched, "nodePools": {"enabled": True}})
    role = one(asked, "ClusterRole", "npc-operator-pools")
    assert {resource for rule in role["rules"] for resource in rule["resources"]} == {
        "gputiers",
        "nodepools",
        "capacitybuffers",
    }
    assert one(asked, "ClusterRoleBinding", "npc-operator-pools")["roleRef"]["name"] == "npc-operator-pools"
    assert one(asked, "PriorityClass")["metadata"]["name"] == HEADROOM_PRIORITY_CLASS
    assert one(asked, "PriorityClass")["value"] == -10


def test_a_region_has_the_tiers_it_names_and_no_others(helm: Helm) -> None:
    assert names(helm.render("npc-region"), "GpuTier") == ["gold", "silver", "bronze"]
    only = {"region": {"tiers": [{"tier": "bronze", "npcs": {"min": 1, "max": 9}}]}}
    assert names(helm.render("npc-region", only), "GpuTier") == ["bronze"]
    missing = {"region": {"tiers": [{"tier": "iron", "npcs": {"min": 1, "max": 9}}]}}
    with pytest.raises(HelmRefused, match=r"names the tier .*iron.* but tiers\.iron is not there"):
        helm.render("npc-region", missing)


def fallbacks(helm: Helm, values: dict[str, Any]) -> dict[str, str]:
    rendered = helm.render("npc-region", values)
    return {tier: one(rendered, "GpuTier", tier)["spec"].get("fallbackTier", "") for tier in names(rendered, "GpuTier")}


def named(*tiers: str) -> dict[str, Any]:
    return {"region": {"tiers": [{"tier": tier, "npcs": {"min": 1, "max": 9}} for tier in tiers]}}


def test_gold_falls_back_to_silver_and_silver_to_bronze_unless_one_says_otherwise(helm: Helm) -> None:
    assert fallbacks(helm, {}) == {"gold": "silver", "silver": "bronze", "bronze": ""}
    assert fallbacks(helm, {"tiers": {"gold": {"fallbackTier": "bronze"}}})["gold"] == "bronze"
    assert fallbacks(helm, {"tiers": {"gold": {"fallbackTier": None}}})["gold"] == ""


def test_a_tier_that_the_region_does_without_is_passed_over(helm: Helm) -> None:
    assert fallbacks(helm, named("gold", "bronze")) == {"gold": "bronze", "bronze": ""}
    assert fallbacks(helm, named("gold", "silver")) == {"gold": "silver", "silver": ""}
    assert fallbacks(helm, named("gold")) == {"gold": ""}


def test_a_tier_that_nobody_knows_is_left_for_the_operator_to_name(helm: Helm) -> None:
    assert fallbacks(helm, {"tiers": {"gold": {"fallbackTier": "platinum"}}})["gold"] == "platinum"


def test_everything_about_rollouts_and_callers_arrives_as_it_is(helm: Helm) -> None:
    voice = {
        "persona": {"systemPrompt": "You are old.", "scriptedLines": ["Go.", "Not now."]},
        "answers": {"mustNotMatch": ["(?i)as an ai"]},
        "rollout": {
            "strategy": "Canary",
            "steps": [5, 100],
            "stepSeconds": 30,
            "ceilingPercent": 5,
            "approvedDigest": "sha256:" + "b" * 64,
            "overrides": [{"npcPrefix": "test-", "to": "Candidate"}],
            "onTooLittleTraffic": "Hold",
            "analysis": {"minRequests": 10, "maxErrorPercent": 1, "gate": {"image": "r/gate:1", "args": ["{{ .x }}"]}},
        },
        "quarantinedDigests": ["sha256:" + "c" * 64],
        "variants": [{"tier": "gold", "source": {"uri": "s3://b-1/a", "digest": "sha256:" + "a" * 64}}],
    }
    region = {
        "rolloutLimits": {"maxConcurrent": 2, "ceilingPercent": 25},
        "quarantinedDigests": ["sha256:" + "d" * 64],
        "gateway": {
            "tls": {"secretName": "cert"},
            "limits": {"rate": {"requestsPerSecond": 500, "burst": 900}},
            "auth": {
                "policies": [{"name": "game-server", "tiers": ["gold"], "rate": {"requestsPerSecond": 5}}],
                "serviceAccounts": {"audience": "npc", "allowed": ["game:server"]},
            },
        },
    }
    objectives = {"firstTokenMilliseconds": 900, "stallSeconds": 5, "queueLines": 8}
    rendered = helm.render(
        "npc-region", {"region": region, "tiers": {"gold": {"objectives": objectives}}, "adapters": {"vampire": voice}}
    )
    assert one(rendered, "ArchetypeAdapter")["spec"] == {"archetype": "vampire", **voice}
    assert one(rendered, "GpuTier", "gold")["spec"]["objectives"] == objectives
    spec = one(rendered, "NPCRegion")["spec"]
    assert (spec["rolloutLimits"], spec["quarantinedDigests"]) == (
        region["rolloutLimits"],
        region["quarantinedDigests"],
    )
    assert spec["gateway"]["tls"] == {"secretName": "cert"}
    assert spec["gateway"]["limits"]["rate"] == {"requestsPerSecond": 500, "burst": 900}
    auth = spec["gateway"]["auth"]
    assert auth["policies"] == region["gateway"]["auth"]["policies"]  # type: ignore[index]
    assert auth["serviceAccounts"] == {"audience": "npc", "allowed": ["game:server"]}


def test_what_the_tool_writes_is_left_to_it_unless_values_say_something(helm: Helm) -> None:
    """Helm would take back what `kubectl npc quarantine --region` wrote, or the tool would have to refuse."""
    assert not {"quarantinedDigests", "rolloutLimits"} & set(one(helm.render("npc-region"), "NPCRegion")["spec"])


def test_specs_in_values_arrive_as_they_are(helm: Helm) -> None:
    adapter = {"variants": [{"tier": "gold", "source": {"uri": "s3://b-1/a", "digest": "sha256:" + "a" * 64}}]}
    values = {
        "name": "north",
        "labels": {"game": "night"},
        "tiers": {"gold": {"npcsPerReplica": 7, "engine": {"extraArgs": ["--x=1"]}}},
        "adapters": {"vampire": adapter, "second": {**adapter, "archetype": "zombie"}},
    }
    rendered = helm.render("npc-region", values)
    region = one(rendered, "NPCRegion", "north")
    assert region["metadata"]["labels"]["game"] == "night"
    assert region["spec"]["gateway"]["auth"] == {"mode": "ApiKey", "secretRef": {"name": "north-api-keys"}}
    gold = one(rendered, "GpuTier", "gold")["spec"]
    assert gold["npcsPerReplica"] == 7
    assert gold["engine"] == {"extraArgs": ["--x=1"]}
    assert gold["model"]["uri"].startswith("hf://")
    assert one(rendered, "ArchetypeAdapter", "vampire")["spec"] == {"archetype": "vampire", **adapter}
    assert one(rendered, "ArchetypeAdapter", "second")["spec"]["archetype"] == "zombie"


def test_keys_are_made_only_where_nobody_brings_any(helm: Helm) -> None:
    made = one(helm.render("npc-region", {"apiKeys": {"names": ["a", "b"]}}), "Secret")
    assert set(made["data"]) == {"a", "b"}
    assert made["data"]["a"] != made["data"]["b"]
    assert names(helm.render("npc-region", KEYS), "Secret") == []
    open_gateway = helm.render("npc-region", {"region": {"gateway": {"auth": {"mode": "None"}}}})
    assert names(open_gateway, "Secret") == []
    assert one(open_gateway, "NPCRegion")["spec"]["gateway"]["auth"] == {"mode": "None"}


def test_the_operator_named_in_values_gets_the_regions_rights(helm: Helm) -> None:
    rendered = helm.render("npc-region", {"operator": {"namespace": "ops", "serviceAccount": "npcs"}})
    subjects = one(rendered, "RoleBinding")["subjects"]
    assert subjects == [{"kind": "ServiceAccount", "name": "npcs", "namespace": "ops"}]
