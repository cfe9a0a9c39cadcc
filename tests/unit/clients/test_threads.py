"""What a blocking call found belongs to whoever waits for it, or to whoever gives it back: it is never lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from npc_operator.clients.threads import in_thread, is_awaited

PATIENCE = 60


class Call:
    """Blocks until it may end; what was abandoned can be waited for."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.awaited: list[bool] = []
        self.thread: threading.Thread | None = None
        self.abandoned: list[str] = []
        self.given_back = threading.Event()

    def __call__(self) -> str:
        self.thread = threading.current_thread()
        self.awaited.append(is_awaited())
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        self.awaited.append(is_awaited())
        return "found"

    def give_back(self, found: str) -> None:
        self.abandoned.append(found)
        self.given_back.set()

    def end(self) -> None:
        """The call returns, and its thread is over before anything else happens on the loop."""
        self.may_end.set()
        assert self.thread is not None
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


async def begin(call: Call) -> asyncio.Task[str]:
    task = asyncio.create_task(in_thread(call, name="test", abandoned=call.give_back))
    await asyncio.to_thread(call.begun.wait, PATIENCE)
    return task


async def step() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_who_waits_gets_what_was_found_and_nobody_else() -> None:
    call = Call()
    task = await begin(call)
    call.end()
    assert await task == "found"
    assert (call.awaited, call.abandoned) == ([True, True], [])


async def end_after_the_waiter_left(call: Call, task: asyncio.Task[str]) -> None:
    task.cancel()
    await step()
    call.end()


async def end_before_the_waiter_knows_that_it_was_cancelled(call: Call, task: asyncio.Task[str]) -> None:
    task.cancel()
    call.end()


async def end_before_the_waiter_was_cancelled(call: Call, task: asyncio.Task[str]) -> None:
    call.end()
    task.cancel()


async def end_and_cancel_before_the_waiter_looks(call: Call, task: asyncio.Task[str]) -> None:
    call.end()
    asyncio.get_running_loop().call_soon(task.cancel)


@pytest.mark.parametrize(
    "race",
    [
        end_after_the_waiter_left,
        end_before_the_waiter_knows_that_it_was_cancelled,
        end_before_the_waiter_was_cancelled,
        end_and_cancel_before_the_waiter_looks,
    ],
)
async def test_what_is_found_for_somebody_who_left_is_given_back_once(
    race: Callable[[Call, asyncio.Task[str]], Awaitable[None]],
) -> None:
    call = Call()
    task = await begin(call)
    await race(call, task)
    with pytest.raises(asyncio.CancelledError):
        await task
    await step()
    assert await asyncio.to_thread(call.given_back.wait, PATIENCE)
    assert call.abandoned == ["found"]


async def test_a_call_of_many_steps_knows_when_nobody_waits_any_more() -> None:
    call = Call()
    task = await begin(call)
    await end_after_the_waiter_left(call, task)
    assert call.awaited == [True, False]


async def test_what_a_call_raises_is_raised_to_who_waits() -> None:
    def fails() -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_thread(fails, name="test")
