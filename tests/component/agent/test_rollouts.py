"""What rollouts ask of one pod: stable, candidate and last good beside each other, and candidates that come and go."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from npc_runtime.agent import plan
from npc_runtime.wire import DesiredAdapter, Probe
from tests.component.agent.harness import Harness, adapter_of, all_looked_at, loads, looks, phase_of, probes
from tests.support.fake_engine import FakeEngine
from tests.unit.agent.makers import desired_of, make_adapter

SOON = 30.0
"""Seconds within which what was rejected is off the engine, once the grace time is over: half of what a line that runs
could hold it for.
"""


def version(world: Path, number: int) -> DesiredAdapter:
    """One of the vampire's digests."""
    return desired_of(make_adapter(world / "source" / f"v{number}", seed=number))


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is rejected waits for lines that are on their way; nobody sends any here."""
    monkeypatch.setattr(plan, "DRAIN_GRACE_SECONDS", 0.1)


async def gone(agent: Harness, adapter: DesiredAdapter) -> None:
    """Waits until neither engine nor report has it."""
    await agent.until(lambda r: phase_of(r, adapter.served_name) == "absent", seconds=SOON)


async def test_stable_candidate_and_last_good_are_resident_together_and_a_rejected_candidate_leaves_alone(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    good, stable, candidate = (version(world, number) for number in (1, 2, 3))
    await agent.prove(good, stable)
    await agent.prove(good, stable, candidate)
    before = await agent.routable()
    assert set(before.resident) == {good.served_name, stable.served_name, candidate.served_name}
    begun = asyncio.get_running_loop().time()
    await agent.push(good, stable)
    left = await agent.routable(after=before.revision, boot=before.boot_id, wait=50)
    assert set(left.resident) == {good.served_name, stable.served_name}
    assert asyncio.get_running_loop().time() - begun < SOON
    await gone(agent, candidate)
    assert set(engine.names()) == {good.served_name, stable.served_name}
    for kept in (good, stable):
        assert (loads(engine, kept.served_name), probes(engine, kept.served_name)) == (1, 1)
    assert (await agent.status()).slots_used == 2


async def test_a_stable_that_is_quarantined_leaves_the_last_good_which_is_there_already(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    good, stable = version(world, 1), version(world, 2)
    await agent.prove(good, stable)
    calls = len(engine.calls)
    await agent.push(good)
    assert (await agent.routable()).resident == (good.served_name,)
    await gone(agent, stable)
    assert not [call for call in engine.calls[calls:] if call.model == good.served_name and not call.logprobs]


async def test_a_candidate_that_is_rejected_while_it_loads_is_never_offered_and_goes_when_the_load_ends(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    stable, candidate = version(world, 1), version(world, 2)
    await agent.prove(stable)
    engine.behave(hang_loads=True)
    await agent.push(stable, candidate)
    await agent.until_phase(candidate.served_name, "Loading")
    before = await agent.routable()
    await agent.push(stable)
    engine.behave(hang_loads=False)
    await engine.until(lambda: loads(engine, candidate.served_name) == 1)
    await engine.until(lambda: engine.answered("/v1/unload_lora_adapter") == 1)
    await gone(agent, candidate)
    assert engine.names() == [stable.served_name]
    assert (await agent.routable()).revision == before.revision
    assert probes(engine, candidate.served_name) == 0


async def test_a_candidate_that_is_rejected_while_it_is_checked_does_not_wait_for_the_check(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    stable, candidate = version(world, 1), version(world, 2)
    await agent.prove(stable, candidate)
    await engine.until(lambda: all_looked_at(engine))
    engine.behave(hang_requests=True)
    await agent.push(stable, candidate.model_copy(update={"identity_check": 1}))
    await engine.until_running(1)
    await agent.push(stable)
    await engine.until_running(0)
    assert engine.aborted == 1
    await gone(agent, candidate)
    assert engine.names() == [stable.served_name]


async def test_a_candidate_that_comes_back_is_proven_and_checked_anew_and_not_fetched(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    stable, candidate = version(world, 1), version(world, 2)
    name = candidate.served_name
    first = candidate.model_copy(update={"identity_check": 1})
    await agent.prove(stable, first)
    await agent.until(lambda r: adapter_of(r, name).identity_checked == 1)
    await agent.push(stable)
    await gone(agent, candidate)
    shutil.rmtree(world / "source" / "v2")
    await agent.push(stable, candidate)
    assert (await agent.until_phase(name, "Resident")).identity_checked == 0
    await agent.push(stable, first)
    await agent.until(lambda r: adapter_of(r, name).identity_checked == 1)
    assert (loads(engine, name), probes(engine, name), looks(engine, name)) == (2, 2, 4)


async def test_a_candidate_that_comes_back_while_it_drains_is_there_at_once_and_checked_anew(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    stable, candidate = version(world, 1), version(world, 2)
    name = candidate.served_name
    asked = candidate.model_copy(update={"identity_check": 1})
    await agent.prove(stable, asked)
    await agent.until(lambda r: adapter_of(r, name).identity_checked == 1)
    line = await agent.hang(engine, name)
    await agent.push(stable)
    await agent.until_phase(name, "Draining")
    await agent.push(stable, asked)
    back = adapter_of(await agent.status(), name)
    assert (back.phase, back.identity_checked) == ("Resident", 0)
    engine.behave(hang_requests=False)
    assert await line == 200
    await agent.until(lambda r: adapter_of(r, name).identity_checked == 1)
    assert (loads(engine, name), probes(engine, name)) == (1, 1 + 1)  # the proof, and the line


async def test_the_next_candidate_of_a_full_pod_waits_for_the_slot_of_the_rejected_one(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    good, stable, other = version(world, 1), version(world, 2), version(world, 5)
    rejected, following = version(world, 3), version(world, 4)
    await agent.prove(good, stable, other, rejected)
    line = await agent.hang(engine, rejected.served_name)
    await agent.push(good, stable, other, following)
    report = await agent.until(lambda r: "waits for a slot" in adapter_of(r, following.served_name).message)
    assert (report.slots_used, report.slots_total) == (4, 4)
    assert loads(engine, following.served_name) == 0
    engine.behave(hang_requests=False)
    assert await line == 200
    await agent.until_phase(following.served_name, "Resident")
    unloaded = [call.path for call in engine.calls].index("/v1/unload_lora_adapter")
    loaded = [call.model for call in engine.calls if call.path == "/v1/load_lora_adapter"]
    assert loaded[-1] == following.served_name
    assert [call.model for call in engine.calls[unloaded:]].index(following.served_name) > 0


async def test_a_candidate_that_fails_its_probe_leaves_its_slot_to_the_next_without_an_order(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    stable = version(world, 1)
    bad = desired_of(make_adapter(world / "source" / "bad", seed=9), probe=Probe(must_not_match=(".",)))
    await agent.prove(stable)
    await agent.push(stable, bad)
    assert (await agent.until_phase(bad.served_name, "Refused")).reason == "ProbeMismatch"
    report = await agent.until(lambda r: r.slots_used == 1)
    assert engine.names() == [stable.served_name]
    assert phase_of(report, stable.served_name) == "Resident"
    await agent.push(stable)
    await gone(agent, bad)


async def test_candidates_that_come_and_go_leave_the_stable_one_as_it_was(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    stable = version(world, 1)
    candidates = [version(world, number) for number in range(2, 8)]
    await agent.prove(stable)
    for candidate in candidates:
        await agent.push(stable, candidate)
        await asyncio.sleep(0)  # rejected wherever it has got to by then
        await agent.push(stable)
        assert stable.served_name in (await agent.routable()).resident
    await agent.prove(stable, candidates[0])
    await agent.until(lambda r: len(r.adapters) == 2)
    assert set(engine.names()) == {stable.served_name, candidates[0].served_name}
    assert (loads(engine, stable.served_name), probes(engine, stable.served_name)) == (1, 1)
