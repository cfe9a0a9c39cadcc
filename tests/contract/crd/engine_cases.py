"""Rules of GpuTier's engine: arguments, environment, volumes, sizes."""

from __future__ import annotations

from typing import Any

from tests.contract.crd.case import Case, Changes

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
