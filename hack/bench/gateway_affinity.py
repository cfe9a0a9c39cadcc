"""What it is worth to send a line where its beginning is cached: the same conversations with affinity on and off.

    python -m hack.bench.gateway_affinity [--pairs 3] [--seconds 20] [--json FILE]

Four engines with a prefix cache that holds a third of all conversations each; conversations of one NPC with one player
go on for TURNS lines, each with all that was said before, and all of them are asked within the run. A block of a prompt
that is not cached takes an engine BLOCK_MILLISECONDS. Off and on take turns, each with fresh engines and a fresh
gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

import aiohttp
import uvloop

from hack.bench.gateway_load import Load, at_share
from hack.bench.gateway_world import ARCHETYPE, PODS, Engines, engines, gateway, plain_region, request_bytes

CONVERSATIONS = 60
TURNS = 12
PERSONA_CHARACTERS = 1_024
LINE_CHARACTERS = 192
BLOCK_MILLISECONDS = 4.0
CACHED_BLOCKS = 900


def conversations() -> list[bytes]:
    """Every line of every conversation, as they come: each conversation goes on while others do."""
    chance = random.Random(7)
    persona = "You are a vampire in a castle. ".ljust(PERSONA_CHARACTERS, "~")
    turns = [turn for turn in range(CONVERSATIONS) for _ in range(TURNS)]
    chance.shuffle(turns)
    said: dict[int, list[dict[str, str]]] = {}
    lines = []
    for number in turns:
        messages = said.setdefault(number, [{"role": "system", "content": persona}])
        text = f"Conversation {number}, line {len(messages)}: "
        messages.append({"role": "user", "content": text.ljust(LINE_CHARACTERS, ".")})
        lines.append(request_bytes(ARCHETYPE, npc=f"npc-{number % 40:03}", player=f"p-{number}", messages=messages))
        messages.append({"role": "assistant", "content": "word " * 8})
    return lines


async def hits(found: Engines) -> tuple[float, float]:
    """The share of blocks that were cached, and how much more than the average the busiest engine was asked."""
    states = []
    async with aiohttp.ClientSession() as session:
        for port in found.ports:
            async with session.get(f"http://127.0.0.1:{port}/state") as answer:
                states.append(await answer.json())
    asked = [state["asked"] for state in states]
    share = sum(state["hit"] for state in states) / max(1, sum(state["blocks"] for state in states))
    return share, max(asked) / max(1e-9, statistics.mean(asked))


async def measure(folder: Path, *, affine: bool, seconds: float) -> dict[str, float]:
    """One run."""
    option = "--prefix-affinity" if affine else "--no-prefix-affinity"
    times = ("--block-milliseconds", str(BLOCK_MILLISECONDS), "--cached-blocks", str(CACHED_BLOCKS))
    with engines("--count", str(PODS), *times, program="slow_engine.py") as found:
        async with gateway(plain_region(found.ports), folder, option) as running:
            lines = conversations()
            load = Load("127.0.0.1", running.port, lines)
            outcome = await load.run(rate=len(lines) / seconds, seconds=seconds)
            load.close()
        share, busiest = await hits(found)
    return {
        "first_p50": at_share(outcome.firsts, 0.5) * 1000,
        "first_p99": at_share(outcome.firsts, 0.99) * 1000,
        "cached": share * 100,
        "busiest": busiest,
        "failed": outcome.failed + outcome.shed,
    }


async def compare(pairs: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Off and on in turn."""
    found: dict[str, list[dict[str, float]]] = {"off": [], "on": []}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npc-bench-")))
        for number in range(pairs):
            for name, runs in found.items():
                run = await measure(folder / f"{name}-{number}", affine=name == "on", seconds=seconds)
                runs.append(run)
                print(f"pair {number + 1}, affinity {name}: {run}", file=sys.stderr)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(compare(arguments.pairs, arguments.seconds))
    print(json.dumps(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
