"""Agents and gateways that do nothing but speak: the real wire API, every adapter proven at once, or so many a second.

With them an operator's own pace is measured, not that of what it orders: a thousand orders cost them next to no CPU,
and they note when they were called. Proofs that trickle in are what real agents give, and dearer for an operator than
a thousand at once: each is a report of its own. What they say is kept on the agent's own board, so that long polls and
their differences are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
import uuid
from pathlib import Path

import orjson
from aiohttp import web

from npc_runtime.agent.report import Board, Content
from npc_runtime.wire import (
    AGENT_PORT,
    GATEWAY_ADMIN_PORT,
    LONG_POLL_SECONDS,
    NO_STAMP,
    Accepted,
    AdapterPhase,
    AdapterReport,
    EngineReport,
    EngineState,
    GatewayReport,
    Refusal,
    Stamp,
    Wire,
)

BODY_LIMIT = 64 << 20


def server_tls(internal: Path) -> ssl.SSLContext:
    """What a pod of the namespace serves with, from the files of its internal Secret."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(internal / "tls.crt", internal / "tls.key")
    return context


class _Server:
    """One TLS port on one address, closed to whoever has no token."""

    def __init__(self, address: str, port: int, internal: Path) -> None:
        self.address = address
        self._port = port
        self._tls = server_tls(internal)
        self._token = f"Bearer {(internal / 'token').read_text()}"
        self.app = web.Application(client_max_size=BODY_LIMIT, middlewares=[self._guard])
        self._runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=0.1)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, self.address, self._port, ssl_context=self._tls).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: object) -> web.StreamResponse:
        if request.headers.get("Authorization") != self._token:
            return _answer(Refusal(reason="Unauthorized", message="not the token"), 401)
        assert callable(handler)
        answered: web.StreamResponse = await handler(request)
        return answered


class LightAgent:
    """One engine pod's agent. `orders` counts the sets it was handed. With `pace`, it proves so many a second, in the
    order of their names, and says meanwhile that the others are queued."""

    def __init__(self, address: str, internal: Path, *, slots: int, pace: float = 0.0) -> None:
        self.board = Board()
        self.orders = 0
        self.order_bytes = 0
        self._slots = slots
        self._pace = pace
        self._proving: asyncio.Task[None] | None = None
        self._known: dict[str, AdapterReport] = {}
        self._expected: dict[bytes, asyncio.Future[float]] = {}
        self._server = _Server(address, AGENT_PORT, internal)
        self._server.app.router.add_put("/v1/desired", self._desired)
        self._server.app.router.add_get("/v1/status", self._status)
        self.address = address
        self._publish(NO_STAMP, {})

    async def start(self) -> None:
        await self._server.start()
        if self._pace:
            self._proving = asyncio.create_task(self._prove(), name=f"agent {self.address}")

    async def stop(self) -> None:
        if self._proving is not None:
            self._proving.cancel()
            await asyncio.gather(self._proving, return_exceptions=True)
        await self._server.stop()

    def expect(self, word: str) -> asyncio.Future[float]:
        """The moment (time.monotonic) at which a whole order with this word in it had arrived."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._expected[word.encode()] = future
        return future

    def count(self) -> int:
        """Adapters proven here."""
        return len(self.board.content.resident)

    async def _desired(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        now = time.monotonic()
        for word in [word for word in self._expected if word in body]:
            future = self._expected.pop(word)
            if not future.done():
                future.set_result(now)
        order = orjson.loads(body)
        stamp = Stamp.model_validate(order["stamp"])
        current = self.board.content.stamp
        if stamp.order() < current.order():
            return _answer(Refusal(reason="StaleOrder", message="an older order", current=current), 409)
        self.orders += 1
        self.order_bytes = len(body)
        self._publish(stamp, {entry["servedName"]: entry for entry in order["adapters"]})
        return _answer(Accepted(boot_id=self.board.boot_id, stamp=stamp, revision=self.board.revision))

    def _publish(self, stamp: Stamp, entries: dict[str, dict[str, str]]) -> None:
        make = _queued if self._pace else _proven
        self._known = {name: self._known.get(name) or make(entry) for name, entry in entries.items()}
        self._say(stamp)

    async def _prove(self) -> None:
        """One after the other, each a word of its own."""
        while True:
            await asyncio.sleep(1 / self._pace)
            waiting = min((name for name, one in self._known.items() if one.phase is AdapterPhase.QUEUED), default=None)
            if waiting is not None:
                self._known[waiting] = _resident(self._known[waiting])
                self._say(self.board.content.stamp)

    def _say(self, stamp: Stamp) -> None:
        resident = tuple(name for name, one in self._known.items() if one.phase is AdapterPhase.RESIDENT)
        self.board.publish(
            Content(
                stamp=stamp,
                ready=True,
                accepting=True,
                engine=EngineReport(state=EngineState.READY, instance="1", since_ms=1),
                adapters=tuple(self._known.values()),
                resident=resident,
                slots_used=len(self._known),
                slots_total=self._slots,
            )
        )

    async def _status(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        after, wait = int(query.get("after", "0")), float(query.get("wait", str(LONG_POLL_SECONDS)))
        return _answer(await self.board.status(after=after, boot=query.get("boot", ""), wait=wait))


class LightGateway:
    """One gateway pod's admin port: takes route tables and says which it has."""

    def __init__(self, address: str, internal: Path) -> None:
        self.address = address
        self.tables = 0
        self.table_bytes = 0
        self._boot_id = uuid.uuid4().hex
        self._stamp = NO_STAMP
        self._revision = 0
        self._news = asyncio.Event()
        self._server = _Server(address, GATEWAY_ADMIN_PORT, internal)
        self._server.app.router.add_put("/v1/routes", self._routes)
        self._server.app.router.add_get("/v1/status", self._status)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    async def _routes(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        stamp = Stamp.model_validate(orjson.loads(body)["stamp"])
        if stamp.order() < self._stamp.order():
            return _answer(Refusal(reason="StaleOrder", message="an older table", current=self._stamp), 409)
        self._stamp = stamp
        self.tables += 1
        self.table_bytes = len(body)
        self._revision += 1
        self._news.set()
        self._news = asyncio.Event()
        return _answer(Accepted(boot_id=self._boot_id, stamp=stamp, revision=self._revision))

    async def _status(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        if query.get("boot") == self._boot_id and int(query.get("after", "0")) >= self._revision:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(query.get("wait", str(LONG_POLL_SECONDS)))):
                    await self._news.wait()
        return _answer(GatewayReport(boot_id=self._boot_id, revision=self._revision, stamp=self._stamp))


def _queued(entry: dict[str, str]) -> AdapterReport:
    return AdapterReport(
        served_name=entry["servedName"],
        archetype=entry["archetype"],
        digest=entry["digest"],
        phase=AdapterPhase.QUEUED,
    )


def _proven(entry: dict[str, str]) -> AdapterReport:
    return _resident(_queued(entry))


def _resident(report: AdapterReport) -> AdapterReport:
    since = time.time_ns() // 1_000_000
    return report.model_copy(update={"phase": AdapterPhase.RESIDENT, "resident_since_ms": since})


def _answer(message: Wire, status: int = 200) -> web.Response:
    return web.Response(status=status, body=message.to_bytes(), content_type="application/json")
