"""Adapters with a sound file and unsound tensors: values, types, ranks, shapes, and modules the base has not."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hack.models.adapters import Adapter, adapter_tensors, peft_config, tensor_name
from hack.models.base import BaseModel
from hack.models.hostile.files import CONFIG, WEIGHTS, make_sound
from hack.models.tensors import Tensor, read_safetensors, write_json, write_safetensors

HIGH_RANK = 64
"""Above what any tier of the tests and the demo allows (16)."""

Tensors = dict[str, Tensor]

_FIRST = tensor_name(0, "q_proj", "A")


def make_not_a_number(directory: Path, base: BaseModel) -> Path:
    """One NaN, the last number of the file."""
    return _with_tensors(directory, base, lambda tensors: _poison(tensors, struct.pack("<f", float("nan"))))


def make_infinity(directory: Path, base: BaseModel) -> Path:
    """One infinite number."""
    return _with_tensors(directory, base, lambda tensors: _poison(tensors, struct.pack("<f", float("inf"))))


def make_minus_infinity_bf16(directory: Path, base: BaseModel) -> Path:
    """One infinite number in weights of type BF16."""
    return _with_tensors(directory, base, lambda tensors: _poison(_halved(tensors, "BF16"), b"\x80\xff"))


def make_not_a_number_f16(directory: Path, base: BaseModel) -> Path:
    """One NaN in weights of type F16."""
    return _with_tensors(directory, base, lambda tensors: _poison(_halved(tensors, "F16"), b"\x01\x7e"))


def make_integer_weights(directory: Path, base: BaseModel) -> Path:
    """Weights that are integers."""

    def change(tensors: Tensors) -> Tensors:
        return {name: replace(tensor, dtype="I32") for name, tensor in tensors.items()}

    return _with_tensors(directory, base, change)


def make_half_missing(directory: Path, base: BaseModel) -> Path:
    """A LoRA pair without its A."""

    def change(tensors: Tensors) -> Tensors:
        del tensors[_FIRST]
        return tensors

    return _with_tensors(directory, base, change)


def make_foreign_module(directory: Path, base: BaseModel) -> Path:
    """Weights for a module that the base model has not."""

    def change(tensors: Tensors) -> Tensors:
        return {name.replace("q_proj", "xq_proj"): tensor for name, tensor in tensors.items()}

    make_sound(directory, base)
    write_json(directory / CONFIG, peft_config(8, target_modules=["xq_proj", "v_proj"]))
    return _rewrite(directory, change)


def make_foreign_layer(directory: Path, base: BaseModel) -> Path:
    """Weights for a layer above the base model's last."""
    return _with_tensors(
        directory,
        base,
        lambda tensors: {name.replace("layers.0.", f"layers.{base.layers + 5}."): t for name, t in tensors.items()},
    )


def make_foreign_shape(directory: Path, base: BaseModel) -> Path:
    """An adapter for a base model of another width."""
    return make_sound(directory, replace(base, hidden=base.hidden // 2))


def make_rank_above(directory: Path, base: BaseModel) -> Path:
    """An honest adapter of HIGH_RANK."""
    make_sound(directory, base)
    write_json(directory / CONFIG, peft_config(HIGH_RANK))
    write_safetensors(directory / WEIGHTS, adapter_tensors(Adapter("hostile", "zombie", 666, HIGH_RANK), base))
    return directory


def make_rank_hidden_in_tensors(directory: Path, base: BaseModel) -> Path:
    """Tensors of HIGH_RANK under a config that says 8."""
    make_sound(directory, base)
    write_safetensors(directory / WEIGHTS, adapter_tensors(Adapter("hostile", "zombie", 666, HIGH_RANK), base))
    return directory


def _poison(tensors: Tensors, number: bytes) -> Tensors:
    name = max(tensors)
    data = tensors[name].data
    return tensors | {name: replace(tensors[name], data=data[: -len(number)] + number)}


def _halved(tensors: Tensors, dtype: str) -> Tensors:
    """Every tensor with 16-bit zeros of the given type."""
    return {name: Tensor(dtype, tensor.shape, bytes(len(tensor.data) // 2)) for name, tensor in tensors.items()}


def _with_tensors(directory: Path, base: BaseModel, change: Callable[[Tensors], Tensors]) -> Path:
    return _rewrite(make_sound(directory, base), change)


def _rewrite(directory: Path, change: Callable[[Tensors], Tensors]) -> Path:
    path = directory / WEIGHTS
    write_safetensors(path, change(read_safetensors(path)))
    return directory
