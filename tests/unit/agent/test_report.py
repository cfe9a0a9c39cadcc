from __future__ import annotations

import asyncio
from dataclasses import replace

from npc_runtime.agent.report import Board, Content
from npc_runtime.wire import AdapterPhase, AdapterReport


def adapter(name: str, phase: AdapterPhase = AdapterPhase.QUEUED) -> AdapterReport:
    return AdapterReport(served_name=name, archetype=name, digest="d", phase=phase)


def content(*adapters: AdapterReport, accepting: bool = True) -> Content:
    resident = tuple(item.served_name for item in adapters if item.phase is AdapterPhase.RESIDENT)
    return Content(adapters=adapters, resident=resident, accepting=accepting)


async def test_a_stranger_gets_everything_at_once() -> None:
    board = Board()
    board.publish(content(adapter("a"), adapter("b")))
    report = await board.status(after=0, boot="", wait=50)
    assert report.full
    assert [item.served_name for item in report.adapters] == ["a", "b"]
    assert (await board.status(after=99, boot="another boot", wait=50)).full


async def test_a_reader_gets_only_what_changed_since() -> None:
    board = Board()
    board.publish(content(adapter("a"), adapter("b"), adapter("c")))
    first = await board.status(after=0, boot="", wait=0)
    board.publish(content(adapter("a"), adapter("b", AdapterPhase.FETCHING)))
    report = await board.status(after=first.revision, boot=board.boot_id, wait=50)
    assert not report.full
    assert [item.served_name for item in report.adapters] == ["b"]
    assert report.removed == ("c",)
    board.publish(content(adapter("a"), adapter("b", AdapterPhase.FETCHING), adapter("c")))
    again = await board.status(after=report.revision, boot=board.boot_id, wait=0)
    assert ([item.served_name for item in again.adapters], again.removed) == (["c"], ())


async def test_a_change_answers_a_waiting_reader_at_once_and_the_same_content_does_not() -> None:
    board = Board()
    board.publish(content(adapter("a")))
    waiting = asyncio.create_task(board.status(after=board.revision, boot=board.boot_id, wait=30))
    await asyncio.sleep(0)
    board.publish(content(adapter("a")))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    board.publish(content(adapter("a", AdapterPhase.LOADING)))
    assert (await asyncio.wait_for(waiting, 10)).adapters[0].phase is AdapterPhase.LOADING


async def test_without_news_a_reader_gets_an_empty_difference_in_time() -> None:
    board = Board()
    board.publish(content(adapter("a")))
    report = await board.status(after=board.revision, boot=board.boot_id, wait=0.02)
    assert (report.full, report.adapters, report.removed) == (False, (), ())


async def test_gateways_are_woken_only_by_what_they_must_act_on() -> None:
    board = Board()
    board.publish(content(adapter("a", AdapterPhase.PROBING)))
    before = (await board.routable(after=0, boot="", wait=0)).revision
    board.publish(replace(content(adapter("a", AdapterPhase.PROBING)), cache_bytes=7))
    assert (await board.routable(after=0, boot="", wait=0)).revision == before
    waiting = asyncio.create_task(board.routable(after=before, boot=board.boot_id, wait=30))
    await asyncio.sleep(0)
    board.publish(content(adapter("a", AdapterPhase.RESIDENT)))
    assert (await asyncio.wait_for(waiting, 10)).resident == ("a",)
    board.publish(content(adapter("a", AdapterPhase.RESIDENT), accepting=False))
    assert not (await board.routable(after=0, boot="", wait=0)).accepting


async def test_a_reader_too_far_behind_for_the_remembered_removals_gets_everything() -> None:
    board = Board()
    board.publish(content(*(adapter(f"n{number}") for number in range(1100))))
    first = board.revision
    board.publish(content(adapter("x")))
    report = await board.status(after=first, boot=board.boot_id, wait=0)
    assert report.full
    assert [item.served_name for item in report.adapters] == ["x"]
