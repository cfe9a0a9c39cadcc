"""The runner: many keys at a time, each outcome handled, and what one key does wrong stays with it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from npc_operator.domain.outcomes import Done, Outcome, Retry, Terminal, Wait
from npc_operator.loop.queue import KeyedQueue, Lane, Share
from npc_operator.loop.runner import Runner
from npc_operator.ports import PortError
from tests.support.fake_clock import FakeClock, run_virtual

Handle = Callable[[str], Awaitable[Outcome]]


class Counts:
    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []

    def reconciled(self, key: object, outcome: str, seconds: float) -> None:
        self.ended.append((str(key), outcome))


@contextlib.asynccontextmanager
async def running(
    clock: FakeClock, handle: Handle, *, concurrency: int = 4
) -> AsyncIterator[tuple[KeyedQueue[str], Counts]]:
    queue: KeyedQueue[str] = KeyedQueue(clock, jitter=lambda: 0.0)
    counts = Counts()
    runner = Runner(queue=queue, handle=handle, clock=clock, observer=counts, concurrency=concurrency)
    task = asyncio.create_task(runner.run())
    try:
        yield queue, counts
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def outcomes_over(seconds: float, answers: Callable[[int], Outcome | Exception]) -> list[float]:
    """Marks one key once; when it ran, in seconds since, while its n-th run ends as `answers(n)` says."""
    times: list[float] = []

    async def scenario(clock: FakeClock) -> None:
        began = clock.monotonic()

        async def handle(_: str) -> Outcome:
            times.append(round(clock.monotonic() - began, 3))
            answer = answers(len(times))
            if isinstance(answer, Exception):
                raise answer
            return answer

        async with running(clock, handle) as (queue, _):
            queue.add("a")
            await asyncio.sleep(seconds)

    run_virtual(scenario)
    return times


def test_done_is_left_alone() -> None:
    assert outcomes_over(1000, lambda _: Done()) == [0]


def test_done_with_a_time_is_looked_at_again_then() -> None:
    assert outcomes_over(100, lambda _: Done(requeue_after=40)) == [0, 40, 80]


def test_waiting_has_its_safety_net() -> None:
    assert outcomes_over(10, lambda run: Wait("the pod", 4) if run == 1 else Done()) == [0, 4]


def test_a_retry_backs_off_and_success_ends_it() -> None:
    assert outcomes_over(100, lambda run: Retry("no") if run < 4 else Done()) == [0, 1, 3, 7]


def test_terminal_is_not_tried_again_by_itself() -> None:
    assert outcomes_over(1000, lambda _: Terminal("wrong spec")) == [0]


def test_a_crash_backs_off_like_a_retry() -> None:
    assert outcomes_over(100, lambda run: RuntimeError("bug") if run < 3 else Done()) == [0, 1, 3]


def test_a_port_error_that_escapes_is_a_retry_or_terminal_by_its_own_word() -> None:
    assert outcomes_over(2, lambda run: PortError("away") if run == 1 else Done()) == [0, 1]
    assert outcomes_over(100, lambda _: PortError("refused", retryable=False)) == [0]


def test_a_crash_is_counted_and_logged_with_its_key(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(clock: FakeClock) -> list[tuple[str, str]]:
        async def handle(key: str) -> Outcome:
            raise ValueError("a bug")

        async with running(clock, handle) as (queue, counts):
            queue.add("tier/eu/gold")
            await asyncio.sleep(0.1)
            return counts.ended

    with caplog.at_level(logging.ERROR):
        assert run_virtual(scenario) == [("tier/eu/gold", "Panic")]
    assert caplog.records[0].key == "tier/eu/gold"  # type: ignore[attr-defined]
    assert "a bug" in str(caplog.records[0].exc_info)


def test_one_bad_key_does_not_slow_the_others() -> None:
    async def scenario(clock: FakeClock) -> dict[str, float]:
        began = clock.monotonic()
        ended: dict[str, float] = {}

        async def handle(key: str) -> Outcome:
            if key == "stuck":
                await asyncio.sleep(3600)
            if key == "bad":
                raise RuntimeError("always")
            ended[key] = clock.monotonic() - began
            return Done()

        async with running(clock, handle, concurrency=3) as (queue, _):
            for key in ("stuck", "bad", *(f"good-{number}" for number in range(50))):
                queue.add(key)
            await asyncio.sleep(0.1)
            return ended

    ended = run_virtual(scenario)
    assert len(ended) == 50
    assert max(ended.values()) == 0


def test_no_more_run_at_a_time_than_allowed_and_never_a_key_beside_itself() -> None:
    async def scenario(clock: FakeClock) -> tuple[int, int]:
        inside: list[str] = []
        most = 0
        runs = 0

        async def handle(key: str) -> Outcome:
            nonlocal most, runs
            assert key not in inside
            inside.append(key)
            most = max(most, len(inside))
            runs += 1
            await asyncio.sleep(0.1)
            inside.remove(key)
            return Done()

        async with running(clock, handle, concurrency=3) as (queue, _):
            for _ in range(3):
                for number in range(10):
                    queue.add(str(number))
                await asyncio.sleep(0.05)
            await asyncio.sleep(10)
        return most, runs

    most, runs = run_virtual(scenario)
    assert most == 3
    assert 10 <= runs <= 20


def test_others_are_let_in_between_two_runs_that_are_both_due() -> None:
    order: list[str] = []

    async def handle(key: str) -> Outcome:
        order.append(key)
        return Done()

    async def scenario(clock: FakeClock) -> None:
        async with running(clock, handle, concurrency=8) as (queue, _):
            for number in range(8):
                queue.add(f"key-{number}")
            while sum(map(bool, order)) < 8:
                order.append("")
                await asyncio.sleep(0)

    run_virtual(scenario)
    runs = [at for at, key in enumerate(order) if key]
    assert all(later > one + 1 for one, later in itertools.pairwise(runs)), order


def test_cancelling_the_runner_cancels_and_awaits_every_run() -> None:
    async def scenario(clock: FakeClock) -> list[str]:
        cleaned: list[str] = []

        async def handle(key: str) -> Outcome:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.5)
                cleaned.append(key)
            return Done()

        async with running(clock, handle) as (queue, _):
            queue.add("a")
            queue.add("b")
            await asyncio.sleep(1)
        return sorted(cleaned)

    assert run_virtual(scenario) == ["a", "b"]


def test_a_fault_beside_the_reconcile_ends_the_runner_and_is_not_lost() -> None:
    async def scenario(clock: FakeClock) -> None:
        class Deaf(Counts):
            def reconciled(self, key: object, outcome: str, seconds: float) -> None:
                raise ValueError("no such metric")

        async def handle(_: str) -> Outcome:
            return Done()

        queue: KeyedQueue[str] = KeyedQueue(clock, jitter=lambda: 0.0)
        runner = Runner(queue=queue, handle=handle, clock=clock, observer=Deaf())
        queue.add("a")
        with pytest.raises(RuntimeError, match="ended by itself") as caught:
            await runner.run()
        assert isinstance(caught.value.__cause__, ValueError)

    run_virtual(scenario)


def test_who_decides_about_a_silent_zone_does_not_wait_behind_the_orders_to_its_pods() -> None:
    """Hundreds of agents whose machines are gone take 15 seconds each to fail."""

    async def scenario(clock: FakeClock) -> None:
        orders: Share[str] = Share(lambda key: key.startswith("pod-"), most=3)
        queue: KeyedQueue[str] = KeyedQueue(clock, jitter=lambda: 0.0, share=orders)
        ran: dict[str, float] = {}

        async def handle(key: str) -> Outcome:
            ran[key] = clock.monotonic() - began
            if key.startswith("pod-"):
                await asyncio.sleep(15)
                raise PortError("nobody answers")
            return Done()

        runner = Runner(queue=queue, handle=handle, clock=clock, observer=Counts(), concurrency=4)
        task = asyncio.create_task(runner.run())
        began = clock.monotonic()
        for number in range(20):
            queue.add(f"pod-{number}", Lane.URGENT)
        await asyncio.sleep(1)
        for key, lane in (("tier", Lane.NORMAL), ("routes", Lane.URGENT), ("interruptions", Lane.INTERRUPT)):
            queue.add(key, lane)
        await asyncio.sleep(0.5)
        assert {key for key in ran if not key.startswith("pod-")} == {"tier", "routes", "interruptions"}
        await asyncio.sleep(20 * 15 / 3)
        assert len(ran) == 23, "and every pod has its turn"
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    run_virtual(scenario)
