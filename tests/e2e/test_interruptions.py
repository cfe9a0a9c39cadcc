"""A spot node is taken away under lines of real vLLM: with two minutes of notice, with 25 s, without any, with nobody
to decide about it. Lines go on; those that were under way on a machine that is gone say so.

One node and one region for all of it. The crowd beside it are fake engines that answer slowly, so that some of their
lines are always under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest_asyncio

from hack.cluster import api
from hack.stack import commands, regions
from hack.stack.audit import AuditLog
from hack.stack.install import Stack
from hack.stack.kubectl import Object
from hack.stack.load import Ask, Line, Load
from hack.stack.references import References
from npc_operator.api import names
from tests.e2e import leaving
from tests.e2e.plans import (
    ARCHETYPES,
    CROWD,
    CROWD_REPLICAS,
    MAX_TOKENS,
    PROMPT,
    RESERVE,
    SPOT_LABEL,
    VERSIONS,
    spot_region,
)
from tests.e2e.trials import said_by
from tests.e2e.world import World
from tests.support.fake_engine import one_file

NODE = "spot-2"
NAMESPACE = "spot"
RATE = 20.0
AWAY_SECONDS = 1.0
"""After a decision, or after a machine fell silent, new lines are elsewhere."""
COVERED_SECONDS = 10.0
DECIDED_SECONDS = 3.0
ENGINES = f"{names.LABEL_COMPONENT}={names.COMPONENT_ENGINE}"
FLOOR = f"{CROWD}-{names.SLICE_ON_DEMAND}"
"""The crowd's on-demand Deployment."""
ON_SPOT = sorted(["bronze", CROWD, CROWD])
"""Tiers of the pods on the node when all is well."""
BACK_SECONDS = 300.0
"""A real engine's start on a machine that does everything else as well."""


@dataclass(frozen=True, slots=True)
class Place:
    """The region, and the audit log since it was made."""

    world: World
    audit: AuditLog


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(stack: Stack, answers: References) -> AsyncIterator[Place]:
    # What an earlier run left behind may be in the middle of one of these stories.
    await regions.uninstall(stack.kubectl, stack.helm, NAMESPACE, NAMESPACE)
    taint = f"{SPOT_LABEL}=yes:NoSchedule"
    await commands.run_tool("hack.cluster", "node", "add", NODE, "--label", f"{SPOT_LABEL}=yes", "--taint", taint)
    world = World(stack, await regions.install(stack, spot_region(stack, NAMESPACE), fake_engine=one_file()), answers)
    audit = AuditLog(world.audit_log)
    for archetype in ARCHETYPES:
        fake = VERSIONS[archetype][1]
        world.references[archetype, stack.adapter(fake)[1]] = said_by(stack.catalog.adapter(fake))
    await world.until_all_ready(timeout=600)
    await until_on_spot(world)
    yield Place(world, audit)
    await commands.run_tool("hack.cluster", "node", "remove", NODE)
    await regions.uninstall(stack.kubectl, stack.helm, NAMESPACE, NAMESPACE)


@contextlib.asynccontextmanager
async def spoken(world: World) -> AsyncIterator[tuple[Load, Load]]:
    """Lines to the real tier and to the crowd, under way before the block begins and after its end."""
    bronze = [Ask(archetype=archetype, prompt=PROMPT, tier="bronze", max_tokens=MAX_TOKENS) for archetype in ARCHETYPES]
    crowd = [Ask(archetype=archetype, prompt=PROMPT, tier=CROWD, max_tokens=MAX_TOKENS) for archetype in ARCHETYPES]
    async with (
        Load(world.url, world.key, bronze, rate=RATE, spread=True) as real,
        Load(world.url, world.key, crowd, rate=RATE / 2, spread=True) as many,
    ):
        await asyncio.gather(real.until(int(RATE)), many.until(int(RATE / 2)))
        yield real, many
        now = time.monotonic()
        await asyncio.gather(real.until_started_after(now, int(RATE)), many.until_started_after(now, int(RATE / 2)))


async def spot_pods(world: World, tier: str) -> list[Object]:
    """The tier's pods on the node that goes."""
    return [pod for pod in await world.region.engine_pods(tier) if pod["spec"].get("nodeName") == NODE]


async def until_node_is_empty(world: World, *, timeout: float) -> None:
    """No engine pod of the region is on the node any more."""
    async with asyncio.timeout(timeout):
        while pods := [*await spot_pods(world, "bronze"), *await spot_pods(world, CROWD)]:
            await world.kubectl.until_gone("pod", pods[0]["metadata"]["name"], NAMESPACE, timeout=timeout)


async def until_back(world: World) -> None:
    """The node is well again, all its pods are Ready, the crowd's storm is over, and bronze is answered from there."""
    await asyncio.to_thread(api.revive_node, NODE)
    await until_on_spot(world)
    await world.until_served_by_pods(Ask(archetype="vampire", prompt=PROMPT, tier="bronze"), 2, timeout=BACK_SECONDS)


async def until_nobody_decides(world: World) -> None:
    """The operator is not there, and the crowd's on-demand pods alone are as many as it wants: its budget forbids no
    eviction on the node, for which nobody would make room."""
    await world.scale_operator(0)
    # Looked at now, as nothing changes any more.
    if not _stands_in(await world.kubectl.get("deployment", FLOOR, NAMESPACE)):
        await world.scale_operator(2)
        await asyncio.to_thread(api.give_notice, NODE, seconds=120, source="nth")
        await world.kubectl.until("deployment", FLOOR, NAMESPACE, _stands_in, timeout=120)
        await until_node_is_empty(world, timeout=180)
        await until_back(world)
        await world.scale_operator(0)


def _stands_in(deployment: Object) -> bool:
    return int(deployment["status"].get("readyReplicas", 0)) >= CROWD_REPLICAS


async def until_on_spot(world: World) -> None:
    """All pods that belong on the node are Ready there."""
    ready: dict[str, str] = {}
    async with asyncio.timeout(BACK_SECONDS):
        while sorted(ready.values()) != ON_SPOT:
            ready.clear()
            # A watch that ends by itself proves nothing: then another begins.
            async with contextlib.aclosing(world.kubectl.watch("pods", NAMESPACE, "-l", ENGINES)) as events:
                async for type_, pod in events:
                    if type_ != "DELETED" and _serves_there(world, pod):
                        ready[pod["metadata"]["uid"]] = pod["metadata"]["labels"][names.LABEL_TIER]
                    else:
                        ready.pop(pod["metadata"]["uid"], None)
                    if sorted(ready.values()) == ON_SPOT:
                        break


def _serves_there(world: World, pod: Object) -> bool:
    is_ready = world.condition(pod, "Ready").get("status") == "True"
    return is_ready and pod["spec"].get("nodeName") == NODE and not pod["metadata"].get("deletionTimestamp")


def mode(tier: Object) -> str:
    return str(tier["status"].get("capacity", {}).get("mode", ""))


def assert_within(seconds: float, given: float, at: float | None) -> None:
    """What was to happen after a notice did, and so soon."""
    assert at is not None
    assert at - given <= seconds


def assert_only_those_under_way_failed(load: Load, begun: float, gone: float) -> None:
    """A machine ended between `begun` and `gone` (time.monotonic()): a line failed only if it was under way then, and
    was told so; new lines went elsewhere."""
    for line in load.tally.failures:
        assert line.started <= gone + AWAY_SECONDS, (line.started - gone, line)
        assert line.ended >= begun, line
        assert leaving.is_explicit(line), line.failure
    later = load.tally.started_after(gone + AWAY_SECONDS)
    assert later
    slowest = max(later, key=_took)
    assert _took(slowest) < 4.0, f"a line that began {slowest.started - gone:.1f} s later took {_took(slowest):.1f} s"


def _took(line: Line) -> float:
    return line.ended - line.started


async def test_two_minutes_of_notice_cost_no_line_and_bring_an_on_demand_pod(place: Place) -> None:
    world = place.world
    (pod,) = await spot_pods(world, "bronze")
    async with spoken(world) as (real, many), leaving.watched(world, pod) as seen:
        storm = asyncio.create_task(world.until_tier(CROWD, lambda tier: mode(tier) == "Storm", timeout=60))
        given = time.time()
        await asyncio.to_thread(api.give_notice, NODE, seconds=120, source="nth")
        await world.until_tier("bronze", lambda tier: mode(tier) == "Fallback", timeout=60)
        record = await seen.until_gone(timeout=240)
        await storm
        await until_node_is_empty(world, timeout=120)
        # Nobody is there any more that its owner's patience would serve.
        await asyncio.to_thread(api.kill_node, NODE)
    await until_back(world)
    for load in (real, many):
        world.assert_answered(load.tally)
    assert_within(DECIDED_SECONDS, given, record.replaced)
    assert_within(120, given, record.evicted)
    assert seen.begun_after((record.unrouted or 0) + AWAY_SECONDS) == 0
    assert {line.tier for line in real.tally.lines} <= {"bronze", RESERVE}


async def test_a_machine_that_falls_silent_costs_the_lines_under_way_there_and_no_other(place: Place) -> None:
    world = place.world
    async with spoken(world) as (real, many):
        begun = time.monotonic()
        await asyncio.to_thread(api.silence_node, NODE)
        gone = time.monotonic()
        for load in (real, many):
            await load.until_started_after(gone + AWAY_SECONDS, int(3 * RATE))
    await until_back(world)
    for load in (real, many):
        assert_only_those_under_way_failed(load, begun, gone)


async def test_25_seconds_of_notice_cost_no_line(place: Place) -> None:
    world = place.world
    (pod,) = await spot_pods(world, "bronze")
    async with spoken(world) as (real, many), leaving.watched(world, pod) as seen:
        given = time.time()
        await asyncio.to_thread(api.give_notice, NODE, seconds=25, source="aks")
        record = await seen.until_gone(timeout=90)
        await until_node_is_empty(world, timeout=60)
        await asyncio.to_thread(api.kill_node, NODE)
    await until_back(world)
    for load in (real, many):
        world.assert_answered(load.tally)
    assert_within(DECIDED_SECONDS, given, record.unrouted)
    assert_within(COVERED_SECONDS, given, record.covered)
    assert_within(25, given, record.evicted)
    assert seen.begun_after((record.unrouted or 0) + AWAY_SECONDS) == 0


async def test_a_drain_with_nobody_to_decide_costs_no_line(place: Place) -> None:
    world = place.world
    try:
        await until_nobody_decides(world)
        (pod,) = await spot_pods(world, "bronze")
        async with spoken(world) as (real, many), leaving.watched(world, pod) as seen:
            await asyncio.to_thread(api.give_notice, NODE, seconds=25, source="nth")
            assert await asyncio.to_thread(api.drain_node, NODE, seconds=60)
            await asyncio.wait_for(seen.gone.wait(), 60)
    finally:
        await world.scale_operator(2)
    await until_back(world)
    for load in (real, many):
        world.assert_answered(load.tally)
    assert seen.draining, "kubelet ran the hook, and the agent said so"
    assert seen.begun_after(seen.draining + AWAY_SECONDS) == 0


async def test_a_machine_that_ends_without_notice_costs_the_lines_under_way_there_and_no_other(place: Place) -> None:
    world = place.world
    async with spoken(world) as (real, many):
        begun = time.monotonic()
        await asyncio.to_thread(api.kill_node, NODE)
        gone = time.monotonic()
        for load in (real, many):
            await load.until_started_after(gone + AWAY_SECONDS, int(3 * RATE))
    for load in (real, many):
        assert_only_those_under_way_failed(load, begun, gone)


async def test_the_floor_was_there_all_the_time(place: Place) -> None:
    """By the audit log: the crowd's on-demand Deployment was neither deleted nor told to have less, and
    no pod of it was ended."""
    asked = [seen for seen in place.audit.writes("npc-operator") if seen.namespace == NAMESPACE]
    wanted = [seen.replicas for seen in asked if seen.resource == "deployments" and seen.name == FLOOR]
    assert max(one for one in wanted if one is not None) == CROWD_REPLICAS, f"a storm takes all on demand: {wanted}"
    assert min(one for one in wanted if one is not None) >= 1, wanted
    assert not [seen for seen in asked if seen.resource == "deployments" and seen.verb.startswith("delete")]
    ended = [
        seen.name for seen in asked if seen.resource in ("pods", "pods/eviction") and seen.verb in ("create", "delete")
    ]
    assert ended, "the operator evicted what had drained"
    assert not [name for name in ended if name.startswith(FLOOR)]
