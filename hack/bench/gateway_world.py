"""What the gateway's benchmarks stand on: a gateway process, mock engines, and a region's route table with every
feature on or with none.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hack.bench.internal import write_internal
from npc_runtime import wire

ROOT = Path(__file__).resolve().parents[2]
KEY = "bench-key"
STABLE = "sha256:" + "5e" * 32
CANDIDATE = "sha256:" + "c4" * 32
ARCHETYPE = "vampire"
SERVED_NAME = wire.served_name(ARCHETYPE, STABLE)
CANDIDATE_NAME = wire.served_name(ARCHETYPE, CANDIDATE)
PODS = 4
NPCS = 1_000
"""Characters that speak in turn."""
CANDIDATE_BELOW = 1_000
"""Of 10,000 buckets: a tenth of the characters hears the candidate."""

_PLENTY = wire.Rate(requests_per_second=1_000_000, burst=1_000_000)


@contextlib.contextmanager
def process(*command: object, **options: object) -> Iterator[subprocess.Popen[bytes]]:
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
class Engines:
    """One process that listens as several mock engines."""

    pid: int
    ports: tuple[int, ...]


@contextlib.contextmanager
def engines(*arguments: str, program: str = "mock_engine.py") -> Iterator[Engines]:
    """Mock engines, running."""
    command = (sys.executable, ROOT / "hack/bench" / program, *arguments)
    with process(*command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        yield Engines(child.pid, tuple(json.loads(child.stdout.readline())["ports"]))


@dataclass(frozen=True, slots=True)
class Running:
    """One gateway process."""

    pid: int
    port: int
    access_log: Path


def _prepare(folder: Path, table: wire.RouteTable) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_internal(folder / "internal")
    (folder / "routes.json").write_bytes(table.to_bytes())


@contextlib.asynccontextmanager
async def gateway(table: wire.RouteTable, folder: Path, *options: str) -> AsyncIterator[Running]:
    """A gateway that serves from this table. Its access log is on, as in production, and goes to a file."""
    await asyncio.to_thread(_prepare, folder, table)
    port, health_port = free_port(), free_port()
    with (folder / "access.log").open("wb") as access, (folder / "gateway.log").open("wb") as log:
        command = (
            *(sys.executable, "-m", "npc_runtime.gateway", "--host", "127.0.0.1", "--port", str(port)),
            *("--admin-port", "0", "--health-port", str(health_port), "--internal-dir", folder / "internal"),
            *("--routes-file", folder / "routes.json", "--state-dir", folder / "state"),
            *("--shutdown-delay-seconds", "0", "--drain-seconds", "1", *options),
        )
        with process(*command, stdout=access, stderr=log, cwd=ROOT) as child:
            await until_answers(health_port, "/readyz")
            yield Running(child.pid, port, folder / "access.log")


def endpoints(ports: Sequence[int], *resident: str) -> tuple[wire.Endpoint, ...]:
    """Pods on these local ports, each with these served names."""
    return tuple(
        wire.Endpoint(
            pod=f"mock-{port}",
            uid=f"mock-{port}",
            address="127.0.0.1",
            port=port,
            engine_key_id="k",
            resident=resident,
        )
        for port in ports
    )


def region(
    tiers: tuple[wire.TierRoutes, ...],
    aliases: tuple[wire.Alias, ...],
    *,
    voices: tuple[wire.Voice, ...] = (),
    rate: wire.Rate | None = None,
    salted: bool = False,
) -> wire.RouteTable:
    """A route table with one API key, `KEY`."""
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    key = {"name": "bench", "sha256": hashed, "rate": rate, "cache_salt": "bench-salt" if salted else None}
    return wire.RouteTable(
        stamp=wire.Stamp(epoch=1, generation=1),
        namespace="bench",
        region="bench",
        default_tier=tiers[0].name,
        tiers=tiers,
        aliases=aliases,
        voices=voices,
        rate=rate,
        api_keys=(wire.ApiKey.model_validate(key),),
        engine_keys=(wire.EngineKey.model_validate({"id": "k", "key": "engine-key"}),),
    )


def plain_region(ports: Sequence[int]) -> wire.RouteTable:
    """One archetype on one tier, with authentication on, and nothing else."""
    target = wire.Target(served_name=SERVED_NAME, digest=STABLE, percent=100)
    return region(
        (wire.TierRoutes(name="gold", quality="Gold", endpoints=endpoints(ports, SERVED_NAME)),),
        (wire.Alias(archetype=ARCHETYPE, tier="gold", targets=(target,)),),
    )


def full_region(ports: Sequence[int]) -> wire.RouteTable:
    """The same with every feature on: a canary at 10% that is judged and guarded, admission, priorities, time limits,
    a fallback chain to its end, token buckets of key and region, and a cache salt."""
    pods = endpoints(ports, SERVED_NAME, CANDIDATE_NAME)
    tier = {
        "base_model": "base",
        "slots": 256,
        "queue": 256,
        "first_token_milliseconds": 5_000,
        "stall_seconds": 10,
        "prioritised": True,
    }
    rollout = wire.AliasRollout(
        candidate_below=CANDIDATE_BELOW,
        control_below=2 * CANDIDATE_BELOW,
        guard=wire.Guard(max_error_percent=5),
    )
    targets = (
        wire.Target(served_name=SERVED_NAME, digest=STABLE, percent=90),
        wire.Target(served_name=CANDIDATE_NAME, digest=CANDIDATE, percent=10),
    )
    return region(
        (
            wire.TierRoutes.model_validate(
                {"name": "gold", "quality": "Gold", "endpoints": pods, "fallback_tier": "bronze", **tier}
            ),
            wire.TierRoutes.model_validate({"name": "bronze", "quality": "Bronze", **tier}),
        ),
        (wire.Alias(archetype=ARCHETYPE, tier="gold", targets=targets, rollout=rollout),),
        voices=(
            wire.Voice(
                archetype=ARCHETYPE,
                importance="Critical",
                system_prompt="You are a vampire.",
                scripted_lines=("Leave me.", "The night is mine."),
                must_not_match=(r"(?i)as an ai\b", r"(?i)language model"),
            ),
        ),
        rate=_PLENTY,
        salted=True,
    )


def request_bytes(model: str, *, npc: str, player: str = "p-123", messages: Sequence[dict[str, str]] = ()) -> bytes:
    """One streaming request as a game server would send it."""
    body = json.dumps(
        {
            "model": model,
            "stream": True,
            "max_tokens": 64,
            "messages": list(messages)
            or [
                {"role": "system", "content": "You are a vampire in a castle. Answer in one sentence. " * 4},
                {"role": "user", "content": "Who goes there, and what do you want at this hour?"},
            ],
        }
    ).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nUser-Agent: game/1.0\r\nAccept: text/event-stream\r\n"
        b"Authorization: Bearer %b\r\nX-NPC-Id: %b\r\nX-Player-Id: %b\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % (KEY.encode(), npc.encode(), player.encode(), len(body))
    ) + body


def requests_of_many(model: str) -> list[bytes]:
    """Requests of NPCS characters."""
    return [request_bytes(model, npc=f"gold-vampire-{number:04}") for number in range(NPCS)]


def open_files() -> int:
    """How many descriptors a process may have here, after asking for all that it may."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return int(hard)


def cache_folder() -> Path:
    """Where downloads are kept between runs."""
    given = os.environ.get("NPC_FLEET_CACHE")
    return Path(given or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "npc-fleet")
