"""Who looks again after what: enough of them, and not everybody for everything."""

from __future__ import annotations

from dataclasses import replace

from npc_operator.domain.facts import Adapter, AgentFact, Pod, Tier
from npc_operator.domain.holdings import follow
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.loop.store import Change
from npc_operator.reconcilers import triggers
from npc_runtime.wire import AdapterPhase
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, adapter_fact, digest, region, report, tier
from tests.support.builders import at_once as adapter


async def settled() -> World:
    world = World()
    world.put(region(tiers={"gold": 100, "silver": 50}), tier(), tier("silver"))
    world.put(adapter("vampire"), adapter("zombie", digests={"silver": digest("zombie-1")}))
    await world.settle()
    return world


def keys(world: World, change: Change) -> set[Key]:
    return set(triggers(world.store, change))


def of_kind(found: set[Key], kind: KeyKind) -> set[str]:
    return {key.name for key in found if key.kind is kind}


async def test_every_key_there_is_comes_from_looking_at_everything() -> None:
    world = await settled()
    found: set[Key] = set()
    for kind in world.store.kinds():
        for namespace, name, fact in world.store.items(kind):
            found |= keys(world, Change(kind, namespace, name, None, fact))
    assert of_kind(found, KeyKind.NAMESPACE) == {""}
    assert of_kind(found, KeyKind.REGION) == of_kind(found, KeyKind.ROUTES) == {"eu-west"}
    assert of_kind(found, KeyKind.TIER) == {"gold", "silver"}
    assert of_kind(found, KeyKind.ADAPTER) == {"vampire", "zombie"}
    assert of_kind(found, KeyKind.AGENT) == {*world.pods("gold"), *world.pods("silver")}
    assert of_kind(found, KeyKind.GATEWAY) == set(world.doors())


async def test_a_changed_digest_wakes_the_pods_of_its_tier_at_once_and_no_others() -> None:
    world = await settled()
    old = world.store.get(Adapter, NAMESPACE, "vampire")
    assert old is not None
    new = replace(adapter_fact("vampire", digests={"gold": digest("vampire-2")}), meta=old.meta, status=old.status)
    found = keys(world, Change(Adapter, NAMESPACE, "vampire", old, new))
    assert of_kind(found, KeyKind.AGENT) == set(world.pods("gold"))
    assert of_kind(found, KeyKind.ADAPTER) == {"vampire"}


async def test_a_published_count_wakes_nobody_but_its_own_key() -> None:
    world = await settled()
    old = world.store.get(Adapter, NAMESPACE, "vampire")
    assert old is not None
    status = old.status.model_copy(update={"ready_variants": "0/1"})
    found = keys(world, Change(Adapter, NAMESPACE, "vampire", old, replace(old, status=status)))
    assert found == {Key(KeyKind.ADAPTER, NAMESPACE, "vampire")}


async def test_a_tiers_status_wakes_the_region_only_when_its_readiness_flips() -> None:
    world = await settled()
    old = world.store.get(Tier, NAMESPACE, "gold")
    assert old is not None
    more = replace(old, status=old.status.model_copy(update={"replicas": 9}))
    assert keys(world, Change(Tier, NAMESPACE, "gold", old, more)) == {Key(KeyKind.TIER, NAMESPACE, "gold")}
    unready = replace(old, status=old.status.model_copy(update={"conditions": ()}))
    assert of_kind(keys(world, Change(Tier, NAMESPACE, "gold", old, unready)), KeyKind.REGION) == {"eu-west"}


async def test_progress_of_one_adapter_on_one_pod_wakes_no_adapter() -> None:
    world = await settled()
    name = next(iter(world.pods("gold")))
    fact = world.store.get(AgentFact, NAMESPACE, name)
    assert fact is not None

    def after(known: AgentFact, phase: AdapterPhase) -> AgentFact:
        return replace(known, adapters=follow(known.adapters, [report("vampire", digest("2"), phase)], ()))

    old = after(fact, AdapterPhase.FETCHING)
    found = keys(world, Change(AgentFact, NAMESPACE, name, old, after(old, AdapterPhase.LOADING)))
    assert found == set()

    found = keys(world, Change(AgentFact, NAMESPACE, name, old, after(old, AdapterPhase.RESIDENT)))
    assert of_kind(found, KeyKind.ADAPTER) == {"vampire"}
    assert of_kind(found, KeyKind.ROUTES) == {"eu-west"}
    assert of_kind(found, KeyKind.TIER) == {"gold"}


async def test_a_pod_that_goes_wakes_whoever_counted_on_it() -> None:
    world = await settled()
    name = next(iter(world.pods("gold")))
    pod = world.store.get(Pod, NAMESPACE, name)
    found = keys(world, Change(Pod, NAMESPACE, name, pod, None))
    assert of_kind(found, KeyKind.TIER) == {"gold"}
    assert of_kind(found, KeyKind.ADAPTER) == {"vampire"}
    assert of_kind(found, KeyKind.NAMESPACE) == {""}
    assert of_kind(found, KeyKind.GATEWAY) == set(world.doors())


async def test_a_silent_watch_never_makes_the_same_move_twice() -> None:
    world = await settled()
    # The reconciler sees its own status only after the watch brings it; meanwhile it must not decide from the old one.
    world.set_digest("vampire", digest("vampire-2"))
    world.delivering = False
    await world.settle(seconds=20)
    for _ in range(3):
        world.queue.add(Key(KeyKind.ADAPTER, NAMESPACE, "vampire"))
        await world.settle(seconds=5)
    world.delivering = True
    world.resync()
    await world.settle()
    assert [entry["digest"] for entry in world.variant("vampire")["history"]] == [
        digest("vampire-2"),
        digest("vampire-1"),
    ]
    moves = [message for _, reason, message in world.recorder.events if reason == "TrafficMoved"]
    assert len([message for message in moves if " from " in message]) == 1
