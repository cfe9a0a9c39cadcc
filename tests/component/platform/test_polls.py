"""Long polls: whose reports reach the store, what silence does, and who is not asked any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from npc_operator.clients.polls import Polls
from npc_operator.domain.facts import AgentFact, GatewayFact, Pod
from npc_operator.loop.store import Change, Store
from npc_operator.ports import PortError
from npc_runtime.wire import (
    Accepted,
    AdapterPhase,
    AdapterReport,
    AgentReport,
    DesiredSet,
    EngineReport,
    EngineState,
    GatewayReport,
    RolloutReport,
    RouteTable,
    Stamp,
)
from tests.support.fake_clock import FakeClock, run_virtual

ENGINE = Pod(namespace="eu", name="gold-0", uid="u1", component="engine", ip="10.0.0.1", phase="Running")
GATEWAY = Pod(namespace="eu", name="gw-0", uid="u2", component="gateway", ip="10.0.0.2", phase="Running")
STAMP = Stamp(epoch=1, generation=1)


def report(
    revision: int, *names: str, full: bool = True, boot: str = "b1", removed: tuple[str, ...] = ()
) -> AgentReport:
    return AgentReport(
        boot_id=boot,
        revision=revision,
        stamp=STAMP,
        full=full,
        ready=True,
        draining=False,
        engine=EngineReport(state=EngineState.READY, instance="i1"),
        adapters=tuple(
            AdapterReport(served_name=name, archetype=name, digest="sha256:" + "a" * 64, phase=AdapterPhase.RESIDENT)
            for name in names
        ),
        removed=removed,
    )


@dataclass
class Ears:
    """Both ports: answers come from a queue, in order; an empty queue is a long poll that waits."""

    answers: asyncio.Queue[AgentReport | GatewayReport | Exception] = field(default_factory=asyncio.Queue)
    asked: list[tuple[str, int, str]] = field(default_factory=list)
    meant: list[str] = field(default_factory=list)
    """The uid of the pod that each question was meant for."""

    async def push(self, namespace: str, address: str, message: DesiredSet | RouteTable, *, pod_uid: str) -> Accepted:
        raise AssertionError("polls never push")

    async def watch(
        self, namespace: str, address: str, *, pod_uid: str, after: int, boot_id: str, wait_seconds: int
    ) -> object:
        self.asked.append((address, after, boot_id))
        self.meant.append(pod_uid)
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def say(self, *answers: AgentReport | GatewayReport | Exception) -> None:
        for answer in answers:
            self.answers.put_nowait(answer)


@contextlib.asynccontextmanager
async def listening(clock: FakeClock, *pods: Pod) -> AsyncIterator[tuple[Store, Ears, Ears]]:
    store, agents, gateways = Store(clock), Ears(), Ears()
    for pod in pods:
        store.put(Pod, pod.namespace, pod.name, pod)
    polls = Polls(store=store, agents=agents, gateways=gateways, jitter=lambda: 1.0)  # type: ignore[arg-type]
    task = asyncio.create_task(polls.run())
    await asyncio.sleep(0)
    try:
        yield store, agents, gateways
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert store.count(AgentFact) == store.count(GatewayFact) == 0, "what was heard is unknown to the next term"


def test_reports_become_facts_and_partial_ones_are_laid_over_what_was_known() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with listening(clock, ENGINE) as (store, agents, _):
            agents.say(report(1, "a", "b"))
            await asyncio.sleep(0.01)
            agents.say(report(2, "c", full=False, removed=("a",)))
            await asyncio.sleep(0.01)
            fact = store.get(AgentFact, "eu", "gold-0")
            assert fact is not None
            assert fact.resident() == {"b", "c"}
            assert fact.pod_uid == "u1"
            assert fact.reachable
            assert agents.asked == [("10.0.0.1", 0, ""), ("10.0.0.1", 1, "b1"), ("10.0.0.1", 2, "b1")]

    run_virtual(scenario)


def test_silence_marks_the_last_word_as_memory_at_once_and_the_next_word_as_news() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with listening(clock, ENGINE) as (store, agents, _):
            agents.say(report(1, "a"), PortError("reset"))
            await asyncio.sleep(0.01)
            fact = store.get(AgentFact, "eu", "gold-0")
            assert fact is not None
            assert not fact.reachable
            assert fact.resident() == {"a"}, "unknown is not bad: what was known stays known"
            agents.say(report(1, full=False))
            await asyncio.sleep(0.2)
            fact = store.get(AgentFact, "eu", "gold-0")
            assert fact is not None
            assert fact.reachable
            assert fact.resident() == {"a"}

    run_virtual(scenario)


def test_who_was_not_heard_is_asked_for_everything_so_that_the_answer_does_not_wait_for_news() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with listening(clock, ENGINE, GATEWAY) as (_, agents, gateways):
            agents.say(report(7, "a"), PortError("reset"))
            gateways.say(GatewayReport(boot_id="g1", revision=3, stamp=STAMP), PortError("reset"))
            await asyncio.sleep(0.2)
            assert agents.asked == [("10.0.0.1", 0, ""), ("10.0.0.1", 7, "b1"), ("10.0.0.1", 0, "")]
            assert gateways.asked == [("10.0.0.2", 0, ""), ("10.0.0.2", 3, "g1"), ("10.0.0.2", 0, "")]

    run_virtual(scenario)


def test_a_starting_agent_is_asked_again_within_a_second_each_time() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with listening(clock, ENGINE) as (store, agents, _):
            agents.say(*(PortError("refused") for _ in range(30)))
            await asyncio.sleep(30)
            assert len(agents.asked) >= 30
            agents.say(report(1, "a"))
            await asyncio.sleep(1.0)
            assert store.get(AgentFact, "eu", "gold-0") is not None

    run_virtual(scenario)


def test_an_agent_that_never_answers_is_asked_less_often_in_the_end() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with listening(clock, ENGINE) as (_, agents, _gateways):
            agents.say(*(PortError("refused") for _ in range(1000)))
            await asyncio.sleep(600)
            before = len(agents.asked)
            await asyncio.sleep(60)
            assert 10 <= len(agents.asked) - before <= 13

    run_virtual(scenario)


def test_a_pod_without_an_address_or_that_has_ended_is_not_asked() -> None:
    async def scenario(clock: FakeClock) -> None:
        pods = (replace(ENGINE, ip=""), replace(ENGINE, name="done", phase="Succeeded"))
        async with listening(clock, *pods) as (store, agents, _):
            await asyncio.sleep(1)
            assert agents.asked == []
            store.put(Pod, "eu", "gold-0", ENGINE)
            await asyncio.sleep(0.01)
            assert len(agents.asked) == 1

    run_virtual(scenario)


def test_a_pod_that_changes_is_asked_on_and_one_that_is_replaced_is_asked_anew() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with listening(clock, ENGINE) as (store, agents, _):
            agents.say(report(1, "a"))
            await asyncio.sleep(0.01)
            store.put(Pod, "eu", "gold-0", replace(ENGINE, ready=True))
            await asyncio.sleep(0.01)
            assert len(agents.asked) == 2
            store.put(Pod, "eu", "gold-0", replace(ENGINE, uid="u9", ip="10.0.0.9"))
            await asyncio.sleep(0.01)
            assert store.get(AgentFact, "eu", "gold-0") is None
            assert agents.asked[-1] == ("10.0.0.9", 0, "")
            assert agents.meant == ["u1", "u1", "u9"]

    run_virtual(scenario)


def test_another_pod_at_the_address_says_nothing_about_the_one_that_is_meant() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with listening(clock, ENGINE) as (store, agents, _):
            agents.say(report(1, "a"), PortError("this is pod u7, not u1", reason="OtherPod"))
            await asyncio.sleep(0.01)
            fact = store.get(AgentFact, "eu", "gold-0")
            assert fact is not None
            assert not fact.reachable
            assert fact.resident() == {"a"}
            await asyncio.sleep(1)
            assert len(agents.asked) >= 3, "it is asked again"

    run_virtual(scenario)


def test_what_a_gone_pod_said_is_forgotten() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with listening(clock, ENGINE) as (store, agents, _):
            agents.say(report(1, "a"))
            await asyncio.sleep(0.01)
            store.drop(Pod, "eu", "gold-0")
            await asyncio.sleep(60)
            assert store.get(AgentFact, "eu", "gold-0") is None
            assert len(agents.asked) == 2

    run_virtual(scenario)


def test_gateways_say_which_table_they_have() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with listening(clock, GATEWAY) as (store, agents, gateways):
            gateways.say(GatewayReport(boot_id="g1", revision=3, stamp=STAMP), PortError("reset"))
            await asyncio.sleep(0.01)
            assert store.get(GatewayFact, "eu", "gw-0") == GatewayFact("u2", "g1", STAMP, reachable=False)
            assert agents.asked == []

    run_virtual(scenario)


def test_what_a_gateway_saw_of_candidates_comes_with_its_word() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with listening(clock, GATEWAY) as (store, _, gateways):
            saw = RolloutReport(archetype="vampire", tier="gold", stable="a", candidate="b", pairs=3)
            gateways.say(GatewayReport(boot_id="g1", revision=3, stamp=STAMP, rollouts=(saw,)))
            await asyncio.sleep(0.01)
            fact = store.get(GatewayFact, "eu", "gw-0")
            assert fact is not None
            assert fact.rollouts == (saw,)

    run_virtual(scenario)


def test_a_report_that_cannot_be_merged_is_asked_for_anew_and_whole() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with listening(clock, ENGINE) as (_store, agents, _):
            agents.say(report(5, "a"), TypeError("a bug"))
            await asyncio.sleep(0.5)
            assert agents.asked[-1] == ("10.0.0.1", 0, "")

    run_virtual(scenario)


def test_a_poll_that_ends_by_itself_ends_them_all_and_is_not_lost() -> None:
    async def scenario(clock: FakeClock) -> None:
        store, agents = Store(clock), Ears()
        store.put(Pod, "eu", "gold-0", ENGINE)

        def break_down(change: Change) -> None:
            if change.kind is AgentFact and change.new is not None and not change.new.reachable:
                raise ValueError("a bug in who listens")

        store.subscribe(break_down)
        agents.say(report(1, "a"), PortError("reset"))
        with pytest.raises(RuntimeError, match="poll eu/gold-0") as caught:
            await Polls(store=store, agents=agents, gateways=Ears(), jitter=lambda: 1.0).run()  # type: ignore[arg-type]
        assert isinstance(caught.value.__cause__, ValueError)

    run_virtual(scenario)
