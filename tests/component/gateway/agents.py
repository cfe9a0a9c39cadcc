"""Agents beside those engines, as far as a gateway asks them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from hack.cluster.ports import pick_port
from npc_runtime import wire
from tests.component.gateway.words import AGENT_TOKEN


class Agent:
    """One pod's agent: `say` changes its word, and open long polls answer at once."""

    def __init__(self, internal: Path, *resident: str, host: str = "127.0.0.1") -> None:
        self._internal = internal
        self.host = host
        self.tokens = {AGENT_TOKEN}
        self.uid = ""
        self.meant: list[str] = []
        """The pods that polls said they were meant for."""
        self.word = wire.Routable(boot_id="boot-1", revision=1, accepting=True, resident=resident)
        self.polls = 0
        self.open = 0
        """Polls that are waiting for an answer now."""
        self.polled = asyncio.Event()
        self.released = asyncio.Event()
        """Not set: answers are made, and then are under way until it is."""
        self.released.set()
        self.port = pick_port()  # one that is still free when it comes back
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Agent:
        app = web.Application()
        app.router.add_get("/v1/routable", self._routable)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self._internal / "tls.crt", self._internal / "tls.key")
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port, ssl_context=tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def say(self, *, accepting: bool = True, resident: Iterable[str] = (), boot: str | None = None) -> None:
        revision = self.word.revision + 1 if boot is None else 1
        self.word = wire.Routable(
            boot_id=boot or self.word.boot_id, revision=revision, accepting=accepting, resident=tuple(resident)
        )
        self._changed.set()
        self._changed = asyncio.Event()

    async def _routable(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.Response(status=401, body=wire.Refusal(reason="Unauthorized", message="no").to_bytes())
        self.meant.append(request.headers.get(wire.POD_HEADER, ""))
        if self.uid and self.meant[-1] not in ("", self.uid):
            refusal = wire.Refusal(reason="OtherPod", message=f"this is pod {self.uid}, not {self.meant[-1]}")
            return web.Response(status=421, body=refusal.to_bytes())
        changed = self._changed
        self.polls += 1
        self.polled.set()
        known = (request.query["boot"], int(request.query["after"]))
        if known == (self.word.boot_id, self.word.revision):
            self.open += 1
            try:
                await changed.wait()
            finally:
                self.open -= 1
        body = self.word.to_bytes()
        await self.released.wait()
        return web.Response(body=body, content_type="application/json")
