"""The inspection of an adapter's folder and config: what passes, and the reason of each refusal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from npc_runtime.agent.errors import Reason
from npc_runtime.agent.inspect.adapter import Limits, inspect_adapter
from npc_runtime.agent.inspect.base import read_base
from tests.unit.agent.inspecting import FIRST, WEIGHTS, inspect, refusal
from tests.unit.agent.makers import (
    HIDDEN,
    config_of,
    floats,
    lora_tensors,
    make_adapter,
    make_base,
)


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
