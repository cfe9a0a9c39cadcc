"""The gateway beside the Rust router, by `hack.bench.gateway`: same run, same cores, same mock engines; and what
memory, priorities and affinity come to, by programs of their own."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hack.bench.figures import Bar, Figure, number
from hack.bench.plan import Options
from hack.bench.scripts import run_script

RATE = 500
STREAMS = 10_000
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
    share = statistics.median(run.get("candidates", 0.0) for run in rounds[_GATEWAY])
    figures[0] = dataclasses.replace(
        figures[0], note=f"every feature on; {number(share * 100)}% of the answers came from a candidate"
    )
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


async def measure_gateway_memory(options: Options) -> list[Figure]:
    """An idle gateway that knows 10,000 characters, and one with 10,000 streams."""
    runs = [await run_script("hack.bench.gateway_memory", say=options.say) for _ in range(options.runs)]
    return read_memory(runs)


def read_memory(runs: Sequence[Mapping[str, float]]) -> list[Figure]:
    """Megabytes; what fewer streams than STREAMS added is scaled up to as many."""
    scaled = tuple(run["before"] + (run["streaming"] - run["before"]) * STREAMS / run["open"] for run in runs)
    least = min(run["open"] for run in runs)
    return [
        Figure(
            row="gateway-memory",
            what="idle, 200 aliases, 10,000 known NPCs",
            unit="MB",
            runs=tuple(run["idle"] for run in runs),
            bar=Bar(80),
            note=f"before anybody spoke {number(statistics.median(run['started'] for run in runs))} MB",
        ),
        Figure(
            row="gateway-memory",
            what="10,000 open streams",
            unit="MB",
            runs=scaled,
            bar=Bar(250),
            note=f"{number(least)} streams were open; what they added is scaled to {STREAMS:,}",
        ),
    ]


async def measure_gateway_tiers(options: Options) -> list[Figure]:
    """Gold's p99 while Bronze is offered five times its capacity, and who is shed."""
    seconds = f"{options.gateway_seconds:g}"
    found = await run_script(
        "hack.bench.gateway_tiers", *("--pairs", str(options.runs), "--seconds", seconds), say=options.say
    )
    return read_tiers(found)


def read_tiers(found: Mapping[str, Runs]) -> list[Figure]:
    """Pair by pair, on against off."""
    pairs = list(zip(found["on"], found["off"], strict=True))
    on = found["on"]
    row = "gateway-tiers"
    return [
        Figure(
            row=row,
            what="Gold's p99 with Bronze at five times its capacity, over without",
            unit="%",
            runs=tuple(100 * loud["gold_p99"] / quiet["gold_p99"] for loud, quiet in pairs),
            bar=Bar(110),
            note="p99 without: " + ", ".join(f"{number(quiet['gold_p99'])} ms" for _, quiet in pairs),
        ),
        Figure(
            row=row, what="Gold lines that failed", unit="", runs=tuple(run["gold_failed"] for run in on), bar=Bar(0)
        ),
        Figure(
            row=row,
            what="p50 of a shed Ambient line in the gateway",
            unit="ms",
            runs=tuple(run["shed_p50"] for run in on),
            bar=Bar(5),
        ),
        Figure(row=row, what="Ambient lines shed", unit="%", runs=tuple(100 * run["ambient_shed"] for run in on)),
        Figure(row=row, what="Normal lines shed", unit="%", runs=tuple(100 * run["normal_shed"] for run in on)),
    ]


async def measure_gateway_affinity(options: Options) -> list[Figure]:
    """Lines sent where their beginning is cached, against the least busy pod."""
    found = await run_script("hack.bench.gateway_affinity", "--pairs", str(options.runs), say=options.say)
    return read_affinity(found)


def read_affinity(found: Mapping[str, Runs]) -> list[Figure]:
    """With the least busy pod as the other."""
    row, on, off = "gateway-affinity", found["on"], found["off"]

    def figure(what: str, unit: str, key: str, *, least: bool = False) -> Figure:
        theirs = statistics.median(run[key] for run in off)
        return Figure(
            row=row,
            what=what,
            unit=unit,
            runs=tuple(run[key] for run in on),
            bar=Bar(theirs, least=least),
            peer=f"{number(theirs)} {unit}, least busy pod",
        )

    return [
        figure("blocks of prompts found cached", "%", "cached", least=True),
        figure("first token, p50", "ms", "first_p50"),
        figure("first token, p99", "ms", "first_p99"),
        Figure(
            row=row,
            what="busiest pod, of the average",
            unit="%",
            runs=tuple(100 * run["busiest"] for run in on),
            peer=f"{number(100 * statistics.median(run['busiest'] for run in off))}%, least busy pod",
        ),
    ]


def _added(runs: Runs, base: Runs | None, key: str) -> tuple[float, ...]:
    if base is None:
        return tuple(run[key] for run in runs)
    return tuple(run[key] - zero[key] for run, zero in zip(runs, base, strict=True))
