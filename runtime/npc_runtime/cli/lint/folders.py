"""An adapter's folder as an agent would look at it: the agent's own code, run here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...agent.digest import digest_of_folder, files_below
from ...agent.errors import AdapterError, Reason
from ...agent.inspect.adapter import Limits, inspect_adapter
from ...agent.inspect.base import read_base

MARKS = ("adapter_config.json", "adapter_model.safetensors")
"""What makes a folder an adapter's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an agent would say. `reason` is empty where it would load the adapter; `compared` says whether the base
    model was looked at.
    """

    digest: str = ""
    rank: int = 0
    bytes: int = 0
    reason: str = ""
    message: str = ""
    note: str = ""
    compared: bool = False

    def loads(self) -> bool:
        return not self.reason and self.compared


def is_adapter(folder: Path) -> bool:
    """Whether a folder is meant as an adapter."""
    return any((folder / name).exists() for name in MARKS)


def inspect_folder(folder: Path, *, max_rank: int, base: Path | None) -> Verdict:
    """Digest and inspection in the agent's order, ending with the first thing that is wrong."""
    try:
        digest = digest_of_folder(folder)
        model = read_base(base) if base is not None else None
        found = inspect_adapter(folder, limits=Limits(max_rank), base=model)
        size = sum((folder / name).stat().st_size for name in files_below(folder))
    except AdapterError as error:
        return Verdict(reason=error.reason.value, message=error.message, compared=base is not None)
    except OSError as error:
        return Verdict(reason=Reason.DISK_ERROR.value, message=str(error), compared=base is not None)
    return Verdict(digest=digest, rank=found.max_rank, bytes=size, note=found.note, compared=model is not None)


def as_data(verdict: Verdict) -> Mapping[str, object]:
    """A verdict for programs."""
    return {
        "loads": verdict.loads(),
        "digest": verdict.digest,
        "rank": verdict.rank,
        "bytes": verdict.bytes,
        "reason": verdict.reason,
        "message": verdict.message,
        "note": verdict.note,
        "comparedWithBase": verdict.compared,
    }
