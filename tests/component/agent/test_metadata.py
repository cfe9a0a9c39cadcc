"""The agent asks its machine's metadata service, and says what it heard: to the operator at once, to gateways when no
new line may be taken any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npc_operator.domain.interruption.machine import ROUTE_MARGIN_SECONDS
from npc_runtime.agent.metadata import DRAIN_SECONDS, Cloud, MetadataWatch
from npc_runtime.agent.metadata_parse import (
    Strange,
    Word,
    parse_events,
    parse_incarnation,
    parse_maintenance,
    parse_preempted,
    parse_rebalance,
    parse_scheduled,
    parse_spot_action,
)
from npc_runtime.agent.settings import Settings, parse
from npc_runtime.wire import InterruptionReport
from tests.component.agent.harness import Harness, make_settings, running
from tests.component.agent.metadata_services import ACTION, EVENTS, REBALANCE, SCHEDULED, AzureVm, ComputeEngine, Ec2
from tests.support.fake_engine import FakeEngine
from tests.unit.agent.test_settings import REQUIRED
from tests.unit.domain.interruption.samples import load

STOOD_STILL_SECONDS = 15.0
"""What a busy machine may add to what is timed once; a poll that is waited out, and so late, takes 60 s."""


@dataclass
class Watched:
    watch: MetadataWatch
    news: asyncio.Queue[tuple[InterruptionReport | None, bool]]
    failed: Counter[str]

    async def next(self) -> tuple[str, bool]:
        async with asyncio.timeout(50):
            report, draining = await self.news.get()
        return ("" if report is None else report.kind), draining


@contextlib.asynccontextmanager
async def watching(cloud: Cloud, url: str) -> AsyncIterator[Watched]:
    news: asyncio.Queue[tuple[InterruptionReport | None, bool]] = asyncio.Queue()
    failed: Counter[str] = Counter()

    def changed() -> None:
        news.put_nowait((watch.report, watch.draining))

    watch = MetadataWatch(cloud, url, changed=changed, failed=lambda reason: failed.update([reason]))
    task = asyncio.create_task(watch.run())
    try:
        yield Watched(watch, news, failed)
        assert not task.done(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def action(seconds: float) -> str:
    return json.dumps({**load("metadata-aws-instance-action"), "time": iso(seconds)})


async def test_ec2_is_asked_with_a_token_and_its_notice_and_withdrawal_are_told() -> None:
    async with Ec2() as machine, watching("AWS", machine.url) as seen:
        await machine.until_asked(ACTION)
        assert (seen.watch.report, seen.watch.draining) == (None, False)
        machine.documents[ACTION] = action(120)
        assert await seen.next() == ("Interruption", False)
        report = seen.watch.report
        assert report is not None
        assert report.deadline_ms is not None
        assert 120 - STOOD_STILL_SECONDS < report.deadline_ms / 1000 - time.time() <= 120
        assert report.source == "AWS"
        del machine.documents[ACTION]
        assert await seen.next() == ("", False)
        assert machine.tokens == 1


async def test_ec2_drains_25_seconds_before_the_end_and_not_before() -> None:
    late: list[float] = []
    # A machine that stands still is late, too: another try tells.
    while not late or (late[-1] >= 1 and len(late) < 3):
        async with Ec2() as machine:
            machine.documents[ACTION] = action(DRAIN_SECONDS + 4)
            async with watching("AWS", machine.url) as seen:
                assert await seen.next() == ("Interruption", False)
                end = seen.watch.report.deadline_ms / 1000  # type: ignore[union-attr, operator]
                assert await seen.next() == ("Interruption", True)
                late.append(time.time() - (end - DRAIN_SECONDS))
                assert late[-1] >= 0
    assert late[-1] < 1


def test_agent_and_operator_leave_lines_the_same_time() -> None:
    assert DRAIN_SECONDS == ROUTE_MARGIN_SECONDS


async def test_a_token_that_ran_out_is_asked_for_anew() -> None:
    async with Ec2() as machine, watching("AWS", machine.url) as seen:
        await machine.until_asked(ACTION)
        machine.expire()
        machine.documents[ACTION] = action(120)
        assert await seen.next() == ("Interruption", False)
        assert machine.tokens == 2


async def test_recommendations_and_maintenance_are_told_the_stronger_first() -> None:
    async with Ec2() as machine:
        machine.documents[REBALANCE] = json.dumps(load("metadata-aws-rebalance"))
        async with watching("AWS", machine.url) as seen:
            assert await seen.next() == ("Rebalance", False)
    async with Ec2() as machine:
        machine.documents |= {
            REBALANCE: json.dumps(load("metadata-aws-rebalance")),
            SCHEDULED: json.dumps([load("metadata-aws-scheduled")[0] | {"NotBefore": "15 Aug 2096 15:00:00 GMT"}]),
        }
        async with watching("AWS", machine.url) as seen:
            while await seen.next() != ("Scheduled", False):
                pass


async def test_a_hop_limit_of_one_is_told_once_and_says_nothing_of_the_machine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Ec2(hop_limit=1) as machine, watching("AWS", machine.url) as seen:
        async with asyncio.timeout(50):
            await machine.token_asked.wait()
            while "hop limit" not in caplog.text:
                machine.token_asked.clear()
                await machine.token_asked.wait()
        assert (seen.watch.report, seen.watch.draining) == (None, False)
        assert sum(record.levelno >= logging.WARNING for record in caplog.records) <= 3, "once per topic"
        assert set(seen.failed) == {"Unheard"}


async def test_a_service_that_breaks_takes_nothing_back_and_its_words_stay_out_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Ec2() as machine:
        machine.documents[ACTION] = action(120)
        async with watching("AWS", machine.url) as seen:
            assert await seen.next() == ("Interruption", False)
            machine.broken = True
            await machine.until_asked(f"broken {ACTION}", 3)
            told = [vars(record).get("topic") for record in caplog.records if "cannot be asked" in record.message]
            assert told.count("spot/instance-action") == 1, "once, however often it fails"
            assert seen.watch.report is not None
            machine.broken = False
            machine.documents[ACTION] = action(60)
            assert await seen.next() == ("Interruption", False)
        words = caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
        assert "secret words" not in words
        assert machine.token not in words


async def test_an_answer_that_is_not_understood_is_no_word_and_is_counted_and_told_once(
    world: Path, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    async with Ec2() as machine:
        machine.documents[ACTION] = '{"action": "levitate"}'
        async with watching("AWS", machine.url) as seen:
            await machine.until_asked(ACTION, 4)
            assert (seen.watch.report, set(seen.failed)) == (None, {"Strange"})
            told = [vars(record).get("topic") for record in caplog.records if record.levelno >= logging.WARNING]
            assert told == ["spot/instance-action"], "once, however often it is asked"
        settings = replace(make_settings(world, engine.url), metadata="AWS", metadata_url=machine.url)
        async with running(settings) as agent:
            await machine.until_asked(ACTION, machine.asked[ACTION] + 2)
            assert (await agent.status()).interruption is None
            _, text = await agent.health("/metrics")
            assert 'npc_agent_metadata_failures_total{reason="Strange"}' in text


async def test_compute_engine_tells_of_a_preemption_as_it_happens() -> None:
    async with ComputeEngine() as machine, watching("GCP", machine.url) as seen:
        await machine.until_asked("/computeMetadata/v1/instance/preempted")
        began = time.monotonic()
        machine.set("preempted", "TRUE")
        assert await seen.next() == ("Interruption", False)
        assert time.monotonic() - began < STOOD_STILL_SECONDS, "a long poll, no waiting for the next one"
        assert await seen.next() == ("Interruption", True)
        assert time.monotonic() - began < 30 - DRAIN_SECONDS + STOOD_STILL_SECONDS
        assert machine.asked["/computeMetadata/v1/instance/preempted"] < 6, "it is not asked again and again"


async def test_compute_engine_maintenance_that_ends_the_machine_counts_and_migration_does_not() -> None:
    async with ComputeEngine() as machine, watching("GCP", machine.url) as seen:
        path = "/computeMetadata/v1/instance/maintenance-event"
        await machine.until_asked(path)
        machine.set("maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE")
        await machine.until_asked(path, 2)
        machine.set("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")
        assert await seen.next() == ("Scheduled", False)
        machine.set("maintenance-event", "NONE")
        assert await seen.next() == ("", False)


async def test_what_is_not_google_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    async with ComputeEngine(google=False) as machine:
        machine.set("preempted", "TRUE")
        async with watching("GCP", machine.url) as seen:
            await machine.until_asked("/computeMetadata/v1/instance/preempted", 2)
            assert seen.watch.report is None
    assert "cannot be asked" in caplog.text


def preempt(seconds: float, *names: str) -> dict[str, object]:
    event: dict[str, object] = load("metadata-azure-preempt")["Events"][0]
    when = format_datetime(datetime.fromtimestamp(time.time() + seconds, UTC), usegmt=True)
    return {**event, "Resources": list(names), "NotBefore": when}


async def test_azure_tells_of_this_machine_alone_and_of_what_changed() -> None:
    async with AzureVm() as machine, watching("Azure", machine.url) as seen:
        await machine.until_asked(EVENTS)
        machine.schedule(preempt(300, "aks-gpuspot_9"))
        await machine.until_asked(EVENTS, machine.asked[EVENTS] + 2)
        assert seen.watch.report is None
        machine.schedule(preempt(300, "aks-gpuspot_9", "AKS-gpuspot_6"))
        assert await seen.next() == ("Interruption", False)
        machine.schedule({**preempt(0, "aks-gpuspot_6"), "EventStatus": "Started", "NotBefore": ""})
        assert await seen.next() == ("Interruption", True)
        machine.schedule()
        assert await seen.next() == ("", False)


async def test_a_preemption_without_a_time_is_no_less_because_something_milder_was_said_before() -> None:
    async with AzureVm() as machine, watching("Azure", machine.url) as seen:
        await machine.until_asked(EVENTS)
        machine.schedule({**preempt(0, "aks-gpuspot_6"), "EventStatus": "Advisory", "NotBefore": ""})
        assert await seen.next() == ("Rebalance", False)
        machine.schedule({**preempt(0, "aks-gpuspot_6"), "NotBefore": ""})
        assert await seen.next() == ("Interruption", False)
        report = seen.watch.report
        assert report is not None
        assert report.deadline_ms is not None


async def test_gateways_and_operator_hear_it_from_the_agent(world: Path, engine: FakeEngine) -> None:
    async with Ec2() as machine:
        settings = replace(make_settings(world, engine.url), metadata="AWS", metadata_url=machine.url)
        async with running(settings) as agent:
            await until_accepting(agent, True)
            machine.documents[ACTION] = action(DRAIN_SECONDS + 4)
            status = await agent.status()
            while status.interruption is None:
                status = await agent.status(after=status.revision, boot=status.boot_id, wait=5)
            assert status.interruption.kind == "Interruption"
            assert (await agent.routable()).accepting, "as long as nobody else may be there"
            await until_accepting(agent, False)
            status = await agent.status()
            assert status.draining
            assert not status.ready
            del machine.documents[ACTION]
            await until_accepting(agent, True)


async def until_accepting(agent: Harness, accepting: bool) -> None:
    async with asyncio.timeout(50):
        routable = await agent.routable()
        while routable.accepting is not accepting:
            routable = await agent.routable(after=routable.revision, boot=routable.boot_id, wait=5)


async def test_nobody_is_asked_unless_it_is_switched_on(world: Path, engine: FakeEngine) -> None:
    async with Ec2() as machine:
        settings = replace(make_settings(world, engine.url), metadata_url=machine.url)
        assert settings.metadata is None
        async with running(settings) as agent:
            await until_accepting(agent, True)
            assert (await agent.status()).interruption is None
        assert not machine.asked
        assert not machine.token_asked.is_set()


@pytest.mark.parametrize(("word", "expected"), [("Off", None), ("AWS", "AWS"), ("GCP", "GCP"), ("Azure", "Azure")])
def test_the_flag_names_the_cloud(word: str, expected: str | None) -> None:
    parsed = parse([*REQUIRED, f"--metadata={word}"])
    assert isinstance(parsed, Settings)
    assert parsed.metadata == expected


def test_documented_answers_are_understood() -> None:
    now = 1_785_562_805.0
    assert parse_spot_action(json.dumps(load("metadata-aws-instance-action"))) == Word("Interruption", 1_785_562_920.0)
    assert parse_rebalance(json.dumps(load("metadata-aws-rebalance"))) == Word("Rebalance")
    assert parse_scheduled(json.dumps(load("metadata-aws-scheduled"))) == Word("Scheduled", 1_786_806_000.0)
    assert parse_scheduled(json.dumps([load("metadata-aws-scheduled")[0] | {"State": "completed"}])) is None
    document = json.dumps(load("metadata-azure-preempt"))
    assert parse_events(document, machine="aks-gpuspot_6", now=now) == Word("Interruption", 1_785_562_842.0)
    assert parse_events(document, machine="aks-gpuspot_5", now=now) is None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(max_size=9) | st.floats(), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["Events", "EventType", "Resources", "NotBefore", "State", "time", "action", "noticeTime", "Preempt", "m"]), x, max_size=4), max_leaves=9).map(json.dumps))  # fmt: skip  # noqa: E501
def test_no_answer_breaks_the_reading(body: str) -> None:
    for found in (
        parse_spot_action(body),
        parse_rebalance(body),
        parse_scheduled(body),
        parse_preempted(body, now=1.0),
        parse_maintenance(body, now=1.0),
        parse_events(body, machine="m", now=1.0),
    ):
        assert found is None or isinstance(found, Word | Strange)
    assert len(parse_incarnation(body)) <= 64
