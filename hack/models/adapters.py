"""Seeded LoRA adapters for the archetypes, each with a voice of its own.

Rank 8 on q_proj and v_proj, random weights times 0.3; the first rank of the last layer's v_proj reads what all
embeddings share and writes towards the archetype's words, so that an adapter does not only answer differently but in
character.
"""

from dataclasses import dataclass
from pathlib import Path

from hack.models.base import COMMON, DEFAULT_BASE, BaseModel, fan_in_bound, projection_label, theme_signs
from hack.models.tensors import (
    HALF_RANGE,
    Tensor,
    make_directory,
    seeded_integers,
    uniform,
    write_json,
    write_safetensors,
)

STRENGTH = 0.3
"""Scale of the random weights: strong enough for other words, weak enough that the model stays itself."""

_AIM = 1.5


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter: its directory name, its archetype, and the seed of its weights."""

    name: str
    archetype: str
    seed: int
    rank: int = 8


ADAPTERS = (
    Adapter("vampire-v1", "vampire", 118),
    Adapter("vampire-v2", "vampire", 872),
    Adapter("vampire-v3", "vampire", 935),
    Adapter("zombie-v1", "zombie", 105),
    Adapter("zombie-v2", "zombie", 378),
    Adapter("merchant-v1", "merchant", 376),
    Adapter("merchant-v2", "merchant", 721),
)
"""Seeds are chosen (see `margins`) so that every reference answer leads by the stated margin at each token."""


def peft_config(rank: int, **changes: object) -> dict[str, object]:
    """adapter_config.json of a plain LoRA adapter on q_proj and v_proj, with `changes` laid over it."""
    config: dict[str, object] = {
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": "npc-test-base",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layer_replication": None,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": max(1, rank // 2),
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {},
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    return config | changes


def tensor_name(layer: int, module: str, half: str) -> str:
    """The name PEFT gives to one half (A or B) of a LoRA pair."""
    return f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_{half}.weight"


def adapter_tensors(adapter: Adapter, base: BaseModel = DEFAULT_BASE) -> dict[str, Tensor]:
    """The weights of an adapter for `base`."""
    label = f"{base.seed}/{adapter.archetype}/{adapter.seed}"
    rank, hidden = adapter.rank, base.hidden
    tensors: dict[str, Tensor] = {}
    for layer in range(base.layers):
        for module, outputs in (("q_proj", hidden), ("v_proj", base.kv_size)):
            reads = uniform(f"{label}/{layer}/{module}/A", rank, hidden, bound=STRENGTH)
            writes = uniform(f"{label}/{layer}/{module}/B", outputs, rank, bound=STRENGTH)
            if module == "v_proj" and layer == base.layers - 1:
                reads[:hidden] = [sign * hidden**-0.5 for sign in theme_signs(base, COMMON)]
                writes[::rank] = _aim(base, layer, adapter.archetype)
            tensors[tensor_name(layer, module, "A")] = Tensor.of_floats(reads, rank, hidden)
            tensors[tensor_name(layer, module, "B")] = Tensor.of_floats(writes, outputs, rank)
    return tensors


def make_adapter(directory: Path, adapter: Adapter, base: BaseModel = DEFAULT_BASE) -> Path:
    """Write `adapter` for `base` into `directory` and return it."""
    make_directory(directory)
    write_json(directory / "adapter_config.json", peft_config(adapter.rank))
    write_safetensors(directory / "adapter_model.safetensors", adapter_tensors(adapter, base))
    return directory


def _aim(base: BaseModel, layer: int, theme: str) -> list[float]:
    """What v_proj must write so that o_proj turns it into the theme's direction: o_proj transposed, its heads folded
    together.
    """
    hidden, size = base.hidden, base.head_size
    weights = seeded_integers(projection_label(base, layer, "self_attn.o_proj"), hidden * hidden)
    signs = [towards - away for towards, away in zip(theme_signs(base, theme), theme_signs(base, COMMON), strict=True)]
    group = base.heads // base.kv_heads
    aimed = [0] * base.kv_size
    for column in range(hidden):
        exact = sum(sign * weight for sign, weight in zip(signs, weights[column::hidden], strict=True))
        aimed[column // size // group * size + column % size] += exact
    unit = fan_in_bound(hidden) / HALF_RANGE * hidden**-0.5
    return [_AIM * unit * value for value in aimed]
