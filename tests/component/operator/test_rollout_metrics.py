"""What a person on call sees of rollouts in Prometheus: read from the same statuses that kubectl shows."""

from __future__ import annotations

from npc_operator.api import names
from npc_operator.clients.rollout_metrics import RolloutCollector
from npc_operator.domain.facts import Adapter
from tests.component.operator.harness import World
from tests.component.operator.players import Players
from tests.component.operator.test_canary import NEW, OLD, STEP, castle, until


def shown(world: World) -> set[tuple[str, float, str]]:
    """(metric without its prefix, value, its last label's value) of every series."""
    found = set()
    for family in RolloutCollector(lambda: world.store.all(Adapter)).collect():
        for sample in family.samples:
            assert (sample.labels["archetype"], sample.labels["tier"]) == ("vampire", "gold")
            found.add((sample.name.removeprefix("npc_operator_"), sample.value, list(sample.labels.values())[-1]))
    return found


async def test_a_voice_that_serves_what_it_should_has_no_series() -> None:
    world = await castle()
    assert shown(world) == set()


async def test_a_candidate_is_shown_with_its_share_and_phase_until_it_is_stable() -> None:
    world = await castle()
    players = Players(world)
    world.set_digest("vampire", NEW)
    await until(world, players, 25)
    assert shown(world) == {("candidate_share_ratio", 0.25, "gold"), ("candidate_phase", 1, "Watching")}
    await until(world, players, 100)
    await players.play(3 * STEP)
    assert shown(world) == set()
    counted = [decision for decision, _, _ in world.meter.decisions]
    assert counted == ["First", "Stepped", "Stepped", "Stepped", "Stepped", "Moved"]


async def test_a_bad_candidate_is_counted_with_its_reason_and_time_and_shown_until_the_spec_names_another() -> None:
    world = await castle()
    players = Players(world, bad={NEW})
    world.set_digest("vampire", NEW)
    await until(world, players, 10)
    players.speak(50)
    await world.settle(seconds=2)
    decision, reason, after = world.meter.decisions[-1]
    assert (decision, reason) == ("RolledBack", "CandidateMismatched")
    assert after is not None
    assert 0 <= after <= 5
    assert shown(world) == {("candidate_rejected", 1, "CandidateMismatched")}
    assert "s after the first bad answer" in world.variant("vampire")["history"][0]["verdict"]
    told = len(world.meter.decisions)
    world.lead()
    await world.settle(seconds=5)
    assert len(world.meter.decisions) == told, "a new leader counts nothing twice"
    world.set_digest("vampire", OLD)
    await world.settle(seconds=5)
    assert shown(world) == set()


async def test_what_speaks_in_place_of_a_quarantined_digest_is_shown() -> None:
    world = await castle(spec={"persona": {"scriptedLines": ["The night is young."]}})
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"].update(quarantinedDigests=[OLD]))
    await world.settle(seconds=5)
    assert ("stand_in", 1, "Scripted") in shown(world)
