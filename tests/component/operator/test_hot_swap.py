"""A new digest: loaded beside the old one, proven everywhere, published, routed, and only then the old one goes."""

from __future__ import annotations

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.conditions import rfc3339
from npc_operator.domain.doors import GONE_MARGIN_SECONDS
from npc_operator.domain.facts import AgentFact, SecretFact
from npc_operator.ports import PortError
from npc_operator.reconcilers import routes
from npc_operator.reconcilers.route_tables import read_routes
from npc_runtime.wire import AdapterPhase, EngineState, served_name
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, digest, region, secret, tier
from tests.support.builders import at_once as adapter
from tests.support.fake_agents import LOADING, PROVEN, Verdict

OLD, NEW, OTHER = digest("vampire-1"), digest("vampire-2"), digest("vampire-3")
OLD_NAME, NEW_NAME, OTHER_NAME = (served_name("vampire", value) for value in (OLD, NEW, OTHER))


async def region_with_vampire(**more: object) -> World:
    world = World()
    world.put(region(tiers={"gold": 100}))
    world.put(tier("gold"))
    world.put(adapter("vampire", digests={"gold": OLD}, spec=more))
    await world.settle()
    return world


def routed(world: World) -> set[str]:
    return {gateway.routes("gold")["vampire"] for gateway in world.doors().values()}


async def test_a_new_digest_takes_over_and_the_old_one_goes() -> None:
    world = await region_with_vampire()

    world.set_digest("vampire", NEW)
    await world.settle()

    assert routed(world) == {NEW_NAME}
    assert all(set(agent.resident) == {NEW_NAME} for agent in world.pods("gold").values())
    variant = world.variant("vampire")
    assert variant["stable"]["digest"] == NEW
    assert "candidate" not in variant
    assert [entry["digest"] for entry in variant["history"]] == [NEW, OLD]
    assert variant["history"][0]["previous"] == OLD
    assert "TrafficMoved" in world.recorder.reasons("vampire")


async def test_every_agent_held_both_digests_until_the_gateways_had_moved() -> None:
    world = await region_with_vampire()
    world.set_digest("vampire", NEW)
    await world.settle()
    for agent in world.pods("gold").values():
        steps = [set(step) for step in agent.history]
        assert steps[-1] == {NEW_NAME}
        assert {OLD_NAME, NEW_NAME} in steps
        # From the old one alone to both to the new one alone, never without any.
        assert all(step & {OLD_NAME, NEW_NAME} for step in steps if step)


async def test_the_old_digest_stays_while_one_gateway_has_not_moved() -> None:
    world = await region_with_vampire()
    slow = next(iter(world.doors().values()))
    slow.deaf = True
    world.set_digest("vampire", NEW)
    await world.settle(seconds=30)
    assert all(set(agent.resident) == {OLD_NAME, NEW_NAME} for agent in world.pods("gold").values())

    slow.deaf = False
    await world.settle(seconds=60)

    assert routed(world) == {NEW_NAME}
    assert all(set(agent.resident) == {NEW_NAME} for agent in world.pods("gold").values())


async def test_no_traffic_moves_on_words_that_are_older_than_the_order_to_let_go() -> None:
    world = await region_with_vampire()
    door, pods = next(iter(world.doors().values())), world.pods("gold").values()
    door.deaf = True
    world.set_digest("vampire", NEW)
    await world.settle(seconds=30)
    assert all(set(agent.resident) == {OLD_NAME, NEW_NAME} for agent in pods)
    # From here on nobody hears that the old one went, and it takes a while to come back.
    for agent in pods:
        agent.late = True
        agent.verdicts[OLD_NAME] = LOADING
    door.deaf = False
    await world.settle(seconds=30)
    assert all(set(agent.resident) == {NEW_NAME} for agent in pods)

    world.set_digest("vampire", OLD)
    await world.settle(seconds=5)
    assert routed(world) == {NEW_NAME}
    assert all(OLD_NAME in agent.history[-1] for agent in pods)
    for agent in pods:
        agent.late = False
    await world.settle(seconds=5)
    assert routed(world) == {NEW_NAME}

    for agent in pods:
        agent.verdicts[OLD_NAME] = PROVEN
        agent.work()
    await world.settle()
    assert routed(world) == {OLD_NAME}


async def test_what_was_wanted_back_before_it_went_is_taken_at_once_when_the_agents_say_so() -> None:
    world = await region_with_vampire()
    door, pods = next(iter(world.doors().values())), world.pods("gold").values()
    door.deaf = True
    world.set_digest("vampire", NEW)
    await world.settle(seconds=30)
    for agent in pods:
        agent.late = True
    door.deaf = False
    await world.settle(seconds=30)
    world.set_digest("vampire", OLD)
    await world.settle(seconds=5)
    assert routed(world) == {NEW_NAME}

    # Their next words differ from the last in nothing but the order they answer.
    for agent in pods:
        agent.late = False
    await world.settle(seconds=1)
    assert routed(world) == {OLD_NAME}


async def test_what_is_wanted_back_after_an_order_that_nobody_answered_is_ordered_again() -> None:
    world = await region_with_vampire()
    for agent in world.pods("gold").values():
        agent.verdicts[NEW_NAME] = LOADING
    world.set_digest("vampire", NEW)
    await world.settle(seconds=10)

    def lose(what: str) -> None:
        if what.startswith("push desired"):
            raise PortError("no answer in time")

    world.agents.before = lose
    world.set_digest("vampire", OLD)
    await world.settle(seconds=0.5)
    world.agents.before = lambda what: None
    world.set_digest("vampire", NEW)
    for agent in world.pods("gold").values():
        agent.verdicts[NEW_NAME] = PROVEN
        agent.work()
    await world.settle()
    assert routed(world) == {NEW_NAME}


async def test_one_pod_that_has_not_proven_it_holds_the_move() -> None:
    world = await region_with_vampire()
    pods = world.pods("gold")
    slow = next(iter(pods.values()))
    slow.verdicts[NEW_NAME] = LOADING
    world.set_digest("vampire", NEW)
    await world.settle(seconds=30)

    assert routed(world) == {OLD_NAME}
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"
    assert world.said(names.KIND_ADAPTER, "vampire", "Reconciling")[:2] == ("True", reasons.LOADING)

    del slow.verdicts[NEW_NAME]
    slow.work()
    await world.settle()
    assert routed(world) == {NEW_NAME}
    assert world.said(names.KIND_ADAPTER, "vampire", "Reconciling") == ("", "", "")


async def test_a_pod_that_refuses_holds_the_move_and_is_named_at_once() -> None:
    world = await region_with_vampire()
    name, pod = next(iter(world.pods("gold").items()))
    pod.verdicts[NEW_NAME] = Verdict(AdapterPhase.REFUSED, "DigestMismatch", "the folder has another digest")
    world.set_digest("vampire", NEW)
    await world.settle(seconds=2)

    status, reason, message = world.said(names.KIND_ADAPTER, "vampire", "Stalled")
    assert (status, reason) == ("True", "DigestMismatch")
    assert name in message
    assert "another digest" in message
    assert routed(world) == {OLD_NAME}
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"
    assert world.recorder.reasons("vampire").count("DigestMismatch") == 1


async def test_a_pod_that_is_late_holds_the_move_and_is_named_after_the_timeout() -> None:
    world = await region_with_vampire(rollout={"loadTimeoutSeconds": 30})
    name, pod = next(iter(world.pods("gold").items()))
    pod.verdicts[NEW_NAME] = Verdict(AdapterPhase.RETRYING, "Unreachable", "the bucket does not answer")
    world.set_digest("vampire", NEW)
    await world.settle(seconds=25)
    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled") == ("", "", "")

    await world.settle(seconds=10)

    status, reason, message = world.said(names.KIND_ADAPTER, "vampire", "Stalled")
    assert (status, reason) == ("True", reasons.LOAD_TIMEOUT)
    assert name in message
    assert "the bucket does not answer" in message
    assert routed(world) == {OLD_NAME}


async def test_going_back_to_the_stable_digest_cancels_the_rollout() -> None:
    world = await region_with_vampire()
    for pod in world.pods("gold").values():
        pod.verdicts[NEW_NAME] = LOADING
    world.set_digest("vampire", NEW)
    await world.settle(seconds=10)
    world.set_digest("vampire", OLD)
    await world.settle()

    assert "candidate" not in world.variant("vampire")
    assert all(set(agent.resident) == {OLD_NAME} for agent in world.pods("gold").values())
    assert all(NEW_NAME not in agent.history[-1] for agent in world.pods("gold").values())
    assert "RolloutCancelled" in world.recorder.reasons("vampire")
    assert len(world.variant("vampire")["history"]) == 1


async def test_another_digest_in_the_middle_replaces_the_candidate() -> None:
    world = await region_with_vampire()
    for pod in world.pods("gold").values():
        pod.verdicts[NEW_NAME] = LOADING
    world.set_digest("vampire", NEW)
    await world.settle(seconds=10)
    world.set_digest("vampire", OTHER)
    await world.settle()

    assert routed(world) == {OTHER_NAME}
    assert all(set(agent.resident) == {OTHER_NAME} for agent in world.pods("gold").values())


async def test_a_pod_whose_engine_is_not_ready_does_not_hold_the_move() -> None:
    world = await region_with_vampire()
    down = next(iter(world.pods("gold").values()))
    down.restart_engine()
    await world.settle(seconds=5)
    world.set_digest("vampire", NEW)
    await world.settle(seconds=5)
    assert routed(world) == {NEW_NAME}
    table = next(iter(world.doors().values())).table
    assert table is not None
    assert [endpoint.address for endpoint in table.tiers[0].endpoints] == [
        pod.address for pod in world.pods("gold").values() if pod is not down
    ]

    down.engine_ready(world.clock.now())
    await world.settle()
    assert set(down.resident) == {NEW_NAME}
    table = next(iter(world.doors().values())).table
    assert table is not None
    assert [endpoint.resident for endpoint in table.tiers[0].endpoints] == [(NEW_NAME,), (NEW_NAME,)]


async def test_a_killed_engine_is_off_the_routes_and_out_of_the_status() -> None:
    world = await region_with_vampire()
    for pod in world.pods("gold").values():
        pod.restart_engine()
    await world.settle(seconds=2)

    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "False"
    assert world.variant("vampire")["residentReplicas"] == 0
    table = next(iter(world.doors().values())).table
    assert table is not None
    assert table.tiers[0].endpoints == ()


async def test_a_lost_status_is_taken_up_again_from_what_the_pods_serve() -> None:
    world = await region_with_vampire()
    for pod in world.pods("gold").values():
        pod.verdicts[NEW_NAME] = LOADING
    world.set_digest("vampire", NEW)
    await world.settle(seconds=10)
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live.update(status={}))
    world.lead()
    await world.settle(seconds=10)

    assert world.variant("vampire")["stable"]["digest"] == OLD
    assert world.variant("vampire")["history"][0]["reason"] == reasons.ADOPTED
    assert routed(world) == {OLD_NAME}
    assert all(OLD_NAME in agent.resident for agent in world.pods("gold").values())


async def test_a_new_leader_goes_on_with_a_rollout_in_the_middle() -> None:
    world = await region_with_vampire()
    slow = next(iter(world.pods("gold").values()))
    slow.verdicts[NEW_NAME] = LOADING
    world.set_digest("vampire", NEW)
    await world.settle(seconds=10)
    since = world.variant("vampire")["candidateSince"]
    world.lead()
    await world.settle(seconds=10)
    assert world.variant("vampire")["candidateSince"] == since
    assert routed(world) == {OLD_NAME}

    slow.verdicts.clear()
    slow.work()
    await world.settle()
    assert routed(world) == {NEW_NAME}
    assert all(set(agent.resident) == {NEW_NAME} for agent in world.pods("gold").values())


async def test_an_agent_that_is_not_heard_is_not_held_against_its_pod() -> None:
    world = await region_with_vampire()
    for pod in world.pods("gold").values():
        pod.deaf = True
    await world.settle(seconds=30)
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"
    table = next(iter(world.doors().values())).table
    assert table is not None
    assert len(table.tiers[0].endpoints) == 2


async def test_nothing_is_pushed_to_an_agent_that_is_not_heard_until_it_is() -> None:
    """A push that can only time out would keep others from running."""
    world = await region_with_vampire()
    address, silent = next(iter(world.agents.by_address.items()))
    silent.deaf = True
    await world.settle(seconds=5)
    tried: list[str] = []
    world.agents.before = tried.append
    world.set_digest("vampire", NEW)
    await world.settle(seconds=20)
    assert tried
    assert f"push desired to {address}" not in tried
    silent.deaf = False
    await world.settle()
    assert f"push desired to {address}" in tried
    assert all(set(agent.resident) == {NEW_NAME} for agent in world.pods("gold").values())


async def test_a_new_leader_that_hears_no_agent_takes_no_pod_off_the_routes() -> None:
    world = await region_with_vampire()
    for pod in world.pods("gold").values():
        pod.deaf = True
    for name in list(world.pods("gold")):
        world.store.drop(AgentFact, NAMESPACE, name)
    world.lead()
    await world.settle(seconds=30)
    for gateway in world.doors().values():
        assert gateway.table is not None
        assert [endpoint.resident for endpoint in gateway.table.tiers[0].endpoints] == [None, None]
        assert gateway.routes("gold") == {"vampire": OLD_NAME}


async def test_a_pod_that_joins_gets_everything_before_it_counts() -> None:
    world = await region_with_vampire()
    world.pods_become_ready = False
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(replicas=3))
    await world.settle(seconds=10)
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"
    joined = next(pod for pod in world.pods("gold").values() if pod.state is not EngineState.READY)
    joined.engine_ready(world.clock.now())
    await world.settle()
    assert set(joined.resident) == {OLD_NAME}
    assert world.variant("vampire")["residentReplicas"] == 3


async def test_what_a_slow_gateway_still_uses_serves_on_until_it_has_moved() -> None:
    world = await region_with_vampire()
    slow = next(iter(world.doors().values()))
    slow.deaf = True
    world.set_digest("vampire", NEW)
    await world.settle(seconds=30)
    assert slow.routes("gold") == {"vampire": OLD_NAME}
    # Asked for again only to be left alone: an agent that refuses that would take it off the routes.
    assert all(OLD_NAME in agent.resident for agent in world.pods("gold").values())
    assert all("Refused" not in [one.phase for one in agent.report().adapters] for agent in world.pods("gold").values())


async def test_routes_that_outgrow_their_secret_are_said_and_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await region_with_vampire()
    monkeypatch.setattr(routes, "ROUTES_SECRET_MAX_BYTES", 100)
    world.api.forget_calls()
    world.set_digest("vampire", NEW)
    await world.settle(seconds=60)
    assert world.said(names.KIND_REGION, "eu-west", "Stalled")[:2] == ("True", reasons.ROUTES_TOO_LARGE)
    assert world.said(names.KIND_REGION, "eu-west", "Ready")[0] == "True"
    assert routed(world) == {NEW_NAME}
    assert world.writes_of("Secret") == 0
    assert all(OLD_NAME in agent.resident for agent in world.pods("gold").values()), "the Secret still names it"

    monkeypatch.undo()
    world.set_digest("vampire", OTHER)
    await world.settle(seconds=60)
    assert world.said(names.KIND_REGION, "eu-west", "Stalled") == ("", "", "")
    assert all(set(agent.resident) == {OTHER_NAME} for agent in world.pods("gold").values())


async def test_routes_that_never_fitted_pin_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "ROUTES_SECRET_MAX_BYTES", 100)
    world = await region_with_vampire()
    world.set_digest("vampire", NEW)
    await world.settle(seconds=60)
    assert all(set(agent.resident) == {NEW_NAME} for agent in world.pods("gold").values())


async def test_what_a_starting_gateway_would_read_stays_resident_until_the_secret_is_written_anew() -> None:
    world = await region_with_vampire()
    third = digest("third")
    world.set_digest("vampire", NEW)
    await world.settle(seconds=1)
    world.set_digest("vampire", third)
    await world.settle(seconds=2)
    # The Secret is written at most every 5 seconds, so it is one move behind.
    assert routed(world) == {served_name("vampire", third)}
    kept = read_routes(world.live("Secret", "eu-west-routes"))
    assert kept is not None
    assert [target.served_name for alias in kept.aliases for target in alias.targets] == [NEW_NAME]
    assert all(NEW_NAME in agent.resident for agent in world.pods("gold").values())
    await world.settle(seconds=10)
    assert all(set(agent.resident) == {served_name("vampire", third)} for agent in world.pods("gold").values())


async def test_a_gateway_on_a_node_that_died_is_named_and_holds_nothing_for_ever() -> None:
    world = await region_with_vampire()
    name, dead = next(iter(world.doors().items()))
    end = world.clock.time + 100
    world.api.edit("Pod", NAMESPACE, name, lambda live: live["spec"].update(nodeName="node-7"))
    world.api.edit("Pod", NAMESPACE, name, lambda live: live["metadata"].update(deletionTimestamp=rfc3339(end)))
    world.pod_status(name, conditions=[{"type": "Ready", "status": "False"}])
    dead.deaf = True
    world.set_digest("vampire", NEW)
    await world.settle(seconds=30)
    status, reason, message = world.said(names.KIND_REGION, "eu-west", "Reconciling")
    assert (status, reason) == ("True", reasons.GATEWAY_SILENT)
    assert f"gateway pod {name} on node node-7 has not answered since" in message
    await world.settle(seconds=end + GONE_MARGIN_SECONDS - world.clock.time - 5)
    assert all(OLD_NAME in agent.resident for agent in world.pods("gold").values()), "it may be there until then"
    await world.settle(seconds=30)
    assert all(set(agent.resident) == {NEW_NAME} for agent in world.pods("gold").values())
    assert world.live("Pod", name), "although its object stays"
    assert world.said(names.KIND_REGION, "eu-west", "Ready")[0] == "True"
    assert not [c for c in world.status(names.KIND_REGION, "eu-west")["conditions"] if c["type"] == "Reconciling"]


@pytest.mark.parametrize("what", ["heard", "ready", "not deleted"])
async def test_a_gateway_that_may_still_serve_holds_what_it_uses_however_long_it_takes(what: str) -> None:
    world = await region_with_vampire()
    name, door = next(iter(world.doors().items()))
    if what != "not deleted":
        end = rfc3339(world.clock.time + 10)
        world.api.edit("Pod", NAMESPACE, name, lambda live: live["metadata"].update(deletionTimestamp=end))
    if what != "ready":
        world.pod_status(name, conditions=[{"type": "Ready", "status": "False"}])
    if what == "heard":
        door.refusing = True
    else:
        door.deaf = True
    world.set_digest("vampire", NEW)
    await world.settle(seconds=600)
    assert all(OLD_NAME in agent.resident for agent in world.pods("gold").values())


async def test_a_gateway_that_goes_keeps_what_it_uses_until_it_is_gone() -> None:
    world = await region_with_vampire()
    name, going = next(iter(world.doors().items()))
    going.deaf = True
    world.api.edit(
        "Pod", NAMESPACE, name, lambda live: live["metadata"].update(deletionTimestamp="2026-11-21T00:00:00Z")
    )
    world.pod_status(name, conditions=[{"type": "Ready", "status": "False"}])
    world.lead()  # and the new leader knows nothing of what it applied
    world.set_digest("vampire", NEW)
    await world.settle(seconds=30)
    assert all(OLD_NAME in agent.resident for agent in world.pods("gold").values())
    world.api.remove("Pod", NAMESPACE, name)
    await world.settle(seconds=30)
    assert all(set(agent.resident) == {NEW_NAME} for agent in world.pods("gold").values())


async def test_a_new_leader_that_has_not_read_a_secret_yet_takes_no_candidate_off_a_pod() -> None:
    world = World()
    world.put(region(tiers={"gold": 100}), tier("gold"), secret("bucket", {"token": "t"}))
    world.put(adapter("vampire", digests={"gold": OLD}, secret="bucket"))
    await world.settle()
    first, *others = world.pods("gold").values()
    assert others, "one pod holds the move while another has the candidate already"
    first.holding = True
    world.set_digest("vampire", NEW)
    await world.settle(seconds=5)
    assert set(others[0].resident) == {OLD_NAME, NEW_NAME}
    pushed = [len(agent.history) for agent in others]

    world.store.drop(SecretFact, NAMESPACE, "bucket")
    world.lead()
    await world.settle(seconds=10)
    assert all(len(agent.history) > before for agent, before in zip(others, pushed, strict=True)), "none was asked"
    assert all(
        NEW_NAME in step for agent, before in zip(others, pushed, strict=True) for step in agent.history[before:]
    )

    first.holding = False
    world.resync()
    await world.settle()
    assert routed(world) == {NEW_NAME}
    assert world.variant("vampire")["stable"]["digest"] == NEW
