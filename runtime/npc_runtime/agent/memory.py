"""The last order, on disk, without its credentials: a restarted agent goes on from here, operator or not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ..wire import DesiredSet


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore")

    version: int
    order: DesiredSet
    with_credentials: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remembered:
    """An order as it was persisted, and the names whose credentials were left out."""

    order: DesiredSet
    credentials_lost: frozenset[str]


class OrderMemory:
    """One file. Both methods block: call them from a worker thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, order: DesiredSet) -> None:
        """Replaces the file in one rename; raises OSError when the disk does not take it."""
        bare = tuple(adapter.model_copy(update={"credentials": {}}) for adapter in order.adapters)
        record = _Record(
            version=1,
            order=order.model_copy(update={"adapters": bare}),
            with_credentials=tuple(adapter.served_name for adapter in order.adapters if adapter.credentials),
        )
        temporary = self._path.with_suffix(".new")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(record.model_dump_json(by_alias=True).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)

    def load(self) -> Remembered | None:
        """The last order; None when there is none, or none this version understands."""
        try:
            record = _Record.model_validate_json(self._path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return Remembered(record.order, frozenset(record.with_credentials))
