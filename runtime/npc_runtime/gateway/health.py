"""The port of kubelet and Prometheus: alive, ready, metrics, and the document of the data port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from npc_runtime.gateway.openapi import document


def build_health(
    *, registry: CollectorRegistry, not_ready_because: Callable[[], str | None], refresh: Callable[[], Awaitable[None]]
) -> web.Application:
    """The application of the health port. `refresh` is awaited before metrics are rendered; `not_ready_because` is
    None when ready."""

    async def healthz(_: web.Request) -> web.Response:
        # Answering at all is the proof: this runs on the same event loop as everything else.
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = not_ready_because()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def metrics(_: web.Request) -> web.Response:
        await refresh()
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def openapi(_: web.Request) -> web.Response:
        return web.json_response(document())

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/openapi.json", openapi)
    return app
