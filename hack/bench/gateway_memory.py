"""What a gateway weighs: after 10,000 characters of 200 archetypes have spoken, and with 10,000 streams open.

    python -m hack.bench.gateway_memory [--streams 10000] [--json FILE]

Resident memory by the kernel (VmRSS) of the whole process, whose event loop is the only one. Where a process may not
have the two descriptors that each stream needs, fewer are opened, and what they add is scaled up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from pathlib import Path

import uvloop

from hack.bench.gateway_load import Load
from hack.bench.gateway_world import (
    CANDIDATE,
    PODS,
    STABLE,
    Engines,
    endpoints,
    engines,
    full_region,
    gateway,
    open_files,
    region,
    request_bytes,
)
from hack.bench.processes import memory
from npc_runtime import wire

ALIASES = 200
KNOWN_NPCS = 10_000
SPARE_FILES = 300
OPENING_RATE = 400.0


def large_region(ports: tuple[int, ...]) -> wire.RouteTable:
    """`full_region` with ALIASES archetypes, of which each has a candidate."""
    first = full_region(ports)
    alias, voice, (gold, bronze) = first.aliases[0], first.voices[0], first.tiers
    names = [f"archetype-{number:03}" for number in range(ALIASES)]
    aliases, voices = [], []
    for name in names:
        targets = tuple(
            target.model_copy(update={"served_name": wire.served_name(name, target.digest)}) for target in alias.targets
        )
        aliases.append(alias.model_copy(update={"archetype": name, "targets": targets}))
        voices.append(voice.model_copy(update={"archetype": name}))
    resident = [wire.served_name(name, digest) for name in names for digest in (STABLE, CANDIDATE)]
    # Nothing waits and nothing is given up here: every stream is to be open at once.
    roomy = {"slots": 1 << 20, "queue": 1 << 20, "first_token_milliseconds": 60_000, "stall_seconds": 3600}
    gold = gold.model_copy(update={"endpoints": endpoints(ports, *resident), **roomy})
    table = region((gold, bronze), tuple(aliases), voices=tuple(voices), rate=first.rate, salted=True)
    limits = wire.GatewayLimits(max_connections=50_000, request_timeout_seconds=3600)
    return table.model_copy(update={"limits": limits})


def requests() -> list[bytes]:
    """One of each character that is known."""
    return [
        request_bytes(f"archetype-{number % ALIASES:03}", npc=f"npc-{number:05}", player=f"p-{number:05}")
        for number in range(KNOWN_NPCS)
    ]


async def idle(folder: Path, quick: Engines) -> dict[str, float]:
    """Megabytes before anybody spoke, and after every character has."""
    async with gateway(large_region(quick.ports), folder) as running:
        before = memory(running.pid).resident
        load = Load("127.0.0.1", running.port, requests())
        outcome = await load.run(rate=OPENING_RATE, seconds=KNOWN_NPCS / OPENING_RATE)
        load.close()
        await asyncio.sleep(2)
        return {"started": before, "idle": memory(running.pid).resident, "failed": outcome.failed + outcome.shed}


async def streaming(folder: Path, holding: Engines, streams: int) -> dict[str, float]:
    """Megabytes with so many streams open, each of which has sent its first event."""
    async with gateway(large_region(holding.ports), folder) as running:
        load = Load("127.0.0.1", running.port, requests())
        before = memory(running.pid).resident
        await load.run(rate=OPENING_RATE, seconds=streams / OPENING_RATE, patience=2.0)
        found = {"before": before, "streaming": memory(running.pid).resident, "open": float(load.open_streams)}
        load.close()
        return found


async def measure(streams: int) -> dict[str, float]:
    """Everything."""
    streams = min(streams, (open_files() - SPARE_FILES) // 2)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npc-bench-")))
        found = await idle(folder / "idle", stack.enter_context(engines("--count", str(PODS))))
        holding = stack.enter_context(engines("--count", str(PODS), "--hold"))
        return {**found, **await streaming(folder / "streaming", holding, streams)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(arguments.streams))
    print(json.dumps(found), file=sys.stdout)
    if arguments.json:
        arguments.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
