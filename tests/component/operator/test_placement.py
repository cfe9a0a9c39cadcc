"""Slots that are short: what serves stays where it is routed, and whoever has to wait or to go says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.facts import Adapter
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.loop.store import Change
from npc_operator.reconcilers import triggers
from npc_runtime.wire import served_name
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, digest, region, secret, tier
from tests.support.builders import at_once as adapter
from tests.support.fake_agents import LOADING


def name_of(archetype: str, version: int = 1) -> str:
    return served_name(archetype, digest(f"{archetype}-{version}"))


async def crowded(slots: int, *archetypes: str, **spec: object) -> World:
    """A tier with so many slots whose voices all serve."""
    world = World()
    world.put(region(), tier(engine={"maxLoras": 1, "maxCpuLoras": slots}))
    world.put(*(adapter(archetype, spec=spec) for archetype in archetypes))
    await world.settle()
    return world


def resident(world: World) -> list[set[str]]:
    return [set(agent.resident) for agent in world.pods("gold").values()]


def assert_every_route_leads_to_a_voice(world: World) -> None:
    for gateway in world.doors().values():
        for held in resident(world):
            assert set(gateway.routes("gold").values()) <= held


async def test_a_newcomer_on_a_full_tier_waits_and_nobody_who_serves_is_touched() -> None:
    world = await crowded(2, "b", "c")

    world.put(adapter("a"))
    await world.settle()

    assert all(held == {name_of("b"), name_of("c")} for held in resident(world))
    assert_every_route_leads_to_a_voice(world)
    assert all(world.said(names.KIND_ADAPTER, one, "Ready")[0] == "True" for one in "bc")
    assert world.said(names.KIND_ADAPTER, "a", "Stalled")[:2] == ("True", reasons.SLOTS_EXCEEDED)


@pytest.mark.parametrize("newcomer", ["aa", "zz"])
async def test_what_is_kept_for_a_silent_gateway_takes_no_slot_from_a_voice_that_serves(newcomer: str) -> None:
    world = await crowded(4, "b", "c", "d")
    silent = next(iter(world.doors().values()))
    silent.deaf = True
    world.set_digest("b", digest("b-2"))
    await world.settle(seconds=10)
    world.put(adapter(newcomer))
    await world.settle(seconds=10)

    served = {name_of("b", 2), name_of("c"), name_of("d")}
    assert all(held == {name_of("b"), *served} for held in resident(world))

    silent.deaf = False
    await world.settle(seconds=60)
    assert all(held == {name_of(newcomer), *served} for held in resident(world))
    assert_every_route_leads_to_a_voice(world)


async def test_a_more_important_newcomer_displaces_a_voice_that_says_so_and_leaves_the_routes_first() -> None:
    world = await crowded(2, "b", "c", importance="Ambient")
    silent = next(iter(world.doors().values()))
    silent.deaf = True

    world.put(adapter("hero", spec={"importance": "Critical"}))
    await world.settle(seconds=10)

    # One gateway still goes by the old routes: nothing leaves the pods, and the newcomer has no slot yet.
    assert all(held == {name_of("b"), name_of("c")} for held in resident(world))
    for about in ("Ready", "Stalled"):
        status, reason, message = world.said(names.KIND_ADAPTER, "c", about)
        assert (status, reason) == ("False" if about == "Ready" else "True", reasons.SLOTS_EXCEEDED)
        assert "off the routes" in message
    assert "c" in world.said(names.KIND_TIER, "gold", "Stalled")[2]

    silent.deaf = False
    await world.settle(seconds=60)
    assert all(held == {name_of("b"), name_of("hero")} for held in resident(world))
    assert all(set(gateway.routes("gold")) == {"b", "hero"} for gateway in world.doors().values())
    assert world.said(names.KIND_ADAPTER, "hero", "Ready")[0] == "True"
    assert all(agent.most <= 2 for agent in world.pods("gold").values())

    world.api.remove(names.KIND_ADAPTER, NAMESPACE, "hero")
    await world.settle()
    assert all(held == {name_of("b"), name_of("c")} for held in resident(world))
    assert world.said(names.KIND_ADAPTER, "c", "Ready")[0] == "True"
    assert world.said(names.KIND_ADAPTER, "c", "Stalled") == ("", "", "")
    assert_every_route_leads_to_a_voice(world)


async def test_a_displaced_voice_that_is_suspended_says_so_too() -> None:
    world = await crowded(1, "c", importance="Ambient")
    world.edit(names.KIND_ADAPTER, "c", lambda live: live["spec"].update(suspend=True))
    world.put(adapter("hero", spec={"importance": "Critical"}))
    await world.settle()
    assert world.said(names.KIND_ADAPTER, "c", "Ready")[:2] == ("False", reasons.SLOTS_EXCEEDED)
    assert world.said(names.KIND_ADAPTER, "c", "Stalled")[:2] == ("True", reasons.SLOTS_EXCEEDED)


async def test_a_newcomer_whose_secret_comes_late_displaces_like_any_other() -> None:
    world = await crowded(1, "c", importance="Ambient")
    world.learn_absent("bucket")
    world.put(adapter("hero", secret="bucket", spec={"importance": "Critical"}))
    await world.settle()
    assert all(held == {name_of("c")} for held in resident(world))
    assert world.said(names.KIND_ADAPTER, "c", "Ready")[0] == "True"

    world.put(secret("bucket", {"AWS_ACCESS_KEY_ID": "id"}))
    await world.settle()

    assert all(held == {name_of("hero")} for held in resident(world))
    assert all(set(gateway.routes("gold")) == {"hero"} for gateway in world.doors().values())
    assert world.said(names.KIND_ADAPTER, "c", "Ready")[:2] == ("False", reasons.SLOTS_EXCEEDED)


async def test_fewer_slots_than_voices_that_serve_leave_the_last_out_of_the_routes_and_the_pods() -> None:
    world = await crowded(3, "a", "b", "c")
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"]["engine"].update(maxCpuLoras=2))
    await world.settle(seconds=120)
    assert all(held == {name_of("a"), name_of("b")} for held in resident(world))
    assert all(set(gateway.routes("gold")) == {"a", "b"} for gateway in world.doors().values())
    assert world.said(names.KIND_ADAPTER, "c", "Ready")[:2] == ("False", reasons.SLOTS_EXCEEDED)


async def test_swaps_that_wait_for_each_other_call_for_nobody() -> None:
    voices = [f"v{number}" for number in range(4)]
    world = await crowded(6, *voices)
    for agent in world.pods("gold").values():
        agent.verdicts.update({name_of(voice, 2): LOADING for voice in voices})
    for voice in voices:
        world.set_digest(voice, digest(f"{voice}-2"))
    await world.settle(seconds=10)

    waiting = [one for one in voices if world.said(names.KIND_ADAPTER, one, "Reconciling")[1] == reasons.SLOTS_EXCEEDED]
    assert waiting == ["v2", "v3"]
    assert all(world.said(names.KIND_ADAPTER, one, "Stalled") == ("", "", "") for one in voices)

    for agent in world.pods("gold").values():
        agent.verdicts.clear()
        agent.work()
    await world.settle()
    assert all(world.variant(one)["stable"]["digest"] == digest(f"{one}-2") for one in voices)
    assert not any(reasons.SLOTS_EXCEEDED in world.recorder.reasons(one) for one in voices)
    assert all(agent.most <= 6 for agent in world.pods("gold").values())


async def test_a_swap_that_ended_wakes_those_that_wait_for_a_slot_and_no_others() -> None:
    world = await crowded(4, "a", "b", "c")
    for agent in world.pods("gold").values():
        agent.verdicts.update({name_of(one, 2): LOADING for one in "ab"})
    world.set_digest("a", digest("a-2"))
    world.set_digest("b", digest("b-2"))
    await world.settle(seconds=10)
    assert world.said(names.KIND_ADAPTER, "b", "Reconciling")[1] == reasons.SLOTS_EXCEEDED

    old = world.store.get(Adapter, NAMESPACE, "a")
    assert old is not None
    ended = old.status.variants[0].model_copy(update={"candidate": None})
    new = replace(old, status=old.status.model_copy(update={"variants": (ended,)}))
    found = set(triggers(world.store, Change(Adapter, NAMESPACE, "a", old, new)))
    assert {key.name for key in found if key.kind is KeyKind.ADAPTER} == {"a", "b"}
    assert Key(KeyKind.ADAPTER, NAMESPACE, "c") not in found
