"""What Bronze costs Gold: Gold's lines at a steady rate, while Bronze is offered nothing or five times its capacity.

    python -m hack.bench.gateway_tiers [--pairs 3] [--seconds 10] [--json FILE]

One gateway, engines of both tiers with few slots, asleep instead of at work. Off and on take turns. Of what Bronze is
offered a quarter is Normal and the rest Ambient: how many of each were turned away says who is shed first, and the
access log says how long the gateway had a shed line: the median of those that it turned away at once and of those that
a more important line put out of the queue.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from hack.bench.gateway_load import Load, Outcome
from hack.bench.gateway_world import KEY, STABLE, Running, endpoints, engines, gateway, region, request_bytes
from npc_runtime import wire

SLOTS = 4
ANSWER_SECONDS = 0.2
CAPACITY = SLOTS / ANSWER_SECONDS
"""Lines a second that Bronze's engine can answer."""
TIMES = 5
GOLD_SLOTS = 32
GOLD_RATE = 40.0
NORMAL_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Run:
    """Times in milliseconds."""

    gold_p50: float
    gold_p99: float
    gold_failed: int
    normal_shed: float
    """Shares of what Bronze was offered of each kind."""
    ambient_shed: float
    shed_p50: float
    """Gateway time of an Ambient line that was turned away."""


def two_tiers(gold: Sequence[int], bronze: Sequence[int]) -> wire.RouteTable:
    """Gold with a vampire, Bronze with a merchant (Normal) and a rat (Ambient)."""
    voices = {"vampire": "Critical", "merchant": "Normal", "rat": "Ambient"}
    names = {name: wire.served_name(name, STABLE) for name in voices}
    tiers = {"vampire": "gold", "merchant": "bronze", "rat": "bronze"}
    shared = {"prioritised": True, "stall_seconds": 10}
    return region(
        (
            wire.TierRoutes.model_validate(
                {
                    "name": "gold",
                    "quality": "Gold",
                    "endpoints": endpoints(gold, names["vampire"]),
                    "slots": GOLD_SLOTS,
                    "queue": GOLD_SLOTS,
                    **shared,
                }
            ),
            wire.TierRoutes.model_validate(
                {
                    "name": "bronze",
                    "quality": "Bronze",
                    "endpoints": endpoints(bronze, names["merchant"], names["rat"]),
                    "slots": SLOTS,
                    "queue": SLOTS,
                    **shared,
                }
            ),
        ),
        tuple(
            wire.Alias(
                archetype=name,
                tier=tier,
                targets=(wire.Target(served_name=names[name], digest=STABLE, percent=100),),
            )
            for name, tier in tiers.items()
        ),
        voices=tuple(
            wire.Voice.model_validate({"archetype": name, "importance": importance})
            for name, importance in voices.items()
        ),
    )


def asking(archetype: str, tier: str) -> list[bytes]:
    """Requests for one archetype on one tier."""
    mark = b"Authorization: Bearer %b\r\n" % KEY.encode()
    asked = mark + b"X-NPC-Tier: %b\r\n" % tier.encode()
    return [request_bytes(archetype, npc=f"{archetype}-{number:03}").replace(mark, asked) for number in range(100)]


async def measure(running: Running, *, bronze: bool, seconds: float) -> Run:
    """Gold alone, or beside Bronze's flood."""
    loads = {
        "gold": Load("127.0.0.1", running.port, asking("vampire", "gold")),
        "normal": Load("127.0.0.1", running.port, asking("merchant", "bronze")),
        "ambient": Load("127.0.0.1", running.port, asking("rat", "bronze")),
    }
    offered = CAPACITY * TIMES
    rates = {"gold": GOLD_RATE}
    if bronze:
        rates |= {"normal": offered * NORMAL_SHARE, "ambient": offered * (1 - NORMAL_SHARE)}
    logged = await asyncio.to_thread(running.access_log.read_bytes)
    try:
        outcomes = dict(
            zip(
                rates,
                await asyncio.gather(*(loads[name].run(rate=rate, seconds=seconds) for name, rate in rates.items())),
                strict=True,
            )
        )
    finally:
        for load in loads.values():
            load.close()
    await asyncio.sleep(0.6)  # the access log is written a few times a second
    lines = (await asyncio.to_thread(running.access_log.read_bytes))[len(logged) :].splitlines()
    shed = [
        record["durationSeconds"] * 1000
        for record in map(json.loads, lines)
        if record["status"] == 429 and record.get("archetype") == "rat"
    ]
    gold = outcomes["gold"]
    return Run(
        gold_p50=gold.percentile(0.5) * 1000,
        gold_p99=gold.percentile(0.99) * 1000,
        gold_failed=gold.failed + gold.shed,
        normal_shed=_share_shed(outcomes.get("normal")),
        ambient_shed=_share_shed(outcomes.get("ambient")),
        shed_p50=statistics.median(shed) if shed else 0.0,
    )


def _share_shed(outcome: Outcome | None) -> float:
    return 0.0 if outcome is None else outcome.shed / outcome.sent


async def compare(pairs: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Off and on in turn."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npc-bench-")))
        time = ("--answer-milliseconds", f"{ANSWER_SECONDS * 1000:g}")
        gold, bronze = (
            stack.enter_context(engines("--slots", str(slots), *time, program="slow_engine.py"))
            for slots in (GOLD_SLOTS, SLOTS)
        )
        found: dict[str, list[dict[str, float]]] = {"off": [], "on": []}
        async with gateway(two_tiers(gold.ports, bronze.ports), folder / "gateway") as running:
            await measure(running, bronze=False, seconds=1)
            for number in range(pairs):
                for name in found:
                    run = await measure(running, bronze=name == "on", seconds=seconds)
                    found[name].append({field: getattr(run, field) for field in Run.__slots__})
                    print(f"pair {number + 1}, Bronze {name}: {run}", file=sys.stderr)
        return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(compare(arguments.pairs, arguments.seconds))
    print(json.dumps(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
