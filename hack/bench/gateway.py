"""The gateway's hot path beside the Rust `vllm-router`, on the same cores, in the same run, before the same mock
engines. The gateway has every feature on, and a candidate answers a tenth of the characters.

    python -m hack.bench.gateway [--plain] [--rounds 3] [--seconds 10] [--rate 500] [--json FILE]

Each round measures, one after the other: one mock engine alone, the gateway, the router. CPU is what the kernel
counted for the process (user and system, all threads), from /proc, over the requests of the run. Then each is driven
faster and faster until it no longer holds: a rate is held when every answer is complete, 99% of them within 100 ms
and the generator itself was not late.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from hack.bench.gateway_load import Load, Outcome
from hack.bench.gateway_world import (
    ARCHETYPE,
    CANDIDATE,
    PODS,
    SERVED_NAME,
    cache_folder,
    engines,
    free_port,
    full_region,
    gateway,
    plain_region,
    process,
    requests_of_many,
    until_answers,
)
from hack.bench.processes import cpu_seconds

ROUTER_VERSION = "0.1.17"
HELD_P99_SECONDS = 0.100
MOCK = "mock engine alone"
GATEWAY = "npc-gateway"
ROUTER = f"vllm-router {ROUTER_VERSION}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: latencies in milliseconds, CPU in milliseconds a request."""

    p50: float
    p99: float
    cpu: float
    failed: int
    late_p99: float
    candidates: float
    """Share of the answers that came from a candidate."""


def router_binary() -> Path:
    """The `vllm-router` of PyPI in a virtual environment of its own, made on first use (its dependencies never meet
    ours)."""
    given = os.environ.get("NPC_FLEET_VLLM_ROUTER")
    if given:
        return Path(given)
    folder = cache_folder() / "venvs" / f"vllm-router-{ROUTER_VERSION}"
    binary = folder / "bin" / "vllm-router"
    if not binary.exists():
        print(f"installing vllm-router {ROUTER_VERSION} into {folder} (about a minute)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run(
            [folder / "bin" / "python", "-m", "pip", "install", "-q", f"vllm-router=={ROUTER_VERSION}"], check=True
        )
    return binary


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that answers streaming chat completions on a local port."""

    name: str
    pid: int
    port: int
    model: str


@contextlib.asynccontextmanager
async def contenders(*, with_router: bool, workers: int, plain: bool) -> AsyncIterator[list[Contender]]:
    """The mock engines, the gateway and the router before them, all running."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npc-bench-")))
        mock = stack.enter_context(engines("--count", str(PODS)))
        found = [Contender(MOCK, mock.pid, mock.ports[0], SERVED_NAME)]
        table = plain_region(mock.ports) if plain else full_region(mock.ports)
        running = await stack.enter_async_context(gateway(table, folder / "gateway", "--workers", str(workers)))
        found.append(Contender(GATEWAY, running.pid, running.port, ARCHETYPE))
        if with_router:
            router_port = free_port()
            urls = [f"http://127.0.0.1:{port}" for port in mock.ports]
            with (folder / "router.log").open("wb") as log:
                router = stack.enter_context(
                    process(
                        *(router_binary(), "--host", "127.0.0.1", "--port", str(router_port)),
                        *("--policy", "round_robin", "--worker-urls", *urls, "--prometheus-port", str(free_port())),
                        *("--log-level", "error", "--max-concurrent-requests", "4096"),
                        stdout=log,
                        stderr=log,
                    )
                )
            await until_answers(router_port, "/health")
            found.append(Contender(ROUTER, router.pid, router_port, SERVED_NAME))
        yield found


async def measure(contender: Contender, *, rate: float, seconds: float) -> tuple[Measured, Outcome]:
    """One run at one rate, after a short one that warms connections up."""
    load = Load("127.0.0.1", contender.port, requests_of_many(contender.model), mark=CANDIDATE.encode())
    try:
        await load.run(rate=min(rate, 200), seconds=1)
        before = cpu_seconds(contender.pid)
        outcome = await load.run(rate=rate, seconds=seconds)
        used = cpu_seconds(contender.pid) - before
    finally:
        load.close()
    late = sorted(outcome.lateness)[int(0.99 * len(outcome.lateness))]
    measured = Measured(
        p50=outcome.percentile(0.5) * 1000,
        p99=outcome.percentile(0.99) * 1000,
        cpu=used * 1000 / outcome.sent,
        failed=outcome.failed + outcome.shed,
        candidates=outcome.marked / outcome.sent,
        late_p99=late * 1000,
    )
    return measured, outcome


async def highest_rates(found: list[Contender], *, start: float, step: float, seconds: float) -> dict[str, float]:
    """The highest rate each holds on one ladder, climbed together so that all meet the same moods of the machine.

    A rung has three chances, because one hiccup of a shared machine proves nothing.
    """
    held = {contender.name: 0.0 for contender in found}
    climbing, rate = list(found), start
    while climbing:
        for contender in list(climbing):
            for _ in range(3):
                measured, _outcome = await measure(contender, rate=rate, seconds=seconds)
                if not measured.failed and measured.p99 <= HELD_P99_SECONDS * 1000:
                    held[contender.name] = rate
                    break
            else:
                climbing.remove(contender)
        rate += step
    return held


def spread(values: list[float]) -> str:
    """Median with least and greatest."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every run of every contender (the mock engine alone first), and the highest rate each held."""

    rate: float
    seconds: float
    rounds: dict[str, list[Measured]]
    held: dict[str, float]

    def added(self, name: str, quantile: str) -> list[float]:
        """What a contender adds to the mock engine's own p50 or p99, in milliseconds, round by round."""
        base = self.rounds[MOCK]
        pairs = zip(self.rounds[name], base, strict=True)
        return [getattr(one, quantile) - getattr(zero, quantile) for one, zero in pairs]


async def compare(
    *,
    rate: float,
    seconds: float,
    rounds: int,
    step: float | None,
    router: bool = True,
    workers: int = 1,
    plain: bool = False,
    say: Callable[[str], None] = print,
) -> Comparison:
    """All rounds, then the ladder (without `step` none)."""
    runs: dict[str, list[Measured]] = {}
    held: dict[str, float] = {}
    async with contenders(with_router=router, workers=workers, plain=plain) as found:
        for number in range(rounds):
            for contender in found:
                measured, _ = await measure(contender, rate=rate, seconds=seconds)
                runs.setdefault(contender.name, []).append(measured)
                say(f"round {number + 1}, {contender.name}: {measured}")
        if step is not None:
            held = await highest_rates(found, start=rate, step=step, seconds=min(5.0, seconds))
    return Comparison(rate, seconds, runs, held)


def table(found: Comparison) -> str:
    """The comparison as Markdown."""
    lines = [
        f"{found.rate:g} streaming requests/s, {found.seconds:g} s a run; median (least-greatest) of the rounds",
        "",
        "| | added p50 ms | added p99 ms | CPU ms/request | failed | highest rate held /s |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in found.rounds.items():
        if name == MOCK:
            latencies = f"{spread([one.p50 for one in runs])} itself | {spread([one.p99 for one in runs])} itself"
        else:
            latencies = f"{spread(found.added(name, 'p50'))} | {spread(found.added(name, 'p99'))}"
        cpu = spread([one.cpu for one in runs])
        failed = sum(one.failed for one in runs)
        lines.append(f"| {name} | {latencies} | {cpu} | {failed} | {found.held.get(name, 0):g} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--step", type=float, default=100.0, help="of the ladder of rates")
    parser.add_argument("--workers", type=int, default=1, help="of the gateway")
    parser.add_argument("--plain", action="store_true", help="a gateway for which nothing is switched on")
    parser.add_argument("--no-router", action="store_true", help="measure the gateway alone")
    parser.add_argument("--no-ladder", action="store_true", help="leave the highest rate out")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(
            compare(
                rate=arguments.rate,
                seconds=arguments.seconds,
                rounds=arguments.rounds,
                step=None if arguments.no_ladder else arguments.step,
                router=not arguments.no_router,
                workers=arguments.workers,
                plain=arguments.plain,
                say=lambda line: print(line, file=sys.stderr),
            )
        )
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(found), indent=1))


if __name__ == "__main__":
    main()
