"""Compares an adapter's tensors with its own config and with the base model.

Names are parsed as vLLM does it (`parse_fine_tuned_lora_name`): what it would not understand, or understand
differently, is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import Reason, refused
from .base import BaseModel
from .config import AdapterConfig
from .safetensors_header import Tensor

_PREFIX = "base_model.model."
_EMBEDDING_COPIES = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
"""Copies of base weights that PEFT saves beside a LoRA of an embedding; engines skip them."""
_MATCH_LIMIT = 2_000_000
"""Patterns times modules that are matched at most: the engine does the same work again."""


@dataclass(slots=True)
class _Pair:
    a: Tensor | None = None
    b: Tensor | None = None


def check_tensors(tensors: Iterable[Tensor], config: AdapterConfig, base: BaseModel | None) -> int:
    """The highest rank among the tensors.

    Raises AdapterError: BadTensor for names, shapes and pairs no LoRA has, RankTooHigh when a tensor's rank is above
    what the config says, BaseMismatch when the base model has no such module or another shape. Without `base` only the
    adapter itself is checked.
    """
    pairs: dict[tuple[str, bool], _Pair] = {}
    for tensor in tensors:
        _sort_in(tensor, pairs, config, base)
    if not pairs:
        raise refused(Reason.BAD_TENSOR, "the file has no LoRA weights")
    if len(config.rank_pattern) * len(pairs) > _MATCH_LIMIT:
        raise refused(
            Reason.BAD_CONFIG, f"rank_pattern has {len(config.rank_pattern)} entries for {len(pairs)} modules"
        )
    return max(_check_pair(module, embedding, pair, config, base) for (module, embedding), pair in pairs.items())


def _sort_in(
    tensor: Tensor, pairs: dict[tuple[str, bool], _Pair], config: AdapterConfig, base: BaseModel | None
) -> None:
    name = tensor.name
    if name.endswith(_EMBEDDING_COPIES):
        _check_copy(tensor, base)
        return
    module = name.removeprefix(_PREFIX)
    parts = module.split(".")
    if len(parts) >= 3 and parts[-1] == "weight" and parts[-2] in {"lora_A", "lora_B"}:
        side, key = parts[-2][-1], (".".join(parts[:-2]), False)
    elif len(parts) >= 2 and parts[-1] in {"lora_embedding_A", "lora_embedding_B"}:
        side, key = parts[-1][-1], (".".join(parts[:-1]), True)
    elif len(parts) >= 2 and parts[-2] in config.modules_to_save and parts[-1] in {"weight", "bias"}:
        return
    else:
        raise refused(Reason.BAD_TENSOR, f"{name[:120]!r} is not a LoRA weight")
    pair = pairs.setdefault(key, _Pair())
    if side == "A":
        pair.a = tensor
    else:
        pair.b = tensor


def _check_copy(tensor: Tensor, base: BaseModel | None) -> None:
    if base is None:
        return
    _, shape = base.find(tensor.name.removeprefix(_PREFIX).removesuffix(".base_layer.weight"))
    if shape is not None and tensor.shape != shape:
        raise refused(
            Reason.BASE_MISMATCH,
            f"{tensor.name[:120]!r} is {tensor.shape}, the base model's is {shape}: resized embeddings",
        )


def _check_pair(module: str, embedding: bool, pair: _Pair, config: AdapterConfig, base: BaseModel | None) -> int:
    if pair.a is None or pair.b is None:
        raise refused(Reason.BAD_TENSOR, f"{module[:120]!r} has only {'lora_B' if pair.a is None else 'lora_A'}")
    if len(pair.a.shape) != 2 or len(pair.b.shape) != 2 or 0 in (*pair.a.shape, *pair.b.shape):
        raise refused(Reason.BAD_TENSOR, f"{module[:120]!r} has LoRA weights that are not two matrices")
    rank, width = pair.a.shape
    height, rank_b = pair.b.shape
    if rank != rank_b:
        raise refused(Reason.BAD_TENSOR, f"{module[:120]!r} has rank {rank} in lora_A and {rank_b} in lora_B")
    if module.endswith((".experts", ".experts.base_layer")):
        # Fused experts: PEFT stores all of a layer's experts in one pair, whose shapes depend on the layout of the
        # model's code.
        _check_module(module, base)
        return config.max_rank
    expected = config.rank_of(module)
    if rank > expected:
        raise refused(Reason.RANK_TOO_HIGH, f"{module[:120]!r} has rank {rank}, adapter_config.json says {expected}")
    if rank < expected:
        raise refused(Reason.BAD_TENSOR, f"{module[:120]!r} has rank {rank}, adapter_config.json says {expected}")
    shape = _check_module(module, base)
    if shape is not None:
        out_in = (width, height) if embedding else (height, width)
        if out_in != shape:
            raise refused(
                Reason.BASE_MISMATCH, f"{module[:120]!r} is made for {out_in}, the base model's is {shape} (out, in)"
            )
    return rank


def _check_module(module: str, base: BaseModel | None) -> tuple[int, int] | None:
    if base is None:
        return None
    found, shape = base.find(module.removesuffix(".base_layer"))
    if not found:
        raise refused(Reason.BASE_MISMATCH, f"the base model has no module {module[:120]!r}")
    return shape
