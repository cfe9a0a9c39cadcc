"""Rollouts among everything that can happen to them, in random orders: what must never be, and where it must end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.facts import AgentFact, GatewayFact
from npc_operator.domain.rollout import STAND_INS
from npc_runtime.wire import served_name
from tests.component.operator.harness import World
from tests.component.operator.players import Players
from tests.support.builders import adapter, digest, region, tier

VOICES = ("vampire", "witch", "zombie")
MOST = 2
SEEDS = range(8)
ACTS = 40


class Chaos:
    """A game on which a seed decides what happens next."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.world = World()
        self.players = Players(self.world)
        self.acts: list[str] = []
        self.versions = dict.fromkeys(VOICES, 1)
        self.quarantined: dict[str, set[str]] = {name: set() for name in VOICES}

    async def begin(self) -> None:
        world = self.world
        world.put(region(tiers={"gold": 100}, spec={"rolloutLimits": {"maxConcurrent": MOST}}))
        world.put(tier("gold", engine={"maxCpuLoras": 2 * len(VOICES)}))
        rollout = {"stepSeconds": 4, "steps": [10, 50, 100], "onTooLittleTraffic": "Proceed"}
        for name in VOICES:
            world.put(adapter(name, digests={"gold": digest(f"{name}-1")}, spec={"rollout": rollout}))
        await world.settle()

    async def act(self) -> None:
        acts: list[Callable[[], None]] = [
            self.name_a_digest,
            self.name_a_digest,
            self.name_an_earlier_digest,
            self.change_leaders,
            self.restart_a_gateway,
            self.cut_a_gateway,
            self.mend_gateways,
            self.silence_the_watch,
            self.suspend,
            self.set_the_clock,
            self.restart_an_engine,
            self.turn_bad,
            self.scale,
            self.quarantine,
            self.lift_quarantine,
            self.change_the_strategy,
            self.downgrade_a_gateway,
        ]
        chosen = self.dice.choice(acts)
        self.acts.append(chosen.__name__)
        chosen()
        for _ in range(self.dice.randrange(1, 6)):
            await self.players.play(1, each_second=self.dice.choice((0, 3, 40)))
            await self.check()

    # --- what happens ---

    def voice(self) -> str:
        return self.dice.choice(VOICES)

    def name_a_digest(self) -> None:
        name = self.voice()
        self.versions[name] += 1
        self.world.set_digest(name, digest(f"{name}-{self.versions[name]}"))

    def name_an_earlier_digest(self) -> None:
        name = self.voice()
        self.world.set_digest(name, digest(f"{name}-{self.dice.randint(1, self.versions[name])}"))

    def change_leaders(self) -> None:
        for kind in (AgentFact, GatewayFact):
            for namespace, name, _ in list(self.world.store.items(kind)):
                self.world.store.drop(kind, namespace, name)
        self.world.lead()

    def restart_a_gateway(self) -> None:
        self.dice.choice(list(self.world.doors().values())).restart()

    def cut_a_gateway(self) -> None:
        self.dice.choice(list(self.world.doors().values())).deaf = True

    def mend_gateways(self) -> None:
        for gateway in self.world.doors().values():
            gateway.deaf = gateway.numberless = False

    def silence_the_watch(self) -> None:
        self.world.delivering = not self.world.delivering
        if self.world.delivering:
            self.world.resync()

    def suspend(self) -> None:
        kind, name = self.dice.choice(((names.KIND_REGION, "eu-west"), (names.KIND_ADAPTER, self.voice())))
        self.world.edit(kind, name, lambda live: live["spec"].update(suspend=not live["spec"].get("suspend", False)))

    def set_the_clock(self) -> None:
        self.world.clock.skew += self.dice.choice((-3600.0, -7.0, 7.0, 3600.0))

    def restart_an_engine(self) -> None:
        agent = self.dice.choice(list(self.world.pods("gold").values()))
        agent.restart_engine()
        agent.engine_ready(self.world.clock.now())

    def turn_bad(self) -> None:
        name = self.voice()
        self.players.bad.add(digest(f"{name}-{self.versions[name]}"))

    def change_the_strategy(self) -> None:
        strategy = self.dice.choice(("Canary", "Canary", "Immediate"))
        self.world.edit(
            names.KIND_ADAPTER, self.voice(), lambda live: live["spec"]["rollout"].update(strategy=strategy)
        )

    def downgrade_a_gateway(self) -> None:
        gateway = self.dice.choice(list(self.world.doors().values()))
        gateway.numberless = not gateway.numberless
        gateway.restart()

    def scale(self) -> None:
        self.world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(replicas=self.dice.randint(2, 4)))

    def quarantine(self) -> None:
        name = self.voice()
        numbers = {self.dice.randint(1, self.versions[name]) for _ in range(2)}
        self.quarantined[name] |= {digest(f"{name}-{number}") for number in numbers}
        self.write_quarantine(name)

    def lift_quarantine(self) -> None:
        name = self.voice()
        self.quarantined[name].clear()
        self.write_quarantine(name)

    def write_quarantine(self, name: str) -> None:
        digests = sorted(self.quarantined[name])
        self.world.edit(names.KIND_ADAPTER, name, lambda live: live["spec"].update(quarantinedDigests=digests))

    # --- what must never be ---

    async def check(self) -> None:
        moving = [name for name in VOICES if self.status(name).get("rollout", {}).get("since")]
        assert len(moving) <= MOST, (moving, self.acts)
        assert all(len(self.status(name)["history"]) <= 10 for name in VOICES)
        if any(self.find_stray(name) for name in VOICES):
            await self.world.settle(seconds=1.5)  # it may just have been decided
        assert [self.find_stray(name) for name in VOICES] == ["" for _ in VOICES], self.acts

    def find_stray(self, name: str) -> str:
        """What a gateway that the operator can reach asks for although the status does not say so."""
        status = self.status(name)
        banned = {served_name(name, value) for value in self.quarantined[name]}
        if "rejected" in status:
            banned.add(served_name(name, status["rejected"]["digest"]))
        heard = [gateway for gateway in self.world.doors().values() if self.world.delivering and not gateway.deaf]
        for alias in (gateway.alias(name) for gateway in heard):
            if alias is not None and any(target.served_name in banned for target in alias.targets):
                return f"{name}: {alias.targets} are banned"
        if self.is_paused(name) or status["reason"] == reasons.SUSPENDED:
            return ""
        stands_in = status["serving"] in STAND_INS
        known = {served_name(name, status[one]["digest"]) for one in ("stable", "candidate") if one in status}
        for gateway in self.world.doors().values():
            alias = gateway.alias(name)
            if gateway.deaf or alias is None:
                continue
            asked = {target.served_name: target.percent for target in alias.targets}
            if stands_in and not asked:
                continue
            if stands_in or "stable" not in status:
                return f"{name}: {asked} and {status}"
            share = status["rollout"]["percent"] if len(asked) > 1 and "rollout" in status else 0
            stable = served_name(name, status["stable"]["digest"])
            if not asked.keys() <= known or asked.get(stable) != 100 - share:
                return f"{name}: {asked} and {status}"
        return ""

    def is_paused(self, name: str) -> bool:
        paused = self.world.live(names.KIND_REGION, "eu-west"), self.world.live(names.KIND_ADAPTER, name)
        return any(one["spec"].get("suspend") for one in paused)

    def status(self, name: str) -> dict[str, Any]:
        return self.world.variant(name)

    # --- where it must end ---

    async def end(self) -> None:
        world = self.world
        self.mend_gateways()
        world.delivering = True
        world.resync()
        world.edit(names.KIND_REGION, "eu-west", lambda live: live["spec"].update(suspend=False))
        for name in VOICES:
            self.quarantined[name].clear()
            self.write_quarantine(name)
            world.edit(names.KIND_ADAPTER, name, lambda live: live["spec"].update(suspend=False))
        for _ in range(200):
            await self.players.play(1, each_second=40)
            await self.check()
        await world.settle(seconds=30)
        for name in VOICES:
            status = self.status(name)
            wanted = world.live(names.KIND_ADAPTER, name)["spec"]["variants"][0]["source"]["digest"]
            rejected = status.get("rejected", {}).get("digest")
            assert "candidate" not in status, (status, self.acts)
            assert wanted in (status["stable"]["digest"], rejected), (wanted, status, self.acts)
            for agent in world.pods("gold").values():
                mine = {one for one in agent.resident if one.startswith(f"{name}--")}
                assert mine == {served_name(name, status["stable"]["digest"])}, (mine, status, self.acts)


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_no_rollout_goes_wrong_and_all_come_to_an_end(seed: int) -> None:
    chaos = Chaos(seed)
    await chaos.begin()
    for _ in range(ACTS):
        await chaos.act()
    await chaos.end()
