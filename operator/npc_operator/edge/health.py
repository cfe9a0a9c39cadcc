"""What kubelet and Prometheus ask: is this process alive, may it be counted as ready, and the numbers.

Alive means that the event loop turns (a stuck one cannot answer, and a slow one says so) and that the watchers' loop
turns. A standby is ready: it can lead within a second; a leader is ready once it has seen everything once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from npc_operator.ports import Clock

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.5
LAG_LIMIT_SECONDS = 5.0
"""A loop this late is stuck for everybody who waits for it: better a restart."""


class LagMeter:
    """How late the event loop wakes sleepers: the one number that says whether something blocks it."""

    def __init__(self, clock: Clock, *, told: Callable[[float], None] = lambda _lag: None) -> None:
        self._clock = clock
        self._told = told
        self._ticked = clock.monotonic()
        self.lag = 0.0

    async def run(self) -> None:
        """Measures until cancelled."""
        while True:
            self._ticked = self._clock.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            self.lag = max(0.0, self._clock.monotonic() - self._ticked - TICK_SECONDS)
            self._told(self.lag)

    def present(self) -> float:
        """The last measured lag, or the growing one of a tick that has not come back yet."""
        return max(self.lag, self._clock.monotonic() - self._ticked - TICK_SECONDS, 0.0)


Finding = str
"""What is wrong, for a person; empty when nothing is."""


class HealthServer:
    """GET /healthz, /readyz, /metrics over plain HTTP. `alive` and `ready` say what is wrong, or nothing."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        alive: Callable[[], Finding],
        ready: Callable[[], Finding],
        metrics: Callable[[], bytes],
        metrics_type: str,
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._alive = alive
        self._ready = ready
        self._metrics = metrics
        self._metrics_type = metrics_type
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port it listens on (of interest when 0 was asked for); 0 while it does not."""
        if self._runner is None or not self._runner.addresses:
            return 0
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Listen. Raises OSError if the port is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._answer(lambda: self._alive()))
        app.router.add_get("/readyz", self._answer(lambda: self._ready()))
        app.router.add_get("/metrics", self._give_metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._wanted_port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _answer(self, ask: Callable[[], Finding]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(_: web.Request) -> web.StreamResponse:
            finding = ask()
            return web.Response(text=(finding or "ok") + "\n", status=503 if finding else 200)

        return handle

    async def _give_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": self._metrics_type})
