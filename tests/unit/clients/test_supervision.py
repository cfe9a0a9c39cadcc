"""Endless tasks that end are told."""

from __future__ import annotations

import asyncio

import pytest

from npc_operator.clients.supervision import Broken, endless


async def nothing() -> None:
    """Returns, which an endless task never should."""


async def test_what_should_be_endless_and_returns_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="polls ended by itself"):
        await endless("polls", nothing)


async def test_a_cancelled_task_ended_as_it_should() -> None:
    broken = Broken()
    task = asyncio.create_task(asyncio.Event().wait())
    task.add_done_callback(broken.look_at)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await broken.wait()


async def test_a_task_that_returned_is_named() -> None:
    broken = Broken()
    task = asyncio.create_task(nothing(), name="poll eu/gold-0")
    task.add_done_callback(broken.look_at)
    with pytest.raises(RuntimeError, match="poll eu/gold-0"):
        await broken.wait()
