"""The agent's two containers in an engine pod: the sidecar that owns the adapters, and the one that fetches the base
model first.
"""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.manifests.pod_layout import (
    ADAPTERS_DIR,
    CREDENTIALS_DIR,
    ENGINE_KEY_DIR,
    HF_HOME,
    INTERNAL_DIR,
    MODEL_DIR,
    PROGRESS_FILE,
    READY_TIMEOUT_SECONDS,
    RUN_DIR,
    SOCKET,
    TMP_DIR,
    V_ADAPTERS,
    V_CREDENTIALS,
    V_INTERNAL,
    V_KEY,
    V_MODEL,
    V_RUN,
    V_TMP,
    EngineInputs,
    model_folder,
    needs_fetch,
)
from npc_operator.manifests.pod_parts import (
    build_field_env,
    build_mount,
    build_port,
    build_probe,
    build_resources,
    build_user_mount,
    image_of,
    pick_mounts,
)
from npc_operator.manifests.pod_security import container_security_context
from npc_operator.manifests.quantities import quantity_bytes
from npc_runtime.wire import AGENT_HEALTH_PORT, AGENT_PORT


def build_agent_container(inputs: EngineInputs) -> dict[str, Any]:
    spec, engine = inputs.spec, inputs.spec.engine
    args = [
        "serve",
        f"--engine-url=http://127.0.0.1:{engine.port}",
        f"--engine-key-file={ENGINE_KEY_DIR}/key",
        f"--internal-dir={INTERNAL_DIR}",
        f"--adapters-dir={ADAPTERS_DIR}",
        f"--cache-size={quantity_bytes(spec.agent.cache_size)}",
        f"--max-cpu-loras={engine.max_cpu_loras}",
        f"--max-lora-rank={engine.max_lora_rank}",
        f"--socket={SOCKET}",
        f"--ready-timeout-seconds={READY_TIMEOUT_SECONDS}",
        f"--drain-seconds={engine.drain_seconds}",
        "--namespace=$(NPC_NAMESPACE)",
        # One namespace holds one region, and unlike the region's own name its namespace never changes under a running
        # pod.
        "--region=$(NPC_NAMESPACE)",
        f"--tier={inputs.meta.name}",
        "--pod=$(NPC_POD)",
        f"--port={AGENT_PORT}",
        f"--health-port={AGENT_HEALTH_PORT}",
    ]
    if spec.interruption.agent_metadata != "Off":
        args.append(f"--metadata={spec.interruption.agent_metadata}")
    mounts = [
        build_mount(V_ADAPTERS, ADAPTERS_DIR),
        build_mount(V_RUN, RUN_DIR),
        build_mount(V_INTERNAL, INTERNAL_DIR, read_only=True),
        build_mount(V_KEY, ENGINE_KEY_DIR, read_only=True),
        build_mount(V_TMP, TMP_DIR),
    ]
    if needs_fetch(spec.model.uri):
        args += [f"--model-dir={model_folder(spec.model.uri)}", f"--progress-file={PROGRESS_FILE}"]
        mounts.append(build_mount(V_MODEL, MODEL_DIR, read_only=True))
    else:
        args += [f"--hf-home={HF_HOME}", f"--hf-model={spec.model.uri.removeprefix('hf://')}"]
        if spec.model.revision:
            args.append(f"--hf-revision={spec.model.revision}")
        mounts.append(build_mount(V_MODEL, HF_HOME, read_only=True))
    args += [f"--file-root={root}" for root in spec.agent.file_roots]
    mounts += [build_user_mount(mount, read_only=True) for mount in pick_mounts(spec, spec.agent.file_roots)]
    return {
        "name": names.CONTAINER_AGENT,
        "restartPolicy": "Always",
        **image_of(inputs.agent_image, inputs.pull_policy),
        "command": ["npc-agent"],
        "args": args,
        "env": [
            build_field_env("NPC_NAMESPACE", "metadata.namespace"),
            build_field_env("NPC_POD", "metadata.name"),
            build_field_env("NPC_POD_UID", "metadata.uid"),
        ],
        "ports": [build_port("agent", AGENT_PORT), build_port("agent-health", AGENT_HEALTH_PORT)],
        "livenessProbe": build_probe("/healthz", AGENT_HEALTH_PORT, period=10, timeout=5, failures=6),
        # Readiness of the pod follows the engine and its adapters within a second.
        # Lines do not wait for this: gateways hear from the agent itself. One slow answer of a busy node is no news.
        "readinessProbe": build_probe("/readyz", AGENT_HEALTH_PORT, period=1, timeout=2, failures=2),
        "resources": build_resources(spec.agent.resources),
        "securityContext": container_security_context(),
        "volumeMounts": mounts,
    }


def build_model_container(inputs: EngineInputs) -> dict[str, Any]:
    uri = inputs.spec.model.uri
    args = ["fetch-model", f"--uri={uri}", f"--model-dir={model_folder(uri)}", f"--progress-file={PROGRESS_FILE}"]
    mounts = [build_mount(V_MODEL, MODEL_DIR), build_mount(V_RUN, RUN_DIR), build_mount(V_TMP, TMP_DIR)]
    if inputs.spec.model.secret_ref is not None:
        args.append(f"--credentials-dir={CREDENTIALS_DIR}")
        mounts.append(build_mount(V_CREDENTIALS, CREDENTIALS_DIR, read_only=True))
    if uri.startswith("file://"):
        path = uri.removeprefix("file://")
        roots = pick_mounts(inputs.spec, (path,))
        args += [f"--file-root={mount.mount_path}" for mount in roots]
        mounts += [build_user_mount(mount, read_only=True) for mount in roots]
    return {
        "name": names.CONTAINER_MODEL,
        **image_of(inputs.agent_image, inputs.pull_policy),
        "command": ["npc-agent"],
        "args": args,
        "resources": build_resources(inputs.spec.agent.resources),
        "securityContext": container_security_context(),
        "volumeMounts": mounts,
    }
