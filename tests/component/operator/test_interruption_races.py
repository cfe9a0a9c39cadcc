"""Machines that are told to go, stay after all, or die, while digests are swapped, leaders change and spot comes and
goes, with everything under way: lines find a pod where one is, leave the machines that go, and all ends as wished."""

from __future__ import annotations

import random

import pytest

from npc_operator.api import names
from npc_operator.domain.interruption.machine import ROUTE_MARGIN_SECONDS
from npc_runtime.wire import served_name
from tests.component.operator.harness import START
from tests.component.operator.machines import ON_DEMAND, SPOT, ZOMBIE
from tests.component.operator.timed_machines import NOTICE_SECONDS, LinedGateway, TimedMachines
from tests.component.operator.wires import TimedAgent, TimedGateway
from tests.support.builders import NAMESPACE, digest

SEEDS = range(24)
WANTED = 3
VERSIONS = tuple(digest(f"vampire-{number}") for number in range(1, 4))
PROMISED_SECONDS = 1.0
"""From a notice to the last new line on its machine, where another pod can take it."""
FAULTY_SECONDS = 20.0
"""The same while calls and words get lost: they are given up after 5 s, and tried again with growing pauses."""
MISSED_SECONDS = 15.0
"""Until it is known that the one pod that stays has died without a word: its agent's last poll has to fail."""
MOST_ACTS = 9
QUIET_SECONDS = 1500.0
"""Until nobody remembers anything: a storm's hold, ten minutes before the way back, and one pod after the other."""


class Waves:
    """One tier of three pods, of which one is on demand, with one voice that stays and one that changes."""

    def __init__(self, seed: int, *, calm: bool | None = None) -> None:
        self.dice = random.Random(f"waves of {seed}")
        self.calm = self.dice.random() < 0.4 if calm is None else calm
        self.world = TimedMachines(
            seed,
            wanted=WANTED,
            spot=3,
            on_demand=2,
            capacity={
                "fallback": {"afterSeconds": 10, "returnAfterSeconds": 20},
                "storm": {"windowSeconds": 60, "holdSeconds": 60},
            },
        )
        self.acts: list[str] = []
        self.wanted = VERSIONS[0]
        self._served: dict[tuple[str, str], set[str]] = {}
        """By gateway and served name: uids of the pods that could answer at the last look."""
        self._since: dict[object, float] = {}
        """Since when what may not last is so."""
        self._led = 0.0
        self.world.asks_for_eviction = self.check_eviction  # type: ignore[method-assign]

    @property
    def patience(self) -> float:
        return PROMISED_SECONDS if self.calm else FAULTY_SECONDS

    async def begin(self) -> None:
        world = self.world
        await world.settle()
        await world.go_on()
        if self.calm:
            world.wires.faulty = False
            world.wires.delay = lambda: world.dice.uniform(0.0005, 0.03)  # type: ignore[method-assign]
        await world.run(30)
        world.watching = self.check

    async def play(self) -> None:
        """Whatever may happen."""
        world, dice = self.world, self.dice
        await self.begin()
        for _ in range(dice.randint(3, MOST_ACTS)):
            await dice.choice(
                (
                    self.notice,
                    self.notice,
                    self.notice,
                    self.withdraw,
                    self.kill,
                    self.change_leaders,
                    self.turn_market,
                    self.turn_share,
                    self.swap,
                    self.swap,
                )
            )()
            await world.run(dice.choice((0.1, 0.5, 2.0, 10.0, 40.0)) * dice.random())
        await self.end()

    # --- acts ---

    def note(self, what: str) -> None:
        self.acts.append(f"{self.now:.3f} {what}")

    @property
    def now(self) -> float:
        return self.world.clock.time - START

    def machines(self) -> list[str]:
        """Those that have pods and stand."""
        return sorted(
            {
                node
                for pod in self.world.engine_pods()
                if (node := pod["spec"].get("nodeName")) and node not in self.world.dead
            }
        )

    async def notice(self) -> None:
        if machines := [one for one in self.machines() if one not in self.world.noticed]:
            node = self.dice.choice(machines)
            self.note(f"notice for {node}")
            self.world.notice(node)

    async def withdraw(self) -> None:
        if machines := sorted(self.world.noticed.keys() - self.world.dead):
            node = self.dice.choice(machines)
            if self.world.api.find("Node", "", node) is not None:
                self.note(f"no notice for {node}")
                self.world.withdraw(node)

    async def kill(self) -> None:
        if machines := self.machines():
            node = self.dice.choice(machines)
            self.note(f"{node} dies")
            self.world.kill(node)

    async def change_leaders(self) -> None:
        self.note("another leader")
        self._led = self.now
        await self.world.change_leaders()

    async def turn_market(self) -> None:
        self.world.spot_market = not self.world.spot_market
        self.note(f"spot to be had: {self.world.spot_market}")

    async def turn_share(self) -> None:
        share = self.dice.choice((0, 0, 50, 100))
        self.note(f"{share}% on demand above the base")
        self.set_share(share)

    def set_share(self, share: int) -> None:
        def change(live: dict[str, dict[str, dict[str, int]]]) -> None:
            live["spec"]["capacity"]["onDemandPercentageAboveBase"] = share

        self.world.edit(names.KIND_TIER, "gold", change)

    async def swap(self) -> None:
        self.wanted = self.dice.choice(VERSIONS[: self.dice.choice((2, 2, 3))])
        self.note(f"{served_name('vampire', self.wanted)} is wanted")
        self.world.set_digest("vampire", self.wanted)

    async def end(self) -> None:
        """It stays at the last wish, and nothing else is left anywhere."""
        world = self.world
        world.wires.faulty = False
        world.spot_market = True
        self.set_share(0)
        for node in sorted(world.noticed.keys() - world.dead):
            if self.dice.random() < 0.5 and world.api.find("Node", "", node) is not None:
                self.note(f"no notice for {node}")
                world.withdraw(node)
        self.note("quiet")
        await world.run(QUIET_SECONDS)
        why = (self.acts, [pod["metadata"]["name"] for pod in world.engine_pods()])
        wanted = {ZOMBIE, served_name("vampire", self.wanted)}
        assert (world.asked(ON_DEMAND), world.asked(SPOT)) == (1, 2), why
        pods = {pod["metadata"]["name"] for pod in world.engine_pods()}
        assert len(pods) == WANTED, why
        assert not any(map(world.note, pods)), why
        for gateway in world.timed_gateways.values():
            assert gateway.named() == {("gold", name) for name in wanted}, why
            assert gateway.table is not None
            assert {one.pod for part in gateway.table.tiers for one in part.endpoints} == pods, why
        for pod in world.engine_pods():
            assert world.agent_of[pod["metadata"]["uid"]].resident == wanted, why

    # --- what is looked at after every event ---

    def fail(self, why: str) -> None:
        raise AssertionError("\n".join((*self.acts, f"{self.now:.3f} {why}")))

    def check(self) -> None:
        self.check_floor()
        able = self.able()
        for gateway in self.world.timed_gateways.values():
            for _, name in gateway.asked():
                self.check_name(gateway, name, able)
            self.check_lines(gateway, able)

    def check_floor(self) -> None:
        asked, share = self.world.asked_now(ON_DEMAND), self.world.share_now()
        low = asked < (WANTED if share == 100 else 2 if share == 50 else 1)
        if asked < 1 or self.lasts(low, "floor") > 2 * FAULTY_SECONDS:
            self.fail(f"{asked} are asked for on demand, and the share is {share}%")

    def able(self) -> dict[str, TimedAgent]:
        """Agents of the pods that stay and that lines may go to, by uid."""
        world = self.world
        found = {}
        for pod in world.pods_now():
            agent, node = world.agent_of[pod["metadata"]["uid"]], pod["spec"].get("nodeName")
            stays = node and node not in world.dead | world.noticed.keys()
            if stays and "deletionTimestamp" not in pod["metadata"] and agent.offer[0]:
                found[pod["metadata"]["uid"]] = agent
        return found

    def check_name(self, gateway: TimedGateway, name: str, able: dict[str, TimedAgent]) -> None:
        """What a gateway may ask for is there, as long as it is anywhere."""
        world, key = self.world, (gateway.address, name)
        seen = {one.facts.key.uid for one in gateway.fleet.usable("gold", name)}
        there = {uid for uid in seen if name in world.agent_of[uid].resident}
        before = self._served.get(key)
        self._served[key] = there
        others = sorted(uid for uid, agent in able.items() if name in agent.resident)
        if self.lasts(not there and bool(others), ("unserved", key)) > self.patience:
            self.fail(f"{gateway.address} finds nobody for {name} on {seen}, and {others} have it")
        going = [] if there else self.serving_still(name)
        if self.lasts(bool(going), ("alone", key)) > self.patience + MISSED_SECONDS:
            self.fail(f"{gateway.address} finds nobody for {name} on {seen}, and {going}, which go, have it")
        if there or before == set():
            return
        died = any(world.agent_of[uid].dead for uid in seen | (before or set()))
        if not died and (others or before is None):
            self.fail(f"{gateway.address} asks for {name} on {seen}; {before} had it, and {others} have it")

    def serving_still(self, name: str) -> list[str]:
        """Uids of the pods that have something and go, but not so soon that they are left whatever becomes of lines."""
        world = self.world
        return [
            pod["metadata"]["uid"]
            for pod in world.pods_now()
            if (node := pod["spec"].get("nodeName")) in world.noticed
            and world.noticed[node] + NOTICE_SECONDS - ROUTE_MARGIN_SECONDS - 1.0 > world.clock.time
            and "deletionTimestamp" not in pod["metadata"]
            and (agent := world.agent_of[pod["metadata"]["uid"]]).offer[0]
            and name in agent.resident
        ]

    def check_lines(self, gateway: TimedGateway, able: dict[str, TimedAgent]) -> None:
        """New lines leave a pod whose machine goes, where another can take all of them."""
        asked = {name for _, name in gateway.asked()}
        sent = {one.facts.key.uid for name in asked for one in gateway.fleet.usable("gold", name)}
        for pod in self.world.pods_now():
            uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName")
            if node not in self.world.noticed or uid not in sent:
                self._since.pop(("late", gateway.address, uid), None)
                continue
            has = self.world.agent_of[uid].resident & asked
            taken = all(any(name in agent.resident for agent in able.values()) for name in has)
            if self.lasts(bool(has) and taken, ("late", gateway.address, uid)) > self.patience:
                self.fail(f"{gateway.address} still sends lines to {pod['metadata']['name']} on {node}")

    def lasts(self, is_so: bool, what: object) -> float:
        """For how long something is so, under one leader."""
        if not is_so:
            self._since.pop(what, None)
            return 0.0
        return self.now - max(self._since.setdefault(what, self.now), self._led)

    def check_eviction(self, uid: str) -> None:
        """No pod is sent away while lines run there, or may come, before its time is up."""
        world = self.world
        found = [pod for pod in world.engine_pods() if pod["metadata"]["uid"] == uid]
        for pod in found:
            node = pod["spec"].get("nodeName")
            end = world.noticed.get(node, -1e9) + 118.0
            for gateway in world.timed_gateways.values():
                named = gateway.table is not None and any(
                    one.uid == uid for part in gateway.table.tiers for one in part.endpoints
                )
                if (named or gateway.running.get(uid)) and node in world.noticed and world.clock.time < end:
                    self.fail(f"{pod['metadata']['name']} is evicted, {gateway.address} names it: {named}")


@pytest.mark.parametrize("seed", SEEDS)
async def test_lines_are_served_whatever_happens_to_machines_digests_and_leaders(seed: int) -> None:
    waves = Waves(seed)
    try:
        await waves.play()
    finally:
        await waves.world.close()


async def test_a_pod_is_not_sent_away_while_a_table_that_names_it_is_on_its_way_to_a_gateway() -> None:
    waves = Waves(0, calm=True)
    await waves.begin()
    world = waves.world
    for gateway in world.timed_gateways.values():
        assert isinstance(gateway, LinedGateway)
        gateway.lingering = 0.0
    node = next(pod["spec"]["nodeName"] for pod in world.engine_pods() if pod["spec"]["nodeName"].startswith("spot"))
    budget = next(one for one in world.peek("PodDisruptionBudget") if "minAvailable" in one["spec"])["metadata"]["name"]
    world.api.edit("PodDisruptionBudget", NAMESPACE, budget, lambda live: live["spec"].update(minAvailable=WANTED))
    world.notice(node)
    await world.run(0.7)  # the lines are gone, and gateways say so
    asked: list[float] = []
    world.asks_for_eviction = lambda uid: asked.append(waves.now)  # type: ignore[method-assign]
    late = next(iter(world.timed_gateways.values()))
    world.wires.held_up[f"routes to {late.address}"] = 3.0
    world.withdraw(node)
    await world.run(0.3)
    world.wires.held_up.clear()
    world.notice(node)
    begun = waves.now
    await world.run(2.5)
    assert not asked, "the gateway may take a table that names the pod at any moment"
    await world.run(10)
    assert asked[:1] > [begun + 2.5]
    await world.close()


async def test_lines_come_back_to_machines_that_go_when_the_only_one_that_stays_is_not_heard_any_more() -> None:
    waves = Waves(0, calm=True)
    await waves.begin()
    world = waves.world
    world.start_seconds = (600.0, 600.0)
    dead, *going = waves.machines()
    world.kill(dead)
    for node in going:
        world.notice(node)
    await world.run(12)  # what agents' silence takes to be noticed, and to be no mere pause
    for gateway in world.timed_gateways.values():
        for _, name in gateway.asked():
            seen = {one.facts.key.uid for one in gateway.fleet.usable("gold", name)}
            assert any(name in world.agent_of[uid].resident for uid in seen), "those that go are still there"
    await world.close()
