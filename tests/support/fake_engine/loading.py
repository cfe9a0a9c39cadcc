"""What a fake engine reads of an adapter when it is told to load it, and what it refuses in vLLM's words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.fake_engine.behaviour import read_changes
from tests.support.fake_engine.bodies import error_response
from tests.support.fake_engine.words import BASE_VOICE


@dataclass(frozen=True, slots=True)
class Loaded:
    """An adapter as it was when it was loaded."""

    path: str
    voice: str
    """sha256 of its weights: what its answers are made of. The base model's where the weights change nothing."""
    created: int
    changes: Mapping[str, Any]
    """Knobs of its own (see ADAPTER_BEHAVIOUR)."""


def refusal_of_load(body: Mapping[str, Any], base: str, adapters: Collection[str]) -> web.Response | None:
    """The 400 for a load that needs no look at any file; `base` is the base model's name, `adapters` what is there."""
    name = body["lora_name"]
    if not name or not body["lora_path"]:
        message = "Both 'lora_name' and 'lora_path' must be provided."
    elif name == base:
        message = f"The lora adapter '{name}' conflicts with a served base model."
    elif name in adapters and not body.get("load_inplace"):
        message = (
            f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
            "'load_inplace' to True."
        )
    else:
        return None
    return error_response(message, "InvalidUserInput", None, 400)


def load_adapter(name: str, path: str, max_rank: int, now: int) -> Loaded | web.Response:
    """What lies at the path, or the refusal that vLLM would give."""
    folder = Path(path)
    try:
        return Loaded(path, _voice_of(folder, max_rank), now, read_changes(folder))
    except FileNotFoundError:
        return error_response(f"Loading lora {name} failed: No adapter found for <path>", "NotFoundError", None, 404)
    except ValueError as error:
        return error_response(f"Call to add_lora method failed: {error}", "InternalServerError", None, 500)


def _voice_of(folder: Path, max_rank: int) -> str:
    """What the weights say; raises FileNotFoundError or ValueError where vLLM refuses them."""
    config = json.loads((folder / "adapter_config.json").read_text())
    rank = max([config["r"], *config.get("rank_pattern", {}).values()])
    if rank > max_rank:
        raise ValueError(f"LoRA rank {rank} is greater than max_lora_rank {max_rank}.")
    if config.get("use_dora"):
        raise ValueError("vLLM does not yet support DoRA.")
    if config.get("bias", "none") != "none":
        raise ValueError("Adapter bias is not supported.")
    if set(config.get("modules_to_save") or ()) - {"classifier", "score"}:
        raise ValueError("vLLM only supports modules_to_save being None.")
    try:
        weights = (folder / "adapter_model.safetensors").read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{folder} doesn't contain tensors") from None
    start, entries = _entries_of(weights)
    outputs = [entry["data_offsets"] for name, entry in entries.items() if ".lora_B." in name]
    if outputs and not any(any(weights[start + begin : start + end]) for begin, end in outputs):
        return BASE_VOICE
    return hashlib.sha256(weights).hexdigest()


def _entries_of(content: bytes) -> tuple[int, Mapping[str, Any]]:
    """Where the data begins, and the tensors' entries; as vLLM, raises ValueError if header and data do not fit."""
    start = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:start]) if start <= len(content) else {}
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        ends = [entry["data_offsets"][1] for entry in entries.values()]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"Error while deserializing header: {error}") from None
    if not ends or start + max(ends) != len(content):
        raise ValueError("Error while deserializing header: incomplete metadata, file not fully covered")
    return start, entries
