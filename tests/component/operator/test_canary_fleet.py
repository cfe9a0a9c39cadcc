"""A whole game in mid-rollout: 25 archetypes on 3 tiers, and an operator that ends around every status it writes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_runtime.wire import served_name
from tests.component.operator.harness import World
from tests.component.operator.players import Players
from tests.support.builders import adapter, digest, region, tier
from tests.support.fake_kube import Crash

TIERS = ("gold", "silver", "bronze")
ARCHETYPES = [f"archetype-{number:02}" for number in range(25)]
BAD = {digest(f"{archetype}-gold-2") for archetype in ARCHETYPES[::5]}
MOST = 5
SLOTS = 2 * len(ARCHETYPES)
"""Of each engine: for every stable digest and every candidate, and none for a mistake."""
PUSHES = 2
"""How often an operator ends before, and after, each pod's pushes. A new leader pushes to everybody, so one that ended
at each of them would get no further."""


class Storm(World):
    """Once it blows, the operator ends before each write of a voice's status, and again after it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.blowing = False
        self.attempts: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()

    def _step(self, what: str, when: str) -> None:
        if not self.blowing:
            return
        status = what.startswith(f"apply {names.KIND_ADAPTER}/")
        if when == "before":
            self.attempts[what] += 1
        if not status and self.attempts[what] > 2 * PUSHES:
            return
        # Odd attempts end before the call, even ones after it.
        if (when == "before") == (self.attempts[what] % 2 == 1):
            self.ends[f"{when} {what.split('/')[0].split(' to ')[0]}"] += 1
            raise Crash(what)


def voice(archetype: str, word: str) -> dict[str, object]:
    digests = {name: digest(f"{archetype}-{name}-{word}") for name in TIERS}
    return adapter(archetype, digests=digests, spec={"rollout": {"stepSeconds": 1, "steps": [50, 100]}})


async def roll_all(world: World) -> int:
    """Every voice gets another digest on every tier at the same time; returns the most that had traffic at once."""
    players, most = Players(world, bad=BAD), 0
    world.put(*(voice(archetype, "2") for archetype in ARCHETYPES))
    for _ in range(200):
        await players.play(1, each_second=60)
        moving = [archetype for archetype in ARCHETYPES if is_heard(world, archetype)]
        most = max(most, len(moving))
        if not moving and all("candidate" not in world.variant(one, name) for one in ARCHETYPES for name in TIERS):
            await world.settle(seconds=20)
            return most
    raise AssertionError("they never end")


def is_heard(world: World, archetype: str) -> bool:
    variants = world.status(names.KIND_ADAPTER, archetype)["variants"]
    return any(variant.get("rollout", {}).get("since") for variant in variants)


def end(world: World) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for archetype in ARCHETYPES:
        for name in TIERS:
            variant = world.variant(archetype, name)
            found[f"{archetype} on {name}"] = (
                variant["stable"]["digest"],
                variant.get("rejected", {}).get("digest"),
                sorted(Counter(entry["reason"] for entry in variant["history"]).items()),
            )
    for name in TIERS:
        found[name] = (
            [sorted(agent.resident) for agent in world.pods(name).values()],
            [gateway.routes(name) for gateway in world.doors().values()],
        )
    return found


def newly_loaded(history: list[tuple[str, ...]]) -> Counter[str]:
    """How often each adapter came anew into what one agent was asked for."""
    loads: Counter[str] = Counter()
    before: set[str] = set()
    for asked in map(set, history):
        loads.update(asked - before)
        before = asked
    return loads


def served_more_than_once(history: list[tuple[str, ...]], name: str) -> set[str]:
    """Digests that serve at the end and had to come onto a pod twice. What is on its way out is another matter: a new
    leader that does not know yet what gateways go by keeps whatever it last heard to be there."""
    loads = newly_loaded(history)
    newest = {archetype: digest(f"{archetype}-{name}-2") for archetype in ARCHETYPES}
    serving = {
        served_name(archetype, digest(f"{archetype}-{name}-1") if value in BAD else value)
        for archetype, value in newest.items()
    }
    assert serving <= loads.keys()
    return {one for one in serving if loads[one] > 1}


@pytest.mark.timeout(600)
async def test_all_move_or_are_taken_back_whenever_the_operator_ends(capsys: pytest.CaptureFixture[str]) -> None:
    worlds = []
    for world in (World(), Storm()):
        tiers = [tier(name, engine={"maxCpuLoras": SLOTS}) for name in TIERS]
        limits = {"rolloutLimits": {"maxConcurrent": MOST}}
        world.put(region(tiers={"gold": 100, "silver": 100, "bronze": 100}, spec=limits), *tiers)
        world.put(*(voice(archetype, "1") for archetype in ARCHETYPES))
        await world.settle()
        if isinstance(world, Storm):
            world.blowing = True
        assert await roll_all(world) == MOST
        worlds.append(world)
    calm, storm = worlds
    assert isinstance(storm, Storm)
    assert end(storm) == end(calm)
    for archetype in ARCHETYPES:
        for name in TIERS:
            stable, rejected, decisions = end(storm)[f"{archetype} on {name}"]
            newest = digest(f"{archetype}-{name}-2")
            if newest in BAD:
                assert (stable, rejected) == (digest(f"{archetype}-{name}-1"), newest)
                assert dict(decisions)[reasons.ROLLED_BACK] == 1
            else:
                assert (stable, rejected) == (newest, None)
                assert dict(decisions)[reasons.MOVED] == 1
    for name in TIERS:
        for agent in storm.pods(name).values():
            assert agent.most <= SLOTS
            assert served_more_than_once(agent.history, name) == set()
    ends = sum(storm.ends.values())
    assert storm.ends["before apply ArchetypeAdapter"] >= 25 * 6
    assert storm.ends["after apply ArchetypeAdapter"] >= 25 * 6
    with capsys.disabled():
        print(f"\n25 archetypes on 3 tiers rolled at once; the operator ended {ends} times: {dict(storm.ends)}")
