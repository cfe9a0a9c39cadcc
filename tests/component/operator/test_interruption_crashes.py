"""A leader may end at any moment of an interruption: before and after every call that changes a pod, a Deployment or
the tier's status, the end is the same. (Around what it hands to agents and gateways: test_crashes.)
"""

from __future__ import annotations

import pytest

from npc_operator.api import names
from tests.component.operator.machines import NTH, ON_DEMAND, REBALANCE, SPOT, Machines

SHARDS = 4
ABOUT = ("apply Pod/", "evict Pod/", "apply Deployment/", "apply GpuTier/")


async def play(world: Machines) -> None:
    """A notice, a recommendation while it lasts, a notice that is taken back, and a long quiet."""
    await world.settle(60)
    first, second = (pod["metadata"]["name"] for pod in world.engine_pods(SPOT))
    kept = world.engine_pods(ON_DEMAND)[0]["metadata"]["name"]
    world.stuck |= {first, kept}
    world.calls.clear()
    world.mark(world.node_of(first), NTH, added=world.clock.now())
    await world.settle(5)
    assert first not in world.routed()
    world.mark(world.node_of(second), REBALANCE)
    await world.settle(5)
    world.stuck.discard(first)
    await world.settle(5)
    world.mark(world.node_of(kept), NTH, added=world.clock.now())
    await world.settle(5)
    world.mark(world.node_of(kept))
    world.stuck.clear()
    await world.settle(1200)


def outcome(world: Machines) -> dict[str, object]:
    """What matters of the end: no names of pods, no times."""
    status = world.status(names.KIND_TIER, "gold")
    return {
        "replicas": (world.asked(ON_DEMAND), world.asked(SPOT)),
        "mode": status["capacity"]["mode"],
        "interruptions": {key: status["interruptions"][key] for key in ("pods", "unrouted", "over", "ledger")},
        "pods": sorted(
            (str(pod["spec"]["nodeName"]).partition("-")[0], bool(world.note(pod["metadata"]["name"])))
            for pod in world.engine_pods()
        ),
        "routed": len(world.routed()),
        "residents": sorted(len(agent.resident) for agent in world.pods("gold").values()),
    }


async def test_the_play_without_a_crash_ends_as_it_should() -> None:
    world = Machines(spot=6)
    await play(world)
    assert outcome(world) == {
        "replicas": (1, 2),
        "mode": "Normal",
        "interruptions": {"pods": 0, "unrouted": 0, "over": True, "ledger": ""},
        "pods": [("od", False), ("spot", False), ("spot", False)],
        "routed": 3,
        "residents": [2, 2, 2],
    }
    assert sum(call.startswith("evict") for call in world.calls) == 2


@pytest.mark.timeout(600)  # some 10 s of CPU, but others may have most of it
@pytest.mark.parametrize("shard", range(SHARDS))
async def test_a_crash_around_any_call_of_an_interruption_changes_nothing_of_the_end(
    shard: int, capsys: pytest.CaptureFixture[str]
) -> None:
    calm = Machines(spot=6)
    await play(calm)
    wanted, calls = outcome(calm), list(calm.calls)
    mine = [number for number, call in enumerate(calls) if call.startswith(ABOUT)][shard::SHARDS]
    for number in mine:
        for when in ("before", "after"):
            world = Ending(number, when)
            await play(world)
            assert world.crashed, f"nothing crashed {when} call {number} ({calls[number]})"
            assert outcome(world) == wanted, f"a crash {when} call {number} ({calls[number]}) ends otherwise"
            world.api.forget_calls()
            world.look_again()
            await world.settle(60)
            assert world.writes() == [], f"a crash {when} call {number} ({calls[number]}) leaves work"
    with capsys.disabled():
        print(f"\n{len(calls)} mutating calls; crashed before and after {len(mine)} of them, always with the same end")


class Ending(Machines):
    """Its leader ends around one call from the moment of the first notice, and another process leads."""

    def __init__(self, number: int, when: str) -> None:
        self._number, self._when, self._armed = number, when, False
        super().__init__(spot=6)

    def mark(self, node: str, *taints: object, added: float | None = None) -> None:
        if not self._armed:
            self._armed = True
            self.end_at(self._number, self._when)
        super().mark(node, *taints, added=added)  # type: ignore[arg-type]

    def lead(self) -> None:
        if self.crashed:
            self._another()
        super().lead()

    def _another(self) -> None:
        """What it knows is what a first list told it; agents and gateways are heard a moment later."""
        self.forget_heard()
        self.hear_nodes()
