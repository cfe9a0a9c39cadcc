"""The elector, second by second on a virtual clock, over a Lease that hangs, fails, conflicts and changes hands."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from npc_operator.clients.lease import STOP_SECONDS, Elector, LeadershipStuck, Term, Timings
from npc_operator.ports import Conflict, Manifest, PortError
from npc_runtime.wire import Stamp
from tests.support.fake_clock import FakeClock, run_virtual

TIMINGS = Timings()


class OneLease:
    """The Lease on an API server that can be told to misbehave."""

    def __init__(self) -> None:
        self.live: dict[str, Any] | None = None
        self.writes: list[dict[str, Any]] = []
        self.down = False
        self.hanging = False
        self.swallowed = 0
        self._versions = itertools.count(500, 7)

    async def read(self, *, seconds: float) -> Manifest | None:
        await self._answer(seconds)
        return copy.deepcopy(self.live)

    async def write(self, lease: Manifest, *, seconds: float) -> Manifest:
        if self.hanging or self.down:
            await self._answer(seconds)
        version = lease["metadata"].get("resourceVersion")
        have = self.live["metadata"]["resourceVersion"] if self.live is not None else None
        if version != have:
            raise Conflict("changed", code=409)
        self.live = copy.deepcopy(dict(lease))
        self.live["metadata"] = {**self.live["metadata"], "resourceVersion": str(next(self._versions))}
        self.writes.append(copy.deepcopy(self.live["spec"]))
        if self.swallowed:
            self.swallowed -= 1
            await asyncio.sleep(seconds)
            raise PortError("no answer in time", reason="Unreachable")
        return copy.deepcopy(self.live)

    async def _answer(self, seconds: float) -> None:
        if self.hanging:
            await asyncio.sleep(seconds)
            raise PortError("no answer in time", reason="Unreachable")
        if self.down:
            raise PortError("connection refused", reason="Unreachable")

    @property
    def holder(self) -> str:
        return self.live["spec"]["holderIdentity"] if self.live is not None else ""


class Candidate:
    """An elector with a diary of its leaderships."""

    def __init__(self, clock: FakeClock, lease: OneLease, name: str) -> None:
        self.clock = clock
        self.began: list[float] = []
        self.ended: list[float] = []
        self.terms: list[Term] = []
        self.work: Callable[[], Coroutine[Any, Any, None]] = self._forever
        self.elector = Elector(
            leases=lease,
            namespace="npc-system",
            name="npc-operator",
            identity=name,
            clock=clock,
            jitter=lambda: 0.5,
        )
        self._task: asyncio.Task[None] | None = None

    async def _forever(self) -> None:
        await asyncio.Event().wait()

    async def _lead(self, term: Term) -> None:
        self.began.append(self.clock.monotonic())
        self.terms.append(term)
        try:
            await self.work()
        finally:
            self.ended.append(self.clock.monotonic())

    def start(self) -> asyncio.Task[None]:
        self._task = asyncio.create_task(self.elector.run(self._lead))
        return self._task

    async def stop(self) -> None:
        """SIGTERM."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def kill(self, lease: OneLease) -> None:
        """SIGKILL: nothing of it runs any more, and nothing is given back."""
        assert self._task is not None
        self.elector._release = _nothing  # type: ignore[method-assign]
        self._task.cancel()


async def _nothing() -> None:
    return None


def play(scenario: Callable[[FakeClock, OneLease], Coroutine[Any, Any, None]]) -> None:
    async def main(clock: FakeClock) -> None:
        await scenario(clock, OneLease())

    run_virtual(main)


def test_the_first_to_come_leads_at_once_with_the_version_of_its_write_as_epoch() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        one = Candidate(clock, lease, "one")
        one.start()
        await asyncio.sleep(0.1)
        assert len(one.began) == 1
        assert one.terms[0].epoch == 500
        assert lease.writes[0]["holderIdentity"] == "one"
        assert lease.writes[0]["leaseTransitions"] == 0
        assert lease.writes[0]["leaseDurationSeconds"] == TIMINGS.lease
        assert one.elector.leading
        await one.stop()

    play(scenario)


def test_two_never_lead_at_a_time_and_the_leader_goes_on_for_as_long_as_it_renews() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        one, two = Candidate(clock, lease, "one"), Candidate(clock, lease, "two")
        one.start()
        await asyncio.sleep(0.1)
        two.start()
        await asyncio.sleep(600)
        assert len(one.began) == 1
        assert two.began == []
        assert 600 / TIMINGS.renew_every - 2 < len(lease.writes) <= 600 / TIMINGS.renew_every + 2
        await one.stop()
        await two.stop()

    play(scenario)


def test_a_leader_that_goes_in_peace_is_followed_within_two_seconds() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        one, two = Candidate(clock, lease, "one"), Candidate(clock, lease, "two")
        one.start()
        await asyncio.sleep(0.1)
        two.start()
        await asyncio.sleep(30)
        await one.stop()
        gone = clock.monotonic()
        await asyncio.sleep(5)
        assert two.began[0] - gone <= 2.0
        assert lease.writes[-1]["leaseTransitions"] == 1
        assert two.terms[0].epoch > one.terms[0].epoch
        await two.stop()

    play(scenario)


@pytest.mark.parametrize("offset", [0.0, 0.3, 0.7, 1.1, 1.6, 1.9])
def test_a_leader_that_dies_suddenly_is_followed_within_eleven_seconds(offset: float) -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        one, two = Candidate(clock, lease, "one"), Candidate(clock, lease, "two")
        one.start()
        await asyncio.sleep(0.1)
        two.start()
        await asyncio.sleep(30 + offset)
        one.kill(lease)
        died = clock.monotonic()
        await asyncio.sleep(20)
        assert TIMINGS.lease - TIMINGS.renew_every <= two.began[0] - died <= 11.0
        await two.stop()

    play(scenario)


@pytest.mark.parametrize("fault", ["down", "hanging"])
def test_a_leader_that_cannot_renew_stops_working_before_anybody_else_may_start(fault: str) -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        one = Candidate(clock, lease, "one")
        one.start()
        await asyncio.sleep(30)
        setattr(lease, fault, True)
        away = clock.monotonic()
        await asyncio.sleep(20)
        assert one.ended[0] - away <= TIMINGS.renew_deadline + 0.1
        assert one.ended[0] - away < TIMINGS.lease - STOP_SECONDS
        assert not one.elector.leading
        setattr(lease, fault, False)
        back = clock.monotonic()
        await asyncio.sleep(10)
        assert one.began[1] - back <= TIMINGS.renew_deadline + 2
        assert one.terms[1].epoch > one.terms[0].epoch
        await one.stop()

    play(scenario)


def test_a_short_absence_of_the_api_server_costs_no_leadership() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        one = Candidate(clock, lease, "one")
        one.start()
        await asyncio.sleep(30)
        lease.hanging = True
        await asyncio.sleep(2)
        lease.hanging = False
        await asyncio.sleep(60)
        assert one.ended == []
        await one.stop()

    play(scenario)


def test_a_renewal_that_arrived_although_its_answer_was_lost_is_not_a_loss() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        one = Candidate(clock, lease, "one")
        one.start()
        await asyncio.sleep(30)
        lease.swallowed = 1
        # The lost answer takes what is left of the deadline: the API server was away that long.
        await asyncio.sleep(60)
        assert lease.holder == "one"
        assert one.elector.leading
        await one.stop()

    play(scenario)


def test_a_lease_taken_by_somebody_else_ends_the_leadership_at_the_next_renewal() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        one = Candidate(clock, lease, "one")
        one.start()
        await asyncio.sleep(30)
        assert lease.live is not None
        lease.live["spec"]["holderIdentity"] = "thief"
        lease.live["metadata"]["resourceVersion"] = "99999"
        taken = clock.monotonic()
        await asyncio.sleep(5)
        assert one.ended[0] - taken <= TIMINGS.renew_every + 0.1
        await asyncio.sleep(TIMINGS.lease + 2)
        assert len(one.began) == 2, "and it stands by again, and leads when the thief falls silent"
        assert lease.writes[-1]["leaseTransitions"] == 1
        await one.stop()

    play(scenario)


def test_a_deleted_lease_is_made_again_without_losing_the_leadership() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        one = Candidate(clock, lease, "one")
        one.start()
        await asyncio.sleep(30)
        lease.live = None
        await asyncio.sleep(30)
        assert one.ended == []
        assert lease.holder == "one"
        await one.stop()

    play(scenario)


def test_work_that_does_not_stop_makes_the_process_useless_and_keeps_the_lease() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        async def stubborn() -> None:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)
                    return

        one = Candidate(clock, lease, "one")
        one.work = stubborn
        task = one.start()
        await asyncio.sleep(30)
        lease.hanging = True
        lost = clock.monotonic()
        with pytest.raises(LeadershipStuck):
            await task
        assert clock.monotonic() - lost <= TIMINGS.renew_deadline + STOP_SECONDS + 0.1
        assert lease.holder == "one", "a Lease given back would let another start beside work that still runs"

    play(scenario)


def test_work_that_does_not_stop_when_the_process_is_told_to_go_keeps_the_lease_too() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        async def stubborn() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.sleep(3600)

        one = Candidate(clock, lease, "one")
        one.work = stubborn
        task = one.start()
        await asyncio.sleep(30)
        task.cancel()
        with pytest.raises(LeadershipStuck):
            await task
        assert lease.holder == "one"

    play(scenario)


def test_work_that_fails_by_itself_gives_the_lease_back_and_says_why() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        async def broken() -> None:
            await asyncio.sleep(1)
            raise ValueError("a bug")

        one = Candidate(clock, lease, "one")
        one.work = broken
        with pytest.raises(ValueError, match="a bug"):
            await one.start()
        assert lease.holder == ""

    play(scenario)


def test_a_leader_refused_with_a_higher_epoch_goes_above_it_while_the_lease_is_its_own() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        one = Candidate(clock, lease, "one")
        one.start()
        await asyncio.sleep(0.1)
        term = one.terms[0]
        assert term.next().order() == (500, 1)
        assert term.next().order() == (500, 2)
        assert await term.outrank(Stamp(epoch=9000, generation=4)) is True
        assert term.next().order() == (9001, 1)
        assert await term.outrank(Stamp(epoch=400, generation=99)) is True
        assert term.next().order() == (9001, 2)
        assert lease.live is not None
        lease.live["spec"]["holderIdentity"] = "other"
        assert await term.outrank(Stamp(epoch=10000, generation=0)) is False
        assert term.next().order() == (9001, 3)
        await one.stop()

    play(scenario)


def test_a_lease_of_another_duration_is_honoured() -> None:
    async def scenario(clock: FakeClock, lease: OneLease) -> None:
        lease.live = {
            "metadata": {"name": "npc-operator", "namespace": "npc-system", "resourceVersion": "3"},
            "spec": {"holderIdentity": "older release", "leaseDurationSeconds": 20, "leaseTransitions": 4},
        }
        one = Candidate(clock, lease, "one")
        began = clock.monotonic()
        one.start()
        await asyncio.sleep(30)
        assert 20 <= one.began[0] - began <= 21.5
        assert lease.writes[0]["leaseTransitions"] == 5
        await one.stop()

    play(scenario)


def test_timings_that_would_let_two_work_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="must be below the lease"):
        Timings(lease=7, renew_deadline=5.0)
