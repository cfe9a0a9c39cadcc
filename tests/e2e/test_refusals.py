"""An adapter that is wrong is refused with its own reason, and the old one goes on speaking."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.stack.load import Ask, Load
from tests.e2e.world import HOSTILE, PROMPT, World


@pytest.mark.parametrize("name", sorted(HOSTILE))
async def test_a_hostile_adapter_is_refused_by_name_while_the_old_one_serves(
    world: World, name: str, tmp_path: Path
) -> None:
    ask = Ask(archetype="merchant", prompt=PROMPT, tier="bronze")
    old = await world.stable_digest("merchant", "bronze")
    uri, digest = await world.publish_hostile(name, tmp_path)
    async with Load(world.url, world.key, [ask], rate=4) as load:
        await world.set_source("merchant", "bronze", uri, digest)
        try:
            seen = await world.until_adapter(
                "merchant", lambda o: world.condition(o, "Stalled").get("status") == "True"
            )
            await load.until(4)
        finally:
            # To what served before: another version would begin a swap that the load's last lines could see.
            await world.set_version("merchant", old)
    stalled = world.condition(seen, "Stalled")
    assert stalled["reason"] == HOSTILE[name], stalled
    assert "bronze" in stalled["message"]
    assert world.condition(seen, "Ready")["status"] == "True"
    world.assert_clean(load.tally)
    assert set(load.tally.by_digest()) == {old}
    await world.until_all_ready()


async def test_bytes_that_changed_under_a_uri_are_refused_and_serve_nobody(world: World, tmp_path: Path) -> None:
    served = await world.stable_digest("zombie", "bronze")
    uri, digest = await world.publish_changed("zombie", tmp_path)
    await world.set_source("zombie", "bronze", uri, digest)
    try:
        seen = await world.until_adapter("zombie", lambda o: world.condition(o, "Stalled").get("status") == "True")
        line = await world.ask(Ask(archetype="zombie", prompt=PROMPT, tier="bronze"))
    finally:
        await world.set_version("zombie", served)
    assert world.condition(seen, "Stalled")["reason"] == "DigestMismatch"
    assert (line.failure, line.digest) == ("", served)
    await world.until_all_ready()


async def test_a_quota_that_refuses_pods_is_named_in_the_tiers_condition(world: World) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "full", "namespace": world.namespace},
        "spec": {"hard": {"pods": "1"}},
    }
    await world.kubectl.apply(quota)
    try:
        # Its status is written by a controller; from then on the API server counts, and no pod slips through before.
        await world.kubectl.until(
            "resourcequota",
            "full",
            world.namespace,
            lambda seen: seen.get("status", {}).get("hard") == {"pods": "1"},
            what="counted",
        )
        await world.scale("bronze", 2)
        seen = await world.until_tier("bronze", lambda o: world.condition(o, "Stalled").get("status") == "True")
        assert world.condition(seen, "Stalled")["reason"] == "QuotaExceeded"
        assert "full" in world.condition(seen, "Stalled")["message"]
        line = await world.ask(Ask(archetype="zombie", prompt=PROMPT, tier="bronze"))
        assert line.failure == ""
    finally:
        await world.kubectl.delete("resourcequota", "full", world.namespace)
        await world.scale("bronze", 1)
    await world.until_tier("bronze", lambda o: o["status"].get("replicas") == 1 and not world.condition(o, "Stalled"))
    await world.until_all_ready()
