"""A gateway in this process, and what a test asks of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from npc_runtime import wire
from npc_runtime.gateway.app import Gateway
from npc_runtime.gateway.plane import LocalPlane
from npc_runtime.gateway.service import Service
from npc_runtime.gateway.settings import Settings
from tests.component.gateway.certificates import make_internal
from tests.component.gateway.words import ADMIN_TOKEN, KEY, NAMESPACE


class Rig:
    """A running gateway and what a test asks of it."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession, log: io.BytesIO, internal: Path) -> None:
        self.gateway = gateway
        self.session = session
        self.log = log
        self.internal = internal

    @property
    def port(self) -> int:
        return self.gateway.ports["data"]

    @property
    def service(self) -> Service:
        """The data plane's inside, where there is one process."""
        assert isinstance(self.gateway.plane, LocalPlane)
        return self.gateway.plane.service

    def url(self, path: str, *, port: str = "data") -> str:
        return f"http://127.0.0.1:{self.gateway.ports[port]}{path}"

    def admin_tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.internal / "ca.crt"))

    async def admin(
        self,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        token: str = ADMIN_TOKEN,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """A request to the admin port over a connection of its own, verified like the operator does."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            session.request(
                method,
                f"https://127.0.0.1:{self.gateway.ports['admin']}{path}",
                data=data,
                headers={"Authorization": f"Bearer {token}", **(headers or {})},
                ssl=self.admin_tls(),
                server_hostname=wire.server_name(NAMESPACE),
            ) as answer,
        ):
            return answer.status, await answer.json()

    async def push(self, table: wire.RouteTable) -> wire.Accepted:
        """Put a table in force the way the operator does."""
        status, body = await self.admin("PUT", "/v1/routes", data=table.to_bytes())
        assert status == 200, body
        return wire.Accepted.model_validate(body)

    async def say(
        self,
        archetype: str = "vampire",
        *,
        stream: bool = False,
        npc: str | None = None,
        tier: str | None = None,
        key: str | None = KEY,
        headers: dict[str, str] | None = None,
        **fields: object,
    ) -> Answer:
        """One chat completion, read to its end."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        if npc is not None:
            sent["X-NPC-Id"] = npc
        if tier is not None:
            sent["X-NPC-Tier"] = tier
        body = {"model": archetype, "messages": [{"role": "user", "content": "Hello"}], "stream": stream, **fields}
        async with self.session.post(self.url("/v1/chat/completions"), json=body, headers=sent) as answer:
            return Answer(answer.status, answer.headers, (await answer.read()).decode())

    async def counted(self) -> dict[str, Any]:
        """What the operator is told, once it was counted under the table in force: nothing follows by itself."""
        async with asyncio.timeout(30):
            while True:
                _, report = await self.admin("GET", "/v1/status")
                if report["counted"] == report["stamp"]:
                    return report
                path = f"/v1/status?boot={report['bootId']}&after={report['revision']}&wait=1"
                await self.admin("GET", path)

    async def metrics(self) -> str:
        async with self.session.get(self.url("/metrics", port="health")) as answer:
            return await answer.text()

    async def ready(self) -> tuple[int, str]:
        async with self.session.get(self.url("/readyz", port="health")) as answer:
            return answer.status, await answer.text()

    def usable(self, tier: str, served_name: str) -> int:
        """How many pods of a tier may be asked for a served name."""
        return len(self.service.fleet.usable(tier, served_name))

    @property
    def streaming(self) -> int:
        """Lines of which a first event was sent to the client, and not yet the end."""
        connections = self.service._connections
        return sum(each.record is not None and each.record.first_token is not None for each in connections)

    def access_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def error(self) -> dict[str, Any]:
        error = json.loads(self.text)["error"]
        assert isinstance(error, dict)
        return error

    @property
    def spoken(self) -> str:
        """The words, streamed or not."""
        if self.text.startswith("data:"):
            events = [part.removeprefix("data: ") for part in self.text.split("\n\n") if part and part[0] != ":"]
            assert events[-1] == "[DONE]", self.text
            return "".join(json.loads(event)["choices"][0]["delta"]["content"] for event in events[:-1])
        return str(json.loads(self.text)["choices"][0]["message"]["content"])

    @property
    def digest(self) -> str:
        return self.headers["X-NPC-Served-By"]


def settings(tmp_path: Path, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "admin_port": 0,
        "health_port": 0,
        "agent_port": 9,
        "internal_dir": tmp_path / "internal",
        "routes_file": tmp_path / "routes" / "routes.json",
        "state_dir": tmp_path / "state",
        "shutdown_delay": 0.0,
        "drain": 5.0,
        "workers": 1,
        "access_log": True,
        "log_level": "info",
        "tls_dir": None,
        # Most tests are about what happens on whichever pod is asked; test_affinity.py is about which.
        "prefix_affinity": False,
        "pod_uid": "",
    }
    return Settings(**values | changes)


@contextlib.asynccontextmanager
async def running(tmp_path: Path, **changes: Any) -> AsyncIterator[Rig]:
    """A gateway on free ports, without a table unless its folders hold one."""
    if not (tmp_path / "internal").exists():
        make_internal(tmp_path / "internal")
    (tmp_path / "state").mkdir(exist_ok=True)
    log = io.BytesIO()
    gateway = Gateway(settings(tmp_path, **changes), access_log_to=log)
    await gateway.start()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        try:
            yield Rig(gateway, session, log, tmp_path / "internal")
        finally:
            await gateway.close()


async def raw(port: int, *pieces: bytes, pause: float = 0.0, seconds: float = 30.0) -> bytes:
    """Send bytes as they are and return everything until the other side closes (or TimeoutError)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause)
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.transport.abort()


STEP_SECONDS = 0.005


async def eventually(holds: Callable[[], bool], *, seconds: float = 30.0) -> float:
    """Wait until something holds; the seconds it took, or TimeoutError.

    Seconds are counted in turns of the loop, `STEP_SECONDS` each, and not by the clock: while this process stands
    still, what it waits for stands still, too, so that such a while is one turn, however long it was.
    """
    turns = 0
    while not holds():
        if turns * STEP_SECONDS >= seconds:
            raise TimeoutError(f"not within {seconds:g} seconds")
        await asyncio.sleep(STEP_SECONDS)
        turns += 1
    return turns * STEP_SECONDS


class Stopwatch:
    """Seconds since it was started."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._turns = 0

    @property
    def seconds(self) -> float:
        """By the clock: for what must not come early."""
        return self._loop.time() - self._began

    @property
    def awake(self) -> float:
        """In turns of the loop, as `eventually` counts them: for what must not come late."""
        return self._turns * STEP_SECONDS

    async def count(self) -> None:
        """Count turns until cancelled."""
        while True:
            await asyncio.sleep(STEP_SECONDS)
            self._turns += 1


@contextlib.asynccontextmanager
async def stopwatch() -> AsyncIterator[Stopwatch]:
    """A watch that runs inside the block, and keeps its turns after it."""
    watch = Stopwatch()
    counting = asyncio.create_task(watch.count())
    try:
        yield watch
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)


def completion(*, stream: bool) -> bytes:
    """One valid chat completion as a client writes it."""
    body = json.dumps({"model": "vampire", "stream": stream, "messages": [{"role": "user", "content": "x"}]}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer game-key\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body
