"""A whole game: 25 archetypes on 3 tiers, and a status that is quiet about it."""

from __future__ import annotations

from npc_operator.api import names
from npc_runtime.wire import AdapterPhase, served_name
from tests.component.operator.harness import World
from tests.support.builders import at_once as adapter
from tests.support.builders import digest, region, tier
from tests.support.fake_agents import Verdict

TIERS = ("gold", "silver", "bronze")
ARCHETYPES = [f"archetype-{number:02}" for number in range(25)]


def voice(archetype: str, word: str = "1") -> dict[str, object]:
    return adapter(archetype, digests={name: digest(f"{archetype}-{name}-{word}") for name in TIERS})


async def test_25_archetypes_on_3_tiers_are_served_everywhere() -> None:
    world = World()
    world.put(region(tiers={"gold": 100, "silver": 100, "bronze": 100}), *(tier(name) for name in TIERS))
    world.put(*(voice(archetype) for archetype in ARCHETYPES))
    await world.settle()

    for archetype in ARCHETYPES:
        assert world.said(names.KIND_ADAPTER, archetype, "Ready")[0] == "True"
    for name in TIERS:
        expected = {served_name(archetype, digest(f"{archetype}-{name}-1")) for archetype in ARCHETYPES}
        assert len(world.pods(name)) == 2
        assert all(set(agent.resident) == expected for agent in world.pods(name).values())
        assert all(set(gateway.routes(name).values()) == expected for gateway in world.doors().values())
    status = world.status(names.KIND_REGION, "eu-west")
    assert (status["archetypes"], status["readyTiers"], status["population"]) == (25, 3, 300)
    assert world.status(names.KIND_TIER, "gold")["residentAdapters"] == 25


async def test_all_25_swapped_at_once_move_and_leave_nothing_behind() -> None:
    world = World()
    limits = {"rolloutLimits": {"maxConcurrent": len(ARCHETYPES)}}
    world.put(region(tiers={"gold": 100, "silver": 100, "bronze": 100}, spec=limits), *(tier(name) for name in TIERS))
    world.put(*(voice(archetype) for archetype in ARCHETYPES))
    await world.settle()
    world.api.forget_calls()
    world.put(*(voice(archetype, "2") for archetype in ARCHETYPES))
    await world.settle()

    for name in TIERS:
        expected = {served_name(archetype, digest(f"{archetype}-{name}-2")) for archetype in ARCHETYPES}
        # 32 slots for 25 voices: they took turns, and never more than fit were asked for.
        assert all(set(agent.resident) == expected and agent.most <= 32 for agent in world.pods(name).values())
        assert all(set(gateway.routes(name).values()) == expected for gateway in world.doors().values())
    statuses = [write for write in world.writes() if "ArchetypeAdapter/status" in write]
    assert len(statuses) <= 6 * 25


async def test_pods_that_prove_adapters_one_by_one_cost_few_status_writes() -> None:
    world = World()
    world.put(region(tiers={"gold": 500}), tier(), *(adapter(archetype) for archetype in ARCHETYPES))
    world.hold_new_agents = True
    await world.settle(seconds=5)
    assert len(world.pods("gold")) == 10
    world.api.forget_calls()
    for agent in world.pods("gold").values():
        agent.holding = False
        agent.work()
        await world.settle(seconds=0.05)
    await world.settle(seconds=5)
    assert all(world.said(names.KIND_ADAPTER, name, "Ready")[0] == "True" for name in ARCHETYPES)
    assert all(world.variant(name)["residentReplicas"] == 10 for name in ARCHETYPES)
    statuses = [write for write in world.writes() if "ArchetypeAdapter/status" in write]
    assert len(statuses) <= 100  # not 25 x 10


async def test_adapters_that_become_stable_one_by_one_are_not_an_order_each() -> None:
    world = World()
    world.put(region(tiers={"gold": 100}), tier(), *(adapter(archetype) for archetype in ARCHETYPES))
    world.hold_new_agents = True
    await world.settle(seconds=5)
    agents = world.pods("gold").values()
    names_of = [served_name(archetype, digest(f"{archetype}-1")) for archetype in ARCHETYPES]
    for agent in agents:
        agent.verdicts = dict.fromkeys(names_of, Verdict(AdapterPhase.QUEUED))
        agent.holding = False
    world.agents.pushes.clear()
    for name in names_of:
        for agent in agents:
            del agent.verdicts[name]
            agent.work()
        await world.settle(seconds=0.1)
    await world.settle(seconds=5)

    assert all(len(gateway.routes("gold")) == 25 for gateway in world.doors().values())
    assert all(entry.serving for agent in agents for entry in agent.desired)
    assert len(world.agents.pushes) <= 3 * len(agents)  # not 25 for each


async def test_bytes_that_are_wanted_do_not_wait_for_a_mark() -> None:
    world = World()
    world.put(region(tiers={"gold": 100}), tier(), adapter("vampire"), adapter("zombie"))
    await world.settle()
    world.set_digest("vampire", digest("vampire-2"))
    await world.settle(seconds=0.5)  # an order just now, and the mark of the new digest waits
    world.set_digest("zombie", digest("zombie-2"))
    await world.settle(seconds=0.5)
    wanted = served_name("zombie", digest("zombie-2"))
    assert all(wanted in agent.resident for agent in world.pods("gold").values())


async def test_where_only_numbers_move_a_status_is_written_at_once_and_then_once_a_second() -> None:
    world = World()
    world.put(region(tiers={"gold": 500}), tier(), adapter("vampire"))
    await world.settle()
    agents = list(world.pods("gold").values())
    name = served_name("vampire", digest("vampire-2"))
    for agent in agents:
        agent.verdicts = {name: Verdict(AdapterPhase.QUEUED)}
    world.set_digest("vampire", digest("vampire-2"))
    await world.settle(seconds=5)
    world.api.forget_calls()
    for agent in agents[:5]:
        agent.verdicts.clear()
        agent.work()
        await world.settle(seconds=0.1)
        assert world.writes_of(names.KIND_ADAPTER) == 1
    assert world.variant("vampire")["residentReplicas"] == 1
    await world.settle(seconds=1)
    assert world.writes_of(names.KIND_ADAPTER) == 2
    assert world.variant("vampire")["residentReplicas"] == 5

    agents[5].verdicts = {name: Verdict(AdapterPhase.REFUSED, "DigestMismatch", "other bytes")}
    agents[5].work()
    await world.settle(seconds=0.1)
    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled")[1] == "DigestMismatch", "news do not wait"


async def test_voices_that_are_asked_the_same_share_the_question() -> None:
    world = World()
    other = adapter("ghost", spec={"probe": {"prompt": "Boo?"}})
    world.put(region(tiers={"gold": 100}), tier(), adapter("vampire"), adapter("zombie"), other)
    await world.settle()
    probes = {entry.archetype: entry.probe for entry in next(iter(world.pods("gold").values())).desired}
    assert probes["vampire"] is probes["zombie"]
    assert probes["ghost"].prompt == "Boo?"
