"""The API server's client against servers that are none."""

from __future__ import annotations

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from npc_operator.clients.connection import Connection, Identity
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.metrics import Metrics
from npc_operator.ports import ObjectRef, PortError


@pytest.mark.parametrize("page", ["<html>sign in first</html>", "", '{"kind": "Pod", "meta'])
async def test_a_page_of_a_proxy_is_a_failure_that_may_pass_and_nothing_worse(page: str) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=page)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    connection = Connection(server=f"http://127.0.0.1:{port}", ssl=True, identity=Identity(Configuration()))
    client = KubeClient(connection, metrics=Metrics())
    try:
        with pytest.raises(PortError) as failed:
            await client.get(ObjectRef("v1", "Pod", "eu-west", "gold-1"))
        assert failed.value.retryable
    finally:
        await client.close()
        await runner.cleanup()
