"""What is asked of a run of the benchmarks, and what a row is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hack.bench.figures import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Sizes and numbers of runs; the defaults are what docs/benchmarks.md shows."""

    runs: int = 3
    adapters: int = 1000
    changes: int = 100
    """Spec changes per run."""
    rest_seconds: float = 120.0
    """Length of one window at rest."""
    gateway_seconds: float = 10.0
    """Length of one run at one rate."""
    say: Callable[[str], None] = print


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement; it may give several figures. `minutes` is how long it usually takes."""

    name: str
    what: str
    minutes: str
    run: Callable[[Options], Awaitable[list[Figure]]]
    needs_cluster: bool = False
