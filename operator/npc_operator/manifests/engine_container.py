"""The vLLM container: its command line, its environment, its probes, and the hook that lets running lines end."""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.api.engineargs import SCHEDULING_POLICY, find_value
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.manifests.pod_layout import (
    ADAPTERS_DIR,
    CACHE_DIR,
    HF_HOME,
    MODEL_DIR,
    RUN_DIR,
    SOCKET,
    TMP_DIR,
    V_ADAPTERS,
    V_CACHE,
    V_MODEL,
    V_RUN,
    V_SHM,
    V_TMP,
    EngineInputs,
    model_folder,
    needs_fetch,
)
from npc_operator.manifests.pod_parts import (
    build_mount,
    build_port,
    build_probe,
    build_resources,
    build_user_mount,
    image_of,
)
from npc_operator.manifests.pod_security import container_security_context
from npc_runtime.wire import PRE_STOP_SCRIPT

PRIORITY = "priority"
"""The scheduling policy under which a line's priority counts; with any other, vLLM refuses a line that has one."""

SERVED_BASE = "base"
"""What the engine calls the base model itself."""

MAX_ANSWERS = 4
"""Answers that one request may ask for (`n`): each takes a place in the engine, and vLLM's own bound is 16,384."""


def engine_args(spec: GpuTierSpec) -> list[str]:
    """vLLM's command line. `/v1/load_lora_adapter` works with one API server process only."""
    engine = spec.engine
    hf = not needs_fetch(spec.model.uri)
    args = [
        f"--model={spec.model.uri.removeprefix('hf://') if hf else model_folder(spec.model.uri)}",
        f"--served-model-name={SERVED_BASE}",
        f"--port={engine.port}",
        f"--dtype={engine.dtype}",
        f"--max-model-len={engine.max_model_len}",
        f"--tensor-parallel-size={engine.tensor_parallel_size}",
        "--enable-lora",
        f"--max-loras={engine.max_loras}",
        f"--max-cpu-loras={engine.max_cpu_loras}",
        f"--max-lora-rank={engine.max_lora_rank}",
        "--api-server-count=1",
        f"--shutdown-timeout={engine.shutdown_seconds}",
    ]
    if find_value(engine.extra_args, SCHEDULING_POLICY) is None:
        args.append(f"{SCHEDULING_POLICY}={PRIORITY}")
    if hf and spec.model.revision:
        args.append(f"--revision={spec.model.revision}")
    return [*args, *engine.extra_args]


def build_engine_container(inputs: EngineInputs) -> dict[str, Any]:
    spec, engine = inputs.spec, inputs.spec.engine
    hf = not needs_fetch(spec.model.uri)
    env: list[dict[str, Any]] = [
        {
            "name": "VLLM_API_KEY",
            "valueFrom": {"secretKeyRef": {"name": names.SECRET_ENGINE_KEY, "key": inputs.engine_key_id}},
        },
        *(
            {"name": name, "value": value}
            for name, value in {
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
                # torch fails at import for a uid without a passwd entry and without USER.
                "USER": "npc",
                "HOME": CACHE_DIR,
                "HF_HOME": HF_HOME,
                "VLLM_CACHE_ROOT": f"{CACHE_DIR}/vllm",
                "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_DIR}/inductor",
                "TRITON_CACHE_DIR": f"{CACHE_DIR}/triton",
            }.items()
        ),
    ]
    if hf and spec.model.secret_ref is not None:
        env.append(
            {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": spec.model.secret_ref.name, "key": "HF_TOKEN"}}}
        )
    # Settings that a user may have other wishes for: theirs win.
    preset = {"VLLM_NO_USAGE_STATS": "1", "VLLM_MAX_N_SEQUENCES": str(MAX_ANSWERS)}
    preset |= {} if hf else {"HF_HUB_OFFLINE": "1"}
    ours, theirs = {entry["name"] for entry in env}, {entry.name for entry in engine.env}
    env += [{"name": name, "value": value} for name, value in preset.items() if name not in theirs]
    env += [
        {"name": entry.name, "value": entry.value} if entry.value else {"name": entry.name}
        for entry in engine.env
        if entry.name not in ours
    ]
    mounts = [
        build_mount(V_ADAPTERS, ADAPTERS_DIR, read_only=True),
        build_mount(V_RUN, RUN_DIR, read_only=True),
        build_mount(V_CACHE, CACHE_DIR),
        build_mount(V_TMP, TMP_DIR),
        build_mount(V_SHM, "/dev/shm"),  # noqa: S108
    ]
    # The engine itself downloads an hf:// model into the volume that otherwise the init container fills.
    mounts.append(build_mount(V_MODEL, HF_HOME) if hf else build_mount(V_MODEL, MODEL_DIR, read_only=True))
    mounts += [build_user_mount(mount) for mount in engine.volume_mounts]
    resources = build_resources(engine.resources)
    if spec.accelerator.per_replica:
        limits = dict(resources.get("limits", {}))
        limits[spec.accelerator.resource_name] = str(spec.accelerator.per_replica)
        resources = {**resources, "limits": limits}
    return {
        "name": names.CONTAINER_ENGINE,
        **image_of(engine.image or inputs.engine_image, inputs.pull_policy),
        "command": list(engine.command) or ["python3", "-m", "vllm.entrypoints.openai.api_server"],
        "args": engine_args(spec),
        "env": env,
        "ports": [build_port("engine", engine.port)],
        "startupProbe": build_probe(
            "/health", engine.port, period=5, timeout=5, failures=-(-engine.startup_seconds // 5)
        ),
        "readinessProbe": build_probe("/health", engine.port, period=5, timeout=5, failures=2),
        "livenessProbe": build_probe("/health", engine.port, period=10, timeout=10, failures=6),
        "lifecycle": {
            "preStop": {"exec": {"command": ["python3", "-c", PRE_STOP_SCRIPT, SOCKET, str(engine.drain_seconds)]}},
        },
        "resources": resources,
        "securityContext": container_security_context(),
        "volumeMounts": mounts,
    }
