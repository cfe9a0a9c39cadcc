"""Digests that are swapped back and forth while everything is under way: no line finds nobody to answer it."""

from __future__ import annotations

import random

import pytest

from npc_runtime.wire import served_name
from tests.component.operator.harness import START
from tests.component.operator.wires import TimedWorld
from tests.support.builders import adapter, digest, region, tier

SEEDS = range(32)
TIERS = ("gold", "bronze")
VERSIONS = tuple(digest(f"vampire-{number}") for number in range(1, 4))
AT_ONCE: dict[str, object] = {"strategy": "Immediate"}
IN_STEPS: dict[str, object] = {
    "strategy": "Canary",
    "steps": [50, 100],
    "stepSeconds": 1,
    "onTooLittleTraffic": "Proceed",
}


class Swaps:
    """One voice on two tiers, of which somebody cannot make up their mind."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(f"swaps of {seed}")
        self.world = TimedWorld(seed)
        self.acts: list[str] = []

    async def begin(self, rollout: dict[str, object]) -> None:
        world = self.world
        world.put(region(tiers={"gold": 100, "bronze": 50}), *(tier(name) for name in TIERS))
        world.put(adapter(digests=dict.fromkeys(TIERS, VERSIONS[0]), spec={"rollout": rollout}))
        await world.settle()
        await world.go_on()
        await world.run(30)
        world.watching = self.check

    def want(self, version: str) -> None:
        self.note(f"{served_name('vampire', version)} is wanted")
        for name in TIERS:
            self.world.set_digest("vampire", version, name)

    async def play(self) -> None:
        """Whatever comes to somebody's mind."""
        world, dice, wanted = self.world, self.dice, VERSIONS[0]
        await self.begin(dice.choice((AT_ONCE, AT_ONCE, IN_STEPS)))
        for _ in range(dice.randrange(4, 12)):
            if dice.random() < 0.15:
                self.note("another leader")
                await world.change_leaders()
            else:
                wanted = dice.choice(VERSIONS[: dice.choice((2, 2, 3))])
                self.want(wanted)
            await world.run(dice.choice((0.05, 0.2, 0.5, 1.0, 3.0)) * dice.random())
        world.wires.faulty = False
        await self.end(wanted)

    async def end(self, wanted: str) -> None:
        """It stays at the last wish, and nothing else is left anywhere."""
        self.note("quiet")
        await self.world.run(120)
        name = served_name("vampire", wanted)
        for gateway in self.world.timed_gateways.values():
            assert gateway.named() == {(tier_name, name) for tier_name in TIERS}, self.acts
        assert {agent.resident for agent in self.world.timed_agents.values()} == {frozenset({name})}, self.acts

    def note(self, what: str) -> None:
        self.acts.append(f"{self.world.clock.time - START:.3f} {what}")

    def check(self) -> None:
        """Whatever a gateway may ask for is there, and the gateway sees it there."""
        for gateway in self.world.timed_gateways.values():
            for tier_name, name in gateway.asked():
                why = f"{self.world.clock.time - START:.3f} {gateway.address} asks {tier_name} for {name}"
                usable = gateway.fleet.usable(tier_name, name)
                assert usable, (why, self.acts)
                agents = [self.world.timed_agents[endpoint.facts.key.address] for endpoint in usable]
                assert all(name in agent.resident for agent in agents), (why, self.acts)


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_line_has_somewhere_to_go_however_digests_are_swapped(seed: int) -> None:
    swaps = Swaps(seed)
    try:
        await swaps.play()
    finally:
        await swaps.world.close()


async def calm() -> Swaps:
    """Everything takes a millisecond, and nothing gets lost."""
    swaps = Swaps(0)
    swaps.world.wires.faulty = False
    swaps.world.wires.delay = lambda: 0.001  # type: ignore[method-assign]
    await swaps.begin(AT_ONCE)
    return swaps


@pytest.mark.parametrize("pause", [0.1 * number for number in range(4, 28, 3)])
async def test_pods_keep_what_is_decided_until_it_is_written_whatever_is_wanted_by_then(pause: float) -> None:
    swaps = await calm()
    swaps.world.wires.held_up["apply ArchetypeAdapter"] = 0.5
    swaps.want(VERSIONS[1])
    await swaps.world.run(pause)
    swaps.want(VERSIONS[0])
    await swaps.end(VERSIONS[0])
    await swaps.world.close()


@pytest.mark.parametrize("pause", [0.1 * number for number in range(4, 28, 3)])
async def test_pods_keep_what_routes_on_their_way_to_a_gateway_name(pause: float) -> None:
    swaps = await calm()
    swaps.world.wires.held_up[f"routes to {next(iter(swaps.world.timed_gateways))}"] = 1.0
    swaps.want(VERSIONS[1])
    await swaps.world.run(pause)
    swaps.want(VERSIONS[0])
    await swaps.end(VERSIONS[0])
    await swaps.world.close()
