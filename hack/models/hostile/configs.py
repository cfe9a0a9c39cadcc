"""Adapters whose adapter_config.json asks for what no engine of the fleet can do."""

from pathlib import Path

from hack.models.adapters import peft_config
from hack.models.base import BaseModel
from hack.models.hostile.files import CONFIG, make_sound
from hack.models.hostile.values import HIGH_RANK
from hack.models.tensors import write_json


def make_rank_pattern_above(directory: Path, base: BaseModel) -> Path:
    """Rank 8 in general, HIGH_RANK for one module."""
    return _with_config(directory, base, rank_pattern={"v_proj": HIGH_RANK})


def make_config_no_json(directory: Path, base: BaseModel) -> Path:
    """A config that is no JSON."""
    (make_sound(directory, base) / CONFIG).write_text("r: 8\npeft_type: LORA\n")
    return directory


def make_dora(directory: Path, base: BaseModel) -> Path:
    """Weight-decomposed LoRA."""
    return _with_config(directory, base, use_dora=True)


def make_bias(directory: Path, base: BaseModel) -> Path:
    """Trained biases."""
    return _with_config(directory, base, bias="lora_only")


def make_modules_to_save(directory: Path, base: BaseModel) -> Path:
    """Whole modules trained beside LoRA."""
    return _with_config(directory, base, modules_to_save=["lm_head"])


def make_pissa(directory: Path, base: BaseModel) -> Path:
    """An initialisation that changes the base model's own weights."""
    return _with_config(directory, base, init_lora_weights="pissa")


def make_other_peft_type(directory: Path, base: BaseModel) -> Path:
    """Not LoRA at all."""
    return _with_config(directory, base, peft_type="IA3")


def _with_config(directory: Path, base: BaseModel, **changes: object) -> Path:
    write_json(make_sound(directory, base) / CONFIG, peft_config(8, **changes))
    return directory
