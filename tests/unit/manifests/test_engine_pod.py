"""The engine pod: acceptable to a restricted namespace, complete, and quiet about what should not make it roll."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.api import names
from npc_operator.api.engineargs import MAX_NUM_SEQS, find_value
from npc_operator.manifests.engine_deployment import (
    TEMPLATE_FIELDS,
    build_deployment,
    hash_inputs,
    parse_note,
    read_note,
)
from npc_operator.manifests.engine_pod import build_pod_template, grace_seconds, progress_deadline
from npc_operator.manifests.pod_layout import EngineInputs
from npc_operator.manifests.quantities import quantity_bytes
from tests.support.builders import tier_fact


def inputs(slice_: str = names.SLICE_SPOT, **options: Any) -> EngineInputs:
    fact = tier_fact(**options)
    return EngineInputs(
        meta=fact.meta,
        spec=fact.spec,
        slice_=slice_,
        engine_key_id="key-3",
        agent_image="npc-fleet:1",
        engine_image="vllm:default",
    )


def pod(**options: Any) -> dict[str, Any]:
    found: dict[str, Any] = build_pod_template(inputs(**options))["spec"]
    return found


def containers(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {container["name"]: container for container in (*spec["initContainers"], *spec["containers"])}


VARIANTS: dict[str, dict[str, Any]] = {
    "s3": {},
    "hf": {"model": {"uri": "hf://org/name", "revision": "abc", "secretRef": {"name": "hf"}}},
    "file": {
        "model": {"uri": "file:///mnt/models/base"},
        "engine": {
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "m", "readOnly": True}}],
            "volumeMounts": [{"name": "models", "mountPath": "/mnt/models", "readOnly": True}],
        },
    },
    "gpu": {"spec": {"accelerator": {"perReplica": 2}}},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_pod_passes_pod_security_restricted(options: dict[str, Any]) -> None:
    spec = pod(**options)
    context = spec["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["fsGroup"]) == (True, 2000, 2000)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(spec).values():
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["readOnlyRootFilesystem"] is True
    kinds = {next(iter(volume.keys() - {"name"})) for volume in spec["volumes"]}
    assert kinds <= {"emptyDir", "secret", "configMap", "persistentVolumeClaim"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_mount_has_its_volume_and_no_path_is_used_twice(options: dict[str, Any]) -> None:
    spec = pod(**options)
    volumes = [volume["name"] for volume in spec["volumes"]]
    assert len(volumes) == len(set(volumes))
    for container in containers(spec).values():
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(paths) == len(set(paths)), container["name"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)


def test_the_agent_comes_first_as_a_native_sidecar_and_then_the_model() -> None:
    init = pod()["initContainers"]
    assert [container["name"] for container in init] == ["agent", "model"]
    assert init[0]["restartPolicy"] == "Always"
    assert "restartPolicy" not in init[1]
    assert [container["name"] for container in pod(**VARIANTS["hf"])["initContainers"]] == ["agent"]


def test_engine_and_agent_share_the_adapters_under_one_path() -> None:
    found = containers(pod())
    mounts = {
        name: next(m for m in found[name]["volumeMounts"] if m["name"] == "npc-adapters")
        for name in ("agent", "engine")
    }
    assert mounts["agent"]["mountPath"] == mounts["engine"]["mountPath"]
    assert mounts["engine"]["readOnly"] is True
    assert "readOnly" not in mounts["agent"]


def test_the_engine_is_started_as_the_agent_expects() -> None:
    found = containers(pod(engine={"maxLoras": 2, "maxCpuLoras": 9, "maxLoraRank": 32, "port": 8123}))
    engine, agent = found["engine"]["args"], found["agent"]["args"]
    assert "--max-loras=2" in engine
    for flag in ("--max-cpu-loras=9", "--max-lora-rank=32"):
        assert flag in engine
        assert flag in agent
    assert {"--enable-lora", "--api-server-count=1", "--port=8123", "--served-model-name=base"} <= set(engine)
    assert "--engine-url=http://127.0.0.1:8123" in agent
    model = next(arg.partition("=")[2] for arg in engine if arg.startswith("--model="))
    assert f"--model-dir={model}" in agent
    assert f"--model-dir={model}" in found["model"]["args"]
    assert f"--cache-size={10 * 2**30}" in agent


def test_the_agent_is_told_which_pod_it_is_in() -> None:
    env = {entry["name"]: entry for entry in containers(pod())["agent"]["env"]}
    assert env["NPC_POD_UID"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"


def test_two_models_never_share_a_folder() -> None:
    def folder(uri: str) -> str:
        args: list[str] = containers(pod(model={"uri": uri}))["engine"]["args"]
        return next(arg for arg in args if arg.startswith("--model="))

    assert folder("s3://a/b") != folder("s3://a/c")


def test_a_hugging_face_model_is_the_engines_own_business() -> None:
    found = containers(pod(**VARIANTS["hf"]))
    assert {"--model=org/name", "--revision=abc"} <= set(found["engine"]["args"])
    assert {"--hf-model=org/name", "--hf-revision=abc"} <= set(found["agent"]["args"])
    env = {entry["name"]: entry for entry in found["engine"]["env"]}
    assert env["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hf", "key": "HF_TOKEN"}
    assert "HF_HUB_OFFLINE" not in env
    assert env["VLLM_MAX_N_SEQUENCES"]["value"] == "4", "without it one request may ask for 16,384 answers"
    home = env["HF_HOME"]["value"]
    assert f"--hf-home={home}" in found["agent"]["args"]


def test_a_file_model_is_read_from_the_users_volume() -> None:
    model = containers(pod(**VARIANTS["file"]))["model"]
    assert "--file-root=/mnt/models" in model["args"]
    assert {"name": "models", "mountPath": "/mnt/models", "readOnly": True} in model["volumeMounts"]


def test_file_roots_are_mounted_into_the_agent_read_only() -> None:
    options = {
        "engine": {
            "volumes": [{"name": "voices", "configMap": {"name": "voices"}}],
            "volumeMounts": [{"name": "voices", "mountPath": "/mnt/adapters"}],
        },
        "spec": {"agent": {"fileRoots": ["/mnt/adapters/eu"]}},
    }
    agent = containers(pod(**options))["agent"]
    assert "--file-root=/mnt/adapters/eu" in agent["args"]
    assert {"name": "voices", "mountPath": "/mnt/adapters", "readOnly": True} in agent["volumeMounts"]


def test_no_secret_value_is_in_the_template() -> None:
    found = containers(pod())
    env = {entry["name"]: entry for entry in found["engine"]["env"]}
    assert env["VLLM_API_KEY"]["valueFrom"]["secretKeyRef"] == {"name": names.SECRET_ENGINE_KEY, "key": "key-3"}
    volume = next(volume for volume in pod()["volumes"] if volume["name"] == "npc-engine-key")
    assert volume["secret"]["items"] == [{"key": "key-3", "path": "key"}]


def test_the_users_environment_cannot_replace_ours() -> None:
    env = [{"name": "VLLM_API_KEY", "value": "mine"}, {"name": "EXTRA", "value": "1"}, {"name": "EMPTY"}]
    found = containers(pod(engine={"env": env}))["engine"]["env"]
    assert [entry["name"] for entry in found].count("VLLM_API_KEY") == 1
    assert {"name": "EXTRA", "value": "1"} in found
    assert {"name": "EMPTY"} in found


@given(st.integers(1, 3600), st.integers(1, 600), st.integers(30, 14400))
def test_nothing_is_cut_short(drain: int, shutdown: int, startup: int) -> None:
    made = inputs(engine={"drainSeconds": drain, "shutdownSeconds": shutdown, "startupSeconds": startup})
    spec = build_pod_template(made)["spec"]
    engine = containers(spec)["engine"]
    assert spec["terminationGracePeriodSeconds"] == grace_seconds(made.spec) == drain + shutdown + 10
    assert engine["lifecycle"]["preStop"]["exec"]["command"][-1] == str(drain)
    probe = engine["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= startup
    assert progress_deadline(made.spec) > startup + 300


def test_the_usual_grace_fits_a_spot_notice() -> None:
    assert pod()["terminationGracePeriodSeconds"] <= 120


def affinity(spec: dict[str, Any]) -> dict[str, Any]:
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    found: dict[str, Any] = terms[0]["matchExpressions"][0]
    return found


def test_slices_go_to_their_own_kind_of_node() -> None:
    key = "karpenter.sh/capacity-type"
    assert affinity(pod()) == {"key": key, "operator": "In", "values": ["spot"]}
    assert affinity(pod(slice_=names.SLICE_ON_DEMAND)) == {"key": key, "operator": "NotIn", "values": ["spot"]}
    label = {"capacityTypeLabel": {"key": "pool", "spotValue": "cheap", "onDemandValue": "dear"}}
    assert affinity(pod(slice_=names.SLICE_ON_DEMAND, spec=label)) == {
        "key": "pool",
        "operator": "In",
        "values": ["dear"],
    }


@pytest.mark.parametrize(
    ("preset", "key", "value"),
    [
        ("Karpenter", "karpenter.sh/capacity-type", "spot"),
        ("EKS", "eks.amazonaws.com/capacityType", "SPOT"),
        ("GKE", "cloud.google.com/gke-spot", "true"),
        ("AKS", "kubernetes.azure.com/scalesetpriority", "spot"),
    ],
)
def test_spot_nodes_are_known_by_the_name_of_who_brings_them(preset: str, key: str, value: str) -> None:
    label = {"capacityTypeLabel": {"preset": preset}}
    spot = pod(spec=label)
    assert affinity(spot) == {"key": key, "operator": "In", "values": [value]}
    assert affinity(pod(slice_=names.SLICE_ON_DEMAND, spec=label)) == {**affinity(spot), "operator": "NotIn"}
    assert {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"} in spot["tolerations"]


def test_naming_a_label_by_its_preset_replaces_no_pod() -> None:
    def hashed(**label: str) -> str:
        return hash_inputs(inputs(spec={"capacityTypeLabel": label}))

    assert hashed(preset="GKE") == hashed(key="cloud.google.com/gke-spot", spotValue="true")
    assert hashed() == hashed(preset="Karpenter") == hashed(key="karpenter.sh/capacity-type", spotValue="spot")
    assert hashed(preset="GKE") != hashed()


def test_gpus_are_asked_for_and_their_taint_is_tolerated() -> None:
    spec = pod(**VARIANTS["gpu"], slice_=names.SLICE_ON_DEMAND)
    assert containers(spec)["engine"]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
    assert "tolerations" not in pod(slice_=names.SLICE_ON_DEMAND)


def test_spread_and_isolation() -> None:
    spec = pod()
    assert [c["topologyKey"] for c in spec["topologySpreadConstraints"]] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    assert {c["whenUnsatisfiable"] for c in spec["topologySpreadConstraints"]} == {"ScheduleAnyway"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize(
    ("volume", "source"),
    [
        ({}, {"emptyDir": {}}),
        ({"sizeLimit": "40Gi"}, {"emptyDir": {"sizeLimit": "40Gi"}}),
        ({"claimName": "models"}, {"persistentVolumeClaim": {"claimName": "models"}}),
    ],
)
@pytest.mark.parametrize("uri", ["s3://bucket/model", "hf://org/name"])
def test_the_model_lies_in_the_volume_of_the_users_choice(
    uri: str, volume: dict[str, Any], source: dict[str, Any]
) -> None:
    spec = build_pod_template(inputs(model={"uri": uri}, spec={"modelVolume": volume}))["spec"]
    (found,) = [one for one in spec["volumes"] if one["name"] == "npc-model"]
    assert found == {"name": "npc-model", **source}
    (mount,) = [one for one in containers(spec)["engine"]["volumeMounts"] if one["name"] == "npc-model"]
    assert mount["mountPath"] == ("/var/cache/npc/huggingface" if uri.startswith("hf") else "/var/lib/npc/model")


def test_pass_through() -> None:
    options = {
        "scheduling": {
            "nodeSelector": {"gpu": "a10"},
            "tolerations": [{"key": "team", "operator": "Exists"}],
            "priorityClassName": "high",
            "runtimeClassName": "nvidia",
        },
        "serviceAccountName": "reader",
        "imagePullSecrets": [{"name": "registry"}],
        "podLabels": {"team": "games", names.LABEL_TIER: "stolen"},
        "podAnnotations": {"note": "x", names.ANNOTATION_ENGINE_KEY: "stolen"},
    }
    template = build_pod_template(inputs(spec=options))
    spec, metadata = template["spec"], template["metadata"]
    assert spec["nodeSelector"] == {"gpu": "a10"}
    assert {"key": "team", "operator": "Exists"} in spec["tolerations"]
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("high", "nvidia")
    assert spec["serviceAccountName"] == "reader"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert (metadata["labels"]["team"], metadata["labels"][names.LABEL_TIER]) == ("games", "gold")
    assert metadata["annotations"] == {"note": "x", names.ANNOTATION_ENGINE_KEY: "key-3"}


# --- the Deployment and its note ---


def test_a_deployment_selects_its_own_slice() -> None:
    made = build_deployment(inputs(), replicas=3, live=None)
    selector = made["spec"]["selector"]["matchLabels"]
    assert selector[names.LABEL_SLICE] == names.SLICE_SPOT
    assert selector.items() <= made["spec"]["template"]["metadata"]["labels"].items()
    assert made["spec"]["replicas"] == 3
    assert made["spec"]["progressDeadlineSeconds"] > inputs().spec.engine.startup_seconds
    assert build_deployment(inputs(), replicas=0, live=None)["spec"]["replicas"] == 0


def test_children_carry_the_labels_people_select_by() -> None:
    labels = build_deployment(inputs(), replicas=1, live=None)["metadata"]["labels"]
    for label in (names.LABEL_NAME, names.LABEL_INSTANCE, names.LABEL_COMPONENT, names.LABEL_PART_OF):
        assert labels[label]
    assert labels[names.LABEL_MANAGED_BY] == "npc-operator"
    assert labels[names.LABEL_TIER] == "gold"


def test_the_owner_is_the_tier_and_its_only_controller() -> None:
    (owner,) = build_deployment(inputs(), replicas=1, live=None)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"], owner["blockOwnerDeletion"]) == ("GpuTier", True, True)


def test_newer_images_of_the_operator_wait_for_a_change_of_the_tier() -> None:
    live = build_deployment(inputs(spec={"engine": {}}), replicas=1, live=None)
    newer = replace(inputs(spec={"engine": {}}), agent_image="npc-fleet:2", engine_image="vllm:2", pull_policy="Always")
    kept = build_deployment(newer, replicas=2, live=live)
    assert kept["spec"]["template"] == live["spec"]["template"]
    changed = inputs(spec={"engine": {"maxModelLen": 99}})
    changed = replace(changed, agent_image="npc-fleet:2", engine_image="vllm:2")
    found = containers(build_deployment(changed, replicas=2, live=live)["spec"]["template"]["spec"])
    assert (found["agent"]["image"], found["engine"]["image"]) == ("npc-fleet:2", "vllm:2")


def test_only_what_pods_are_made_of_is_in_the_note() -> None:
    same = [
        {"minReplicas": 2},
        {"replicas": 4},
        {"npcsPerReplica": 9},
        {"capacity": {"onDemandBase": 3}},
        {"updateStrategy": {"maxSurge": 2}},
    ]
    for spec in same:
        assert hash_inputs(inputs(spec=spec)) == hash_inputs(inputs()), spec
    other = [
        {"engine": {"image": "vllm:test", "dtype": "half"}},
        {"podLabels": {"a": "b"}},
        {"accelerator": {"perReplica": 1}},
        {"scheduling": {"nodeSelector": {"a": "b"}}},
    ]
    for spec in other:
        assert hash_inputs(inputs(spec=spec)) != hash_inputs(inputs()), spec
    assert hash_inputs(replace(inputs(), engine_key_id="key-4")) != hash_inputs(inputs())
    assert hash_inputs(replace(inputs(), slice_=names.SLICE_ON_DEMAND)) != hash_inputs(inputs())
    assert set(type(inputs().spec).model_fields) >= TEMPLATE_FIELDS


def test_whatever_changes_the_template_changes_the_note() -> None:
    """The other way round would roll nothing when it should: each field of the spec, changed alone."""
    base = inputs()
    for spec in ({"podAnnotations": {"a": "b"}}, {"serviceAccountName": "x"}, {"agent": {"cacheSize": "1Gi"}}):
        other = inputs(spec=spec)
        assert build_pod_template(other) != build_pod_template(base)
        assert hash_inputs(other) != hash_inputs(base)


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[]", '{"version": "x"}'])
def test_a_note_that_cannot_be_read_is_no_note(text: str) -> None:
    assert parse_note(text) is None


def test_a_note_survives_being_written() -> None:
    made = build_deployment(inputs(), replicas=1, live=None)
    note = read_note(made)
    assert note is not None
    assert parse_note(note.to_text()) == note


@pytest.mark.parametrize(("text", "amount"), [("10Gi", 10 * 2**30), ("1.5k", 1500), ("7", 7), ("0.1Ki", 103)])
def test_sizes_in_bytes(text: str, amount: int) -> None:
    assert quantity_bytes(text) == amount


@pytest.mark.parametrize(
    ("extra", "policies"),
    [
        ([], ["--scheduling-policy=priority"]),
        (["--enforce-eager"], ["--scheduling-policy=priority"]),
        (["--scheduling-policy=fcfs"], ["--scheduling-policy=fcfs"]),
        (["--scheduling_policy", "fcfs"], ["--scheduling_policy"]),
        (["--schedulin=fcfs"], ["--schedulin=fcfs"]),
    ],
)
def test_an_engine_orders_lines_by_priority_unless_its_user_has_another_wish(
    extra: list[str], policies: list[str]
) -> None:
    engine = containers(pod(engine={"extraArgs": extra}))["engine"]["args"]
    assert [arg for arg in engine if arg.startswith("--sched")] == policies


@pytest.mark.parametrize(
    ("args", "value"),
    [
        ([], None),
        (["--max-num-seqs=8"], "8"),
        (["--max-num-seqs", "8", "--port=1"], "8"),
        (["--max_num_seqs", "8", "--max-num-se=9"], "9"),
        (["--max-num-seqs"], ""),
        (["--max-num-scheduled-tokens=8", "--max-num-s=8", "--max-num-seqs-x=8"], None),
    ],
)
def test_a_command_line_is_read_as_the_engine_reads_it(args: list[str], value: str | None) -> None:
    assert find_value(args, MAX_NUM_SEQS) == value
