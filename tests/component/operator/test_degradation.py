"""What gateways tell of degraded voices becomes one Event for each change of level, and a status that says why."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain.degradation import CALM_SECONDS
from npc_operator.domain.facts import GatewayFact
from npc_operator.reconcilers.changes import degraded_archetypes
from npc_runtime.wire import DegradedReport, Stamp
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, adapter, digest, region, tier

PERSONA = {"systemPrompt": "You are a vampire.", "scriptedLines": ["Leave me."]}
LEVELS = ("Degraded", "LessDegraded", "NotDegraded")


def told(*levels: str, archetype: str = "vampire", tier_name: str = "gold") -> tuple[DegradedReport, ...]:
    return tuple(DegradedReport(archetype=archetype, tier=tier_name, level=level) for level in levels)


def tell(world: World, *levels: str, gateways: int | None = None, archetype: str = "vampire") -> None:
    """So many gateways (all of them) tell these levels, the others nothing."""
    for number, gateway in enumerate(world.doors().values()):
        heard = gateways is None or number < gateways
        gateway.degraded = told(*levels, archetype=archetype) if heard else ()


async def castle(*, gateways: int = 2) -> World:
    world = World()
    world.put(region(tiers={"gold": 50, "silver": 50}, gateways=gateways))
    world.put(tier("gold", spec={"fallbackTier": "silver"}), tier("silver"))
    digests = {"gold": digest("vampire-gold"), "silver": digest("vampire-silver")}
    world.put(adapter("vampire", digests=digests, spec={"persona": PERSONA}))
    await world.settle()
    return world


def said(world: World) -> list[tuple[str, str]]:
    """(reason, message) of the Events about levels."""
    return [(reason, text) for who, reason, text in world.recorder.events if who == "vampire" and reason in LEVELS]


def entries(world: World, name: str = "vampire") -> list[tuple[str, str]]:
    degraded = world.status(names.KIND_ADAPTER, name).get("degraded", [])
    return [(entry["tier"], entry["level"]) for entry in degraded]


async def lose(world: World, tier_name: str) -> None:
    world.edit(names.KIND_TIER, tier_name, lambda live: live["spec"].update(replicas=0, minReplicas=0))
    await world.settle(seconds=2)


async def bring_back(world: World, tier_name: str) -> None:
    world.edit(names.KIND_TIER, tier_name, lambda live: live["spec"].pop("replicas"))
    await world.settle(seconds=2)


async def test_each_level_on_the_way_down_and_up_is_one_event_that_says_what_answers_and_why() -> None:
    world = await castle()
    await lose(world, "gold")
    tell(world, "Tier")
    await world.settle(seconds=2)
    assert entries(world) == [("gold", "Tier")]
    await lose(world, "silver")
    tell(world, "Tier", "BaseModel")
    await world.settle(seconds=2)
    tell(world, "BaseModel", "Scripted")
    await world.settle(seconds=2)
    assert entries(world) == [("gold", "Scripted")]
    await bring_back(world, "silver")
    tell(world, "Tier")
    await world.settle(seconds=CALM_SECONDS + 1)
    assert entries(world) == [("gold", "Tier")]
    await bring_back(world, "gold")
    tell(world)
    await world.settle(seconds=CALM_SECONDS + 1)
    assert entries(world) == []
    assert said(world) == [
        (
            "Degraded",
            "vampire asked on tier gold is answered by its adapter on tier silver: tier gold is scaled to 0",
        ),
        (
            "Degraded",
            (
                "vampire asked on tier gold is answered by the base model with its persona's prompt: "
                "tier gold is scaled to 0; tier silver is scaled to 0"
            ),
        ),
        (
            "Degraded",
            (
                "vampire asked on tier gold is answered by scripted lines: "
                "tier gold is scaled to 0; tier silver is scaled to 0"
            ),
        ),
        (
            "LessDegraded",
            "vampire asked on tier gold is answered by its adapter on tier silver: tier gold is scaled to 0",
        ),
        ("NotDegraded", "vampire asked on tier gold is answered by its adapter there again"),
    ]


async def test_many_gateways_that_tell_the_same_are_one_event_and_the_last_of_them_ends_it() -> None:
    world = await castle()
    for gateways in (1, 2, 1, 2):
        tell(world, "Tier", gateways=gateways)
        await world.settle(seconds=3)
    assert [reason for reason, _ in said(world)] == ["Degraded"]
    tell(world, "Tier", gateways=1)
    await world.settle(seconds=60)
    assert entries(world) == [("gold", "Tier")]
    tell(world)
    await world.settle(seconds=CALM_SECONDS + 1)
    assert [reason for reason, _ in said(world)] == ["Degraded", "NotDegraded"]


async def test_what_its_pods_do_to_lines_is_told_where_nothing_else_is_in_the_way() -> None:
    world = await castle()
    tell(world, "Tier")
    await world.settle(seconds=2)
    (_, text), *_ = said(world)
    assert text.endswith(
        ": pods of tier gold failed, were full, or would have answered later than objectives.firstTokenMilliseconds"
    )


async def test_an_adapter_that_no_pod_has_is_told_and_the_tier_alone_may_end_it() -> None:
    world = await castle()
    for agent in world.pods("gold").values():
        agent.resident.clear()
        agent.holding = True
    await world.settle(seconds=2)
    tell(world, "Tier")
    await world.settle(seconds=2)
    ((_, text),) = said(world)
    assert text.endswith(": no ready pod of tier gold has it resident")
    tell(world)  # nobody asks any more, and it is as bad as before
    await world.settle(seconds=600)
    assert entries(world) == [("gold", "Tier")]
    for agent in world.pods("gold").values():
        agent.holding = False
        agent.work()
    await world.settle(seconds=2)
    assert [reason for reason, _ in said(world)] == ["Degraded", "NotDegraded"]


async def test_a_new_leader_goes_on_with_what_the_status_says_and_repeats_nothing() -> None:
    world = await castle()
    await lose(world, "gold")
    tell(world, "Tier")
    await world.settle(seconds=2)
    before = world.status(names.KIND_ADAPTER, "vampire")
    for _ in range(3):
        world.lead()
        await world.settle(seconds=60)
    assert [reason for reason, _ in said(world)] == ["Degraded"]
    assert world.status(names.KIND_ADAPTER, "vampire") == before
    await bring_back(world, "gold")
    tell(world)
    world.lead()
    await world.settle(seconds=CALM_SECONDS - 1)
    assert entries(world) == [("gold", "Tier")], "a new leader gives it a whole quiet time"
    await world.settle(seconds=2)
    assert [reason for reason, _ in said(world)] == ["Degraded", "NotDegraded"]


async def test_a_leader_that_ends_around_any_write_says_each_change_once_at_most_and_ends_with_the_same() -> None:
    async def play(world: World) -> None:
        await lose(world, "gold")
        tell(world, "Tier")
        await world.settle(seconds=30)
        await bring_back(world, "gold")
        tell(world)
        await world.settle(seconds=60)

    plain = await castle(gateways=1)
    plain.calls.clear()
    await play(plain)
    calls = [number for number, call in enumerate(plain.calls) if call == "apply ArchetypeAdapter/vampire/status"]
    assert calls
    for number in calls:
        for when in ("before", "after"):
            world = await castle(gateways=1)
            world.end_at(number, when)
            await play(world)
            assert world.crashed
            reasons = [reason for reason, _ in said(world)]
            assert reasons in (["Degraded", "NotDegraded"], ["Degraded"], ["NotDegraded"]), reasons
            assert entries(world) == []


async def test_a_voice_that_flaps_is_told_less_and_less_often() -> None:
    world = await castle()
    for _ in range(180):  # an hour in which one line in twenty seconds goes to silver
        tell(world, "Tier")
        await world.settle(seconds=1)
        tell(world)
        await world.settle(seconds=19)
    assert 2 <= len(said(world)) <= 4, said(world)


async def test_gateways_that_are_not_heard_end_nothing() -> None:
    world = await castle()
    tell(world, "Tier")
    await world.settle(seconds=2)
    for gateway in world.doors().values():
        gateway.degraded, gateway.deaf = (), True
    await world.settle(seconds=300)
    assert entries(world) == [("gold", "Tier")]
    for gateway in world.doors().values():
        gateway.deaf = False
    await world.settle(seconds=2 * CALM_SECONDS + 2)
    assert [reason for reason, _ in said(world)] == ["Degraded", "NotDegraded"]


async def test_a_new_leader_that_hears_no_gateway_ends_nothing() -> None:
    world = await castle()
    tell(world, "Tier")
    await world.settle(seconds=2)
    for name, gateway in world.doors().items():
        gateway.degraded, gateway.deaf = (), True
        world.store.drop(GatewayFact, NAMESPACE, name)  # what was heard goes with the leadership that heard it
    world.lead()
    await world.settle(seconds=300)
    assert entries(world) == [("gold", "Tier")]
    for gateway in world.doors().values():
        gateway.deaf = False
    await world.settle(seconds=2 * CALM_SECONDS + 2)
    assert entries(world) == []


async def test_a_gateway_that_is_gone_tells_nothing_more() -> None:
    world = await castle()
    name = next(iter(world.doors()))
    world.doors()[name].degraded = told("Tier")
    await world.settle(seconds=2)
    world.api.remove("Pod", NAMESPACE, name)
    await world.settle(seconds=CALM_SECONDS + 2)
    assert entries(world) == []


async def test_an_archetype_without_a_variant_for_a_tier_is_told_once_and_forgotten_when_nobody_asks() -> None:
    world = await castle()
    world.put(adapter("zombie", digests={"silver": digest("zombie-silver")}))
    await world.settle(seconds=2)
    for _ in range(20):
        tell(world, "Tier", archetype="zombie")
        await world.settle(seconds=2)
        tell(world)
        await world.settle(seconds=100)
    about = [text for who, reason, text in world.recorder.events if who == "zombie" and reason in LEVELS]
    assert about == [
        "zombie asked on tier gold is answered by its adapter on tier silver: it has no variant for tier gold"
    ]
    await world.settle(seconds=700)
    assert entries(world, "zombie") == []


async def test_a_tier_that_the_region_does_not_name_any_more_is_not_spoken_of() -> None:
    world = await castle()
    tell(world, "Tier")
    await world.settle(seconds=2)
    assert entries(world) == [("gold", "Tier")]

    def keep_silver(live: dict[str, Any]) -> None:
        live["spec"]["tiers"] = [entry for entry in live["spec"]["tiers"] if entry["tier"] == "silver"]
        live["spec"]["defaultTier"] = "silver"

    world.edit(names.KIND_REGION, "eu-west", keep_silver)
    await world.settle(seconds=2)
    assert entries(world) == []
    assert [reason for reason, _ in said(world)] == ["Degraded"]


async def test_nothing_is_written_while_a_voice_stays_degraded() -> None:
    world = await castle()
    await lose(world, "gold")
    tell(world, "Tier")
    await world.settle(seconds=5)
    before = world.writes_of(names.KIND_ADAPTER)
    await world.settle(seconds=600)
    world.resync()
    await world.settle(seconds=60)
    assert world.writes_of(names.KIND_ADAPTER) == before


STAMP = Stamp(epoch=1, generation=1)


@pytest.mark.parametrize(
    ("old", "new", "archetypes"),
    [
        (None, (), set()),
        (None, told("Tier"), {"vampire"}),
        (told("Tier"), None, {"vampire"}),
        (told("Tier"), told("Tier"), set()),
        (told("Tier"), told("Tier", "Scripted"), {"vampire"}),
        (told("Tier"), (*told("Tier"), *told("Tier", archetype="zombie")), {"zombie"}),
    ],
)
def test_only_voices_of_which_a_gateway_tells_something_else_look_again(
    old: tuple[DegradedReport, ...] | None, new: tuple[DegradedReport, ...] | None, archetypes: set[str]
) -> None:
    before, after = (
        None if said_then is None else GatewayFact("u", "b", STAMP, degraded=said_then) for said_then in (old, new)
    )
    assert degraded_archetypes(before, after) == archetypes
