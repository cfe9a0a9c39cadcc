"""The inspection of an adapter's weights: header, numbers, tensors against the base model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npc_runtime.agent.errors import AdapterError, Reason
from npc_runtime.agent.inspect.adapter import Limits, inspect_adapter
from npc_runtime.agent.inspect.base import read_base
from tests.unit.agent.inspecting import FIRST, WEIGHTS, inspect, refusal
from tests.unit.agent.makers import (
    HIDDEN,
    VOCABULARY,
    Raw,
    floats,
    lora_tensors,
    make_adapter,
    write_raw,
    write_safetensors,
)


def header_of(entries: dict[str, Any]) -> bytes:
    return json.dumps(entries).encode()


def entry(begin: int, end: int, *, shape: list[int] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def with_weights(tmp_path: Path, write: Callable[[Path], None]) -> Path:
    folder = make_adapter(tmp_path / "a")
    write(folder / WEIGHTS)
    return folder


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    data = (folder / WEIGHTS).read_bytes()
    for keep in (len(data) - 1, len(data) // 2, 100, 7, 0):
        (folder / WEIGHTS).write_bytes(data[:keep])
        assert refusal(folder).reason is Reason.TRUNCATED, keep


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, (8 << 20) + 1])
def test_a_header_longer_than_any_real_one_is_refused_unread(tmp_path: Path, length: int) -> None:
    folder = with_weights(tmp_path, lambda path: write_raw(path, b"{}", b"", length=length))
    assert refusal(folder).reason is Reason.BAD_HEADER


def test_a_header_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    folder = with_weights(tmp_path, lambda path: write_raw(path, b"{}", b"", length=5000))
    assert refusal(folder).reason is Reason.TRUNCATED


@pytest.mark.parametrize(
    "header",
    [
        b"", b"[]", b"{", b"\xff{}", b'{"a":' * 100_000, b'{"x": [' + b"1," * 2000 + b"1]}", b'{"x": [[1]]}',
        b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": [1]}}',
        b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "more": 1}}',
        b'{"__metadata__": {"a": 1}}', b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [NaN, 4]}}',
    ],
)  # fmt: skip
def test_a_header_the_format_does_not_allow_is_refused(tmp_path: Path, header: bytes) -> None:
    folder = with_weights(tmp_path, lambda path: write_raw(path, header, b"\0" * 4))
    assert refusal(folder).reason is Reason.BAD_HEADER


def test_a_duplicate_tensor_is_refused(tmp_path: Path) -> None:
    one = b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    folder = with_weights(tmp_path, lambda path: write_raw(path, b"{" + one + b"," + one + b"}", b"\0" * 4))
    error = refusal(folder)
    assert error.reason is Reason.BAD_HEADER
    assert "twice" in error.message


@pytest.mark.parametrize(
    ("entries", "data", "reason", "words"),
    [
        ({"a": entry(0, 8), "b": entry(4, 12)}, 12, Reason.BAD_TENSOR, "overlaps"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, 8, Reason.BAD_TENSOR, "overlaps"),
        ({"a": entry(0, 4), "b": entry(8, 12)}, 12, Reason.BAD_TENSOR, "gap"),
        ({"a": entry(4, 8)}, 8, Reason.BAD_TENSOR, "gap"),
        ({"a": entry(0, 4)}, 8, Reason.BAD_TENSOR, "behind the last tensor"),
        ({"a": entry(0, 8)}, 4, Reason.TRUNCATED, "ends at byte"),
        ({"a": entry(0, 1 << 50)}, 4, Reason.TRUNCATED, "ends at byte"),
        ({"a": entry(0, 4, shape=[2])}, 4, Reason.BAD_TENSOR, "claims 4 bytes"),
        ({"a": entry(0, 4, shape=[1 << 62, 1 << 62, 4])}, 4, Reason.BAD_TENSOR, "claims 4 bytes"),
    ],
)
def test_an_offset_that_lies_is_refused(
    tmp_path: Path, entries: dict[str, Any], data: int, reason: Reason, words: str
) -> None:
    folder = with_weights(tmp_path, lambda path: write_raw(path, header_of(entries), b"\0" * data))
    error = refusal(folder)
    assert error.reason is reason
    assert words in error.message


# --- weights ---


@pytest.mark.parametrize(
    ("dtype", "word"),
    [
        ("F32", np.float32(np.nan).tobytes()),
        ("F32", np.float32(np.inf).tobytes()),
        ("F32", np.float32(-np.inf).tobytes()),
        ("F64", np.float64(np.nan).tobytes()),
        ("F16", np.float16(np.inf).tobytes()),
        ("BF16", b"\x80\x7f"),
        ("BF16", b"\xc1\xff"),
        ("F8_E5M2", b"\x7c"),
        ("F8_E4M3", b"\xff"),
    ],
)
@pytest.mark.parametrize("place", ["first", "last"])
def test_one_number_that_is_not_finite_is_found(tmp_path: Path, dtype: str, word: bytes, place: str) -> None:
    tensors = lora_tensors(dtype=dtype)
    name = list(tensors)[0 if place == "first" else -1]
    data = bytearray(tensors[name].data)
    at = 0 if place == "first" else len(data) - len(word)
    data[at : at + len(word)] = word
    tensors[name] = Raw(dtype, tensors[name].shape, bytes(data))
    error = refusal(make_adapter(tmp_path / "a", tensors=tensors))
    assert error.reason is Reason.NOT_FINITE
    assert name in error.message


def test_the_largest_finite_numbers_are_not_taken_for_infinity(tmp_path: Path) -> None:
    tensors = lora_tensors()
    name = f"{FIRST}.lora_A.weight"
    values = np.full(8 * HIDDEN, np.finfo(np.float32).max, dtype=np.float32)
    values[1::2] *= -1
    tensors[name] = Raw("F32", (8, HIDDEN), values.tobytes())
    inspect(make_adapter(tmp_path / "a", tensors=tensors))


def test_weights_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    tensors = {name: Raw("I8", tensor.shape, bytes(len(tensor.data) // 4)) for name, tensor in lora_tensors().items()}
    assert refusal(make_adapter(tmp_path / "a", tensors=tensors)).reason is Reason.BAD_TENSOR


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop(f"{FIRST}.lora_B.weight"),
        lambda tensors: tensors.update({f"{FIRST}.lora_A.weight": floats((8, HIDDEN, 1))}),
        lambda tensors: tensors.update({f"{FIRST}.lora_B.weight": floats((HIDDEN, 4))}),
        lambda tensors: tensors.update({f"{FIRST}.lora_A.bias": floats((8,))}),
        lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.weight": floats((HIDDEN, HIDDEN))}),
        lambda tensors: tensors.update({f"{FIRST}.lora_magnitude_vector.weight": floats((8,))}),
        lambda tensors: tensors.clear(),
    ],
)
def test_tensors_that_are_no_whole_lora_are_refused(tmp_path: Path, change: Callable[[dict[str, Raw]], object]) -> None:
    tensors = lora_tensors()
    change(tensors)
    assert refusal(make_adapter(tmp_path / "a", tensors=tensors)).reason is Reason.BAD_TENSOR


# --- the base model ---


@pytest.mark.parametrize(
    "tensors",
    [
        lora_tensors(hidden=HIDDEN * 2),
        lora_tensors(layers=3),
        {name.replace("q_proj", "qkv_proj"): tensor for name, tensor in lora_tensors().items()},
    ],
    ids=["another width", "more layers", "unknown module"],
)
def test_an_adapter_of_another_base_model_is_refused(tmp_path: Path, tensors: dict[str, Raw]) -> None:
    folder = make_adapter(tmp_path / "a", tensors=tensors)
    assert refusal(folder).reason is Reason.BASE_MISMATCH
    inspect(folder, base=False)


def test_other_prefixes_of_the_same_language_model_match(tmp_path: Path) -> None:
    tensors = {name.replace("model.model.", "model.model.language_model."): raw for name, raw in lora_tensors().items()}
    inspect(make_adapter(tmp_path / "a", tensors=tensors))


def test_embeddings_and_tied_heads_are_compared(tmp_path: Path) -> None:
    tensors = lora_tensors()
    tensors["base_model.model.model.embed_tokens.lora_embedding_A"] = floats((8, VOCABULARY))
    tensors["base_model.model.model.embed_tokens.lora_embedding_B"] = floats((HIDDEN, 8))
    tensors["base_model.model.lm_head.lora_A.weight"] = floats((8, HIDDEN))
    tensors["base_model.model.lm_head.lora_B.weight"] = floats((VOCABULARY, 8))
    inspect(make_adapter(tmp_path / "a", tensors=tensors))
    tensors["base_model.model.lm_head.lora_B.weight"] = floats((VOCABULARY + 1, 8))
    assert refusal(make_adapter(tmp_path / "b", tensors=tensors)).reason is Reason.BASE_MISMATCH


def test_resized_embeddings_beside_the_lora_are_refused(tmp_path: Path) -> None:
    name = "base_model.model.model.embed_tokens.base_layer.weight"
    inspect(make_adapter(tmp_path / "a", tensors={**lora_tensors(), name: floats((VOCABULARY, HIDDEN))}))
    grown = {**lora_tensors(), name: floats((VOCABULARY + 2, HIDDEN))}
    assert refusal(make_adapter(tmp_path / "b", tensors=grown)).reason is Reason.BASE_MISMATCH


def test_a_packed_base_model_is_compared_by_its_modules(tmp_path: Path) -> None:
    base = tmp_path / "packed"
    base.mkdir()
    (base / "config.json").write_text("{}")
    tensors = {
        f"model.layers.{layer}.self_attn.{module}.qweight": Raw("I32", (HIDDEN, 4), bytes(HIDDEN * 16))
        for layer in range(2)
        for module in ("q_proj", "v_proj")
    }
    write_safetensors(base / "model.safetensors", tensors)
    model = read_base(base)
    inspect_adapter(make_adapter(tmp_path / "a"), limits=Limits(16), base=model)
    other = {name.replace("q_proj", "o_proj"): tensor for name, tensor in lora_tensors().items()}
    with pytest.raises(AdapterError) as caught:
        inspect_adapter(make_adapter(tmp_path / "b", tensors=other), limits=Limits(16), base=model)
    assert caught.value.reason is Reason.BASE_MISMATCH


def test_a_base_model_without_safetensors_cannot_be_compared_with(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AdapterError) as caught:
        read_base(tmp_path)
    assert caught.value.reason is Reason.MISSING_FILE
