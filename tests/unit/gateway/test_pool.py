"""Connections to one engine, where a connection that is none must never be handed out."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from npc_runtime.gateway.pool import Pool
from npc_runtime.gateway.upstream import EngineConnection


class _DyingEngineLoop:
    """A loop on which every connection is made and reset before whoever asked for it runs again."""

    def time(self) -> float:
        return 0.0

    async def create_connection(self, factory: Any, *_: object) -> tuple[None, EngineConnection]:
        connection: EngineConnection = factory()
        connection.connection_made(cast("asyncio.BaseTransport", object()))
        connection.connection_lost(ConnectionResetError())
        return None, connection


async def test_a_connection_that_is_reset_as_it_is_made_counts_as_refused() -> None:
    pool = Pool("127.0.0.1", 1, cast("asyncio.AbstractEventLoop", _DyingEngineLoop()))
    with pytest.raises(ConnectionResetError):
        await pool.connect()
    assert pool.connections == 0
