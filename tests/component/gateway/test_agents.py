"""What agents say: they withdraw at once, never add, and their silence changes nothing."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from npc_runtime import wire
from npc_runtime.gateway import app
from npc_runtime.gateway.table import EndpointKey
from tests.component.gateway.agents import Agent
from tests.component.gateway.certificates import make_internal
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Rig, eventually, running
from tests.component.gateway.regions import World
from tests.component.gateway.words import NEW, OLD

NAME = wire.served_name("vampire", OLD)
NEXT = wire.served_name("vampire", NEW)


@pytest.fixture
def internal(tmp_path: Path) -> Path:
    return make_internal(tmp_path / "internal")


@pytest.fixture
async def agent(internal: Path) -> AsyncIterator[Agent]:
    async with Agent(internal, NAME) as started:
        yield started


@pytest.fixture
async def watched(tmp_path: Path, agent: Agent) -> AsyncIterator[Rig]:
    """A gateway that asks agents on the port of `agent`."""
    async with running(tmp_path, agent_port=agent.port) as rig:
        yield rig


def in_contact(rig: Rig) -> int:
    return rig.gateway.agents_in_contact


async def region(rig: Rig, *engines: Engine, **changes: object) -> World:
    world = World(engines={"gold": list(engines)}, agent_ca=(rig.internal / "ca.crt").read_text())
    for name, value in changes.items():
        setattr(world, name, value)
    await rig.push(world.table())
    await eventually(lambda: in_contact(rig) == len(engines))
    return world


async def until(rig: Rig, status: int, *, digest: str | None = None, seconds: float = 30.0) -> float:
    """Ask until the answer has this status (and digest); the seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            answer = await rig.say(npc="npc")
            if answer.status == status and digest in (None, answer.headers.get("X-NPC-Served-By")):
                return time.monotonic() - began


@pytest.mark.parametrize(
    "word",
    [{"accepting": False, "resident": (NAME,)}, {"accepting": True, "resident": ()}],
    ids=["draining", "dropped"],
)
async def test_a_withdrawal_takes_effect_within_a_second_and_can_be_taken_back(
    watched: Rig, engine: Engine, agent: Agent, word: dict[str, object]
) -> None:
    await region(watched, engine)
    assert (await watched.say()).status == 200
    gone, back = [], []
    for _ in range(3):
        agent.say(**word)  # type: ignore[arg-type]
        gone.append(await until(watched, 503))
        asked = engine.chats
        await watched.say()
        assert engine.chats == asked
        agent.say(resident=(NAME,))
        back.append(await until(watched, 200))
    # A machine that stands still for a moment does so once, not twice.
    assert statistics.median(gone) < 1.0
    assert statistics.median(back) < 1.0


async def test_a_draining_pod_gets_no_new_line_while_another_takes_them(
    tmp_path: Path, internal: Path, engine: Engine, second: Engine
) -> None:
    async with Agent(internal, NAME, host="127.0.0.2") as first_agent:
        other_agent = Agent(internal, NAME, host="127.0.0.1")
        other_agent.port = first_agent.port
        async with other_agent, running(tmp_path, agent_port=first_agent.port) as rig:
            await engine.stop()
            engine.host = "127.0.0.2"
            async with engine:
                await region(rig, engine, second, addresses={engine.port: "127.0.0.2"})
                await asyncio.gather(*(rig.say() for _ in range(10)))
                assert engine.chats > 0
                first_agent.say(accepting=False, resident=(NAME,))
                await eventually(lambda: rig.usable("gold", NAME) == 1)
                asked = engine.chats
                answers = await asyncio.gather(*(rig.say() for _ in range(10)))
                assert {answer.status for answer in answers} == {200}
                assert engine.chats == asked


async def offer_anew_under_an_answer_on_its_way(rig: Rig, engine: Engine, agent: Agent) -> list[int]:
    """A table offers NAME, which the one before did not, while an answer of before is under way. Returns, kept up to
    date, how many pods NAME could be asked of after each word of the agent."""
    engine.loaded.add(NEXT)
    agent.say(resident=(NEXT,))
    world = await region(rig, engine, resident={engine.port: (NEXT,)}, aliases={("gold", "vampire"): [(NEW, 100)]})
    await eventually(lambda: agent.open == 1)
    agent.released.clear()
    agent.say(resident=(NEXT,))
    await eventually(lambda: agent.open == 0)
    world.resident = {engine.port: (NAME, NEXT)}
    world.aliases = {("gold", "vampire"): [(OLD, 100)]}
    await rig.push(world.table())
    seen: list[int] = []
    hear = rig.service.fleet.hear

    def noting(key: EndpointKey, said: wire.Routable) -> None:
        hear(key, said)
        seen.append(rig.usable("gold", NAME))

    rig.service.fleet.hear = noting  # type: ignore[method-assign]
    return seen


async def test_an_answer_of_before_a_table_does_not_withdraw_what_that_offers_anew(
    watched: Rig, engine: Engine, agent: Agent
) -> None:
    seen = await offer_anew_under_an_answer_on_its_way(watched, engine, agent)
    agent.say(resident=(NAME, NEXT))
    agent.released.set()
    await eventually(lambda: len(seen) >= 2)
    assert set(seen) == {1}
    assert (await watched.say()).status == 200


async def test_what_a_table_offers_anew_is_withdrawn_at_once_where_the_agent_does_not_have_it(
    watched: Rig, engine: Engine, agent: Agent
) -> None:
    seen = await offer_anew_under_an_answer_on_its_way(watched, engine, agent)
    agent.released.set()
    # The agent has nothing new to say, and is asked all the same.
    await eventually(lambda: len(seen) >= 2)
    assert seen[1] == 0
    assert (await watched.say()).status == 503


async def test_an_agent_cannot_add_what_the_table_does_not_offer(watched: Rig, engine: Engine, agent: Agent) -> None:
    engine.loaded.add(NEXT)
    world = await region(watched, engine, resident={engine.port: (NAME,)})
    world.aliases = {("gold", "vampire"): [(NEW, 100)]}
    await watched.push(world.table())
    agent.say(resident=(NAME, NEXT))
    polls = agent.polls
    await eventually(lambda: agent.polls > polls)
    assert (await watched.say()).status == 503


async def test_a_name_the_table_offers_before_the_agent_lists_it_is_usable_at_once(
    watched: Rig, engine: Engine, agent: Agent
) -> None:
    world = await region(watched, engine)
    engine.loaded.add(NEXT)
    world.aliases = {("gold", "vampire"): [(NEW, 100)]}
    await watched.push(world.table())
    assert (await watched.say()).digest == NEW
    agent.say(resident=(NAME, NEXT))
    assert (await watched.say()).digest == NEW


async def test_a_withdrawn_name_stays_withdrawn_under_a_newer_table_that_still_offers_it(
    watched: Rig, engine: Engine, agent: Agent
) -> None:
    world = await region(watched, engine)
    agent.say(resident=())
    await until(watched, 503)
    await watched.push(world.table())
    assert (await watched.say()).status == 503
    # The operator heard of the withdrawal too, and then of a new proof: its offer counts again, before the agent's
    # word.
    world.resident = {engine.port: ()}
    await watched.push(world.table())
    world.resident = {}
    await watched.push(world.table())
    assert (await watched.say()).status == 200


async def test_a_lost_agent_changes_nothing(watched: Rig, engine: Engine, agent: Agent) -> None:
    world = await region(watched, engine)
    await agent.stop()
    await eventually(lambda: in_contact(watched) == 0)
    assert (await watched.say()).status == 200
    await watched.push(world.table())
    assert (await watched.say()).status == 200


async def test_an_agent_that_withdrew_and_vanished_is_believed_until_the_next_table(
    watched: Rig, engine: Engine, agent: Agent
) -> None:
    world = await region(watched, engine)
    agent.say(accepting=False)
    await until(watched, 503)
    await agent.stop()
    await eventually(lambda: in_contact(watched) == 0)
    assert (await watched.say()).status == 503
    await watched.push(world.table())
    assert (await watched.say()).status == 200


async def test_an_agent_that_was_lost_is_asked_for_everything_so_that_the_answer_does_not_wait_for_news(
    watched: Rig, engine: Engine, agent: Agent
) -> None:
    world = await region(watched, engine)
    agent.say(resident=())
    await eventually(lambda: watched.usable("gold", NAME) == 0)
    await agent.stop()
    await eventually(lambda: in_contact(watched) == 0)
    # What was said before is forgotten with a table that comes while nobody speaks for the pod.
    await watched.push(world.table())
    assert watched.usable("gold", NAME) == 1
    async with agent:
        await eventually(lambda: watched.usable("gold", NAME) == 0)


async def test_a_table_that_knows_no_residency_forgets_none(rig: Rig, engine: Engine) -> None:
    world = World(engines={"gold": [engine]})
    await rig.push(world.table())
    world.resident = {engine.port: None}
    await rig.push(world.table())
    assert (await rig.say()).status == 200


async def test_an_agent_that_restarts_is_heard_again(watched: Rig, engine: Engine, agent: Agent) -> None:
    await region(watched, engine)
    await agent.stop()
    await eventually(lambda: in_contact(watched) == 0)
    agent.say(boot="boot-2", accepting=False)
    async with agent:
        await until(watched, 503)
        agent.say(resident=(NAME,))
        await until(watched, 200)


async def test_a_table_without_residency_asks_the_agents_before_it_is_ready(
    tmp_path: Path, internal: Path, engine: Engine, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "FIRST_WORD_SECONDS", 60.0)  # longer than the agent can take to say it
    world = World(engines={"gold": [engine]}, resident={engine.port: None}, agent_ca=(internal / "ca.crt").read_text())
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "routes.json").write_bytes(world.table().to_bytes())
    async with running(tmp_path, agent_port=agent.port) as rig:
        async with asyncio.timeout(30):
            while (await rig.ready())[0] != 200:
                pass
        assert (await rig.say()).status == 200
        agent.say(resident=())
        await until(rig, 503)


async def test_a_table_without_residency_and_without_agents_becomes_ready_and_says_503(
    tmp_path: Path, internal: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(engines={"gold": [engine]}, resident={engine.port: None}, agent_ca=(internal / "ca.crt").read_text())
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "routes.json").write_bytes(world.table().to_bytes())
    async with running(tmp_path) as rig:
        async with asyncio.timeout(30):
            while (await rig.ready())[0] != 200:
                pass
        assert (await rig.say()).error["code"] == "no_resident_pod"
        assert engine.chats == 0


async def test_the_previous_token_is_tried_when_the_current_one_is_refused(
    watched: Rig, engine: Engine, agent: Agent
) -> None:
    agent.tokens = {"previous"}
    await region(watched, engine, agent_tokens=["current", "previous"])
    agent.say(accepting=False)
    await until(watched, 503)


async def test_an_agent_whose_certificate_is_not_the_regions_is_not_heard(
    tmp_path: Path, engine: Engine, agent: Agent
) -> None:
    other = make_internal(tmp_path / "other")
    async with running(tmp_path, agent_port=agent.port) as rig:
        world = World(engines={"gold": [engine]}, agent_ca=(other / "ca.crt").read_text())
        await rig.push(world.table())
        await eventually(lambda: rig.gateway.asked_every_agent)
        assert in_contact(rig) == 0
        assert agent.polls == 0
        assert (await rig.say()).status == 200
        # The right bundle arrives with the next table, and is used without restart.
        world.agent_ca = (rig.internal / "ca.crt").read_text()
        await rig.push(world.table())
        await eventually(lambda: in_contact(rig) == 1)


async def test_pods_that_leave_the_table_are_no_longer_asked(watched: Rig, engine: Engine, agent: Agent) -> None:
    world = await region(watched, engine)
    world.engines = {"gold": []}
    await watched.push(world.table())
    await eventually(lambda: in_contact(watched) == 0)
    polls = agent.polls
    # The agent's last word for them goes nowhere: a whole push later nobody has asked for the next.
    agent.say(accepting=False)
    await eventually(lambda: agent.open == 0)
    await watched.push(world.table())
    assert (agent.polls, agent.open) == (polls, 0)
