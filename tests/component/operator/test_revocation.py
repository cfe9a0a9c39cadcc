"""A key that was taken out of its Secret is off every gateway within five seconds, and nothing restarts for it."""

from __future__ import annotations

from tests.component.operator.harness import World
from tests.support.builders import adapter, region, secret, tier

KEYS = {"game": "key-of-the-game", "tools": "key-of-the-tools"}


def known(world: World) -> list[set[str]]:
    """The keys that each gateway lets in."""
    return [{key.name for key in door.table.api_keys} for door in world.doors().values() if door.table]


async def test_a_revoked_key_is_off_every_gateway_within_five_seconds_and_the_others_stay() -> None:
    world = World()
    world.put(secret("keys", KEYS), region(auth="keys"), tier(), adapter())
    await world.settle()
    pods = set(world.doors())
    assert pods
    assert known(world) == [{"game", "tools"}] * len(pods)
    world.clock.time += 3600
    world.api.forget_calls()
    world.put(secret("keys", {"tools": KEYS["tools"]}))
    await world.settle(seconds=5)
    assert known(world) == [{"tools"}] * len(pods)
    assert set(world.doors()) == pods
    assert not [write for write in world.writes() if "Deployment" in write], "nothing is rolled for a key"


async def test_a_key_that_is_rotated_counts_beside_its_successor() -> None:
    world = World()
    world.put(secret("keys", KEYS), region(auth="keys"), tier(), adapter())
    await world.settle()
    world.put(secret("keys", {**KEYS, "game-2": "the next key of the game"}))
    await world.settle(seconds=5)
    assert known(world) == [{"game", "game-2", "tools"}] * len(world.doors())
