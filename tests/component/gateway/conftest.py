"""The gateway runs on uvloop here, as it does in production."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from npc_runtime import wire
from npc_runtime.gateway import pool
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Rig, running
from tests.component.gateway.regions import World
from tests.component.gateway.words import OLD


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that is there is reached, even where this process stands still for longer than a pod is given to accept,
    and what was connected is used again, even where it stands still for longer than engines keep connections.

    That a pod is given up after 300 ms is held by test_recovery.py.
    """
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 20.0)
    monkeypatch.setattr(pool, "ENGINE_IDLE_SECONDS", 60.0)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway without a table."""
    async with running(tmp_path) as started:
        yield started


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """One engine with the old vampire."""
    async with Engine(wire.served_name("vampire", OLD)) as started:
        yield started


@pytest.fixture
async def second() -> AsyncIterator[Engine]:
    """Another engine with the old vampire."""
    async with Engine(wire.served_name("vampire", OLD)) as started:
        yield started


@pytest.fixture
async def world(rig: Rig, engine: Engine) -> World:
    """A region with one gold pod, already in force."""
    made = World(engines={"gold": [engine]})
    await rig.push(made.table())
    return made


@pytest.fixture
async def pair(rig: Rig, engine: Engine, second: Engine) -> World:
    """Two equal pods; which of them is asked first is not known."""
    world = World(engines={"gold": [engine, second]})
    await rig.push(world.table())
    return world
