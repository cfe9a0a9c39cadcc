"""What the operator hears of lines that pods cost that go away, and when it is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from npc_runtime import wire
from npc_runtime.gateway.disturbances import (
    Disturbances,
    DisturbanceWatch,
    Report,
    add_up,
    count_lines,
)
from npc_runtime.gateway.errors import Reason
from npc_runtime.gateway.metrics import Metrics
from npc_runtime.gateway.table import CompiledTable, compile_table
from tests.unit.gateway.tables import route_table

TOLD = Report(counted=wire.Stamp(epoch=1, generation=1), pods=frozenset({"a", "b"}))


def test_lost_rerouted_and_downgraded_lines_are_added_up_by_tier_and_refusals_are_no_loss() -> None:
    metrics = Metrics()
    one, other = metrics.series("vampire", "gold"), metrics.series("zombie", "gold")
    for reason in (Reason.ENGINE_INTERRUPTED, Reason.NO_RESIDENT, Reason.SHED, Reason.CLIENT_GONE):
        one.count_error(reason)
    one.retries, other.resumed = 2, 3
    other.count_degraded("Scripted")
    metrics.series("vampire", "silver").count_error(Reason.TIMEOUT)
    metrics.unrouted.count_error(Reason.TIMEOUT)
    assert count_lines(metrics) == {"gold": [2, 5, 1], "silver": [1, 0, 0]}


def test_several_event_loops_are_one_gateway() -> None:
    said = [
        Disturbances({"a": 1, "b": 2}, {"gold": [1, 0, 0]}).say(),
        Disturbances({"a": 4}, {"gold": [1, 2, 3], "silver": [0, 0, 7]}).say(),
    ]
    assert add_up(said) == Disturbances({"a": 5, "b": 2}, {"gold": [2, 2, 3], "silver": [0, 0, 7]})
    assert add_up([Disturbances({"a": 1}).say()]).lines is None


@pytest.mark.parametrize(
    ("now", "news"),
    [
        (TOLD, False),
        (replace(TOLD, counted=wire.Stamp(epoch=1, generation=2)), False),
        (replace(TOLD, counted=wire.Stamp(epoch=2, generation=1)), True),
        (replace(TOLD, pods=frozenset({"a"})), True),
        (replace(TOLD, departures=(wire.Departure(uid="b", lines=1),)), True),
        (replace(TOLD, lines=(wire.TierLines(tier="gold", lost=1),)), True),
    ],
)
def test_who_waits_hears_of_other_pods_other_lines_and_another_leader(now: Report, news: bool) -> None:
    assert now.is_news(TOLD) is news


def test_what_is_counted_belongs_to_the_table_that_was_in_force_before_the_counting() -> None:
    async def play() -> list[Report]:
        tables: list[CompiledTable | None] = [
            None,
            *(compile_table(route_table(stamp=wire.Stamp(epoch=1, generation=n))) for n in (1, 2)),
        ]
        told: list[Report] = []
        now = 0

        async def count(lines: bool) -> Disturbances:
            nonlocal now
            now = min(now + 1, 2)  # a table comes while it is counted
            return Disturbances({"gone": 1}, {"gold": [1, 0, 0], "silver": [0, 0, 0]} if lines else None)

        watch = DisturbanceWatch(ask=count, table=lambda: tables[now], tell=told.append)
        await watch.look(lines=True)
        await watch.look(lines=False)
        await watch.look(lines=False)
        return told

    first, second, third = asyncio.run(play())
    assert first.counted == wire.NO_STAMP
    assert second.counted.generation == 1
    assert third.counted.generation == 2
    assert second.departures == (wire.Departure(uid="gone", lines=1),)
    assert first.lines == second.lines == (wire.TierLines(tier="gold", lost=1),)
