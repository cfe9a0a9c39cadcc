"""A candidate beside a stable voice: who hears it, what the operator is told of it, and how a bad one goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from npc_runtime import wire
from npc_runtime.gateway.hashing import bucket
from npc_runtime.gateway.plane import LocalPlane
from npc_runtime.gateway.rollouts import prober
from npc_runtime.gateway.rollouts.tally import Pair
from tests.component.gateway.engines import Asked, Engine, Reply, Script, head_only
from tests.component.gateway.harness import Rig, eventually
from tests.component.gateway.regions import World
from tests.component.gateway.test_process import started
from tests.component.gateway.words import NEW, OLD

OLD_NAME, NEW_NAME = wire.served_name("vampire", OLD), wire.served_name("vampire", NEW)
BELOW = 3_000
NPCS = [f"gold-vampire-{number}" for number in range(40)]


def place(npc: str) -> int:
    return bucket(b"vampire", npc.encode())


CANDIDATES = [npc for npc in NPCS if place(npc) < BELOW]
CONTROLS = [npc for npc in NPCS if BELOW <= place(npc) < 2 * BELOW]
OTHERS = [npc for npc in NPCS if place(npc) >= 2 * BELOW]


def trying(world: World, **rollout: object) -> wire.RouteTable:
    """The world's next table, with a rollout of the new vampire on every tier."""
    settings = wire.AliasRollout.model_validate(
        {"candidate_below": BELOW, "control_below": 2 * BELOW, "warmup": 0, **rollout}
    )
    targets = tuple(
        wire.Target(served_name=wire.served_name("vampire", digest), digest=digest, percent=percent)
        for digest, percent in ((OLD, 70), (NEW, 30))
    )
    table = world.table()
    return table.model_copy(
        update={
            "aliases": tuple(
                alias.model_copy(update={"targets": targets, "rollout": settings}) for alias in table.aliases
            ),
            "voices": (wire.Voice(archetype="vampire", must_not_match=("(?i)as an ai",)),),
        }
    )


def bounded(table: wire.RouteTable) -> wire.RouteTable:
    """The table with room for one line at once, and for ten that wait."""
    tiers = tuple(tier.model_copy(update={"slots": 1, "queue": 10}) for tier in table.tiers)
    return table.model_copy(update={"tiers": tiers})


@pytest.fixture
async def both() -> AsyncIterator[Engine]:
    """An engine with the old and the new vampire."""
    async with Engine(OLD_NAME, NEW_NAME) as engine:
        yield engine


@pytest.fixture
async def region(rig: Rig, both: Engine) -> World:
    return World(engines={"gold": [both]})


async def report(rig: Rig, holds: Callable[[wire.RolloutReport], bool], *, seconds: float = 60.0) -> wire.RolloutReport:
    """The operator's long poll, followed until it says something."""
    after, boot = -1, ""
    async with asyncio.timeout(seconds):
        while True:
            status, body = await rig.admin("GET", f"/v1/status?after={after}&boot={boot}&wait=5")
            assert status == 200
            said = wire.GatewayReport.model_validate(body)
            after, boot = said.revision, said.boot_id
            if said.rollouts and holds(said.rollouts[0]):
                return said.rollouts[0]


def when_new(engine: Engine, act: Script) -> Script:
    """A script that plays something for the new vampire, and answers for the old one."""

    async def script(asked: Asked, reply: Reply) -> None:
        await (act if asked.body["model"] == NEW_NAME else engine.answer)(asked, reply)

    return script


async def rubbish(asked: Asked, reply: Reply) -> None:
    if not asked.body.get("stream"):
        await reply.json(200, {"choices": [{"message": {"content": "As an AI language model, I cannot bite."}}]})
        return
    await reply.stream_head()
    for word in ("As ", "an ", "AI ", "language model"):
        await reply.event({"choices": [{"delta": {"content": word}}]})
    await reply.end()


async def failing(_: Asked, reply: Reply) -> None:
    await reply.json(500, {"error": {"message": "out of memory"}})


async def test_exactly_the_npcs_of_the_share_hear_the_candidate(rig: Rig, region: World) -> None:
    await rig.push(trying(region))
    for npc in NPCS:
        assert (await rig.say(npc=npc)).digest == (NEW if npc in CANDIDATES else OLD)
    assert (await rig.say()).digest == OLD
    said = await report(rig, lambda one: one.candidate_counts.requests == len(CANDIDATES))
    assert (said.archetype, said.tier, said.stable, said.candidate) == ("vampire", "gold", OLD, NEW)
    assert said.stable_counts == wire.AnswerCounts(requests=len(NPCS) - len(CANDIDATES) + 1)
    assert said.candidate_counts == wire.AnswerCounts(requests=len(CANDIDATES))
    assert said.lowest_heard == min(map(place, NPCS))


async def test_who_is_in_a_step_is_in_the_next_one_and_an_override_is_where_it_says(rig: Rig, region: World) -> None:
    voices: dict[int, set[str]] = {}
    for below in (1_000, 2_500, 5_000, 10_000):
        await rig.push(trying(region, candidate_below=below, overrides=[{"npc": NPCS[0]}]))
        voices[below] = {npc for npc in NPCS if (await rig.say(npc=npc)).digest == NEW}
    assert voices[1_000] <= voices[2_500] <= voices[5_000] <= voices[10_000]
    assert voices[10_000] == set(NPCS[1:])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_candidate_that_talks_rubbish_is_taken_off_without_an_operator(
    rig: Rig, region: World, both: Engine, *, stream: bool
) -> None:
    both.script = when_new(both, rubbish)
    await rig.push(trying(region, guard={"max_error_percent": 5}))
    for _ in range(3):
        assert (await rig.say(npc=CANDIDATES[0], stream=stream)).digest == NEW
    said = await report(rig, lambda one: bool(one.withdrawn))
    assert "matching a forbidden pattern" in said.withdrawn
    assert said.candidate_counts.mismatched == 3
    assert said.candidate_counts.first_bad_ms is not None
    assert (await rig.say(npc=CANDIDATES[0], stream=stream)).digest == OLD
    # The next step of the same candidate does not bring it back.
    await rig.push(trying(region, candidate_below=10_000))
    assert (await rig.say(npc=CANDIDATES[0], stream=stream)).digest == OLD


@pytest.mark.parametrize("stream", [False, True])
async def test_a_candidate_that_fails_costs_no_line_and_is_counted(
    rig: Rig, region: World, both: Engine, *, stream: bool
) -> None:
    both.script = when_new(both, failing)
    await rig.push(trying(region, guard={"max_error_percent": 5}))
    for _ in range(5):
        answer = await rig.say(npc=CANDIDATES[0], stream=stream)
        assert (answer.status, answer.digest) == (200, OLD)
    said = await report(rig, lambda one: bool(one.withdrawn) and one.stable_counts.requests == 5)
    assert (said.candidate_counts.requests, said.candidate_counts.errors) == (3, 3)
    assert said.stable_counts == wire.AnswerCounts(requests=5)


async def test_a_candidate_that_stops_in_the_middle_is_truncated_and_one_that_says_nothing_is_empty(
    rig: Rig, region: World, both: Engine
) -> None:
    async def stops(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        if asked.body["max_tokens"] == 1:
            await reply.end()
            return
        await reply.event({"choices": [{"delta": {"content": "I"}}]})
        await eventually(lambda: rig.streaming > 0)
        await reply.send(b"0\r\n\r\n")

    both.script = when_new(both, stops)
    await rig.push(trying(region))
    await rig.say(npc=CANDIDATES[0], stream=True, max_tokens=1)
    with contextlib.suppress(Exception):  # the client sees a broken stream, as it must
        await rig.say(npc=CANDIDATES[0], stream=True, max_tokens=2)
    said = await report(rig, lambda one: one.candidate_counts.requests == 2)
    assert (said.candidate_counts.empty, said.candidate_counts.truncated, said.candidate_counts.errors) == (1, 1, 0)


async def test_a_slow_candidate_is_seen_in_the_pairs(rig: Rig, region: World, both: Engine) -> None:
    loop = asyncio.get_running_loop()
    longest = 0.0

    async def slow(asked: Asked, reply: Reply) -> None:
        await asyncio.sleep(2 * longest + 0.3)  # slower than any control, even where one stood still with its host
        await both.answer(asked, reply)

    both.script = when_new(both, slow)
    await rig.push(trying(region, first_token_milliseconds=200))
    for number in range(4):
        began = loop.time()
        await rig.say(npc=CONTROLS[number % len(CONTROLS)], stream=True)
        longest = max(longest, loop.time() - began)
        await rig.say(npc=OTHERS[0], stream=True)
        await rig.say(npc=CANDIDATES[number % len(CANDIDATES)], stream=True)
    said = await report(rig, lambda one: one.pairs == 4)
    assert (said.slower, said.timed, said.over_limit, said.npcs) == (4, 4, 4, 4)


async def test_a_line_whose_client_leaves_counts_nowhere(rig: Rig, region: World, both: Engine) -> None:
    both.pause = 60.0
    await rig.push(trying(region))
    line = asyncio.ensure_future(rig.say(npc=CANDIDATES[0], stream=True))
    await eventually(lambda: both.running == 1)
    line.cancel()
    await eventually(lambda: both.running == 0)
    both.pause = 0.0
    await rig.say(npc=CANDIDATES[0], stream=True)
    said = await report(rig, lambda one: one.candidate_counts.requests > 0)
    assert said.candidate_counts == wire.AnswerCounts(requests=1)


async def test_at_rest_the_long_poll_says_nothing_and_with_the_rollout_its_report_goes(rig: Rig, region: World) -> None:
    await rig.push(trying(region))
    await rig.say(npc=CANDIDATES[0])
    await report(rig, lambda one: one.candidate_counts.requests == 1)
    before = (await rig.counted())["revision"]
    status, body = await rig.admin("GET", f"/v1/status?after={before}&boot={rig.gateway.routes.boot_id}&wait=1.2")
    assert (status, body["revision"]) == (200, before)
    assert "npc_gateway_candidate_answers_total" in await rig.metrics()
    await rig.push(region.table())
    status, body = await rig.admin("GET", "/v1/status")
    assert body["rollouts"] == []
    assert 'npc_gateway_candidate_answers_total{archetype="vampire"' not in await rig.metrics()


async def test_metrics_tell_of_candidates_per_archetype_and_tier(rig: Rig, region: World, both: Engine) -> None:
    both.script = when_new(both, rubbish)
    await rig.push(trying(region, guard={"max_error_percent": 5}))
    for _ in range(4):
        await rig.say(npc=CANDIDATES[0])
    await report(rig, lambda one: bool(one.withdrawn))
    text = await rig.metrics()
    labels = '{archetype="vampire",tier="gold"}'
    assert f"npc_gateway_candidate_withdrawn{labels} 1.0" in text
    assert f"npc_gateway_candidate_fallen_lines_total{labels} 0.0" in text
    assert 'npc_gateway_candidate_bad_answers_total{archetype="vampire",kind="mismatched",tier="gold"}' in text
    assert f"npc_gateway_stable_answers_total{labels}" in text


def probes_under_way() -> bool:
    """Whether a round of one question to each digest runs in this event loop."""
    return any(getattr(task.get_coro(), "__name__", "") == "_ask_both" for task in asyncio.all_tasks())


async def test_probes_ask_both_digests_until_the_table_says_otherwise(
    rig: Rig, region: World, both: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "PAUSE_SECONDS", 0.02)
    most = 0

    async def watch(asked: Asked, reply: Reply) -> None:
        nonlocal most
        most = max(most, both.running)
        await both.answer(asked, reply)

    both.script = watch
    await rig.push(trying(region, probe={"prompt": "Who are you?", "max_tokens": 5}))
    said = await report(rig, lambda one: one.candidate_counts.probes >= 4 and one.stable_counts.probes >= 4)
    assert said.candidate_counts.errors == said.stable_counts.errors == 0
    assert said.pairs >= 3
    assert most == 1
    bodies = [asked.body for asked in both.asked]
    assert {body["model"] for body in bodies} == {OLD_NAME, NEW_NAME}
    assert bodies[0] == {
        "model": bodies[0]["model"],
        "messages": [{"role": "user", "content": "Who are you?"}],
        "max_tokens": 5,
        "temperature": 0,
        "stream": True,
    }
    first = [body["model"] for body in bodies[:4]]
    assert first[0] == first[3] != first[1] == first[2], "both take turns in coming first"
    await rig.push(trying(region))
    await eventually(lambda: not probes_under_way())
    asked = both.chats
    both.pause = 0.05  # each of these lines lasts longer than the pause between two rounds of probes
    for npc in NPCS[:4]:
        await rig.say(npc=npc, stream=True)
    assert both.chats == asked + 4


async def test_probes_keep_away_from_a_pod_that_cannot_be_reached(
    rig: Rig, both: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "PAUSE_SECONDS", 0.02)
    async with Engine(OLD_NAME, NEW_NAME) as gone, Engine(OLD_NAME, NEW_NAME) as gone_too:
        region = World(engines={"gold": [gone, both, gone_too]})
        await rig.push(region.table())
    await rig.push(trying(region, probe={"prompt": "Who are you?"}))
    said = await report(rig, lambda one: one.candidate_counts.probes >= 5)
    assert said.candidate_counts.errors == 0


async def test_a_probe_that_hangs_counts_against_its_digest(
    rig: Rig, region: World, both: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "PAUSE_SECONDS", 0.02)

    both.script = when_new(both, head_only)
    await rig.push(trying(region, probe={"prompt": "Who are you?", "timeout_seconds": 3}))
    said = await report(rig, lambda one: one.candidate_counts.errors > 0 and one.stable_counts.probes > 0)
    assert said.stable_counts.errors == 0


@pytest.mark.timeout(120)
async def test_event_loops_take_a_candidate_off_together(tmp_path: Path, both: Engine) -> None:
    both.script = when_new(both, failing)
    region = World(engines={"gold": [both]})
    async with started(tmp_path, "--workers", "2") as (rig, gateway):
        await rig.push(trying(region, guard={"max_error_percent": 50}))
        rig.session.headers["Connection"] = "close"  # each line comes to whichever event loop the kernel picks
        async with asyncio.timeout(60):
            withdrawn = ""
            while not withdrawn:
                for npc in CANDIDATES:
                    assert (await rig.say(npc=npc)).status == 200
                withdrawn = (await report(rig, lambda one: one.candidate_counts.requests > 0)).withdrawn
        assert "answers were bad" in withdrawn
        await rig.metrics()  # each event loop has answered since it was told
        asked = sum(each.body["model"] == NEW_NAME for each in both.asked)
        for _ in range(20):
            assert (await rig.say(npc=CANDIDATES[0])).digest == OLD
        assert sum(each.body["model"] == NEW_NAME for each in both.asked) == asked
        before = await report(rig, lambda one: bool(one.withdrawn))
        gone, _ = gateway.children()
        os.kill(gone, signal.SIGKILL)
        await eventually(lambda: gone not in gateway.children() and len(gateway.children()) == 2, seconds=30)
        # The one that takes its place knows, and what the other saw stays in the sum.
        for _ in range(20):
            with contextlib.suppress(aiohttp.ClientError):  # a line that was in the kernel's queue of the dead one
                assert (await rig.say(npc=CANDIDATES[0])).digest == OLD
        after = await report(rig, lambda one: one.stable_counts.requests > before.stable_counts.requests)
        assert after.candidate_counts.requests >= before.candidate_counts.requests
        assert after.withdrawn == before.withdrawn


@pytest.mark.parametrize("stream", [False, True])
async def test_a_pod_that_ends_under_many_lines_is_one_bad_answer_and_takes_no_candidate_off(
    rig: Rig, both: Engine, *, stream: bool
) -> None:
    async def dying(asked: Asked, reply: Reply) -> None:
        if stream:
            await reply.stream_head()
            await reply.event({"choices": [{"delta": {"content": "I"}}]})
        await reply.silence()

    async with Engine(OLD_NAME, NEW_NAME) as doomed:
        doomed.script = dying
        region = World(engines={"gold": [doomed]})
        await rig.push(trying(region, guard={"max_error_percent": 5}))
        speakers = (*CANDIDATES[:6], *CONTROLS[:3])
        lines = [asyncio.create_task(rig.say(npc=npc, stream=stream)) for npc in speakers]
        await eventually(lambda: doomed.running == len(lines))
        await rig.push(trying(World(engines={"gold": [doomed, both]}), guard={"max_error_percent": 5}))
        await doomed.stop()
        answers = await asyncio.gather(*lines, return_exceptions=True)
        assert stream or all(isinstance(answer, BaseException) is False for answer in answers)
    said = await report(rig, lambda one: one.candidate_counts.errors > 0 and one.stable_counts.errors > 0)
    assert (said.candidate_counts.errors, said.stable_counts.errors, said.withdrawn) == (1, 1, "")
    assert (await rig.say(npc=CANDIDATES[0])).digest == NEW


async def test_a_candidate_whose_lines_break_one_by_one_is_taken_off(rig: Rig, region: World, both: Engine) -> None:
    async def breaking(_: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "I"}}]})
        reply.reset()

    both.script = when_new(both, breaking)
    await rig.push(trying(region, guard={"max_error_percent": 5}))
    for npc in (*OTHERS[:2], *CANDIDATES[:3]):
        with contextlib.suppress(Exception):  # the client sees a broken stream, as it must
            await rig.say(npc=npc, stream=True)
    said = await report(rig, lambda one: bool(one.withdrawn))
    assert (said.candidate_counts.errors, said.stable_counts.errors) == (3, 0)


@pytest.mark.parametrize("status", [429, 503])
async def test_an_engine_with_too_much_to_do_is_no_error_of_the_candidate(
    rig: Rig, region: World, both: Engine, status: int
) -> None:
    async def busy(asked: Asked, reply: Reply) -> None:
        await reply.json(status, {"error": {"message": "queue full", "type": "x", "param": None, "code": status}})

    await rig.push(trying(region, guard={"max_error_percent": 1}))
    both.script = busy
    for npc in [*CANDIDATES, *OTHERS[:4]] * 3:
        answer = await rig.say(npc=npc)
        assert (answer.status, answer.error["message"]) == (status, "queue full")
    assert both.chats > len(CANDIDATES)
    both.script = None
    answers = [await rig.say(npc=CANDIDATES[0]) for _ in range(2)]
    assert [answer.digest for answer in answers] == [NEW, NEW], "it was not taken off"
    said = await report(rig, lambda seen: seen.candidate_counts.requests == 2)
    assert (said.candidate_counts.errors, said.stable_counts.errors, said.withdrawn) == (0, 0, "")


async def test_what_another_error_of_an_engine_is_to_the_candidate(rig: Rig, region: World, both: Engine) -> None:
    async def broken(asked: Asked, reply: Reply) -> None:
        await reply.json(500, {"error": {"message": "no", "type": "x", "param": None, "code": 500}})

    await rig.push(trying(region))
    both.script = broken
    assert (await rig.say(npc=CANDIDATES[0])).status == 500
    said = await report(rig, lambda seen: seen.candidate_counts.requests == 1)
    assert said.candidate_counts.errors == 1


async def test_lines_that_wait_for_a_slot_do_not_get_a_candidate_that_was_taken_off_meanwhile(
    rig: Rig, region: World, both: Engine
) -> None:
    await rig.push(bounded(trying(region)))
    gate = asyncio.Event()

    async def hold(asked: Asked, reply: Reply) -> None:
        await gate.wait()
        await both.answer(asked, reply)

    both.script = hold
    first, *others = [asyncio.create_task(rig.say(npc=npc)) for npc in CANDIDATES[:3]]
    await eventually(lambda: both.running == 1 and rig.service.admission.waiting() == {"gold": 2})
    assert isinstance(rig.gateway.plane, LocalPlane)
    rig.gateway.plane.rollouts.withdraw(Pair("vampire", "gold", OLD, NEW), "it is bad")
    gate.set()
    assert (await first).digest == NEW
    assert [(await other).digest for other in others] == [OLD, OLD]
    assert [asked.body["model"] for asked in both.asked] == [NEW_NAME, OLD_NAME, OLD_NAME]


async def test_lines_that_wait_for_a_slot_do_not_get_a_digest_that_was_quarantined_meanwhile(
    rig: Rig, region: World, both: Engine
) -> None:
    await rig.push(bounded(trying(region)))
    gate = asyncio.Event()

    async def hold(asked: Asked, reply: Reply) -> None:
        await gate.wait()
        await both.answer(asked, reply)

    both.script = hold
    lines = [asyncio.create_task(rig.say(npc=npc)) for npc in (OTHERS[0], CANDIDATES[0], OTHERS[1])]
    await eventually(lambda: both.running == 1 and rig.service.admission.waiting() == {"gold": 2})
    region.aliases = {("gold", "vampire"): []}  # and the pod still has both
    await rig.push(bounded(region.table()))
    gate.set()
    await asyncio.gather(*lines)
    assert both.chats == 1
