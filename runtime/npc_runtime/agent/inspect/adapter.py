"""The inspection of one adapter folder, from the cheapest question to the dearest. Runs in a worker thread; nothing
here touches the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..digest import files_below
from ..errors import Reason, refused
from .base import BaseModel
from .config import CONFIG_NAME, read_config
from .files import WEIGHTS_NAME, check_names, check_size, check_text
from .safetensors_header import read_header
from .scan import WEIGHT_DTYPES, scan_finite
from .tensors import check_tensors


@dataclass(frozen=True, slots=True)
class Limits:
    """What the tier's engine was started with."""

    max_rank: int


@dataclass(frozen=True, slots=True)
class Inspected:
    """What is known of an adapter that passed. `note` is for people: what could not be checked, or looks odd."""

    max_rank: int
    scanned_bytes: int
    note: str = ""


def inspect_adapter(
    folder: Path, *, limits: Limits, base: BaseModel | None, stopped: Callable[[], bool] = lambda: False
) -> Inspected:
    """Everything DESIGN wants to know of an adapter except its digest; raises AdapterError with the first thing that is
    wrong.
    """
    names = sorted(files_below(folder))
    check_names(names)
    for name in names:
        check_size(name, (folder / name).stat().st_size)
    config = read_config(folder / CONFIG_NAME)
    if config.max_rank > limits.max_rank:
        raise refused(
            Reason.RANK_TOO_HIGH, f"rank {config.max_rank}, this tier's engines take at most {limits.max_rank}"
        )
    for name in names:
        if name != WEIGHTS_NAME:
            check_text(folder / name, name)
    header = read_header(folder / WEIGHTS_NAME)
    for tensor in header.tensors:
        if tensor.dtype not in WEIGHT_DTYPES:
            raise refused(Reason.BAD_TENSOR, f"{tensor.name[:120]!r} has dtype {tensor.dtype}, weights are floats")
    rank = check_tensors(header.tensors, config, base)
    scanned = scan_finite(folder / WEIGHTS_NAME, header.tensors, stopped=stopped)
    return Inspected(max_rank=max(rank, config.max_rank), scanned_bytes=scanned, note=_note(config.base_model, base))


def _note(named: str, base: BaseModel | None) -> str:
    if base is None:
        return "inspected without the base model: its files cannot be seen from here"
    last = named.rstrip("/").rpartition("/")[2]
    if last and base.name and last.lower() not in base.name.lower() and base.name.lower() not in last.lower():
        return f"made for a base model called {last[:80]!r}, this one is called {base.name[:80]!r}"
    return ""
