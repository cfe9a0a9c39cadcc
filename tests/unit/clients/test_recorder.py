"""Events: once each, counted when repeated, bounded in rate and number, and never a reason to fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from npc_operator.clients.metrics import Metrics
from npc_operator.clients.recorder import BURST, PENDING, PER_SECOND, SERIES_SECONDS, TTL_SECONDS, EventRecorder
from npc_operator.ports import Manifest, NotFound, ObjectRef, PortError
from tests.support.fake_clock import FakeClock, run_virtual

REF = ObjectRef("npcfleet.dev/v1alpha1", "GpuTier", "eu", "gold", "uid-gold")


class Sink:
    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.error: PortError | None = None
        self.seconds = 0.0

    async def apply(self, manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self.written.append(dict(manifest))
        return manifest


@contextlib.asynccontextmanager
async def recording(clock: FakeClock) -> AsyncIterator[tuple[EventRecorder, Sink, Metrics]]:
    sink, metrics = Sink(), Metrics()
    recorder = EventRecorder(sink=sink, clock=clock, metrics=metrics, instance="pod-1")
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder, sink, metrics
    finally:
        assert not task.done(), "nothing may end the recorder"
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def lost(metrics: Metrics, reason: str) -> float:
    return metrics.registry.get_sample_value("npc_operator_events_lost_total", {"reason": reason}) or 0.0


def test_an_event_says_what_happened_to_what() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with recording(clock) as (recorder, sink, _):
            recorder.warning(REF, "ModelTooSmall", "8B at least")
            await asyncio.sleep(0.1)
        event = sink.written[0]
        assert (event["type"], event["reason"], event["note"]) == ("Warning", "ModelTooSmall", "8B at least")
        assert event["regarding"] == {
            "apiVersion": "npcfleet.dev/v1alpha1",
            "kind": "GpuTier",
            "namespace": "eu",
            "name": "gold",
            "uid": "uid-gold",
        }
        assert event["metadata"]["namespace"] == "eu"
        assert event["reportingInstance"] == "pod-1"
        assert "series" not in event

    run_virtual(scenario)


def test_the_same_again_is_not_written_again_until_a_minute_has_passed_and_then_counted() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with recording(clock) as (recorder, sink, _):
            for _ in range(10):
                recorder.normal(REF, "RolledOut", "done")
                await asyncio.sleep(1)
            assert len(sink.written) == 1
            await asyncio.sleep(SERIES_SECONDS)
            recorder.normal(REF, "RolledOut", "done")
            await asyncio.sleep(0.1)
        assert len(sink.written) == 2
        assert sink.written[1]["metadata"] == sink.written[0]["metadata"]
        assert sink.written[1]["series"]["count"] == 11

    run_virtual(scenario)


def test_after_ten_quiet_minutes_it_is_a_new_event() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with recording(clock) as (recorder, sink, _):
            recorder.normal(REF, "RolledOut", "done")
            await asyncio.sleep(TTL_SECONDS + 1)
            recorder.normal(REF, "RolledOut", "done")
            await asyncio.sleep(0.1)
        assert sink.written[0]["metadata"]["name"] != sink.written[1]["metadata"]["name"]

    run_virtual(scenario)


def test_other_words_or_another_object_are_another_event() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with recording(clock) as (recorder, sink, _):
            recorder.normal(REF, "RolledOut", "one")
            recorder.normal(REF, "RolledOut", "two")
            recorder.warning(REF, "RolledOut", "two")
            recorder.normal(ObjectRef("v1", "Pod", "eu", "p"), "RolledOut", "two")
            await asyncio.sleep(0.1)
        assert len({event["metadata"]["name"] for event in sink.written}) == 4

    run_virtual(scenario)


def test_a_storm_is_written_at_a_bounded_rate_and_its_oldest_are_lost_and_counted() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with recording(clock) as (recorder, sink, metrics):
            for number in range(3000):
                recorder.normal(REF, "Storm", str(number))
            assert lost(metrics, "TooMany") == 3000 - PENDING
            await asyncio.sleep(10)
            assert len(sink.written) <= BURST + 10 * PER_SECOND + 1
            await asyncio.sleep(60)
            assert len(sink.written) == PENDING
            assert sink.written[-1]["note"] == "2999"

    run_virtual(scenario)


def test_what_cannot_be_written_is_counted_and_forgotten() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with recording(clock) as (recorder, sink, metrics):
            sink.error = PortError("away", reason="Unreachable")
            recorder.normal(REF, "One", "lost")
            await asyncio.sleep(1)
            sink.error = NotFound("namespace is gone")
            recorder.normal(REF, "Two", "lost with its namespace")
            await asyncio.sleep(1)
            sink.error = None
            recorder.normal(REF, "Three", "written")
            await asyncio.sleep(1)
            assert [event["reason"] for event in sink.written] == ["Three"]
            assert lost(metrics, "Unreachable") == 1

    run_virtual(scenario)


def test_whoever_tells_never_waits_for_the_api_server() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with recording(clock) as (recorder, sink, _):
            sink.seconds = 60
            before = clock.monotonic()
            for number in range(100):
                recorder.normal(REF, "Slow", str(number))
            assert clock.monotonic() == before

    run_virtual(scenario)


def test_a_note_is_cut_to_what_the_api_server_takes_without_breaking_a_character() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with recording(clock) as (recorder, sink, _):
            recorder.normal(REF, "Long", "ä" * 4000)
            await asyncio.sleep(0.1)
        note = sink.written[0]["note"]
        assert len(note.encode()) <= 1024
        assert note.endswith("ä...")

    run_virtual(scenario)


def test_last_words_are_written_at_once() -> None:
    async def scenario(clock: FakeClock) -> None:
        sink = Sink()
        recorder = EventRecorder(sink=sink, clock=clock, metrics=Metrics(), instance="pod-1")
        for number in range(200):
            recorder.normal(REF, "Bye", str(number))
        await recorder.flush(seconds=0.5)
        assert len(sink.written) == 200

    run_virtual(scenario)


def test_last_words_that_nobody_takes_are_counted_as_lost_instead_of_holding_up_the_end() -> None:
    async def scenario(clock: FakeClock) -> None:
        sink, metrics = Sink(), Metrics()
        sink.seconds = 3600
        recorder = EventRecorder(sink=sink, clock=clock, metrics=metrics, instance="pod-1")
        for number in range(3):
            recorder.normal(REF, "Bye", str(number))
        began = clock.monotonic()
        await recorder.flush(seconds=0.5)
        assert clock.monotonic() - began < 1
        assert lost(metrics, "Ended") == 3

    run_virtual(scenario)
