from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hack.bench.internal import write_internal
from hack.cluster.ports import pick_port
from tests.component.agent.harness import ENGINE_KEY, Harness, make_settings, running
from tests.support.fake_engine import FakeEngine, Settings
from tests.unit.agent.makers import make_base


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    # A port that no connection takes while the engine is stopped, above all not the agent's own to that very port.
    settings = Settings(api_keys=(ENGINE_KEY,), max_loras=2, max_cpu_loras=4)
    async with FakeEngine(settings, port=pick_port()) as fake:
        yield fake


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with a base model, an internal Secret and room for sources."""
    make_base(tmp_path / "base")
    write_internal(tmp_path / "internal")
    (tmp_path / "source").mkdir()
    return tmp_path


@pytest.fixture
async def agent(world: Path, engine: FakeEngine) -> AsyncIterator[Harness]:
    async with running(make_settings(world, engine.url)) as harness:
        yield harness
