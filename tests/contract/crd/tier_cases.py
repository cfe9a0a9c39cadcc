"""Rules of GpuTier outside of its engine: pool, model, amounts."""

from __future__ import annotations

from typing import Any

from npc_operator.api.capacitytype import PRESETS
from tests.contract.crd.case import Case, Changes

MODEL = "spec.model.uri"
_S3 = "an s3 location is s3://bucket/prefix"
_FILE = "a file location is file:///folder"


def _mount(path: str, **more: Any) -> Changes:
    return {
        "spec.engine.volumes": [{"name": "data", "emptyDir": {}}],
        "spec.engine.volumeMounts": [{"name": "data", "mountPath": path, **more}],
    }


def _file_model(uri: str) -> Changes:
    return {**_mount("/models"), MODEL: uri}


TIER = (
    Case(
        name="a model's volume is a claim or scratch space of some size",
        kind="GpuTier",
        accept=({"spec.modelVolume": {"claimName": "models"}}, {"spec.modelVolume": {"sizeLimit": "40Gi"}}),
        refuse=({"spec.modelVolume": {"claimName": "models", "sizeLimit": "40Gi"}},),
        field="spec.modelVolume.sizeLimit",
        message="a claim has its own size: give claimName or sizeLimit, not both",
    ),
    Case(
        name="a Gold tier needs a large model",
        kind="GpuTier",
        accept=(
            {"spec.model.parametersMillions": 7000},
            {"spec.model.parametersMillions": 1, "spec.model.sizePolicy": "Ignore"},
            {"spec.model.parametersMillions": 6999, "spec.quality": "Silver"},
        ),
        refuse=({"spec.model.parametersMillions": 6999},),
        field="spec.model.parametersMillions",
        message="a Gold tier needs a base model of at least 7000 million parameters",
    ),
    Case(
        name="a batch mixes only what host memory holds",
        kind="GpuTier",
        accept=({"spec.engine": {"maxLoras": 8, "maxCpuLoras": 8}},),
        refuse=({"spec.engine": {"maxLoras": 9, "maxCpuLoras": 8}}, {"spec.engine": {"maxLoras": 33}}),
        field="spec.engine.maxCpuLoras",
        message="must be at least maxLoras",
    ),
    Case(
        name="fewest replicas are not above most",
        kind="GpuTier",
        accept=({"spec.minReplicas": 0, "spec.maxReplicas": 0}, {"spec.minReplicas": 10}),
        refuse=({"spec.minReplicas": 11}, {"spec.maxReplicas": 0}),
        field="spec.minReplicas",
        message="must not be above maxReplicas",
    ),
    Case(
        name="replicas lie within their bounds",
        kind="GpuTier",
        accept=({"spec.replicas": 1}, {"spec.replicas": 10}, {"spec.replicas": 0, "spec.minReplicas": 0}),
        refuse=({"spec.replicas": 0}, {"spec.replicas": 11}),
        field="spec.replicas",
        message="must lie between minReplicas and maxReplicas",
    ),
    Case(
        name="an engine spans no more GPUs than its pod has",
        kind="GpuTier",
        accept=(
            {"spec.engine.tensorParallelSize": 2, "spec.accelerator.perReplica": 2},
            {"spec.engine.tensorParallelSize": 2, "spec.accelerator.perReplica": 0},
        ),
        refuse=({"spec.engine.tensorParallelSize": 2},),
        field="spec.engine.tensorParallelSize",
        message="must not be above accelerator.perReplica",
    ),
    Case(
        name="GPUs are asked for in one place",
        kind="GpuTier",
        accept=({"spec.engine.resources.limits": {"memory": "20Gi", "amd.com/gpu": 1}},),
        refuse=(
            {"spec.engine.resources.limits": {"nvidia.com/gpu": 1}},
            {"spec.engine.resources.requests": {"amd.com/gpu": "1"}, "spec.accelerator.resourceName": "amd.com/gpu"},
        ),
        field="spec.engine.resources",
        message="the accelerator's resource comes from accelerator.perReplica",
    ),
    Case(
        name="draining ends before a spot node does",
        kind="GpuTier",
        accept=(
            {"spec.engine": {"drainSeconds": 100, "shutdownSeconds": 10}},
            {"spec.engine": {"drainSeconds": 600}, "spec.capacity.onDemandPercentageAboveBase": 100},
            {"spec.engine": {"drainSeconds": 600}, "spec.capacity.onDemandBase": 10},
        ),
        refuse=(
            {"spec.engine": {"drainSeconds": 101, "shutdownSeconds": 10}},
            {"spec.engine": {"drainSeconds": 600}, "spec.capacity.onDemandBase": 9},
        ),
        field="spec.engine.drainSeconds",
        message="drainSeconds + shutdownSeconds + 10 must not exceed 120",
    ),
    Case(
        name="the operator alone places by capacity type",
        kind="GpuTier",
        accept=(
            {"spec.scheduling.nodeSelector": {"topology.kubernetes.io/zone": "a"}},
            {
                "spec.scheduling.nodeSelector": {"karpenter.sh/capacity-type": "x"},
                "spec.capacityTypeLabel": {"preset": "GKE"},
            },
        ),
        refuse=(
            {"spec.scheduling.nodeSelector": {"karpenter.sh/capacity-type": "spot"}},
            {
                "spec.scheduling.nodeSelector": {"pool": "x"},
                "spec.capacityTypeLabel": {"key": "pool", "spotValue": "cheap"},
            },
            *(
                {"spec.scheduling.nodeSelector": {label.key: "x"}, "spec.capacityTypeLabel": {"preset": preset}}
                for preset, label in PRESETS.items()
            ),
        ),
        field="spec.scheduling.nodeSelector",
        message="must not name the label of capacityTypeLabel",
    ),
    Case(
        name="keys of labels are label keys",
        kind="GpuTier",
        accept=({"spec.podLabels": {"team.example.com/owner": "voices", "plain": ""}},),
        refuse=({"spec.podLabels": {"bad key": "x"}}, {"spec.podLabels": {"a/b/c": "x"}}),
        field="spec.podLabels",
        message="keys must be label keys",
    ),
    Case(
        name="keys of annotations are label keys",
        kind="GpuTier",
        accept=({"spec.podAnnotations": {"example.com/note": "any text at all"}},),
        refuse=({"spec.podAnnotations": {"": "x"}}, {"spec.podAnnotations": {"-a": "x"}}),
        field="spec.podAnnotations",
        message="keys must be label keys",
    ),
    Case(
        name="spot and on-demand nodes are told apart",
        kind="GpuTier",
        accept=({"spec.capacityTypeLabel": {"key": "pool", "spotValue": "spot", "onDemandValue": "on-demand"}},),
        refuse=({"spec.capacityTypeLabel": {"key": "pool", "spotValue": "spot", "onDemandValue": "spot"}},),
        field="spec.capacityTypeLabel.onDemandValue",
        message="must differ from spotValue",
    ),
    Case(
        name="a label of capacity types has one source",
        kind="GpuTier",
        accept=tuple({"spec.capacityTypeLabel": {"preset": preset}} for preset in PRESETS),
        refuse=({"spec.capacityTypeLabel": {"preset": "EKS", "key": "pool", "spotValue": "cheap"}},),
        field="spec.capacityTypeLabel.preset",
        message="give preset or key, not both",
    ),
    Case(
        name="a label of one's own has a key and a value",
        kind="GpuTier",
        accept=({"spec.capacityTypeLabel": {"key": "pool", "spotValue": "cheap"}},),
        refuse=({"spec.capacityTypeLabel": {"key": "pool"}}, {"spec.capacityTypeLabel": {"spotValue": "cheap"}}),
        field="spec.capacityTypeLabel.key",
        message="key and spotValue belong together",
    ),
    Case(
        name="a preset has its own on-demand nodes",
        kind="GpuTier",
        accept=({"spec.capacityTypeLabel": {}},),
        refuse=({"spec.capacityTypeLabel": {"preset": "EKS", "onDemandValue": "ON_DEMAND"}},),
        field="spec.capacityTypeLabel.onDemandValue",
        message="belongs to a key",
    ),
    Case(
        name="a pod can always be replaced",
        kind="GpuTier",
        accept=({"spec.updateStrategy": {"maxSurge": 0, "maxUnavailable": 1}},),
        refuse=({"spec.updateStrategy": {"maxSurge": 0}},),
        field="spec.updateStrategy",
        message="maxSurge and maxUnavailable cannot both be 0",
    ),
    Case(
        name="an empty toleration key tolerates all or nothing",
        kind="GpuTier",
        accept=({"spec.scheduling.tolerations": [{"operator": "Exists"}]},),
        refuse=({"spec.scheduling.tolerations": [{"value": "x"}]},),
        field="spec.scheduling.tolerations[0].key",
        message="an empty key needs operator Exists",
    ),
    Case(
        name="a toleration that asks for existence has no value",
        kind="GpuTier",
        accept=({"spec.scheduling.tolerations": [{"key": "spot", "operator": "Exists"}]},),
        refuse=({"spec.scheduling.tolerations": [{"key": "spot", "operator": "Exists", "value": "x"}]},),
        field="spec.scheduling.tolerations[0].value",
        message="operator Exists takes no value",
    ),
    Case(
        name="only NoExecute is tolerated for a time",
        kind="GpuTier",
        accept=(
            {
                "spec.scheduling.tolerations": [
                    {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}
                ]
            },
        ),
        refuse=({"spec.scheduling.tolerations": [{"key": "a", "value": "b", "tolerationSeconds": 5}]},),
        field="spec.scheduling.tolerations[0].tolerationSeconds",
        message="only effect NoExecute takes tolerationSeconds",
    ),
)


MODEL_LOCATIONS = (
    Case(
        name="base models come by three schemes",
        kind="GpuTier",
        accept=({MODEL: "hf://meta-llama/Llama-3.1-8B-Instruct"}, {MODEL: "s3://models/llama/8b"}),
        refuse=(
            {MODEL: "https://example.com/m"},
            {MODEL: "meta-llama/Llama"},
            {MODEL: "HF://a/b"},
            {MODEL: "gs://a/b"},
        ),
        field=MODEL,
        message="must begin with hf://, s3:// or file://",
    ),
    Case(
        name="a Hugging Face model is an organisation and a name",
        kind="GpuTier",
        accept=({MODEL: "hf://Qwen/Qwen2.5-7B"},),
        refuse=({MODEL: "hf://gpt2"}, {MODEL: "hf://a/b/c"}, {MODEL: "hf://a/b?x=1"}, {MODEL: "hf://a/b@main"}),
        field=MODEL,
        message="a Hugging Face location is hf://organisation/name",
    ),
    Case(
        name="a model's s3 location has no tricks",
        kind="GpuTier",
        accept=({MODEL: "s3://my-bucket.eu/a=b/c+d,e~f"},),
        refuse=(
            {MODEL: "s3://bucket"},
            {MODEL: "s3://bucket/a/"},
            {MODEL: "s3://user@bucket/a"},
            {MODEL: "s3://bucket/a?b"},
        ),
        field=MODEL,
        message=_S3,
    ),
    Case(
        name="a model's file location has no tricks",
        kind="GpuTier",
        accept=(_file_model("file:///models/llama"),),
        refuse=(
            _file_model("file://host/models/llama"),
            _file_model("file:///models//llama"),
            _file_model("file:///models/llama/"),
            _file_model("file:///models/%6c"),
        ),
        field=MODEL,
        message=_FILE,
    ),
    Case(
        name="a model's location does not climb",
        kind="GpuTier",
        accept=({MODEL: "s3://models/..hidden/x"},),
        refuse=({MODEL: "s3://models/../other"}, {MODEL: "s3://models/."}, _file_model("file:///models/..")),
        field=MODEL,
        message="must not contain the path segments '.' or '..'",
    ),
    Case(
        name="a model on disk lies in a volume of the pod",
        kind="GpuTier",
        accept=(_file_model("file:///models/llama"),),
        refuse=(
            {MODEL: "file:///models/llama"},
            _file_model("file:///models"),
            _file_model("file:///models-2/llama"),
        ),
        field=MODEL,
        message="a file:// model must lie below a folder of engine.volumeMounts",
    ),
    Case(
        name="a model on disk takes no credentials",
        kind="GpuTier",
        accept=({"spec.model.secretRef": {"name": "s"}},),
        refuse=({**_file_model("file:///models/a"), "spec.model.secretRef": {"name": "s"}},),
        field="spec.model.secretRef",
        message="a file location takes no credentials",
    ),
    Case(
        name="only the hub has revisions",
        kind="GpuTier",
        accept=({MODEL: "hf://a/b", "spec.model.revision": "refs/pr/1"}, {"spec.model.revision": ""}),
        refuse=({"spec.model.revision": "main"},),
        field="spec.model.revision",
        message="only an hf:// model has a revision",
    ),
)


QUANTITIES = (
    *(
        Case(
            name=f"amounts in {field} are quantities",
            kind="GpuTier",
            accept=({f"spec.engine.resources.{field}": {"memory": "1.5Gi", "cpu": 2}},),
            refuse=({f"spec.engine.resources.{field}": {"memory": "lots"}},),
            field=f"spec.engine.resources.{field}.memory",
            message="should match",
        )
        for field in ("requests", "limits")
    ),
    Case(
        name="a cache has a size",
        kind="GpuTier",
        accept=({"spec.agent.cacheSize": "500Mi"},),
        refuse=({"spec.agent.cacheSize": "-1"}, {"spec.agent.cacheSize": "10 GB"}),
        field="spec.agent.cacheSize",
        message="should match",
    ),
)
