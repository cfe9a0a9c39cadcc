"""An agent in this process beside a fake engine, and a client that speaks to it as the operator does."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from hack.bench.internal import NAMESPACE, TOKEN
from npc_runtime.agent.app import Agent
from npc_runtime.agent.credentials import Credentials
from npc_runtime.agent.settings import Settings, parse
from npc_runtime.wire import (
    POD_HEADER,
    AdapterReport,
    AgentReport,
    DesiredAdapter,
    DesiredSet,
    Routable,
    Stamp,
    server_name,
)
from tests.support.fake_engine import FakeEngine

CHAT = "/v1/chat/completions"
ENGINE_KEY = "key-of-the-engine"


def make_settings(folder: Path, engine_url: str, **changes: Any) -> Settings:
    """Settings with everything below one folder and free ports."""
    (folder / "engine-key").write_text(ENGINE_KEY)
    settings = parse(
        [
            "serve",
            f"--engine-url={engine_url}",
            f"--engine-key-file={folder / 'engine-key'}",
            f"--internal-dir={folder / 'internal'}",
            f"--adapters-dir={folder / 'cache'}",
            f"--model-dir={folder / 'base'}",
            f"--file-root={folder / 'source'}",
            f"--socket={folder / 'agent.sock'}",
            "--max-cpu-loras=4",
            "--max-lora-rank=16",
            "--drain-seconds=60",
            f"--namespace={NAMESPACE}",
            "--region=eu-west",
            "--tier=gold",
            "--pod=gold-0",
            "--host=127.0.0.1",
            "--port=0",
            "--health-port=0",
        ]
    )
    assert isinstance(settings, Settings)
    return replace(settings, **changes)


@dataclass
class Harness:
    """A running agent and how to speak to it."""

    agent: Agent
    settings: Settings
    session: aiohttp.ClientSession
    task: asyncio.Task[None]
    generation: int = 0
    token: str = TOKEN
    meant_for: str | None = None
    """The pod's uid that requests name; None: they name none."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.agent.port}"

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.settings.internal_dir / "ca.crt"))

    async def call(
        self, method: str, path: str, body: bytes | io.BytesIO | None = None, **query: Any
    ) -> tuple[int, bytes]:
        """One request over TLS, the certificate verified against the namespace's internal name."""
        async with self.session.request(
            method,
            self.url + path,
            data=body,
            params={key: str(value) for key, value in query.items()},
            headers={
                "Authorization": f"Bearer {self.token}",
                **({POD_HEADER: self.meant_for} if self.meant_for is not None else {}),
            },
            ssl=self.context(),
            server_hostname=server_name(NAMESPACE),
        ) as answer:
            return answer.status, await answer.read()

    async def push(self, *adapters: DesiredAdapter, stamp: Stamp | None = None) -> tuple[int, bytes]:
        self.generation += 1
        order = DesiredSet(stamp=stamp or Stamp(epoch=1, generation=self.generation), adapters=adapters)
        return await self.call("PUT", "/v1/desired", order.to_bytes())

    async def prove(self, *adapters: DesiredAdapter) -> None:
        """Orders these and waits until each is resident."""
        code, body = await self.push(*adapters)
        assert code == 200, body
        names = {adapter.served_name for adapter in adapters}
        await self.until(lambda r: {one.served_name for one in r.adapters if one.phase == "Resident"} >= names)

    async def ask(self, model: str) -> int:
        """One line straight to the engine; its status."""
        async with self.session.post(
            f"{self.settings.engine_url}/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": "hello"}]},
            headers={"Authorization": f"Bearer {ENGINE_KEY}"},
        ) as answer:
            await answer.read()
            return answer.status

    async def hang(self, engine: FakeEngine, model: str) -> asyncio.Task[int]:
        """A line that runs until the engine stops hanging; nothing else runs beside it."""
        await engine.until(lambda: all_looked_at(engine))
        engine.behave(hang_requests=True)
        line = asyncio.create_task(self.ask(model))
        await engine.until_running(1)
        return line

    async def looks(self, engine: FakeEngine, count: int, path: str = "/metrics") -> None:
        """Waits until the agent has looked at the engine so many times more, by default at its running lines: for what
        must not happen meanwhile.
        """
        await engine.until_answered(path, engine.answered(path) + count, timeout=60)

    async def status(self, **query: Any) -> AgentReport:
        code, body = await self.call("GET", "/v1/status", **query)
        assert code == 200, body
        return AgentReport.model_validate_json(body)

    async def routable(self, **query: Any) -> Routable:
        code, body = await self.call("GET", "/v1/routable", **query)
        assert code == 200, body
        return Routable.model_validate_json(body)

    async def until(self, wanted: Callable[[AgentReport], bool], *, seconds: float = 90.0) -> AgentReport:
        """Long-polls until the whole report is as wanted."""
        report = await self.status()
        try:
            async with asyncio.timeout(seconds):
                while not wanted(report):
                    await self.status(after=report.revision, boot=report.boot_id, wait=10)
                    report = await self.status()
        except TimeoutError:
            raise AssertionError(f"never as wanted, last was {report}") from None
        return report

    async def until_phase(self, name: str, phase: str, *, seconds: float = 90.0) -> AdapterReport:
        report = await self.until(lambda r: phase_of(r, name) == phase, seconds=seconds)
        return adapter_of(report, name)

    async def health(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{self.agent.health_port}{path}") as answer:
            return answer.status, await answer.text()


def probes(engine: FakeEngine, name: str) -> int:
    """How often an adapter was asked what proves it."""
    return sum(call.path == CHAT and call.model == name and not call.logprobs for call in engine.calls)


def looks(engine: FakeEngine, name: str) -> int:
    """How often a model was asked for its first token's log-probabilities."""
    return sum(call.path == CHAT and call.model == name and call.logprobs for call in engine.calls)


def loads(engine: FakeEngine, name: str) -> int:
    """How often the engine was told to load an adapter."""
    return sum(call.path == "/v1/load_lora_adapter" and call.model == name for call in engine.calls)


def all_looked_at(engine: FakeEngine) -> bool:
    """Whether the look that follows each proof is over, for all that is loaded; it ends with one at the base model."""
    names = engine.names()
    return (
        not engine.running
        and all(looks(engine, name) >= probes(engine, name) for name in names)
        and (not names or looks(engine, engine.settings.served_model_name) > 0)
    )


def adapter_of(report: AgentReport, name: str) -> AdapterReport:
    return next(adapter for adapter in report.adapters if adapter.served_name == name)


def phase_of(report: AgentReport, name: str) -> str:
    return next((adapter.phase.value for adapter in report.adapters if adapter.served_name == name), "absent")


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Harness]:
    """An agent that listens; at the end it is cancelled as a killed process would end, without a drain."""
    async with aiohttp.ClientSession() as session, aiohttp.ClientSession() as own:
        agent = Agent(settings, Credentials(settings.internal_dir), own)
        task = asyncio.create_task(agent.run())
        listening = asyncio.create_task(agent.listening.wait())
        await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            listening.cancel()
            task.result()
        try:
            yield Harness(agent, settings, session, task)
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]
