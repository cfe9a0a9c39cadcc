"""A base model with an adapter of 160 MB, as adapters of real models are: what fetching, hashing and scanning take.

Two layers as wide as a 3B model's, and the highest rank vLLM knows. The weights are seeded bytes with fixed exponents,
because drawing 140 million numbers one by one would take minutes; nobody compares these answers.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hack.models.adapters import peft_config
from hack.models.base import BaseModel
from hack.models.tensors import Tensor, make_directory, write_json, write_safetensors
from hack.models.tokenizer import vocabulary, write_tokenizer

LARGE_BASE = BaseModel(
    seed="npc-large-1", hidden=2048, layers=2, heads=32, kv_heads=32, intermediate=5504, max_positions=2048
)
"""100 million parameters, 200 MB as bfloat16."""

LARGE_RANK = 512
"""`--max-lora-rank` an engine needs for it."""

_TYPES = {"F32": 4, "BF16": 2}


@dataclass(frozen=True, slots=True)
class _Linear:
    module: str
    outputs: int
    inputs: int


def make_large_base(directory: Path, base: BaseModel = LARGE_BASE) -> Path:
    """Write the wide base model (200 MB, about a second) into `directory` and return it."""
    make_directory(directory)
    write_json(directory / "config.json", base.config())
    write_tokenizer(directory)
    size = len(vocabulary())
    shapes = {"model.embed_tokens": (size, base.hidden), "lm_head": (size, base.hidden)}
    for layer in range(base.layers):
        for linear in _linears(base):
            shapes[f"model.layers.{layer}.{linear.module}"] = (linear.outputs, linear.inputs)
    tensors = {
        f"{name}.weight": _seeded(f"{base.seed}/{name}", shape, "BF16", exponent=-6) for name, shape in shapes.items()
    }
    ones = Tensor("BF16", (base.hidden,), b"\x80\x3f" * base.hidden)
    norms = [f"layers.{layer}.{name}" for layer in range(base.layers) for name in _LAYER_NORMS]
    tensors |= {f"model.{name}.weight": ones for name in ["norm", *norms]}
    write_safetensors(directory / "model.safetensors", tensors)
    return directory


def make_large_adapter(directory: Path, *, version: int = 1, base: BaseModel = LARGE_BASE) -> Path:
    """Write an adapter of 160 MB for the wide base model; another version has other bytes."""
    make_directory(directory)
    modules = [linear.module.rpartition(".")[2] for linear in _linears(base)]
    write_json(directory / "adapter_config.json", peft_config(LARGE_RANK, target_modules=modules))
    tensors: dict[str, Tensor] = {}
    for layer in range(base.layers):
        for linear in _linears(base):
            name = f"base_model.model.model.layers.{layer}.{linear.module}"
            for half, shape in (("A", (LARGE_RANK, linear.inputs)), ("B", (linear.outputs, LARGE_RANK))):
                label = f"{base.seed}/{version}/{name}/{half}"
                tensors[f"{name}.lora_{half}.weight"] = _seeded(label, shape, "F32", exponent=-8)
    write_safetensors(directory / "adapter_model.safetensors", tensors)
    return directory


_LAYER_NORMS = ("input_layernorm", "post_attention_layernorm")


def _linears(base: BaseModel) -> list[_Linear]:
    hidden, inner = base.hidden, base.intermediate
    return [
        _Linear("self_attn.q_proj", hidden, hidden),
        _Linear("self_attn.k_proj", base.kv_size, hidden),
        _Linear("self_attn.v_proj", base.kv_size, hidden),
        _Linear("self_attn.o_proj", hidden, hidden),
        _Linear("mlp.gate_proj", inner, hidden),
        _Linear("mlp.up_proj", inner, hidden),
        _Linear("mlp.down_proj", hidden, inner),
    ]


def _seeded(label: str, shape: tuple[int, int], dtype: str, *, exponent: int) -> Tensor:
    """Random signs and fractions; each magnitude lies between 2^exponent and 2^(exponent + 2)."""
    width = _TYPES[dtype]
    data = bytearray(hashlib.shake_256(label.encode()).digest(shape[0] * shape[1] * width))
    # The last byte of a little-endian float is its sign and the upper seven bits of the biased exponent.
    high = (127 + exponent) >> 1
    data[width - 1 :: width] = data[width - 1 :: width].translate(bytes(high | (byte & 0x80) for byte in range(256)))
    return Tensor(dtype, shape, bytes(data))
