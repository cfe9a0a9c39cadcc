"""Notes at many pods before an API server that is slow: they hold up neither each other's tiers nor anything else."""

from __future__ import annotations

import asyncio

import pytest

from npc_operator.domain.interruption.notices import Kind
from npc_operator.domain.interruption.record import Record
from npc_operator.domain.interruption.wishes import Steps
from npc_operator.ports import Manifest
from npc_operator.reconcilers.interruption_acts import AT_ONCE, ROW_SECONDS, Acts, Wish
from tests.component.operator.harness import FakeMeter, FakeRecorder
from tests.support.builders import pod_fact
from tests.support.fake_clock import FakeClock
from tests.support.fake_kube import FakeKube


class SlowKube(FakeKube):
    """Every write takes its time, which is all the time that passes."""

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds
        self.noted: list[str] = []
        self.under_way = self.most_under_way = 0

    async def apply(self, manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        self._clock.advance(self._seconds)
        self.noted.append(manifest["metadata"]["name"])
        return manifest


class Slow:
    """One leadership's hand, and what it writes to."""

    def __init__(self, seconds: float) -> None:
        clock = FakeClock()
        self.kube = SlowKube(clock, seconds)
        self.acts = Acts(kube=self.kube, recorder=FakeRecorder(), meter=FakeMeter(), clock=clock)


def wishes(tier: str, count: int) -> list[Wish]:
    steps = Steps(record=Record(kind=Kind.INTERRUPTION, since=1.0))
    return [Wish(pod_fact(f"{tier}-{number:02}", tier=tier), None, steps) for number in range(count)]


async def test_where_writes_are_slow_a_row_ends_before_its_time_and_the_next_one_does_the_rest() -> None:
    slow = Slow(ROW_SECONDS / 4)
    row = wishes("gold", 30)
    looks = [await slow.acts.carry_out(row)]
    assert looks[0].more
    assert 0 < len(slow.kube.noted) < 4 + AT_ONCE
    while looks[-1].more:
        looks.append(await slow.acts.carry_out(row))
    assert sorted(slow.kube.noted) == [wish.pod.name for wish in row]


async def test_pods_that_somebody_waits_for_are_written_to_however_long_a_row_takes() -> None:
    slow = Slow(2 * ROW_SECONDS)
    row = wishes("gold", 30)
    waited = frozenset(wish.pod.uid for wish in row[10:])
    result = await slow.acts.carry_out(row, first=waited)
    assert {wish.pod.name for wish in row[10:]} <= set(slow.kube.noted)
    assert result.more


@pytest.mark.parametrize("tiers", [1, 5])
async def test_tiers_take_turns_together(tiers: int) -> None:
    slow = Slow(0.0)
    rows = [wishes(f"tier{number}", 30) for number in range(tiers)]
    await asyncio.gather(*map(slow.acts.carry_out, rows))
    assert slow.kube.most_under_way == AT_ONCE
    assert len(slow.kube.noted) == 30 * tiers
