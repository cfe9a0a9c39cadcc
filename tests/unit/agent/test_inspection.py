"""Every way an adapter can be hostile or broken has its own reason, and a sound one passes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npc_runtime.agent.errors import AdapterError, Reason
from npc_runtime.agent.inspect.adapter import Inspected, Limits, inspect_adapter
from npc_runtime.agent.inspect.base import read_base
from tests.unit.agent.makers import (
    HIDDEN,
    VOCABULARY,
    Raw,
    config_of,
    floats,
    lora_tensors,
    make_adapter,
    make_base,
    write_raw,
    write_safetensors,
)

WEIGHTS = "adapter_model.safetensors"
FIRST = "base_model.model.model.layers.0.self_attn.q_proj"


def inspect(folder: Path, *, base: bool = True, max_rank: int = 16) -> Inspected:
    model = read_base(make_base(folder.parent / "base")) if base else None
    return inspect_adapter(folder, limits=Limits(max_rank), base=model)


def refusal(folder: Path, **options: Any) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        inspect(folder, **options)
    assert caught.value.permanent
    return caught.value


def header_of(entries: dict[str, Any]) -> bytes:
    return json.dumps(entries).encode()


def entry(begin: int, end: int, *, shape: list[int] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def test_a_sound_adapter_passes_and_all_its_bytes_were_scanned(tmp_path: Path) -> None:
    found = inspect(make_adapter(tmp_path / "a", rank=8))
    assert found.max_rank == 8
    assert found.scanned_bytes == sum(len(tensor.data) for tensor in lora_tensors(rank=8).values())
    assert found.note == ""


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
def test_every_float_dtype_of_adapters_passes(tmp_path: Path, dtype: str) -> None:
    inspect(make_adapter(tmp_path / "a", tensors=lora_tensors(dtype=dtype)))


def test_harmless_text_beside_the_weights_passes(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "README.md").write_text("# Vampire ❤\n" * 200_000)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "LICENSE").write_text("Apache-2.0")
    inspect(folder)


def test_without_a_base_model_it_says_so(tmp_path: Path) -> None:
    assert "without the base model" in inspect(make_adapter(tmp_path / "a"), base=False).note


def test_another_name_of_the_base_model_only_warns(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", config=config_of(base_model_name_or_path="other/thing"))
    base = read_base(make_base(tmp_path / "base"), name="tiny/base")
    assert "thing" in inspect_adapter(folder, limits=Limits(16), base=base).note


# --- files ---


@pytest.mark.parametrize(
    "name", ["evil.py", "adapter_model.bin", "weights.pt", "x.pkl", "a.so", "run.sh", "extra.safetensors"]
)
def test_a_file_that_is_not_config_weights_or_text_is_refused(tmp_path: Path, name: str) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / name).write_bytes(b"x")
    assert refusal(folder).reason is Reason.FORBIDDEN_FILE


@pytest.mark.parametrize(
    "content", [b"\x80\x04\x95\x00\x00pickle", b"\xff\xfe broken", b"fine until \xc3", b"PK\x03\x04\x00"]
)
def test_a_binary_that_is_called_text_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "README.md").write_bytes(content)
    assert refusal(folder).reason is Reason.FORBIDDEN_FILE


def test_text_split_inside_a_character_by_the_read_chunk_passes(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "README.md").write_bytes(b"x" * ((1 << 20) - 1) + "é".encode() + b"y")
    inspect(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", WEIGHTS])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / name).unlink()
    error = refusal(folder)
    assert error.reason is Reason.MISSING_FILE
    assert name in error.message


def test_a_symlink_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "README.md").symlink_to("/etc/passwd")
    assert refusal(folder).reason is Reason.SYMLINK


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    os.mkfifo(folder / "README.md")
    assert refusal(folder).reason is Reason.FORBIDDEN_FILE


def test_names_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "README.md").write_text("1")
    (folder / "readme.md").write_text("2")
    assert refusal(folder).reason is Reason.UNSAFE_PATH


def test_an_endless_text_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    with (folder / "README.md").open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert refusal(folder).reason is Reason.TOO_LARGE


# --- adapter_config.json ---


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "IA3"},
        {"peft_type": None},
        {"use_dora": True},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"lora_bias": True},
        {"modules_to_save": ["lm_head"]},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "corda"},
        {"init_lora_weights": "loftq"},
        {"layer_replication": [[0, 1]]},
        {"alora_invocation_tokens": [1]},
        {"use_qalora": True},
        {"use_bdlora": {"nblocks": 2}},
        {"trainable_token_indices": [3]},
    ],
)
def test_an_unsupported_feature_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = make_adapter(tmp_path / "a", config=config_of(**changes))
    assert refusal(folder).reason is Reason.UNSUPPORTED_FEATURE


@pytest.mark.parametrize(
    "changes",
    [
        {"use_rslora": True},
        {"init_lora_weights": "gaussian"},
        {"rank_pattern": {"q_proj": 8}},
        {"alpha_pattern": {"q_proj": 3}},
    ],
)
def test_a_supported_feature_passes(tmp_path: Path, changes: dict[str, Any]) -> None:
    inspect(make_adapter(tmp_path / "a", config=config_of(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"r": 0}, {"r": -1}, {"r": "8"}, {"r": True}, {"r": 1.5}, {"lora_alpha": "x"}, {"lora_alpha": None},
        {"target_modules": None}, {"rank_pattern": {"q_proj": 0}}, {"rank_pattern": [1]},
        {"rank_pattern": {"(a+)+$": 8}}, {"rank_pattern": {"a.*b": 8}}, {"rank_pattern": {"(": 8}},
        {"rank_pattern": {"(a|a)" * 40: 8}}, {"rank_pattern": {r"\d+" * 20: 8}},
        {"modules_to_save": "score"},
    ],
)  # fmt: skip
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = make_adapter(tmp_path / "a", config=config_of(**changes))
    assert refusal(folder).reason is Reason.BAD_CONFIG


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"{", b'{"r": 1, "r": 2}', b'{"r": NaN}', b"\xff", b"null",
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    ],
)  # fmt: skip
def test_a_config_that_is_no_plain_json_object_is_refused(tmp_path: Path, raw: bytes) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_bytes(raw)
    assert refusal(folder).reason is Reason.BAD_CONFIG


def test_a_huge_config_is_refused_unread(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_bytes(b" " * ((1 << 20) + 1))
    assert refusal(folder).reason is Reason.TOO_LARGE


@pytest.mark.parametrize("config", [config_of(rank=32), config_of(rank=8, rank_pattern={"q_proj": 32})])
def test_a_rank_above_the_tiers_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = make_adapter(tmp_path / "a", config=config, tensors=lora_tensors(rank=8))
    assert refusal(folder).reason is Reason.RANK_TOO_HIGH


def test_a_rank_in_the_tensors_above_the_config_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", config=config_of(rank=8), tensors=lora_tensors(rank=16))
    assert refusal(folder).reason is Reason.RANK_TOO_HIGH


def test_rank_patterns_are_matched_as_the_engine_does(tmp_path: Path) -> None:
    tensors = lora_tensors(rank=8)
    tensors[f"{FIRST}.lora_A.weight"] = floats((4, HIDDEN))
    tensors[f"{FIRST}.lora_B.weight"] = floats((HIDDEN, 4))
    folder = make_adapter(
        tmp_path / "a", config=config_of(rank_pattern={r"layers\.0\.self_attn.q_proj": 4}), tensors=tensors
    )
    inspect(folder)
    (folder / "adapter_config.json").write_text(json.dumps(config_of()))
    assert refusal(folder).reason is Reason.BAD_TENSOR


def test_matching_a_rank_pattern_takes_no_longer_than_the_name_is(tmp_path: Path) -> None:
    # A backtracking matcher would need some 10^20 steps for this one, with the GIL held.
    name = f"base_model.model.{'1' * 200_000}x"
    tensors = lora_tensors(rank=8) | {
        f"{name}.lora_A.weight": floats((8, HIDDEN)),
        f"{name}.lora_B.weight": floats((HIDDEN, 8)),
    }
    folder = make_adapter(tmp_path / "a", config=config_of(rank_pattern={r"\d+\d+\d+\d+": 8}), tensors=tensors)
    assert refusal(folder).reason is Reason.BASE_MISMATCH


# --- safetensors header ---


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
