"""Where everything lies in an engine pod, and what its template is made of: shared by its containers' builders."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.meta import ObjectMeta

READY_TIMEOUT_SECONDS = 300
"""How long an agent keeps a pod unready for adapters that do not become resident (DESIGN 4.1)."""

ADAPTERS_DIR = "/var/lib/npc/adapters"
MODEL_DIR = "/var/lib/npc/model"
RUN_DIR = "/run/npc"
SOCKET = f"{RUN_DIR}/agent.sock"
PROGRESS_FILE = f"{RUN_DIR}/model-progress.json"
INTERNAL_DIR = "/etc/npc/internal"
ENGINE_KEY_DIR = "/etc/npc/engine-key"
CREDENTIALS_DIR = "/etc/npc/model-credentials"
CACHE_DIR = "/var/cache/npc"
HF_HOME = f"{CACHE_DIR}/huggingface"

V_ADAPTERS, V_MODEL, V_RUN, V_INTERNAL, V_KEY = "npc-adapters", "npc-model", "npc-run", "npc-internal", "npc-engine-key"
V_CREDENTIALS, V_CACHE, V_TMP, V_SHM = "npc-model-credentials", "npc-cache", "npc-tmp", "npc-shm"
TMP_DIR, SHM_DIR = "/tmp", "/dev/shm"  # noqa: S108 - both are emptyDirs of the pod


@dataclass(frozen=True, slots=True)
class EngineInputs:
    """Everything a pod template is made of."""

    meta: ObjectMeta
    """Of the GpuTier."""
    spec: GpuTierSpec
    slice_: str
    engine_key_id: str
    agent_image: str
    engine_image: str
    """Used where the spec names none."""
    pull_policy: str = ""


def needs_fetch(uri: str) -> bool:
    """Whether an init container fetches the model (the engine downloads hf:// itself)."""
    return not uri.startswith("hf://")


def model_folder(uri: str) -> str:
    """Where a fetched model lies: a folder of its own per uri, so that two never mix."""
    return f"{MODEL_DIR}/{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
