"""One reader for each queue that is named, and none for the others; queues in memory, on a loop that owns its time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from npc_operator.clients.interruption_queues import (
    ACT_SECONDS,
    MACHINES_SECONDS,
    OPEN_RETRY_SECONDS,
    InterruptionQueues,
    troubles,
)
from npc_operator.clients.interruption_reader import (
    FOREIGN_RECEPTIONS,
    FOREIGN_SECONDS,
    PERMANENT_RETRY_SECONDS,
    UNKEPT_SECONDS,
)
from npc_operator.domain import reasons
from npc_operator.domain.facts import NodeFact, Tier
from npc_operator.domain.interruption.notices import Notice
from npc_operator.domain.interruption.queues import NOT_NOTED, OWN, UNKNOWN_MACHINE, QueueFact, QueueRef
from npc_operator.loop.store import Store
from npc_operator.ports import PortError, QueueMessage, Unsettled
from tests.support.builders import tier_fact
from tests.support.fake_clock import FakeClock, run_virtual, settle
from tests.unit.domain.interruption.samples import load

HOST = "https://sqs.eu-west-1.amazonaws.com/123456789012"
MINE = QueueRef(url=f"{HOST}/operator", region="eu-west-1")
THEIRS = QueueRef(url=f"{HOST}/theirs", region="eu-west-1")
SPOT = json.dumps(load("eventbridge-spot-interruption")["input"])


@dataclass
class MemoryQueue:
    """A queue: what is received is invisible until it is deleted, or `again` is called."""

    bodies: list[str] = field(default_factory=list)
    fault: PortError | None = None
    handed: dict[str, str] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    waiters: int = 0
    closed: bool = False
    sent: float | None = 0.0
    receptions: int = 1
    put_off: list[int] = field(default_factory=list)

    async def receive(self, max_messages: int, wait_seconds: int) -> tuple[QueueMessage, ...]:
        self.waiters += 1
        assert self.waiters == 1, "two readers"
        try:
            if self.fault is not None:
                raise self.fault
            if not self.bodies and wait_seconds:
                await asyncio.sleep(wait_seconds)
            found, self.bodies = self.bodies[:max_messages], self.bodies[max_messages:]
            self.handed |= {body: body for body in found}
            return tuple(
                QueueMessage(body[:9] + str(len(body)), body, body, self.receptions, sent=self.sent) for body in found
            )
        finally:
            self.waiters -= 1

    async def delete(self, handles: tuple[str, ...]) -> tuple[str, ...]:
        self.deleted += handles
        for handle in handles:
            del self.handed[handle]
        return ()

    async def postpone(self, waits: Mapping[str, int]) -> None:
        assert waits.keys() <= self.handed.keys()
        self.put_off += waits.values()

    async def set_aside(self, message: QueueMessage, reason: str) -> str:
        del self.handed[message.handle]
        return "Deleted"

    def again(self) -> None:
        """The visibility timeout of everything in hand is over."""
        self.bodies += self.handed.values()
        self.handed.clear()

    def close(self) -> None:
        self.closed = True


@dataclass
class Ears:
    heard: list[tuple[str, frozenset[str] | None]] = field(default_factory=list)
    fault: Exception | None = None
    hold: asyncio.Event | None = None

    async def hear(self, notice: Notice, *, namespaces: frozenset[str] | None = None) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.fault is not None:
            raise self.fault
        self.heard.append((str(notice.instance), namespaces))


@dataclass
class Tally:
    messages: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    ages: list[float] = field(default_factory=list)

    def counted(self, kind: str, outcome: str, reason: str) -> None:
        self.messages[kind, outcome, reason] += 1

    def aged(self, kind: str, seconds: float) -> None:
        self.ages.append(seconds)


class Rig:
    def __init__(self, clock: FakeClock, own: QueueRef | None = None) -> None:
        self.store = Store(clock)
        self.store.mark_synced(NodeFact)
        self.ears = Ears()
        self.tally = Tally()
        self.queues: dict[QueueRef, MemoryQueue] = {}
        self.opened: list[QueueRef] = []
        self.refuses: PortError | None = None
        self._clock = clock
        self._own = own
        self.begin()

    def begin(self) -> None:
        """A leadership."""
        queues = InterruptionQueues(
            store=self.store,
            clock=self._clock,
            listener=self.ears,
            meter=self.tally,
            own=self._own,
            open_queue=self._open,
        )
        self.task = asyncio.create_task(queues.run())

    async def end(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task

    async def _open(self, queue: QueueRef) -> MemoryQueue:
        if self.refuses is not None:
            raise self.refuses
        self.opened.append(queue)
        return self.queues.setdefault(queue, MemoryQueue())

    def tier(self, namespace: str, name: str, queue: QueueRef | None) -> None:
        named = {} if queue is None else {"queue": {"url": queue.url, "region": queue.region}}
        self.store.put(Tier, namespace, name, tier_fact(name, spec={"interruption": named}))

    def trouble(self, name: str) -> str | None:
        fact = self.store.get(QueueFact, "", name)
        assert fact is not None
        return fact.trouble


def test_tiers_that_name_one_queue_share_one_reader_which_goes_with_the_last() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock)
        rig.tier("eu", "gold", THEIRS)
        rig.tier("eu", "silver", THEIRS)
        await settle()
        assert rig.opened == [THEIRS]
        rig.store.drop(Tier, "eu", "gold")
        await settle()
        assert not rig.queues[THEIRS].closed
        rig.tier("eu", "silver", None)
        await settle()
        assert rig.queues[THEIRS].closed
        assert rig.store.get(QueueFact, "", THEIRS.key) is None
        await rig.end()

    run_virtual(scenario)


def test_no_queue_is_read_where_none_is_named() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock)
        rig.tier("eu", "gold", None)
        await settle()
        assert rig.opened == []
        assert troubles(rig.store) == ()
        await rig.end()

    run_virtual(scenario)


def test_a_tiers_queue_speaks_of_the_namespaces_that_name_it_and_the_operators_of_all() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        rig.queues = {MINE: MemoryQueue([SPOT]), THEIRS: MemoryQueue([SPOT])}
        rig.tier("eu", "gold", THEIRS)
        await settle()
        assert sorted(scope is None for _, scope in rig.ears.heard) == [False, True]
        assert frozenset({"eu"}) in {scope for _, scope in rig.ears.heard}
        rig.tier("us", "gold", THEIRS)
        rig.queues[THEIRS].bodies.append(SPOT)
        await asyncio.sleep(21)
        assert rig.ears.heard[-1][1] == frozenset({"eu", "us"})
        assert rig.opened.count(THEIRS) == 1
        await rig.end()

    run_virtual(scenario)


def test_what_a_new_leader_must_do_again_is_done_by_it_alone() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        rig.queues[MINE] = queue = MemoryQueue([SPOT])
        rig.ears.hold = asyncio.Event()
        await settle()
        await rig.end()
        assert queue.closed
        assert queue.deleted == []
        assert rig.store.count(QueueFact) == 0
        rig.ears.hold = None
        queue.again()
        rig.begin()
        await settle()
        assert queue.deleted == [SPOT]
        assert len(rig.ears.heard) == 1
        await rig.end()

    run_virtual(scenario)


def test_a_new_leader_reads_once_it_knows_the_machines_and_not_never() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        rig.queues[MINE] = queue = MemoryQueue([SPOT])
        rig.store.mark_unsynced()
        await asyncio.sleep(2)
        assert queue.bodies == [SPOT]
        rig.store.mark_synced(NodeFact)
        await asyncio.sleep(1)
        assert queue.deleted == [SPOT]
        await rig.end()
        # Whoever may not see nodes is told so by the messages that stay.
        rig.store.mark_unsynced()
        rig.ears.fault = PortError("no", reason="NotSynced")
        queue.bodies.append(SPOT)
        rig.begin()
        await asyncio.sleep(MACHINES_SECONDS + 1)
        assert rig.trouble(OWN) == "NoticesNotKept"
        await rig.end()

    run_virtual(scenario)


def test_a_queue_that_was_never_read_is_closed_too() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        rig.queues[MINE] = queue = MemoryQueue([SPOT])
        rig.store.mark_unsynced()
        await asyncio.sleep(2)
        assert (rig.opened, queue.bodies) == ([MINE], [SPOT])
        await rig.end()
        assert queue.closed

    run_virtual(scenario)


def test_a_queue_that_may_not_be_read_is_said_with_its_reason_until_it_may() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        fault = PortError("no", reason=reasons.QUEUE_FORBIDDEN, retryable=False)
        rig.queues[MINE] = queue = MemoryQueue([SPOT], fault=fault)
        assert rig.store.get(QueueFact, "", OWN) is None
        await settle()
        assert rig.trouble(OWN) == rig.trouble(MINE.key) == "QueueForbidden"
        assert troubles(rig.store) == ("QueueForbidden",)
        queue.fault = None
        await asyncio.sleep(PERMANENT_RETRY_SECONDS + 1)
        assert rig.trouble(OWN) == ""
        assert troubles(rig.store) == ("",)
        assert queue.deleted == [SPOT]
        await rig.end()

    run_virtual(scenario)


def test_a_queue_that_cannot_be_opened_is_tried_again_and_holds_up_no_other() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        rig.refuses = PortError("no", reason=reasons.QUEUE_MISSING, retryable=False)
        await settle()
        assert rig.trouble(OWN) == "QueueMissing"
        rig.refuses = None
        rig.tier("eu", "gold", THEIRS)
        await settle()
        assert rig.opened == [THEIRS]
        await asyncio.sleep(OPEN_RETRY_SECONDS)
        await settle()
        assert rig.opened == [THEIRS, MINE]
        assert rig.trouble(OWN) == ""
        await rig.end()

    run_virtual(scenario)


@pytest.mark.parametrize("fault", [PortError("API server away", reason="Unavailable"), ValueError("a bug")])
def test_what_cannot_be_written_down_stays_on_the_queue_and_is_said(fault: Exception) -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        rig.queues[MINE] = queue = MemoryQueue([SPOT])
        rig.ears.fault = fault
        await settle()
        assert queue.deleted == []
        assert rig.trouble(OWN) == "NoticesNotKept"
        assert rig.tally.messages == {("Interruption", "Failed", "NoticesNotKept"): 1}
        rig.ears.fault = None
        queue.again()
        await asyncio.sleep(21)
        assert queue.deleted == [SPOT]
        assert rig.trouble(OWN) == ""
        assert rig.tally.messages["Interruption", "Acted", ""] == 1
        await rig.end()

    run_virtual(scenario)


def test_a_message_about_a_machine_that_nobody_knows_is_put_off_and_nobody_is_troubled() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        rig.queues[MINE] = queue = MemoryQueue([SPOT], sent=clock.now() - 30)
        rig.ears.fault = Unsettled("whose is it?", reason=UNKNOWN_MACHINE)
        await settle()
        assert queue.deleted == []
        assert queue.put_off == [FOREIGN_SECONDS - 30]
        assert rig.trouble(OWN) == ""
        assert rig.tally.messages == {("Interruption", "Waiting", UNKNOWN_MACHINE): 1}
        # Its Node was listed meanwhile.
        rig.ears.fault = None
        queue.again()
        await asyncio.sleep(21)
        assert queue.deleted == [SPOT]
        assert rig.tally.messages["Interruption", "Acted", ""] == 1
        await rig.end()

    run_virtual(scenario)


@pytest.mark.parametrize(
    ("age", "receptions"),
    [
        pytest.param(FOREIGN_SECONDS, 2, id="as old as the longest notice"),
        pytest.param(-1e6, FOREIGN_RECEPTIONS, id="from a queue whose clock is ahead"),
        pytest.param(None, 2, id="of an age that nobody knows, once it was waited for"),
    ],
)
def test_a_machine_that_nobody_knows_in_the_end_is_foreign(age: float | None, receptions: int) -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        rig.queues[MINE] = queue = MemoryQueue([SPOT], receptions=receptions)
        queue.sent = None if age is None else clock.now() - age
        rig.ears.fault = Unsettled("whose is it?", reason=UNKNOWN_MACHINE)
        await settle()
        assert queue.deleted == [SPOT]
        assert rig.tally.messages == {("Interruption", "Ignored", UNKNOWN_MACHINE): 1}
        assert rig.tally.ages == []
        await rig.end()

    run_virtual(scenario)


def test_what_is_not_in_a_suspended_tiers_status_yet_comes_again_by_itself() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        rig.queues[MINE] = queue = MemoryQueue([SPOT], receptions=99)
        rig.ears.fault = Unsettled("not yet", reason=NOT_NOTED)
        await settle()
        assert (queue.deleted, queue.put_off) == ([], [])
        assert rig.trouble(OWN) == ""
        assert rig.tally.messages == {("Interruption", "Waiting", NOT_NOTED): 1}
        await rig.end()

    run_virtual(scenario)


def test_of_several_machines_in_one_message_a_failure_counts_before_one_that_nobody_knows() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        message = load("eventbridge-health-scheduled")["input"]
        rig.queues[MINE] = queue = MemoryQueue([json.dumps(message)], sent=clock.now())
        faults = [Unsettled("whose is it?", reason=UNKNOWN_MACHINE), PortError("API server away")]
        heard: list[str] = []

        async def hear(notice: Notice, *, namespaces: frozenset[str] | None = None) -> None:
            heard.append(str(notice.instance))
            raise faults[len(heard) % 2]

        rig.ears.hear = hear  # type: ignore[method-assign]
        await settle()
        assert len(heard) == 2
        assert (queue.deleted, queue.put_off) == ([], [])
        assert rig.trouble(OWN) == "NoticesNotKept"
        await rig.end()

    run_virtual(scenario)


def test_a_listener_that_hangs_does_not_hold_a_message_beyond_its_visibility() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        rig.queues[MINE] = queue = MemoryQueue([SPOT])
        rig.ears.hold = asyncio.Event()
        await asyncio.sleep(ACT_SECONDS + 1)
        assert queue.deleted == []
        assert rig.trouble(OWN) == "NoticesNotKept"
        # It went to a dead letter queue meanwhile and never comes again: the trouble is over some time later.
        queue.handed.clear()
        await asyncio.sleep(UNKEPT_SECONDS + 21)
        assert rig.trouble(OWN) == ""
        await rig.end()

    run_virtual(scenario)


def test_every_message_is_counted_by_what_it_told_and_what_became_of_it() -> None:
    async def scenario(clock: FakeClock) -> None:
        rig = Rig(clock, own=MINE)
        other, running = (json.dumps(load(f"eventbridge-{name}")["input"]) for name in ("other", "state-running"))
        rig.queues[MINE] = MemoryQueue([SPOT, other, running, "no json"])
        await settle()
        assert rig.tally.messages == {
            ("Interruption", "Acted", ""): 1,
            ("None", "Ignored", "OtherEvent"): 1,
            ("None", "Ignored", "StaysUp"): 1,
            ("None", "Deleted", "NotJson"): 1,
        }
        assert rig.tally.ages == [clock.now()]
        await rig.end()

    run_virtual(scenario)
