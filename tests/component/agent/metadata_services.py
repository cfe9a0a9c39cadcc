"""Metadata services that behave as their clouds document them, on loopback."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from typing import Any, Self

from aiohttp import web

from tests.unit.domain.interruption.samples import load


class Service:
    """One service; `async with` starts and ends it. `asked` counts answered requests by path."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: Counter[str] = Counter()
        self.news = asyncio.Event()
        self.broken = False

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.broken:
            self.asked[f"broken {request.path}"] += 1
            self.news.set()
            return web.Response(status=500, text="secret words of a body")
        response = await self.answer(request)
        self.asked[request.path] += 1
        self.news.set()
        return response

    async def answer(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=404)

    async def until_asked(self, path: str, times: int = 1) -> None:
        while self.asked[path] < times:
            self.news.clear()
            async with asyncio.timeout(20):
                await self.news.wait()


ACTION = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
SCHEDULED = "/latest/meta-data/events/maintenance/scheduled"


class Ec2(Service):
    """IMDSv2. With `hop_limit` 1 the answer to a PUT never reaches a pod: its packets die on the bridge."""

    def __init__(self, *, hop_limit: int = 2) -> None:
        super().__init__()
        self.hop_limit = hop_limit
        self.token = ""
        self.documents: dict[str, str] = {SCHEDULED: "[]"}
        self.tokens = 0
        self.token_asked = asyncio.Event()

    def expire(self) -> None:
        self.token = secrets.token_urlsafe(40)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/latest/api/token":
            self.token_asked.set()
            if request.method != "PUT":
                return web.Response(status=405)
            if "X-Forwarded-For" in request.headers:
                return web.Response(status=403)
            if self.hop_limit < 2:
                await asyncio.Event().wait()
            if not 1 <= int(request.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21_600:
                return web.Response(status=400)
            self.token, self.tokens = secrets.token_urlsafe(40), self.tokens + 1
            return web.Response(text=self.token)
        if not self.token or request.headers.get("X-aws-ec2-metadata-token") != self.token:
            return web.Response(status=401)
        document = self.documents.get(request.path)
        return web.Response(status=404) if document is None else web.Response(text=document)


class ComputeEngine(Service):
    """Long polls by etag; a request without the header is refused."""

    def __init__(self, *, google: bool = True) -> None:
        super().__init__()
        self.google = google
        self.values = {"preempted": "FALSE", "maintenance-event": "NONE"}
        self.changed = {name: asyncio.Event() for name in self.values}

    def etag(self, name: str) -> str:
        return f"{hash((name, self.values[name])) & 0xFFFFFFFFFFFF:x}"

    def set(self, name: str, value: str) -> None:
        self.values[name] = value
        self.changed[name].set()
        self.changed[name] = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in request.headers:
            return web.Response(status=403)
        name = request.path.removeprefix("/computeMetadata/v1/instance/")
        if name not in self.values:
            return web.Response(status=404)
        query = request.query
        if query.get("wait_for_change") == "true" and query.get("last_etag") in ("", None, self.etag(name)):
            try:
                async with asyncio.timeout(float(query["timeout_sec"])):
                    await self.changed[name].wait()
            except TimeoutError:
                pass
        headers = {"ETag": self.etag(name)} | ({"Metadata-Flavor": "Google"} if self.google else {})
        return web.Response(text=self.values[name], headers=headers)


EVENTS = "/metadata/scheduledevents"


class AzureVm(Service):
    """Scheduled events of a scale set, told to each of its machines alike, with an incarnation that grows."""

    def __init__(self, name: str = "aks-gpuspot_6") -> None:
        super().__init__()
        self.name = name
        self.document: dict[str, Any] = load("metadata-azure-none")

    def schedule(self, *events: dict[str, Any]) -> None:
        incarnation = self.document["DocumentIncarnation"] + 1
        self.document = {"DocumentIncarnation": incarnation, "Events": list(events)}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Metadata") != "true" or "api-version" not in request.query:
            return web.Response(status=400)
        if request.path == EVENTS:
            return web.Response(text=json.dumps(self.document), content_type="application/json")
        if request.path == "/metadata/instance/compute/name" and request.query.get("format") == "text":
            return web.Response(text=self.name)
        return web.Response(status=404)
