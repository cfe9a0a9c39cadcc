"""The API server's client against servers that are none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from kubernetes.aio.client import Configuration

from npc_operator.clients.connection import Connection, Identity
from npc_operator.clients.kube import CONNECTIONS, KubeClient
from npc_operator.clients.kube_lease import KubeLease
from npc_operator.clients.metrics import Metrics
from npc_operator.ports import ObjectRef, PortError


@pytest.mark.parametrize("page", ["<html>sign in first</html>", "", '{"kind": "Pod", "meta'])
async def test_a_page_of_a_proxy_is_a_failure_that_may_pass_and_nothing_worse(page: str) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=page)

    async with client_of(answer) as client:
        with pytest.raises(PortError) as failed:
            await client.get(ObjectRef("v1", "Pod", "eu-west", "gold-1"))
        assert failed.value.retryable


async def test_the_lease_does_not_wait_behind_requests_that_have_every_connection() -> None:
    asked, held, full = 0, asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        if "/leases/" not in request.path:
            asked += 1
            if asked == CONNECTIONS:
                full.set()
            await held.wait()
        return web.json_response({"metadata": {"name": "x", "resourceVersion": "1"}})

    async with client_of(answer) as client:
        pods = [client.get(ObjectRef("v1", "Pod", "eu-west", f"gold-{number}")) for number in range(2 * CONNECTIONS)]
        busy = asyncio.gather(*pods)
        await full.wait()
        lease = KubeLease(client, namespace="npc-system", name="npc-operator")
        try:
            assert await lease.read(seconds=30.0) is not None
            assert asked == CONNECTIONS
        finally:
            held.set()
            await busy


async def test_a_watch_whose_server_is_gone_without_a_word_ends_before_the_shortest_notice_does() -> None:
    over = asyncio.Event()

    async def say_nothing(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await over.wait()
        return response

    async with (
        server_of(say_nothing) as connection,
        connection.session() as session,
        session.get(connection.server) as response,
    ):
        assert response.connection is not None
        assert response.connection.transport is not None
        end = response.connection.transport.get_extra_info("socket")
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle, between, count, unheard = (
            end.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        )
        assert idle + between * count <= 20
        assert 0 < unheard <= 20_000
        over.set()


@asynccontextmanager
async def client_of(answer: Handler) -> AsyncIterator[KubeClient]:
    """A client of a server that answers everything so."""
    async with server_of(answer) as connection:
        client = KubeClient(connection, metrics=Metrics())
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def server_of(answer: Handler) -> AsyncIterator[Connection]:
    """A server that answers everything so."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        yield Connection(server=f"http://127.0.0.1:{port}", ssl=True, identity=Identity(Configuration()))
    finally:
        await runner.cleanup()
