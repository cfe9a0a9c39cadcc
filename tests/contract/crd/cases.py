"""Every rule of the API with an object that keeps it and one that breaks it, and what the user then reads.

A change is written against the small valid objects of `objects.py`. `test_rules.py` runs all of them on a real API
server, and a unit test holds that no rule of the CRDs is without a case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.contract.crd.objects import DIGEST, REMOVE

Changes = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One rule: changes that keep it, changes that break it, and where and how the server says so."""

    name: str
    kind: str
    accept: tuple[Changes, ...]
    refuse: tuple[Changes, ...]
    field: str
    message: str


URI = "spec.variants.0.source.uri"
MODEL = "spec.model.uri"
_S3 = "an s3 location is s3://bucket/prefix"
_HTTPS = "an https location is https://host/folder"
_FILE = "a file location is file:///folder"
_OWN_FLAG = "the operator sets this flag itself, from the other fields of spec.engine and spec.model"


def _engine_volume(**source: Any) -> Changes:
    return {"spec.engine.volumes": [{"name": "data", **source}]}


def _mount(path: str, **more: Any) -> Changes:
    return {
        "spec.engine.volumes": [{"name": "data", "emptyDir": {}}],
        "spec.engine.volumeMounts": [{"name": "data", "mountPath": path, **more}],
    }


def _args(*arguments: str) -> Changes:
    return {"spec.engine.extraArgs": list(arguments)}


def _env(name: str) -> Changes:
    return {"spec.engine.env": [{"name": name, "value": "x"}]}


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
        accept=({"spec.scheduling.nodeSelector": {"topology.kubernetes.io/zone": "a"}},),
        refuse=(
            {"spec.scheduling.nodeSelector": {"karpenter.sh/capacity-type": "spot"}},
            {"spec.scheduling.nodeSelector": {"pool": "x"}, "spec.capacityTypeLabel.key": "pool"},
        ),
        field="spec.scheduling.nodeSelector",
        message="must not name capacityTypeLabel.key",
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
        accept=({"spec.capacityTypeLabel": {"spotValue": "spot", "onDemandValue": "on-demand"}},),
        refuse=({"spec.capacityTypeLabel": {"onDemandValue": "spot"}},),
        field="spec.capacityTypeLabel.onDemandValue",
        message="must differ from spotValue",
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

ENGINE = (
    *(
        Case(
            name=f"{own} stays the operator's",
            kind="GpuTier",
            accept=(_args("--gpu-memory-utilization=0.9", "--quantization", "fp8", "--max-num-seqs", "64"),),
            refuse=(
                _args(own),
                _args(f"{own}=1"),
                _args(own.replace("-", "_").replace("__", "--")),
                _args(own[:-1]),
            ),
            field="spec.engine.extraArgs[0]",
            message=_OWN_FLAG,
        )
        for own in (
            "--model",
            "--served-model-name",
            "--enable-lora",
            "--max-loras",
            "--max-cpu-loras",
            "--max-lora-rank",
            "--max-model-len",
            "--dtype",
            "--tensor-parallel-size",
            "--port",
            "--host",
            "--api-key",
            "--api-server-count",
            "--shutdown-timeout",
            "--lora-modules",
            "--no-enable-lora",
            "--revision",
            "--config",
            "--uds",
        )
    ),
    Case(
        name="flags that only begin like ours are the user's",
        kind="GpuTier",
        accept=(
            _args("--model-impl=vllm", "--enable-lora-bias", "--max-loras-x", "--dtype-x", "--config-format", "auto"),
            _args("--hf-overrides", '{"x": "--model=y"}', "-q", "fp8", "model"),
        ),
        refuse=(_args("--"),),
        field="spec.engine.extraArgs[0]",
        message=_OWN_FLAG,
    ),
    Case(
        name="short flags of ours are refused too",
        kind="GpuTier",
        accept=(_args("-q=fp8"),),
        refuse=(_args("-tp"), _args("-tp=2"), _args("-asc", "4")),
        field="spec.engine.extraArgs[0]",
        message="the operator sets this flag itself, from the other fields of spec.engine",
    ),
    Case(
        name="the engine speaks plain HTTP",
        kind="GpuTier",
        accept=(_args("--uvicorn-log-level=warning"),),
        refuse=(
            _args("--ssl-keyfile=/k"),
            _args("--ssl_certfile", "/c"),
            _args("--enable-ssl-refresh"),
        ),
        field="spec.engine.extraArgs[0]",
        message="the engine speaks plain HTTP inside its pod network",
    ),
    *(
        Case(
            name=f"{own} stays the operator's",
            kind="GpuTier",
            accept=(_env("VLLM_LOGGING_LEVEL"), _env(f"{own}_X")),
            refuse=(_env(own),),
            field="spec.engine.env[0].name",
            message="the operator sets this variable itself",
        )
        for own in (
            "VLLM_API_KEY",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
            "VLLM_SERVER_DEV_MODE",
            "HF_TOKEN",
            "HOME",
            "HF_HOME",
            "USER",
            "VLLM_CACHE_ROOT",
            "TORCHINDUCTOR_CACHE_DIR",
            "TRITON_CACHE_DIR",
        )
    ),
    Case(
        name="the agent's ports are taken",
        kind="GpuTier",
        accept=({"spec.engine.port": 8001},),
        refuse=({"spec.engine.port": 9443}, {"spec.engine.port": 9081}),
        field="spec.engine.port",
        message="the agent has this port in the same pod",
    ),
    Case(
        name="a volume has one source",
        kind="GpuTier",
        accept=(
            _engine_volume(persistentVolumeClaim={"claimName": "c"}),
            _engine_volume(configMap={"name": "c"}),
            _engine_volume(secret={"secretName": "c"}),
            _engine_volume(emptyDir={"medium": "Memory", "sizeLimit": "1Gi"}),
        ),
        refuse=(_engine_volume(), _engine_volume(emptyDir={}, configMap={"name": "c"})),
        field="spec.engine.volumes[0]",
        message="exactly one of persistentVolumeClaim, configMap, secret and emptyDir must be given",
    ),
    Case(
        name="the operator's volumes keep their names",
        kind="GpuTier",
        accept=({"spec.engine.volumes": [{"name": "adapters", "emptyDir": {}}]},),
        refuse=(
            {"spec.engine.volumes": [{"name": "npc-adapters", "emptyDir": {}}]},
            {"spec.engine.volumes": [{"name": "npc-x", "emptyDir": {}}]},
        ),
        field="spec.engine.volumes[0].name",
        message="names that begin with npc- are the operator's",
    ),
    Case(
        name="mounts keep away from the operator's folders",
        kind="GpuTier",
        accept=(_mount("/mnt/data"), _mount("/opt/vllm"), _mount("/var/lib/npcs"), _mount("/tmpfiles")),
        refuse=(
            _mount("/tmp"),
            _mount("/var/lib/npc"),
            _mount("/var/lib/npc/adapters"),
            _mount("/var"),
            _mount("/run/npc"),
            _mount("/run"),
            _mount("/etc"),
            _mount("/dev/shm"),
            _mount("/proc/1"),
            _mount("/var/run/secrets/tokens"),
        ),
        field="spec.engine.volumeMounts[0].mountPath",
        message="this folder, or one above or below it, is the operator's, the kubelet's or the kernel's",
    ),
    Case(
        name="mounts are absolute folders",
        kind="GpuTier",
        accept=(_mount("/mnt/a.b_c-d"),),
        refuse=(_mount("mnt"), _mount("/mnt//data"), _mount("/mnt/a:b"), _mount("/mnt/"), _mount("/mnt/a b")),
        field="spec.engine.volumeMounts[0].mountPath",
        message="must be an absolute folder other than /",
    ),
    Case(
        name="mounts do not climb",
        kind="GpuTier",
        accept=(_mount("/mnt/..data"),),
        refuse=(_mount("/mnt/../etc"), _mount("/mnt/."), _mount("/mnt/..")),
        field="spec.engine.volumeMounts[0].mountPath",
        message="must not contain the path segments '.' or '..'",
    ),
    Case(
        name="a sub path stays inside its volume",
        kind="GpuTier",
        accept=(_mount("/mnt/data", subPath="a/b..c"),),
        refuse=(
            _mount("/mnt/data", subPath="../x"),
            _mount("/mnt/data", subPath="/x"),
            _mount("/mnt/d", subPath="a/.."),
        ),
        field="spec.engine.volumeMounts[0].subPath",
        message="must be a relative path without '..'",
    ),
    Case(
        name="a mount has a volume",
        kind="GpuTier",
        accept=(_mount("/mnt/data"),),
        refuse=(
            {"spec.engine.volumeMounts": [{"name": "data", "mountPath": "/mnt/data"}]},
            {**_mount("/mnt/data"), "spec.engine.volumes": [{"name": "other", "emptyDir": {}}]},
        ),
        field="spec.engine.volumeMounts",
        message="every mount needs a volume of its name in volumes",
    ),
    Case(
        name="adapters come from mounted folders",
        kind="GpuTier",
        accept=({**_mount("/mnt/data"), "spec.agent.fileRoots": ["/mnt/data", "/mnt/data/adapters"]},),
        refuse=(
            {"spec.agent.fileRoots": ["/mnt/data"]},
            {**_mount("/mnt/data"), "spec.agent.fileRoots": ["/mnt/database"]},
        ),
        field="spec.agent.fileRoots",
        message="every root must lie in a folder of engine.volumeMounts",
    ),
    Case(
        name="a file root is an absolute folder",
        kind="GpuTier",
        accept=({**_mount("/mnt/data"), "spec.agent.fileRoots": ["/mnt/data/x"]},),
        refuse=({**_mount("/mnt/data"), "spec.agent.fileRoots": ["/mnt/data/%2e"]},),
        field="spec.agent.fileRoots[0]",
        message="must be an absolute folder other than /",
    ),
    Case(
        name="a file root does not climb",
        kind="GpuTier",
        accept=({**_mount("/mnt/data"), "spec.agent.fileRoots": ["/mnt/data/x"]},),
        refuse=({**_mount("/mnt/data"), "spec.agent.fileRoots": ["/mnt/data/../../etc"]},),
        field="spec.agent.fileRoots[0]",
        message="must not contain the path segments '.' or '..'",
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

ADAPTER = (
    Case(
        name="adapters come by three schemes",
        kind="ArchetypeAdapter",
        accept=({URI: "s3://b-1/a"}, {URI: "https://cdn.example.com:8443/v/1"}, {URI: "file:///mnt/a"}),
        refuse=({URI: "hf://a/b"}, {URI: "http://host/a"}, {URI: "/mnt/a"}, {URI: "oci://r/a"}, {URI: "S3://b-1/a"}),
        field="spec.variants[0].source.uri",
        message="must begin with s3://, https:// or file://",
    ),
    Case(
        name="an adapter's s3 location has no tricks",
        kind="ArchetypeAdapter",
        accept=({URI: "s3://b-1/a/b.c/D_e-f"},),
        refuse=(
            {URI: "s3://b-1"},
            {URI: "s3:///a"},
            {URI: "s3://b-1//a"},
            {URI: "s3://b-1/a?versionId=1"},
            {URI: "s3://b-1/a#b"},
            {URI: "s3://b-1/a%2fb"},
            {URI: "s3://k:s@b-1/a"},
            {URI: "s3://b-1/a\\b"},
            {URI: "s3://b-1/a\nb"},
            {URI: "s3://b-1/a\x00b"},
            {URI: "s3://b-1/é"},
            {URI: "s3://B/a"},
        ),
        field="spec.variants[0].source.uri",
        message=_S3,
    ),
    Case(
        name="an https location has no tricks",
        kind="ArchetypeAdapter",
        accept=({URI: "https://a/b"},),
        refuse=(
            {URI: "https://host"},
            {URI: "https://host/"},
            {URI: "https://user:pw@host/a"},
            {URI: "https://host/a?token=x"},
            {URI: "https://host/a#x"},
            {URI: "https://host//a"},
            {URI: "https://host/%2e%2e/a"},
            {URI: "https://host\\@evil/a"},
            {URI: "https://host:port/a"},
            {URI: "https://[::1]/a"},
            {URI: "https://host/a\r\nX: y"},
        ),
        field="spec.variants[0].source.uri",
        message=_HTTPS,
    ),
    Case(
        name="a file location has no tricks",
        kind="ArchetypeAdapter",
        accept=({URI: "file:///mnt/adapters/vampire-1"},),
        refuse=(
            {URI: "file://host/a"},
            {URI: "file:///"},
            {URI: "file:///a//b"},
            {URI: "file:////a"},
            {URI: "file:///C:/a"},
            {URI: "file:///a?b"},
            {URI: "file:///a b"},
        ),
        field="spec.variants[0].source.uri",
        message=_FILE,
    ),
    Case(
        name="a location does not climb",
        kind="ArchetypeAdapter",
        accept=({URI: "file:///mnt/...three"},),
        refuse=(
            {URI: "file:///mnt/../etc"},
            {URI: "file:///mnt/.."},
            {URI: "s3://b-1/./a"},
            {URI: "https://host/a/.."},
        ),
        field="spec.variants[0].source.uri",
        message="must not contain the path segments '.' or '..'",
    ),
    Case(
        name="an adapter on disk takes no credentials",
        kind="ArchetypeAdapter",
        accept=({"spec.variants.0.source.secretRef": {"name": "s"}}, {URI: "file:///mnt/a"}),
        refuse=({URI: "file:///mnt/a", "spec.variants.0.source.secretRef": {"name": "s"}},),
        field="spec.variants[0].source.secretRef",
        message="a file location takes no credentials",
    ),
    Case(
        name="a digest is sha256 in lower case hex",
        kind="ArchetypeAdapter",
        accept=({"spec.variants.0.source.digest": "sha256:" + "f" * 64},),
        refuse=(
            {"spec.variants.0.source.digest": "sha256:" + "F" * 64},
            {"spec.variants.0.source.digest": "sha256:" + "f" * 63},
            {"spec.variants.0.source.digest": "sha512:" + "f" * 64},
            {"spec.variants.0.source.digest": ""},
        ),
        field="spec.variants[0].source.digest",
        message="should match '^sha256:[0-9a-f]{64}$'",
    ),
    Case(
        name="a digest is required",
        kind="ArchetypeAdapter",
        accept=({},),
        refuse=({"spec.variants.0.source.digest": REMOVE},),
        field="spec.variants[0].source.digest",
        message="Required value",
    ),
    Case(
        name="one variant per tier",
        kind="ArchetypeAdapter",
        accept=({"spec.variants.0.tier": "silver"},),
        refuse=(
            {"spec.variants": [{"tier": "gold", "source": {"uri": f"s3://b-1/{n}", "digest": DIGEST}} for n in "ab"]},
        ),
        field="spec.variants[1]",
        message="Duplicate value",
    ),
    Case(
        name="an archetype leaves room for its digest",
        kind="ArchetypeAdapter",
        accept=({"spec.archetype": "night-watch-2"},),
        refuse=({"spec.archetype": "vampire--0123456789ab"},),
        field="spec.archetype",
        message="must not contain '--'",
    ),
    Case(
        name="an archetype is a DNS label",
        kind="ArchetypeAdapter",
        accept=({"spec.archetype": "a" * 40},),
        refuse=({"spec.archetype": "Vampire"}, {"spec.archetype": "vam.pire"}, {"spec.archetype": "-vampire"}),
        field="spec.archetype",
        message="should match",
    ),
    *(
        Case(
            name=f"patterns of probe.{field} are RE2",
            kind="ArchetypeAdapter",
            accept=({f"spec.probe.{field}": ["(?i)blood|night", "^I am\\b"]},),
            refuse=(
                {f"spec.probe.{field}": ["fine", "(unclosed"]},
                {f"spec.probe.{field}": ["fine", "(?=lookahead)"]},
                {f"spec.probe.{field}": ["fine", "(a)\\1"]},
            ),
            field=f"spec.probe.{field}[1]",
            message="error parsing regexp",
        )
        for field in ("mustMatch", "mustNotMatch")
    ),
)

REGION = (
    Case(
        name="a gateway: an empty toleration key tolerates all or nothing",
        kind="NPCRegion",
        accept=({"spec.gateway.scheduling.tolerations": [{"operator": "Exists"}]},),
        refuse=({"spec.gateway.scheduling.tolerations": [{"value": "x"}]},),
        field="spec.gateway.scheduling.tolerations[0].key",
        message="an empty key needs operator Exists",
    ),
    Case(
        name="a gateway: a toleration that asks for existence has no value",
        kind="NPCRegion",
        accept=({"spec.gateway.scheduling.tolerations": [{"key": "spot", "operator": "Exists"}]},),
        refuse=({"spec.gateway.scheduling.tolerations": [{"key": "spot", "operator": "Exists", "value": "x"}]},),
        field="spec.gateway.scheduling.tolerations[0].value",
        message="operator Exists takes no value",
    ),
    Case(
        name="a gateway: only NoExecute is tolerated for a time",
        kind="NPCRegion",
        accept=(
            {
                "spec.gateway.scheduling.tolerations": [
                    {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}
                ]
            },
        ),
        refuse=({"spec.gateway.scheduling.tolerations": [{"key": "a", "value": "b", "tolerationSeconds": 5}]},),
        field="spec.gateway.scheduling.tolerations[0].tolerationSeconds",
        message="only effect NoExecute takes tolerationSeconds",
    ),
    Case(
        name="a population has a lower and an upper bound",
        kind="NPCRegion",
        accept=({"spec.tiers.0.npcs": {"min": 5, "max": 5, "current": 900}},),
        refuse=({"spec.tiers.0.npcs": {"min": 6, "max": 5}},),
        field="spec.tiers[0].npcs.min",
        message="must not be above max",
    ),
    Case(
        name="a tier is named once",
        kind="NPCRegion",
        accept=({"spec.tiers.0.tier": "silver"},),
        refuse=({"spec.tiers.0.tier": "bronze"},),
        field="spec.tiers[1]",
        message="Duplicate value",
    ),
    Case(
        name="the default tier is one of the region's",
        kind="NPCRegion",
        accept=({"spec.defaultTier": "gold"},),
        refuse=({"spec.defaultTier": "silver"},),
        field="spec.defaultTier",
        message="must be one of tiers",
    ),
    Case(
        name="NPCs are assigned to tiers of the region",
        kind="NPCRegion",
        accept=({"spec.assignments": [{"npcPrefix": "quest-", "tier": "gold"}]},),
        refuse=({"spec.assignments": [{"npcPrefix": "quest-", "tier": "silver"}]},),
        field="spec.assignments",
        message="every assignment's tier must be one of tiers",
    ),
    Case(
        name="a prefix is assigned once",
        kind="NPCRegion",
        accept=({"spec.assignments": [{"npcPrefix": p, "tier": "gold"} for p in ("a", "ab")]},),
        refuse=({"spec.assignments": [{"npcPrefix": "a", "tier": t} for t in ("gold", "bronze")]},),
        field="spec.assignments[1]",
        message="Duplicate value",
    ),
    Case(
        name="API keys need a Secret",
        kind="NPCRegion",
        accept=({}, {"spec.gateway.auth": {"mode": "None"}}),
        refuse=({"spec.gateway": REMOVE}, {"spec.gateway.auth": {}}, {"spec.gateway.auth": {"mode": "ApiKey"}}),
        field="spec.gateway.auth.secretRef",
        message="mode ApiKey needs a Secret with the keys",
    ),
    Case(
        name="an open gateway has no keys",
        kind="NPCRegion",
        accept=({"spec.gateway.auth": {"mode": "None"}},),
        refuse=({"spec.gateway.auth.mode": "None"},),
        field="spec.gateway.auth.secretRef",
        message="mode None asks for no keys",
    ),
    Case(
        name="keys of the adapter selector are label keys",
        kind="NPCRegion",
        accept=({"spec.adapterSelector.matchLabels": {"game": "night"}},),
        refuse=({"spec.adapterSelector.matchLabels": {"game!": "night"}},),
        field="spec.adapterSelector.matchLabels",
        message="keys must be label keys",
    ),
    Case(
        name="keys of the Service's annotations are label keys",
        kind="NPCRegion",
        accept=({"spec.gateway.service.annotations": {"example.com/lb": "internal"}},),
        refuse=({"spec.gateway.service.annotations": {"example.com/": "internal"}},),
        field="spec.gateway.service.annotations",
        message="keys must be label keys",
    ),
    Case(
        name="a Service's name begins with a letter",
        kind="NPCRegion",
        accept=({"spec.gateway.service.name": "npcs"}, {"spec.gateway.service.name": ""}),
        refuse=({"spec.gateway.service.name": "1npcs"}, {"spec.gateway.service.name": "n.pcs"}),
        field="spec.gateway.service.name",
        message="should match",
    ),
)

NAMES = (
    *(
        Case(
            name=f"a name of kind {kind} leaves room for suffixes",
            kind=kind,
            accept=({"metadata.name": "a" * length},),
            refuse=({"metadata.name": "a" * (length + 1)},),
            field="<nil>",
            message=f"metadata.name must have at most {length} characters",
        )
        for kind, length in (("GpuTier", 36), ("NPCRegion", 38), ("ArchetypeAdapter", 63))
    ),
    *(
        Case(
            name=f"a name of kind {kind} can be a DNS label",
            kind=kind,
            accept=({"metadata.name": "eu-west-1"},),
            refuse=({"metadata.name": "eu.west"}, {"metadata.name": "1-eu"}),
            field="<nil>",
            message="metadata.name must be a DNS label that begins with a letter",
        )
        for kind in ("GpuTier", "NPCRegion", "ArchetypeAdapter")
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

IMMUTABLE = (
    ("GpuTier", {"spec": {"quality": "Silver"}}, "spec.quality", "cannot be changed"),
    ("ArchetypeAdapter", {"spec": {"archetype": "zombie"}}, "spec.archetype", "cannot be changed"),
)
"""Kind, a merge patch that breaks it, where, and what is said."""

CASES = (*TIER, *ENGINE, *MODEL_LOCATIONS, *ADAPTER, *REGION, *NAMES, *QUANTITIES)
