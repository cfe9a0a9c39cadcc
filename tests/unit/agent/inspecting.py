"""An inspection as the agent does it, beside the small base model of `makers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npc_runtime.agent.errors import AdapterError
from npc_runtime.agent.inspect.adapter import Inspected, Limits, inspect_adapter
from npc_runtime.agent.inspect.base import read_base
from tests.unit.agent.makers import (
    make_base,
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
