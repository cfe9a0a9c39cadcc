"""The messages of the queue row are what they are counted as, and its CPU is told by whose it was."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from hack.bench import row_queue
from hack.bench.row_queue import MESSAGES, Spent, build_messages, count_expected, read_all, read_queue
from hack.bench.waiting import BenchFault
from npc_operator.clients.interruption_reader import InterruptionReader
from npc_operator.domain.interruption.notices import Notice
from npc_operator.domain.interruption.sources.eventbridge import parse_message
from npc_operator.ports import PortError


def test_each_kind_of_message_is_there_as_often_as_it_is_expected() -> None:
    found = [item for body in build_messages(200) for item in parse_message(body, seen=1.0)]
    notices, ignored = count_expected(200)
    assert Counter(item.kind.value for item in found if isinstance(item, Notice)) == notices
    assert Counter(item.reason for item in found if not isinstance(item, Notice)) == ignored
    assert notices.total() + ignored.total() == 200
    assert MESSAGES % 100 == 0


def test_a_slow_moto_is_told_apart_from_a_slow_reader() -> None:
    runs = [Spent(wall=100.0, reader=1.0, senders=2.0, moto=40.0), Spent(wall=50.0, reader=2.0, senders=2.0, moto=30.0)]
    figures = {figure.what: figure.runs for figure in read_queue(1000, [0.1, 0.2], runs)}
    assert figures == {
        "1000 mixed messages understood and joined": (0.1, 0.2),
        "1000 mixed messages received, acted on, counted, deleted": (10.0, 20.0),
        "CPU per message of the reader: the product": (1.0, 2.0),
        "CPU per message of the senders: boto3 alone": (2.0, 2.0),
        "CPU per message of moto's SQS": (40.0, 30.0),
    }


async def test_every_message_of_a_small_run_is_accounted_for_and_so_is_its_cpu() -> None:
    spent = await read_all(list(build_messages(100)))
    assert min(spent.reader, spent.senders, spent.moto, spent.wall) > 0


async def test_a_run_in_which_kinds_do_not_add_up_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    notices, ignored = count_expected(100)
    monkeypatch.setattr(row_queue, "count_expected", lambda _count: (notices + Counter(Rebalance=1), ignored))
    with pytest.raises(BenchFault, match="miscounted"):
        await read_all(list(build_messages(100)))


async def test_a_run_ends_when_a_sender_breaks_and_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = iter(range(1000))
    real = row_queue._send

    def breaking(client: Any, url: str, bodies: list[str], room: threading.Semaphore) -> float:
        if next(sent) == 3:
            raise BenchFault("messages could not be sent")
        return real(client, url, bodies, room)

    monkeypatch.setattr(row_queue, "_send", breaking)
    with pytest.raises(BenchFault, match="could not be sent"):
        await read_all(list(build_messages(200)))


async def test_a_reader_that_breaks_leaves_no_sender_waiting_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_self: InterruptionReader, _wait: int) -> int:
        raise PortError("no", reason="QueueForbidden")

    monkeypatch.setattr(InterruptionReader, "read", refuse)
    with pytest.raises(PortError):
        await read_all(list(build_messages(200)))
