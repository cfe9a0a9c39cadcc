from __future__ import annotations

import time
from pathlib import Path

from tests.component.agent.harness import Harness
from tests.support.fake_engine import FakeEngine
from tests.unit.agent.makers import desired_of, make_adapter


async def test_an_ordered_adapter_becomes_resident_and_routable(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "vampire"))
    begun = time.monotonic()
    code, _ = await agent.push(vampire)
    assert code == 200
    report = await agent.until_phase(vampire.served_name, "Resident")
    print("applied -> proven", time.monotonic() - begun)
    assert report.resident_since_ms is not None
    assert engine.names() == [vampire.served_name]
    routable = await agent.routable()
    assert routable.accepting
    assert routable.resident == (vampire.served_name,)
    assert (await agent.health("/readyz"))[0] == 200
    code, text = await agent.health("/metrics")
    assert code == 200
    assert 'npc_agent_resident_adapters{archetype="vampire"} 1.0' in text
