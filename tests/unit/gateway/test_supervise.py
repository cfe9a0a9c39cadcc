"""What must go on goes on after any fault, and no fault is silent."""

from __future__ import annotations

import asyncio

import pytest

from npc_runtime.gateway import supervise as module
from npc_runtime.gateway.supervise import supervise


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were taken, none of which takes any time."""
    taken: list[float] = []

    async def sleep(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr("npc_runtime.gateway.supervise.asyncio.sleep", sleep)
    monkeypatch.setattr("npc_runtime.gateway.supervise.random.uniform", lambda low, high: high)
    return taken


async def test_a_fault_is_logged_with_its_traceback_and_the_work_starts_again(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    faults = [ValueError("first"), OSError("second")]
    told: list[int] = []

    async def work() -> None:
        if faults:
            raise faults.pop(0)

    await supervise("the work", work, on_fault=lambda: told.append(1))
    assert len(told) == len(pauses) == 2
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert {vars(record)["work"] for record in caplog.records} == {"the work"}
    assert "ValueError: first" in caplog.text


async def test_what_should_follow_a_fault_and_fails_itself_is_seen_and_ends_nothing(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[Exception] = [ValueError("first")]

    async def work() -> None:
        if faults:
            raise faults.pop()

    def fail() -> None:
        raise OSError("second")

    await supervise("the work", work, on_fault=fail)
    assert "OSError: second" in caplog.text


async def test_pauses_grow_to_a_limit(pauses: list[float]) -> None:
    async def work() -> None:
        if len(pauses) < 12:
            raise ValueError

    await supervise("the work", work)
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == module.LONGEST_PAUSE_SECONDS


async def test_work_that_ran_long_starts_again_at_once(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALM_SECONDS", -1.0)

    async def work() -> None:
        if len(pauses) < 5:
            raise ValueError

    await supervise("the work", work)
    assert pauses == [0.1] * 5


async def test_cancelling_ends_it() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(supervise("the work", work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
