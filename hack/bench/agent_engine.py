"""One agent beside one real vLLM: how long an adapter takes from the order to the proof, and a killed engine to repair.

    python -m hack.bench.agent_engine [--rounds 3] [--json FILE]

Both are processes of their own, as in a pod; the bench speaks to the agent as the operator does (TLS, token, long
poll), so every figure holds what travels too. Adapters come from a folder below an allowed root; digest, inspection
against the base model and probe are always on. The second part takes an adapter of 160 MB on a base model of matching
width and tells from the agent's own metrics how fast it was fetched (copied and hashed in one pass) and scanned, and
how late the agent's event loop ever was.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hack.bench.internal import NAMESPACE, TOKEN, write_internal
from hack.models.catalog import make_catalog
from hack.models.engine_flags import ENGINE_ARGS, ENGINE_ENV, MODULE
from hack.models.environment import engine_python, ensure_packages
from hack.models.large import LARGE_RANK, make_large_adapter, make_large_base
from npc_runtime.agent.digest import digest_of_folder
from npc_runtime.wire import AgentReport, DesiredAdapter, DesiredSet, Probe, Stamp, served_name, server_name

KEY = "bench-key"
ENGINE_START_SECONDS = 300
_LAG_BUCKET = re.compile(r'npc_agent_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)')


@dataclass
class Engine:
    """A vLLM process on one port, killed and started at will."""

    folder: Path
    base: Path
    port: int
    max_rank: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and returns at once."""
        environment = ENGINE_ENV | {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ensure_packages()),
            "USER": "npc",
            "HOME": str(self.folder),
            "VLLM_API_KEY": KEY,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        }
        arguments = [
            *(f"--model={self.base}", "--served-model-name=base", "--host=127.0.0.1", f"--port={self.port}"),
            *("--api-server-count=1", "--max-model-len=512", "--enable-lora", "--max-loras=1", "--max-cpu-loras=16"),
            *(f"--max-lora-rank={self.max_rank}", *ENGINE_ARGS),
        ]
        with (self.folder / "engine.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(engine_python()), "-m", MODULE, *arguments],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    async def healthy(self, session: aiohttp.ClientSession) -> float:
        """Waits for /health 200 and returns the moment (monotonic seconds)."""
        async with asyncio.timeout(ENGINE_START_SECONDS):
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    timeout = aiohttp.ClientTimeout(total=2)
                    async with session.get(f"http://127.0.0.1:{self.port}/health", timeout=timeout) as answer:
                        if answer.status == 200:
                            return time.monotonic()
                if self.process is None or self.process.poll() is not None:
                    raise SystemExit(f"vLLM ended while it started, see {self.folder / 'engine.log'}")
                await asyncio.sleep(0.01)


class AgentProcess:
    """The agent and the client side of it."""

    def __init__(self, folder: Path, engine: Engine, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._port, self._health_port = free_port(), free_port()
        self._context = ssl.create_default_context(cafile=str(folder / "internal" / "ca.crt"))
        self._generation = 0
        (folder / "key").write_text(KEY)
        with (folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(
                        sys.executable,
                        "-m",
                        "npc_runtime.agent",
                        "serve",
                        f"--engine-url=http://127.0.0.1:{engine.port}",
                    ),
                    *(f"--engine-key-file={folder / 'key'}", f"--internal-dir={folder / 'internal'}"),
                    *(f"--adapters-dir={folder / 'cache'}", f"--model-dir={engine.base}"),
                    *(f"--file-root={folder / 'source'}", f"--socket={folder / 'agent.sock'}"),
                    *("--max-cpu-loras=16", f"--max-lora-rank={engine.max_rank}"),
                    *(f"--namespace={NAMESPACE}", "--region=bench", "--tier=bench", "--pod=bench", "--host=127.0.0.1"),
                    *(f"--port={self._port}", f"--health-port={self._health_port}", "--drain-seconds=5"),
                ],
                stderr=log,
            )

    async def push(self, adapters: Sequence[DesiredAdapter]) -> None:
        """One order, retried while the agent starts."""
        self._generation += 1
        order = DesiredSet(stamp=Stamp(epoch=1, generation=self._generation), adapters=tuple(adapters))
        async with self._call("PUT", "/v1/desired", order.to_bytes()) as answer:
            answer.raise_for_status()

    async def until(self, wanted: Callable[[AgentReport], bool], *, seconds: float = 120) -> tuple[float, AgentReport]:
        """The moment a report was as wanted, by long polls, and that report."""
        after, boot = 0, ""
        async with asyncio.timeout(seconds):
            while True:
                # The whole report each time: what a difference says is the operator's to merge, not this bench's.
                async with self._call("GET", "/v1/status", after=-1, boot="") as answer:
                    report = AgentReport.model_validate_json(await answer.read())
                if wanted(report):
                    return time.monotonic(), report
                after, boot = report.revision, report.boot_id
                async with self._call("GET", "/v1/status", after=after, boot=boot, wait=20) as answer:
                    await answer.read()

    async def listening(self) -> None:
        """Waits until the health port answers."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    await self.metrics()
                    return
                await asyncio.sleep(0.05)

    async def metrics(self) -> str:
        """Its metrics."""
        async with self._session.get(f"http://127.0.0.1:{self._health_port}/metrics") as answer:
            return await answer.text()

    @contextlib.asynccontextmanager
    async def _call(
        self, method: str, path: str, body: bytes | None = None, **query: object
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._session.request(
            method,
            f"https://127.0.0.1:{self._port}{path}",
            data=body,
            params={key: str(value) for key, value in query.items()},
            headers={"Authorization": f"Bearer {TOKEN}"},
            ssl=self._context,
            server_hostname=server_name(NAMESPACE),
        ) as answer:
            yield answer


@contextlib.asynccontextmanager
async def beside(folder: Path, base: Path, max_rank: int) -> AsyncIterator[tuple[Engine, AgentProcess]]:
    """An engine that is up and an agent beside it; both are gone afterwards."""
    await asyncio.to_thread((folder / "source").mkdir, parents=True, exist_ok=True)
    write_internal(folder / "internal")
    engine = Engine(folder, base, free_port(), max_rank)
    connector = aiohttp.TCPConnector(force_close=False)
    async with aiohttp.ClientSession(connector=connector) as session:
        engine.start()
        agent = AgentProcess(folder, engine, session)
        try:
            await engine.healthy(session)
            await agent.listening()
            await agent.until(lambda report: report.engine.state == "Ready")
            yield engine, agent
        finally:
            engine.kill()
            agent.process.terminate()
            agent.process.wait()


def order_for(folder: Path, archetype: str) -> DesiredAdapter:
    """The order for one adapter folder."""
    digest = digest_of_folder(folder)
    return DesiredAdapter(
        served_name=served_name(archetype, digest),
        archetype=archetype,
        digest=digest,
        uri=f"file://{folder}",
        rank=LARGE_RANK,
        probe=Probe(max_tokens=8),
    )


def all_resident(report: AgentReport) -> bool:
    """Whether everything ordered is proven; ends the bench when something is refused."""
    refused = [adapter for adapter in report.adapters if adapter.phase == "Refused"]
    if refused:
        raise SystemExit(f"refused: {refused}")
    return bool(report.adapters) and all(adapter.phase == "Resident" for adapter in report.adapters)


async def apply_small(
    folder: Path, engine_and_agent: tuple[Engine, AgentProcess], rounds: int
) -> dict[str, list[float]]:
    """Seconds from the order to the proof for each new adapter, and through a killed engine."""
    engine, agent = engine_and_agent
    catalog = make_catalog(folder / "source" / "catalog")
    names = sorted(catalog.digests)
    figures: dict[str, list[float]] = {
        "applied -> proven": [],
        "killed -> reported down": [],
        "healthy -> all proven": [],
    }
    wanted: list[DesiredAdapter] = []
    for name in names:
        wanted.append(order_for(catalog.adapter(name), name.replace("-", "")))
        begun = time.monotonic()
        await agent.push(wanted)
        proven, _ = await agent.until(lambda report: len(report.adapters) == len(wanted) and all_resident(report))
        figures["applied -> proven"].append(proven - begun)
    async with aiohttp.ClientSession() as session:
        for _ in range(rounds):
            waiting = asyncio.create_task(agent.until(lambda report: report.engine.state == "Down"))
            await asyncio.sleep(0.5)  # so that the long poll of `waiting` is really waiting
            killed = time.monotonic()
            engine.kill()
            down, report = await waiting
            if any(adapter.phase == "Resident" for adapter in report.adapters):
                raise SystemExit("the agent calls adapters of a dead engine resident")
            figures["killed -> reported down"].append(down - killed)
            proof = asyncio.create_task(agent.until(all_resident, seconds=ENGINE_START_SECONDS))
            engine.start()
            healthy = await engine.healthy(session)
            proven, _ = await proof
            figures["healthy -> all proven"].append(proven - healthy)
    return figures


async def apply_large(folder: Path, agent: AgentProcess, rounds: int) -> dict[str, list[float]]:
    """As above for adapters of 160 MB, with the speed of each stage and the lag of the agent's loop."""
    figures: dict[str, list[float]] = {
        "160 MB applied -> proven": [],
        "of it the agent's own (fetch, digest, inspection), s": [],
        "copy and hash, MB/s": [],
        "inspect with scan, MB/s": [],
        "load, s": [],
        "probe, s": [],
    }
    for version in range(1, rounds + 1):
        source = make_large_adapter(folder / "source" / f"large{version}", version=version)
        size = sum(path.stat().st_size for path in source.iterdir()) / 1e6
        order = order_for(source, f"large{version}")
        before = steps(await agent.metrics())
        begun = time.monotonic()
        await agent.push([order])
        name = order.served_name
        proven, _ = await agent.until(
            lambda report, name=name: any(  # type: ignore[misc]
                adapter.served_name == name and adapter.phase == "Resident" for adapter in report.adapters
            )
        )
        after = steps(await agent.metrics())
        spent = {stage: after[stage] - before.get(stage, 0.0) for stage in after}
        figures["160 MB applied -> proven"].append(proven - begun)
        figures["of it the agent's own (fetch, digest, inspection), s"].append(spent["fetch"] + spent["inspect"])
        figures["copy and hash, MB/s"].append(size / spent["fetch"])
        figures["inspect with scan, MB/s"].append(size / spent["inspect"])
        figures["load, s"].append(spent["load"])
        figures["probe, s"].append(spent["probe"])
    return figures


def steps(metrics: str) -> dict[str, float]:
    """Seconds spent in each stage so far."""
    found = re.findall(r'npc_agent_step_seconds_sum\{stage="(\w+)"\} (\S+)', metrics)
    return {stage: float(value) for stage, value in found}


def worst_lag(metrics: str) -> str:
    """The bucket the worst delay of the agent's event loop fell into."""
    buckets = [(str(limit), float(count)) for limit, count in _LAG_BUCKET.findall(metrics)]
    total = buckets[-1][1]
    return next(limit for limit, count in buckets if count >= total)


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def run(rounds: int) -> dict[str, object]:
    """Both parts; returns the figures by name."""
    root = Path(tempfile.mkdtemp(prefix="npc-bench-agent-"))
    result: dict[str, object] = {}
    try:
        base = make_catalog(root / "catalog").base
        async with beside(root / "small", base, 16) as both:
            result |= await apply_small(root / "small", both, rounds)
        large = make_large_base(root / "large-base")
        async with beside(root / "large", large, LARGE_RANK) as (_, agent):
            result |= await apply_large(root / "large", agent, rounds)
            result["worst lag of the agent's loop, at most s"] = worst_lag(await agent.metrics())
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return result


def main() -> int:
    """Prints a table; with --json also writes the raw figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = asyncio.run(run(options.rounds))
    for name, values in figures.items():
        if isinstance(values, list):
            print(f"{name:55} {min(values):8.3f} {statistics.median(values):8.3f} {max(values):8.3f}   n={len(values)}")
        else:
            print(f"{name:55} {values}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
