"""Engine pods as in production, less the GPU: a real agent process beside a fake engine process, on one address.

The engine is the fake that the contract tests hold to a real vLLM, started by its path as a process of its own, so
that its CPU time can be told from the agent's.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from hack.bench.pods import ENGINE_PORT
from hack.bench.processes import Child, start
from hack.bench.waiting import until
from hack.models.digest import digest_of
from npc_runtime.wire import AGENT_HEALTH_PORT

NICENESS = 10
"""In production each pair has a machine of its own; here they must not starve the operator and the API server."""
ROOT = Path(__file__).resolve().parents[2]
FAKE_ENGINE = "tests.support.fake_engine"
MAX_RANK = 16


class RealPod:
    """One address with an engine and an agent, each with a log in the pod's folder."""

    def __init__(self, address: str, internal: Path, key: str, *, base: Path, sources: Path, slots: int) -> None:
        self.address = address
        self.engine: Child | None = None
        self.agent: Child | None = None
        self._internal, self._key, self._base, self._sources, self._slots = internal, key, base, sources, slots
        self._folder = internal.parent / f"pod-{address}"

    async def start(self) -> None:
        """Both processes; returns once they answer. Raises BenchFault."""
        self._folder.mkdir()
        (self._folder / "key").write_text(self._key)
        paths = {"PATH": os.environ["PATH"], "HOME": str(self._folder)}
        self.engine = start(
            [
                *(sys.executable, "-m", FAKE_ENGINE, f"--host={self.address}", f"--port={ENGINE_PORT}"),
                *(f"--model={self._base}", "--served-model-name=base", f"--max-lora-rank={MAX_RANK}"),
                *("--max-loras=8", f"--max-cpu-loras={self._slots}"),
            ],
            log=self._folder / "engine.log",
            env={**paths, "VLLM_API_KEY": self._key, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"},
            cwd=ROOT,
        )
        self.agent = start(
            [
                *(sys.executable, "-m", "npc_runtime.agent", "serve"),
                f"--engine-url=http://{self.address}:{ENGINE_PORT}",
                *(f"--engine-key-file={self._folder / 'key'}", f"--internal-dir={self._internal}"),
                *(f"--adapters-dir={self._folder / 'cache'}", f"--model-dir={self._base}"),
                *(f"--file-root={self._sources}", f"--socket={self._folder / 'agent.sock'}"),
                *(f"--max-cpu-loras={self._slots}", f"--max-lora-rank={MAX_RANK}"),
                *("--namespace=bench", "--region=bench", "--tier=gold", f"--pod={self.address}"),
                f"--host={self.address}",
            ],
            log=self._folder / "agent.log",
            env=paths,
            cwd=Path("/"),
        )
        for child in self.children():
            os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
        await until(self._ready, f"agent and engine at {self.address}", seconds=120)

    async def stop(self) -> None:
        for child in (self.agent, self.engine):
            if child is not None:
                child.kill()

    def children(self) -> tuple[Child, Child]:
        """(agent, engine)."""
        assert self.agent is not None
        assert self.engine is not None
        return self.agent, self.engine

    async def _ready(self) -> bool:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            for port, path in ((ENGINE_PORT, "/health"), (AGENT_HEALTH_PORT, "/healthz")):
                try:
                    async with session.get(f"http://{self.address}:{port}{path}") as answer:
                        if answer.status != 200:
                            return False
                except (aiohttp.ClientError, TimeoutError):
                    return False
        return True


def make_sources(folder: Path, template: Path, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """An adapter folder for each name, with a digest of its own: (name, uri, digest).

    The weights are those of `template`; a line of harmless text makes the bytes differ, and costs an agent what any
    other adapter of this size does.
    """
    made: list[tuple[str, str, str]] = []
    for name in names:
        target = folder / name
        shutil.copytree(template, target)
        (target / "README.md").write_text(f"The voice of {name}.\n")
        made.append((name, f"file://{target}", f"sha256:{digest_of(target)}"))
    return made


async def make_sources_aside(folder: Path, template: Path, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """`make_sources` without holding the event loop up."""
    return await asyncio.to_thread(make_sources, folder, template, names)
