"""The gateway beside the Rust router, by `hack.bench.gateway`: same run, same cores, same mock engine."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hack.bench.figures import Bar, Figure, number
from hack.bench.plan import Options
from hack.bench.scripts import run_script

RATE = 500
_MOCK = "mock engine alone"
_GATEWAY = "npc-gateway"
Runs = Sequence[Mapping[str, float]]


async def measure_gateway(options: Options) -> list[Figure]:
    """CPU per request, added latency at 500 streaming requests a second, the highest rate held."""
    found = await run_script(
        "hack.bench.gateway",
        *("--rounds", str(options.runs), "--seconds", f"{options.gateway_seconds:g}", "--rate", str(RATE)),
        say=options.say,
    )
    return read_figures(found)


def read_figures(found: Mapping[str, Any]) -> list[Figure]:
    """Figures of the gateway with the router's as bar and peer: what the router reached in this very run."""
    rounds: Mapping[str, Runs] = found["rounds"]
    held: Mapping[str, float] = found["held"]
    router = next(name for name in rounds if name not in (_MOCK, _GATEWAY))
    figures: list[Figure] = []
    for key, what, unit in (
        ("cpu", "CPU per request", "ms"),
        ("p50", f"added p50 at {RATE}/s", "ms"),
        ("p99", f"added p99 at {RATE}/s", "ms"),
    ):
        base = None if key == "cpu" else rounds[_MOCK]
        ours, theirs = (_added(rounds[name], base, key) for name in (_GATEWAY, router))
        peer = f"{number(statistics.median(theirs))} ({number(min(theirs))}-{number(max(theirs))}) {unit}, {router}"
        bar = Bar(statistics.median(theirs))
        figures.append(Figure(row="gateway", what=what, unit=unit, runs=ours, bar=bar, peer=peer))
    failed = tuple(run["failed"] for run in rounds[_GATEWAY])
    theirs_failed = number(sum(run["failed"] for run in rounds[router]))
    figures.append(
        Figure(
            row="gateway", what="failed requests", unit="", runs=failed, bar=Bar(0), peer=f"{theirs_failed}, {router}"
        )
    )
    if _GATEWAY in held:
        alone = f"; the mock engine alone: {number(held[_MOCK])}/s"
        figures.append(
            Figure(
                row="gateway",
                what="highest rate held",
                unit="/s",
                runs=(held[_GATEWAY],),
                bar=Bar(held[router], least=True),
                peer=f"{number(held[router])} /s, {router}",
                note="every answer complete and 99% within 100 ms; load, mock and router share the cores" + alone,
            )
        )
    return figures


def _added(runs: Runs, base: Runs | None, key: str) -> tuple[float, ...]:
    if base is None:
        return tuple(run[key] for run in runs)
    return tuple(run[key] - zero[key] for run, zero in zip(runs, base, strict=True))
