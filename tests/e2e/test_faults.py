"""What breaks is noticed, said, and mended, while the rest goes on serving."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from hack.stack.load import TAKEN_SECONDS, Ask, Load
from tests.e2e.world import ARCHETYPES, PROMPT, TIERS, World

ALL = [Ask(archetype=archetype, prompt=PROMPT, tier=tier) for tier in TIERS for archetype in ARCHETYPES]


async def test_a_killed_engine_is_said_to_be_gone_and_gets_its_adapters_back(world: World) -> None:
    pod = (await world.pods("bronze"))[0]
    await world.kill_engine(pod)
    await world.until_adapter("zombie", lambda seen: world.condition(seen, "Ready")["status"] == "False")
    await world.until_all_ready(timeout=600)
    line = await world.ask(Ask(archetype="zombie", prompt=PROMPT, tier="bronze"))
    assert line.failure == ""
    assert line.text == world.references["zombie", line.digest]
    assert (await world.pods("bronze"))[0]["metadata"]["uid"] == pod["metadata"]["uid"], (
        "the container was repaired, not the pod replaced"
    )


async def test_a_deleted_pod_is_replaced_and_serves_only_once_its_adapters_are_proven(world: World) -> None:
    pod = (await world.pods("silver"))[0]
    async with Load(world.url, world.key, [Ask(archetype="merchant", prompt=PROMPT, tier="gold")], rate=3) as load:
        await world.kubectl.delete("pod", pod["metadata"]["name"], world.namespace)
        await world.until_all_ready(timeout=600)
    world.assert_clean(load.tally)
    line = await world.ask(Ask(archetype="merchant", prompt=PROMPT, tier="silver"))
    assert line.failure == ""
    assert line.text == world.references["merchant", line.digest]
    assert (await world.pods("silver"))[0]["metadata"]["uid"] != pod["metadata"]["uid"]


async def test_killing_the_leader_in_the_middle_of_a_swap_loses_nothing(world: World, tmp_path: Path) -> None:
    old = await world.stable_digest("vampire", "gold")
    uri, new = await world.publish_copy("vampire", world.other_version("vampire", old), tmp_path)
    asks = [Ask(archetype="vampire", prompt=PROMPT, tier=tier) for tier in TIERS]
    async with Load(world.url, world.key, asks, rate=4) as load:
        await load.until(6)
        pod, leader = await world.leader()
        # No pod can get the new bytes yet, so this is the middle of the swap for as long as the test likes.
        async with await world.storage_frozen():
            await world.region.set_source("vampire", uri, new)
            await world.until_adapter("vampire", lambda seen: world.digests(seen, "candidate") == {new})
            await world.kill_operator(pod)
            seen = await world.kubectl.get("archetypeadapter", "vampire", world.namespace)
            assert world.digests(seen, "stable") == {old}
        await world.until_adapter_ready("vampire", new)
        taken = time.monotonic() + TAKEN_SECONDS
        await load.until_started_after(taken, len(asks))
    world.assert_clean(load.tally)
    assert {line.digest for line in load.tally.started_after(taken)} == {new}
    assert (await world.leader())[1] != leader


async def test_lines_go_on_while_the_api_server_is_away_for_a_minute(world: World) -> None:
    before = await world.nodes_ready_since()
    async with Load(world.url, world.key, ALL, rate=4) as load:
        await load.until(4)
        async with world.api_server_away():
            # A minute of lines at this rate, counted instead of slept.
            await load.until(240, timeout=400)
        await load.until(8)
    world.assert_clean(load.tally)
    await world.until_all_ready()
    # Else the cluster itself would take traffic from the pods of such a node, and the next tests would meet that.
    assert await world.nodes_ready_since() == before, "no node was taken for lost because nobody could hear it"


async def test_a_gateway_that_starts_anew_serves_without_operator_and_api_server(quiet: World) -> None:
    ask = Ask(archetype="vampire", prompt=PROMPT, tier="bronze")
    served = await quiet.stable_digest("vampire", "bronze")
    # The cluster's own proxy may learn of a new Service a while after the region is Ready, and not at all from now on.
    await quiet.until_answered(ask)
    await quiet.scale_operator(0)
    try:
        pid = await quiet.gateway_process()
        async with quiet.api_server_away():
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(60):
                while is_running(pid):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            # The kubelet starts the container again by itself; nothing else can bring the gateway its routes.
            line = await quiet.until_answered(ask)
    finally:
        await quiet.scale_operator(2)
    assert (line.status, line.digest) == (200, served)
    await quiet.until_all_ready()


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_an_operator_that_was_away_catches_up_with_what_it_missed(world: World) -> None:
    old = await world.stable_digest("merchant", "bronze")
    new = world.other_version("merchant", old)
    await world.scale_operator(0)
    try:
        await world.set_version("merchant", new)
        line = await world.ask(Ask(archetype="merchant", prompt=PROMPT, tier="bronze"))
        assert (line.failure, line.digest) == ("", old)
    finally:
        await world.scale_operator(2)
    await world.until_adapter_ready("merchant", new)
