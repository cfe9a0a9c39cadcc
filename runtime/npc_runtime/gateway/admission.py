"""Which lines may go to a tier's engines now, which wait, and which are turned away.

An engine that is offered more than it can batch makes everybody late. So each event loop keeps to its share of the
tier's slots; what comes beyond waits here, the important first, and the queue has an end: then the least important
line is refused at once, while its player still has time for something else. Tiers share nothing, so no tier can make
another one wait.

Everything is a dictionary access and a call; a tier without slots (`slots` 0) is not looked at at all.
"""

from __future__ import annotations

import enum
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import ceil
from typing import Final

from npc_runtime import wire

log = logging.getLogger(__name__)

_QUALITIES: Final[Mapping[str, int]] = {"Gold": 0, "Silver": 1, "Bronze": 2}

PRIORITY_STEP: Final = 10
"""Engine priorities between two degrees of importance; room for the quality asked for."""

PROBE_PRIORITY: Final = 30
"""The gateway's own questions come after every player's."""


def engine_priority(importance: str, quality: str) -> int:
    """vLLM's `priority` of a line, lower is earlier: Critical 0, Normal 10, Ambient 20; and 1 or 2 more for a line that
    was meant for a Silver or Bronze tier, so that a Gold line that had to fall back goes before the others there."""
    return wire.IMPORTANCE_ORDER[importance] * PRIORITY_STEP + _QUALITIES[quality]


class State(enum.Enum):
    """What became of a line that wants a slot."""

    ADMITTED = enum.auto()
    WAITING = enum.auto()
    SHED = enum.auto()
    OVER = enum.auto()
    """It has given its slot or its place back."""


class Ticket:
    """One line's claim to a slot of one tier."""

    __slots__ = ("_gate", "on_ready", "on_shed", "rank", "state")

    def __init__(
        self,
        gate: _Gate | None,
        rank: int,
        state: State,
        on_ready: Callable[[], None],
        on_shed: Callable[[], None],
    ) -> None:
        self._gate = gate
        self.rank = rank
        self.state = state
        self.on_ready = on_ready
        self.on_shed = on_shed

    def release(self) -> None:
        """Give back the slot, or the place in the queue, whichever it is; a second call does nothing. The next line is
        let in before this returns."""
        gate = self._gate
        if gate is None:
            return
        state, self.state = self.state, State.OVER
        if state is State.ADMITTED:
            gate.in_flight -= 1
            if gate.waiting:
                gate.let_in()
        elif state is State.WAITING:
            gate.forget(self)


def _nothing() -> None:
    """A ticket that never waits is never told."""


FREE: Final = Ticket(None, 0, State.ADMITTED, _nothing, _nothing)
"""What lines of tiers without admission get: there is nothing to count and nothing to give back."""


class _Gate:
    """One tier's share on this event loop."""

    __slots__ = (
        "_lanes",
        "_letting_in",
        "_pods",
        "_share",
        "_slots",
        "_tier",
        "in_flight",
        "limit",
        "room",
        "waiting",
    )

    def __init__(self, tier: str, pods: Callable[[str], int]) -> None:
        self._tier = tier
        self._pods = pods
        self._slots = 0
        self._share = 1
        self._lanes: tuple[OrderedDict[Ticket, None], ...] = tuple(OrderedDict() for _ in wire.IMPORTANCE_ORDER)
        self._letting_in = False
        self.in_flight = 0
        self.waiting = 0
        self.limit = 0
        """Lines that may run at once."""
        self.room = 0
        """Lines that may wait."""

    def resize(self, *, slots: int, queue: int, share: int) -> None:
        self._slots, self._share = slots, share
        self.room = ceil(queue / share)
        self.count_pods()

    def count_pods(self) -> None:
        """Go by the pods that serve now."""
        if self._slots:
            # Never less than one, or a tier with fewer slots than event loops would answer nobody on some of them.
            self.limit = max(1, ceil(self._slots * self._pods(self._tier) / self._share))
        else:
            self.limit = 1 << 30  # a new table no longer bounds the tier: who still waits may go
        self.let_in()

    def ask(self, rank: int, on_ready: Callable[[], None], on_shed: Callable[[], None]) -> Ticket:
        if not self.waiting and self.in_flight < self.limit:
            self.in_flight += 1
            return Ticket(self, rank, State.ADMITTED, on_ready, on_shed)
        ticket = Ticket(self, rank, State.WAITING, on_ready, on_shed)
        displaced = None
        if self.waiting >= self.room:
            displaced = self._least_important_below(rank)
            if displaced is None:
                ticket.state = State.SHED
                return ticket
            self.forget(displaced)
            displaced.state = State.SHED
        self._lanes[rank][ticket] = None
        self.waiting += 1
        if displaced is not None:
            _call(displaced.on_shed)
        return ticket

    def outlook(self, rank: int) -> tuple[int, int]:
        if not self.waiting and self.in_flight < self.limit:
            return 0, self.limit
        return 1 + sum(len(lane) for lane in self._lanes[: rank + 1]), self.limit

    def forget(self, ticket: Ticket) -> None:
        del self._lanes[ticket.rank][ticket]
        self.waiting -= 1

    def let_in(self) -> None:
        """Let in as many as there is room for: the most important first, and of equals the one that came first."""
        if self._letting_in:
            return  # a line that failed at once gave its slot back: the loop below sees that
        self._letting_in = True
        while self.waiting and self.in_flight < self.limit:
            lane = next(lane for lane in self._lanes if lane)
            ticket, _ = lane.popitem(last=False)
            self.waiting -= 1
            self.in_flight += 1
            ticket.state = State.ADMITTED
            _call(ticket.on_ready)
        self._letting_in = False

    def _least_important_below(self, rank: int) -> Ticket | None:
        """Of the lines less important than `rank` the least important one, and of those the one that came last."""
        for lane in reversed(self._lanes[rank + 1 :]):
            if lane:
                return next(reversed(lane))
        return None


class Admission:
    """The gates of one event loop."""

    def __init__(self, pods: Callable[[str], int]) -> None:
        """`pods` says how many of a tier's pods serve right now."""
        self._pods = pods
        self._gates: dict[str, _Gate] = {}
        self._open: dict[str, _Gate] = {}

    def apply(self, table: wire.RouteTable, *, workers: int) -> None:
        """Go by a new table's slots; lines that run or wait stay where they are."""
        share = table.ready_gateways * workers
        bounded: dict[str, _Gate] = {}
        for tier in table.tiers:
            gate = self._gates.get(tier.name)
            if gate is None:
                gate = self._gates[tier.name] = _Gate(tier.name, self._pods)
            gate.resize(slots=tier.slots, queue=tier.queue, share=share)
            if tier.slots:
                bounded[tier.name] = gate
        for name in [name for name, gate in self._gates.items() if name not in bounded]:
            self._gates[name].resize(slots=0, queue=0, share=1)
            if not self._gates[name].in_flight:
                del self._gates[name]
        self._open = bounded

    def acquire(self, tier: str, importance: str, on_ready: Callable[[], None], on_shed: Callable[[], None]) -> Ticket:
        """Ask for a slot. The ticket says ADMITTED, WAITING or SHED. A WAITING one hears later, never before this has
        returned, `on_ready` when it has a slot, or `on_shed` when a more important line took its place; never both.

        Whoever holds a ticket releases it, whatever happened: it is the slot, or the place in the queue.
        """
        gate = self._open.get(tier)
        return FREE if gate is None else gate.ask(wire.IMPORTANCE_ORDER[importance], on_ready, on_shed)

    def outlook(self, tier: str, importance: str) -> tuple[int, int]:
        """The place in the queue that a line would have now (0: a slot at once), and the slots that it is for."""
        gate = self._open.get(tier)
        return (0, 1) if gate is None else gate.outlook(wire.IMPORTANCE_ORDER[importance])

    def wake(self) -> None:
        """Go by the pods that serve now, and let in who waits where there are more of them; called with each sweep."""
        for gate in self._open.values():
            gate.count_pods()

    def waiting(self) -> dict[str, int]:
        """Lines that wait, by tier, of tiers that are bounded."""
        return {tier: gate.waiting for tier, gate in self._open.items()}


def _call(tell: Callable[[], None]) -> None:
    try:
        tell()
    except Exception:  # one line's fault must not keep the next ones from their slots
        log.exception("a line could not be told of its turn")
