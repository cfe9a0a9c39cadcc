"""The gateway's hot path beside the Rust `vllm-router`, on the same cores, in the same run, before the same mock
engine.

    python -m hack.bench.gateway [--rounds 3] [--seconds 10] [--rate 500] [--json FILE]

Each round measures, one after the other: the mock engine alone, the gateway, the router. CPU is what the kernel
counted for the process (user and system, all threads), from /proc, over the requests of the run. Then each is driven
faster and faster until it no longer holds: a rate is held when every answer is complete, 99% of them within 100 ms
and the generator itself was not late.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import uvloop

from hack.bench.gateway_load import Load, Outcome
from npc_runtime import wire

ROOT = Path(__file__).resolve().parents[2]
ROUTER_VERSION = "0.1.17"
KEY = "bench-key"
DIGEST = "sha256:" + "5e" * 32
SERVED_NAME = wire.served_name("vampire", DIGEST)
TICKS = os.sysconf("SC_CLK_TCK")
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


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextlib.contextmanager
def process(*command: str | Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is ended with the block."""
    child = subprocess.Popen([str(part) for part in command], **options)  # type: ignore[call-overload]
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def free_port() -> int:
    """A port nobody has just now, for programs that cannot choose one themselves."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def router_binary() -> Path:
    """The `vllm-router` of PyPI in a virtual environment of its own, made on first use (its dependencies never meet
    ours)."""
    given = os.environ.get("NPC_FLEET_VLLM_ROUTER")
    if given:
        return Path(given)
    cache = Path(
        os.environ.get("NPC_FLEET_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "npc-fleet"
    )
    folder = cache / "venvs" / f"vllm-router-{ROUTER_VERSION}"
    binary = folder / "bin" / "vllm-router"
    if not binary.exists():
        print(f"installing vllm-router {ROUTER_VERSION} into {folder} (about a minute)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run(
            [folder / "bin" / "python", "-m", "pip", "install", "-q", f"vllm-router=={ROUTER_VERSION}"], check=True
        )
    return binary


def route_table(port: int) -> wire.RouteTable:
    """One archetype on one pod, with authentication on."""
    endpoint = wire.Endpoint(
        pod="mock", uid="mock", address="127.0.0.1", port=port, engine_key_id="k", resident=(SERVED_NAME,)
    )
    return wire.RouteTable(
        stamp=wire.Stamp(epoch=1, generation=1),
        namespace="bench",
        region="bench",
        default_tier="gold",
        tiers=(wire.TierRoutes(name="gold", quality="Gold", endpoints=(endpoint,)),),
        aliases=(
            wire.Alias(
                archetype="vampire",
                tier="gold",
                targets=(wire.Target(served_name=SERVED_NAME, digest=DIGEST, percent=100),),
            ),
        ),
        api_keys=(wire.ApiKey(name="bench", sha256=hashlib.sha256(KEY.encode()).hexdigest()),),
        engine_keys=(wire.EngineKey.model_validate({"id": "k", "key": "engine-key"}),),
    )


def make_internal(folder: Path) -> None:
    """A certificate and a token, so that the gateway starts as it does in a pod."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=bench", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "ca.crt").write_bytes((folder / "tls.crt").read_bytes())
    (folder / "token").write_text("bench-token")


def request_bytes(model: str) -> bytes:
    """One streaming request as a game server would send it."""
    body = json.dumps(
        {
            "model": model,
            "stream": True,
            "max_tokens": 64,
            "messages": [
                {"role": "system", "content": "You are a vampire in a castle. Answer in one sentence. " * 4},
                {"role": "user", "content": "Who goes there, and what do you want at this hour?"},
            ],
        }
    ).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nUser-Agent: game/1.0\r\nAccept: text/event-stream\r\n"
        b"Authorization: Bearer " + KEY.encode() + b"\r\nX-NPC-Id: gold-vampire-0001\r\nX-Player-Id: p-123\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body


async def until_answers(port: int, path: str, seconds: float = 60.0) -> None:
    """Wait until a GET answers 200."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that answers streaming chat completions on a local port."""

    name: str
    pid: int
    port: int
    model: str


@contextlib.asynccontextmanager
async def contenders(*, with_router: bool, workers: int) -> AsyncIterator[list[Contender]]:
    """The mock engine, the gateway and the router before it, all running."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npc-bench-")))
        mock = stack.enter_context(process(sys.executable, ROOT / "hack/bench/mock_engine.py", stdout=subprocess.PIPE))
        assert mock.stdout is not None
        mock_port = int(json.loads(mock.stdout.readline())["port"])
        found = [Contender(MOCK, mock.pid, mock_port, SERVED_NAME)]

        (folder / "internal").mkdir()
        make_internal(folder / "internal")
        (folder / "routes.json").write_bytes(route_table(mock_port).to_bytes())
        gateway_port, health_port = free_port(), free_port()
        log = stack.enter_context((folder / "gateway.log").open("wb"))
        gateway = stack.enter_context(
            process(
                *(sys.executable, "-m", "npc_runtime.gateway", "--host", "127.0.0.1", "--port", str(gateway_port)),
                *("--admin-port", "0", "--health-port", str(health_port), "--internal-dir", folder / "internal"),
                *("--routes-file", folder / "routes.json", "--state-dir", folder / "state"),
                *("--shutdown-delay-seconds", "0", "--drain-seconds", "1", "--workers", str(workers)),
                stdout=subprocess.DEVNULL,  # the access log is on, as in production
                stderr=log,
            )
        )
        await until_answers(health_port, "/readyz")
        found.append(Contender(GATEWAY, gateway.pid, gateway_port, "vampire"))

        if with_router:
            router_port = free_port()
            router = stack.enter_context(
                process(
                    *(router_binary(), "--host", "127.0.0.1", "--port", str(router_port), "--policy", "round_robin"),
                    *("--worker-urls", f"http://127.0.0.1:{mock_port}", "--prometheus-port", str(free_port())),
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
    load = Load("127.0.0.1", contender.port, request_bytes(contender.model))
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
        failed=outcome.failed,
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
    say: Callable[[str], None] = print,
) -> Comparison:
    """All rounds, then the ladder (without `step` none)."""
    runs: dict[str, list[Measured]] = {}
    held: dict[str, float] = {}
    async with contenders(with_router=router, workers=workers) as found:
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
                say=lambda line: print(line, file=sys.stderr),
            )
        )
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(found), indent=1))


if __name__ == "__main__":
    main()
