"""What a rule of the API is to a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Changes = Mapping[str, Any]
"""Values by dotted path, laid over a small valid object of `objects.py`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One rule: changes that keep it, changes that break it, and where and how the server says so."""

    name: str
    kind: str
    accept: tuple[Changes, ...]
    refuse: tuple[Changes, ...]
    field: str
    message: str
