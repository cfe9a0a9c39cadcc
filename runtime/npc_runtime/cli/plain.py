"""Reading JSON of which nothing is promised: a field that is missing, null or of another type reads as empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def mapping(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}


def entries(value: Any) -> list[Json]:
    """The objects of a list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def texts(value: Any) -> tuple[str, ...]:
    """The strings of a list."""
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def number(value: Any, default: int = 0) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
