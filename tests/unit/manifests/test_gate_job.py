"""The Job of a gate: restricted, told where to ask, and made from the spec alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import SecretRef
from npc_operator.api.rollouts import Gate
from npc_operator.manifests.gate_job import GateInputs, build_gate_job, hash_gate
from tests.support.builders import adapter_fact, digest

GATE = Gate.model_validate(
    {
        "image": "registry/gate:1",
        "command": ["python3", "/gate.py"],
        "args": ["--strict"],
        "env": [{"name": "QUESTIONS", "value": "20"}, {"name": "EMPTY"}],
        "serviceAccountName": "gate",
        "timeoutSeconds": 90,
    }
)
INPUTS = GateInputs(
    meta=adapter_fact().meta,
    gate=GATE,
    archetype="vampire",
    tier="gold",
    digest=digest("v2"),
    served_name="vampire--0123456789ab",
    engine_uid="uid-gold-1",
    engine_address="10.0.0.7",
    engine_port=8000,
    engine_key_id="key-3",
    pull_secrets=(SecretRef(name="registry"),),
)


def parts(inputs: GateInputs = INPUTS) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    job = build_gate_job(inputs)
    pod = job["spec"]["template"]["spec"]
    return job, pod, pod["containers"][0]


def test_it_is_told_what_to_ask_where_and_with_which_key() -> None:
    _, _, container = parts()
    env = {one["name"]: one for one in container["env"]}
    assert {name: env[name].get("value") for name in env if name != "NPC_GATE_KEY"} == {
        "NPC_GATE_URL": "http://10.0.0.7:8000",
        "NPC_GATE_MODEL": "vampire--0123456789ab",
        "NPC_GATE_ARCHETYPE": "vampire",
        "NPC_GATE_TIER": "gold",
        "NPC_GATE_DIGEST": digest("v2"),
        "QUESTIONS": "20",
        "EMPTY": None,
    }
    reference = env["NPC_GATE_KEY"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": names.SECRET_ENGINE_KEY, "key": "key-3"}
    assert (container["image"], container["command"], container["args"]) == (
        "registry/gate:1",
        ["python3", "/gate.py"],
        ["--strict"],
    )
    six = parts(replace(INPUTS, engine_address="fd00::7"))[2]
    assert six["env"][0]["value"] == "http://[fd00::7]:8000"


def test_its_pod_passes_pod_security_restricted_and_has_no_rights() -> None:
    _, pod, container = parts()
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == "gate"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    own = container["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert [next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]] == ["emptyDir"]


def test_it_has_the_resources_it_is_allowed_and_no_more() -> None:
    resources = {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
    gate = Gate.model_validate({"image": "registry/gate:1", "resources": resources})
    _, pod, container = parts(replace(INPUTS, gate=gate))
    assert container["resources"] == resources
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    assert container["terminationMessagePolicy"] == "File", "its log is never taken for a verdict"


def test_it_is_tried_once_for_so_long_and_goes_with_its_adapter() -> None:
    job, pod, _ = parts()
    spec = job["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], pod["restartPolicy"]) == (0, 90, "Never")
    assert spec["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["type"] == "DisruptionTarget"
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == (names.KIND_ADAPTER, "vampire", True)
    assert job["metadata"]["labels"][names.LABEL_MANAGED_BY] == names.MANAGED_BY
    assert job["spec"]["template"]["metadata"]["labels"] == job["metadata"]["labels"], "its pod is watched, too"


def test_each_candidate_has_a_job_of_its_own_name_that_fits() -> None:
    found = {
        names.gate_job("a" * 40, tier, digest(word)) for tier in ("gold", "silver") for word in ("one", "two", "three")
    }
    assert len(found) == 6
    assert all(len(name) <= 57 for name in found)


def test_another_spec_is_another_gate_and_a_default_of_a_later_version_is_not() -> None:
    assert hash_gate(GATE) != hash_gate(GATE.model_copy(update={"image": "registry/gate:2"}))
    assert hash_gate(Gate(image="a")) == hash_gate(Gate(image="a", timeout_seconds=600))
