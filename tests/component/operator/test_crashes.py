"""A leader may end at any moment: before and after every call that changes something, the end is the same."""

from __future__ import annotations

import pytest

from npc_operator.api import names
from npc_runtime.wire import served_name
from tests.component.operator.harness import CHILDREN, World
from tests.support.builders import NAMESPACE, digest, region, secret, tier
from tests.support.builders import at_once as adapter

KINDS = (*names.PLURALS, *CHILDREN, "Secret")
OLD, NEW = digest("vampire-1"), digest("vampire-2")


async def bring_up(world: World) -> None:
    world.put(secret("keys", {"game": "key-of-the-game"}))
    world.put(region(tiers={"gold": 100, "bronze": 60}, auth="keys"))
    world.put(tier("gold"))
    world.put(tier("bronze", spec={"capacity": {"onDemandBase": 0}}))
    world.put(adapter("vampire", digests={"gold": OLD, "bronze": digest("vampire-bronze")}))
    world.put(adapter("zombie"))
    await world.settle(seconds=10)


async def swap_and_scale(world: World) -> None:
    world.set_digest("vampire", NEW)
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(replicas=3))
    await world.settle(seconds=10)


async def lose_engine_keys(world: World) -> None:
    world.api.remove("Secret", NAMESPACE, names.SECRET_ENGINE_KEY)
    await world.settle(seconds=10)


async def rotate(world: World) -> None:
    annotations = {names.ANNOTATION_ROTATE_TOKEN: "1", names.ANNOTATION_ROTATE_ENGINE_KEY: "1"}
    world.clock.time += 3600
    world.edit(names.KIND_REGION, "eu-west", lambda live: live["metadata"].update(annotations=annotations))
    await world.settle(seconds=30)


async def play(world: World) -> None:
    await bring_up(world)
    await swap_and_scale(world)
    await lose_engine_keys(world)
    await rotate(world)
    # A leader that ended lost what it wanted to do; the resync that a new one begins with finds it.
    await world.settle(seconds=60)


def outcome(world: World) -> dict[str, object]:
    """What matters of the end: no uids, no times, no randomness, no history (a crash may repeat an entry's time)."""
    found: dict[str, object] = {}
    for manifest in (one for kind in KINDS for one in world.peek(kind)):
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind == "Secret":
            found[f"{kind}/{name}"] = sorted(manifest["data"])
        elif kind in names.PLURALS:
            status = manifest["status"]
            found[f"{kind}/{name}"] = (
                manifest["spec"],
                sorted((c["type"], c["status"], c["reason"]) for c in status["conditions"]),
                [
                    (v["tier"], v["stable"]["digest"], "candidate" in v, len(v["history"]))
                    for v in status.get("variants", ())
                ],
            )
        else:
            found[f"{kind}/{name}"] = manifest.get("spec")
    for tier_name in ("gold", "bronze"):
        found[f"pods of {tier_name}"] = sorted(sorted(agent.resident) for agent in world.pods(tier_name).values())
    found["routes"] = [(gateway.routes("gold"), gateway.routes("bronze")) for gateway in world.doors().values()]
    return found


async def test_the_play_without_a_crash_ends_as_it_should() -> None:
    world = World()
    await play(world)
    vampire, zombie = served_name("vampire", NEW), served_name("zombie", digest("zombie-1"))
    assert outcome(world)["pods of gold"] == [sorted((vampire, zombie))] * 3
    internal = world.live("Secret", names.SECRET_ENGINE_KEY)["data"]
    assert sorted(internal) == ["current", "key-2"]


SHARDS = 16


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_a_crash_around_any_call_changes_nothing_of_the_end(
    shard: int, capsys: pytest.CaptureFixture[str]
) -> None:
    calm = World()
    await play(calm)
    wanted, calls = outcome(calm), list(calm.calls)
    mine = range(shard, len(calls), SHARDS)
    for number in mine:
        for when in ("before", "after"):
            world = World()
            world.end_at(number, when)
            await play(world)
            assert world.crashed, f"nothing crashed {when} call {number} ({calls[number]})"
            assert outcome(world) == wanted, f"a crash {when} call {number} ({calls[number]}) ends otherwise"
            # Afterwards nothing is left to do.
            world.api.forget_calls()
            world.resync()
            await world.settle(seconds=60)
            assert world.writes() == [], f"a crash {when} call {number} ({calls[number]}) leaves work"
    with capsys.disabled():
        print(f"\n{len(calls)} mutating calls; crashed before and after {len(mine)} of them, always with the same end")
