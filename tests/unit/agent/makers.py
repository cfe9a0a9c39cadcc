"""Small base models and adapters, right by default and wrong where a test says so; written byte by byte."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npc_runtime.agent.digest import digest_of_folder
from npc_runtime.wire import DesiredAdapter, served_name

HIDDEN, LAYERS, VOCABULARY = 32, 2, 64
MODULES = ("q_proj", "v_proj")
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1}


@dataclass(frozen=True)
class Raw:
    """One tensor as bytes."""

    dtype: str
    shape: Sequence[int]
    data: bytes


def floats(shape: Sequence[int], *, seed: int = 0, dtype: str = "F32") -> Raw:
    """Random finite weights."""
    values = np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32) * 0.3
    if dtype == "F32":
        return Raw(dtype, shape, values.tobytes())
    if dtype == "F16":
        return Raw(dtype, shape, values.astype(np.float16).tobytes())
    if dtype == "F64":
        return Raw(dtype, shape, values.astype(np.float64).tobytes())
    if dtype == "BF16":
        return Raw(dtype, shape, (values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    return Raw(dtype, shape, bytes(values.size * _SIZES[dtype]))


def write_safetensors(path: Path, tensors: Mapping[str, Raw], *, metadata: Mapping[str, str] | None = None) -> None:
    header: dict[str, Any] = {"__metadata__": dict(metadata or {"format": "pt"})}
    position = 0
    for name, tensor in tensors.items():
        end = position + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    write_raw(path, json.dumps(header).encode(), b"".join(tensor.data for tensor in tensors.values()))


def write_raw(path: Path, header: bytes, data: bytes, *, length: int | None = None) -> None:
    """A file with any header, even one that lies about its length."""
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)


def lora_tensors(
    *, rank: int = 8, seed: int = 0, hidden: int = HIDDEN, layers: int = LAYERS, dtype: str = "F32"
) -> dict[str, Raw]:
    """Both halves for every module of every layer."""
    tensors: dict[str, Raw] = {}
    for layer in range(layers):
        for module in MODULES:
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{name}.lora_A.weight"] = floats((rank, hidden), seed=seed + 1, dtype=dtype)
            tensors[f"{name}.lora_B.weight"] = floats((hidden, rank), seed=seed + 2, dtype=dtype)
            seed += 2
    return tensors


def config_of(*, rank: int = 8, **changes: Any) -> dict[str, Any]:
    """An adapter_config.json as PEFT writes it, as far as anybody reads it."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny/base",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": list(MODULES),
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        **changes,
    }


def make_adapter(
    folder: Path,
    *,
    rank: int = 8,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Raw] | None = None,
) -> Path:
    """An adapter that fits make_base."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config_of(rank=rank) if config is None else config))
    weights = lora_tensors(rank=rank, seed=seed) if tensors is None else tensors
    write_safetensors(folder / "adapter_model.safetensors", weights)
    return folder


def make_base(folder: Path, *, hidden: int = HIDDEN, layers: int = LAYERS) -> Path:
    """A base model's config and weights, tied embeddings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": hidden}))
    tensors = {"model.embed_tokens.weight": floats((VOCABULARY, hidden)), "model.norm.weight": floats((hidden,))}
    for layer in range(layers):
        for module in (*MODULES, "k_proj", "o_proj"):
            tensors[f"model.layers.{layer}.self_attn.{module}.weight"] = floats((hidden, hidden))
        tensors[f"model.layers.{layer}.mlp.up_proj.weight"] = floats((2 * hidden, hidden))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def desired_of(folder: Path, archetype: str = "vampire", **changes: Any) -> DesiredAdapter:
    """The order for an adapter in a folder, with the digest it really has."""
    digest = changes.pop("digest", None) or digest_of_folder(folder)
    fields = {"uri": f"file://{folder}", "rank": 16, **changes}
    return DesiredAdapter(served_name=served_name(archetype, digest), archetype=archetype, digest=digest, **fields)
