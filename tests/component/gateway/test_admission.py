"""Which lines go to the engines, which wait, and which are turned away."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import aiohttp
import pytest

from npc_runtime import wire
from tests.component.gateway.engines import Asked, Engine, Reply
from tests.component.gateway.harness import Answer, Rig, completion, eventually
from tests.component.gateway.regions import World
from tests.component.gateway.words import OLD

VOICES = {"vampire": "Normal", "queen": "Critical", "crowd": "Ambient"}


class Slots:
    """An engine whose lines end when a test says so."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.order: list[str] = []
        self._gates: list[asyncio.Event] = []
        engine.script = self._speak

    async def _speak(self, asked: Asked, reply: Reply) -> None:
        gate = asyncio.Event()
        self._gates.append(gate)
        self.order.append(asked.body["model"].partition("--")[0])
        await gate.wait()
        await self.engine.answer(asked, reply)

    def end(self, count: int = 1) -> None:
        """Let the lines end that began first."""
        for _ in range(count):
            self._gates.pop(0).set()


@pytest.fixture
def slots(engine: Engine) -> Slots:
    engine.loaded |= {wire.served_name(archetype, OLD) for archetype in VOICES}
    return Slots(engine)


async def bound(rig: Rig, engine: Engine, *, slots: int, queue: int, **tier: Any) -> None:
    """A gold tier of one pod with so many slots and so long a queue."""
    world = World(engines={"gold": [engine]}, aliases={("gold", archetype): [(OLD, 100)] for archetype in VOICES})
    table = world.table()
    voices = tuple(wire.Voice(archetype=name, importance=importance) for name, importance in VOICES.items())  # type: ignore[arg-type]
    tiers = tuple(each.model_copy(update={"slots": slots, "queue": queue, **tier}) for each in table.tiers)
    await rig.push(table.model_copy(update={"tiers": tiers, "voices": voices}))


def waiting(rig: Rig) -> int:
    return rig.service.admission.waiting().get("gold", 0)


async def begin(rig: Rig, *archetypes: str) -> list[asyncio.Task[Answer]]:
    """Lines that reach the gateway in this order."""
    tasks = []
    for archetype in archetypes:
        before = rig.service.busy
        tasks.append(asyncio.create_task(rig.say(archetype)))
        await eventually(lambda before=before: rig.service.busy > before)  # type: ignore[misc]
    return tasks


async def test_lines_wait_for_slots_and_the_important_go_first(rig: Rig, engine: Engine, slots: Slots) -> None:
    await bound(rig, engine, slots=1, queue=10)
    lines = await begin(rig, "vampire", "crowd", "vampire", "queen", "crowd")
    await eventually(lambda: waiting(rig) == 4)
    assert 'npc_gateway_lines_waiting{tier="gold"} 4.0' in await rig.metrics()
    assert engine.running == 1
    for number in range(1, 6):
        await eventually(lambda number=number: len(slots.order) == number)  # type: ignore[misc]
        slots.end()
    assert [(await line).status for line in lines] == [200] * 5
    assert slots.order == ["vampire", "queen", "vampire", "crowd", "crowd"]
    assert waiting(rig) == 0


async def test_a_full_queue_turns_ambient_lines_away_first(rig: Rig, engine: Engine, slots: Slots) -> None:
    await bound(rig, engine, slots=1, queue=2)
    running, first, second = await begin(rig, "vampire", "crowd", "crowd")
    await eventually(lambda: waiting(rig) == 2)
    refused = await rig.say("crowd")
    assert (refused.status, refused.error["code"], refused.headers["Retry-After"]) == (429, "tier_overloaded", "1")
    queen = asyncio.create_task(rig.say("queen"))
    assert (await second).status == 429, "the ambient line that came last made room"
    for number in range(1, 4):
        await eventually(lambda number=number: len(slots.order) == number)  # type: ignore[misc]
        slots.end()
    assert [(await line).status for line in (running, first, queen)] == [200] * 3
    assert slots.order == ["vampire", "queen", "crowd"]
    assert 'npc_gateway_errors_total{archetype="crowd",reason="Shed",tier="gold"} 2.0' in await rig.metrics()


async def test_a_client_that_leaves_the_queue_is_asked_of_no_engine(rig: Rig, engine: Engine, slots: Slots) -> None:
    await bound(rig, engine, slots=1, queue=5)
    (running,) = await begin(rig, "vampire")
    await eventually(lambda: engine.running == 1)
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(completion(stream=True))
    await eventually(lambda: waiting(rig) == 1)
    writer.transport.abort()
    await eventually(lambda: waiting(rig) == 0)
    slots.end()
    assert (await running).status == 200
    assert engine.chats == 1
    (later,) = await begin(rig, "vampire")
    await eventually(lambda: engine.running == 1)
    slots.end()
    assert (await later).status == 200


async def test_a_slot_comes_back_however_its_line_ended(rig: Rig, engine: Engine, slots: Slots) -> None:
    await bound(rig, engine, slots=1, queue=0)
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(completion(stream=True))
    await eventually(lambda: engine.running == 1)
    assert (await rig.say("crowd")).status == 429
    writer.transport.abort()
    await eventually(lambda: engine.running == 0)

    async def break_off(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "x"}}]})
        reply.reset()

    async def fail(asked: Asked, reply: Reply) -> None:
        await reply.json(500, {"error": {"message": "no"}})

    engine.script = break_off
    with pytest.raises(aiohttp.ClientPayloadError):
        await rig.say(stream=True)
    engine.script = fail
    assert (await rig.say()).status == 500
    engine.script = None
    assert (await rig.say()).status == 200


async def test_shedding_costs_next_to_nothing(rig: Rig, engine: Engine, slots: Slots) -> None:
    await bound(rig, engine, slots=1, queue=0)
    (running,) = await begin(rig, "vampire")
    await eventually(lambda: engine.running == 1)
    took = []
    for _ in range(50):
        began = time.process_time()
        assert (await rig.say("crowd")).status == 429
        took.append(time.process_time() - began)
    rig.service.sweep(0.0)
    assert statistics.median(took) < 0.05, "a bound for a busy machine; docs/benchmarks.md has the figure"
    slots.end()
    assert (await running).status == 200


async def test_importance_goes_to_engines_that_order_by_it_and_never_the_callers_own(rig: Rig, engine: Engine) -> None:
    engine.loaded |= {wire.served_name(archetype, OLD) for archetype in VOICES}
    for prioritised, expected in ((True, [10, 0, 20]), (False, [None, None, None])):
        engine.asked.clear()
        await bound(rig, engine, slots=0, queue=0, prioritised=prioritised)
        for archetype in VOICES:
            assert (await rig.say(archetype, priority=-100)).status == 200
        assert [asked.body.get("priority") for asked in engine.asked] == expected
