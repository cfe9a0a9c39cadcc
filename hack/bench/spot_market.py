"""What a tier costs on spot, and how much of its time it can serve: a discrete-event simulation that asks the
operator's own `decide_capacity` and `pace`, as its reconciler does, with the memory in between as a tier's status holds
it, and nothing around them but the market.

The world
- A market of `spot_trace`. A replica pays from the moment its node is taken until the node is gone: 1 an hour on
  demand, `SPOT_PRICE` on spot.
- A pod begins `REACTION_SECONDS` after what made it necessary, waits for room in the market, then `NODE_SECONDS` for
  its node (pending), then the engine's start (starting). On-demand nodes can always be had, and stay.
- An interruption comes `notice` seconds before the node goes. A ready pod serves until `STOP_SECONDS` before that and
  is paid to the end; a pod that is not ready is given up at once.
- A new spot pod goes to the zone with room that has the fewest of the tier's spot pods.
- The tier starts with all wanted replicas ready; maxReplicas is twice the wanted number.

Availability is the share of line-demand that is served by the tier's own pods: demand is constant and takes exactly n
ready replicas, so at each moment min(n, serving) / n of it is served. The rest goes to the fallback tier. Gold and
Silver are measured alike; they differ in their profiles.

Policies
- all on demand: n replicas on demand.
- pure spot: n replicas on spot, nothing else.
- ours: `decide_capacity`, and what `pace` lets both slices do at once, with a profile of `spec.capacity`.
- omniscient: see `spot_omniscient`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from hack.bench.spot_trace import Market
from npc_operator.api.capacity import Capacity, CapacityStatus
from npc_operator.domain.capacity import (
    CapacityFacts,
    SliceFact,
    decide_capacity,
    pace,
    read_capacity,
    write_capacity,
)
from npc_operator.domain.replicas import Split

SPOT_PRICE = 0.3
"""Of the on-demand price (the issue's)."""
REACTION_SECONDS = 3.0
"""From an event to the new pod (the bar for a decision)."""
NODE_SECONDS = 45.0
"""From a pod to a node that is up: an assumption, about what an autoscaler and a cloud take at best."""
STOP_SECONDS = 25.0
"""A pod under notice takes no lines any more so long before its node goes (the design's limit for draining)."""

Phase = Literal["waiting", "booting", "starting", "ready", "leaving", "gone"]
Decide = Callable[[CapacityFacts, float], tuple[Split, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a policy cannot choose. Seconds."""

    replicas: int
    engine_start: float
    notice: float = 120.0

    @property
    def start(self) -> float:
        return REACTION_SECONDS + NODE_SECONDS + self.engine_start


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one policy in one market. Cost 1 is n replicas on demand."""

    cost: float
    availability: float
    decisions: int = 0
    reversals: int = 0
    """How often extra on-demand began to grow after shrinking, or to shrink after growing."""
    on_demand: float = 0.0
    """Mean on-demand replicas."""


@dataclass(slots=True, eq=False)
class _Pod:
    created: float
    phase: Phase
    zone: int = -1
    """-1: on demand, or without a node."""
    slot: int = -1


@dataclass(slots=True)
class _Play:
    """One run; mutable, and nobody else's."""

    world: World
    market: Market
    decide: Decide
    capacity: Capacity
    window: float
    now: float = 0.0
    spot: list[_Pod] = field(default_factory=list)
    on_demand: list[_Pod] = field(default_factory=list)
    events: list[tuple[float, int, str, _Pod | None]] = field(default_factory=list)
    count: int = 0
    thinking: bool = False
    interruptions: deque[float] = field(default_factory=deque)
    served: float = 0.0
    paid: float = 0.0
    paid_on_demand: float = 0.0
    decisions: int = 0
    taken: set[tuple[int, int]] = field(default_factory=set)
    totals: list[int] = field(default_factory=list)
    """On-demand replicas asked for, each time they changed."""

    def push(self, time: float, what: str, pod: _Pod | None = None) -> None:
        self.count += 1
        heapq.heappush(self.events, (time, self.count, what, pod))

    def run(self) -> None:
        self.think()
        for pod in (*self.spot, *self.on_demand):
            if pod.phase == "booting":
                pod.phase = "ready"
        while self.events and self.events[0][0] < self.market.seconds:
            time, _, what, about = heapq.heappop(self.events)
            if about is not None and about.phase == "gone":
                continue
            self.pass_to(time)
            self.handle(what, about)
        self.pass_to(self.market.seconds)

    def pass_to(self, time: float) -> None:
        span = time - self.now
        if span > 0:
            stop = self.world.notice - STOP_SECONDS
            serving = sum(1 for pod in self.on_demand if pod.phase == "ready")
            # A leaving pod's `created` is when it was told to go.
            serving += sum(
                1
                for pod in self.spot
                if pod.phase == "ready" or (pod.phase == "leaving" and self.now < pod.created + stop)
            )
            paid_spot = sum(1 for pod in self.spot if pod.phase != "waiting")
            self.served += span * min(self.world.replicas, serving)
            self.paid_on_demand += span * len(self.on_demand)
            self.paid += span * (len(self.on_demand) + SPOT_PRICE * paid_spot)
            self.now = time

    def handle(self, what: str, pod: _Pod | None) -> None:
        if what == "think":
            self.thinking = False
            self.think()
            return
        if what == "market":
            for waiting in [one for one in self.spot if one.phase == "waiting"]:
                self.place(waiting)
        elif pod is None:
            raise ValueError(what)
        elif what == "up" and pod.phase == "booting":
            pod.phase = "starting"
        elif what == "ready" and pod.phase == "starting":
            pod.phase = "ready"
        elif what == "interrupted" and pod.phase != "leaving":
            self.interrupt(pod)
        elif what == "left":
            self.remove(self.spot, pod)
        elif what in ("stopped", "up", "ready", "interrupted"):
            return
        if not self.thinking:
            self.thinking = True
            self.push(self.now + REACTION_SECONDS, "think")

    def interrupt(self, pod: _Pod) -> None:
        self.interruptions.append(self.now)
        self.taken.discard((pod.zone, pod.slot))
        if pod.phase != "ready":
            self.remove(self.spot, pod)
            return
        pod.phase, pod.created, pod.zone = "leaving", self.now, -1
        # Serving changes then, though no decision does.
        self.push(self.now + max(0.0, self.world.notice - STOP_SECONDS), "stopped", pod)
        self.push(self.now + self.world.notice, "left", pod)

    def remove(self, pods: list[_Pod], pod: _Pod) -> None:
        self.taken.discard((pod.zone, pod.slot))
        pod.phase = "gone"
        pods.remove(pod)

    def place(self, pod: _Pod) -> None:
        """Takes a slot, or waits for the market."""
        pods = [0] * len(self.market.zones)
        for one in self.spot:
            if one.zone >= 0:
                pods[one.zone] += 1
        for zone in sorted(range(len(pods)), key=lambda number: (pods[number], number)):
            for number, slot in enumerate(self.market.zones[zone]):
                end = None if (zone, number) in self.taken else slot.end(self.now)
                if end is not None:
                    self.taken.add((zone, number))
                    pod.zone, pod.slot = zone, number
                    self.push(end, "interrupted", pod)
                    self.boot(pod)
                    return
        again = min(
            (
                slot.next_begin(self.now)
                for zone, slots in enumerate(self.market.zones)
                for number, slot in enumerate(slots)
                if (zone, number) not in self.taken
            ),
            default=math.inf,
        )
        if again < self.market.seconds:
            self.push(again, "market", None)

    def boot(self, pod: _Pod) -> None:
        pod.phase = "booting"
        self.push(self.now + NODE_SECONDS, "up", pod)
        self.push(self.now + NODE_SECONDS + self.world.engine_start, "ready", pod)

    def think(self) -> None:
        """Observes, decides, acts: what a reconcile does."""
        self.decisions += 1
        while self.interruptions and self.interruptions[0] <= self.now - self.window:
            self.interruptions.popleft()
        facts = CapacityFacts(
            wanted=self.world.replicas,
            max_replicas=2 * self.world.replicas,
            capacity=self.capacity,
            spot=_look(self.spot),
            on_demand=_look(self.on_demand),
            interruptions=tuple(self.interruptions),
        )
        split, wake = self.decide(facts, self.now)
        if not self.totals or self.totals[-1] != split.on_demand:
            self.totals.append(split.on_demand)
        made = self.scale(self.spot, split.spot, spot=True)
        made += self.scale(self.on_demand, split.on_demand, spot=False)
        if made and not self.thinking:
            # New pods are seen, as everything else is.
            self.thinking = True
            self.push(self.now + REACTION_SECONDS, "think")
        if wake is not None:
            self.push(max(wake, self.now + 1), "think")

    def scale(self, pods: list[_Pod], wanted: int, *, spot: bool) -> int:
        """As a ReplicaSet does: what serves goes last, of those the youngest first. Returns how many it made."""
        order = {"waiting": 0, "booting": 1, "starting": 2, "ready": 3}
        while len(pods) > wanted:
            stays = [pod for pod in pods if pod.phase != "leaving"]
            if not stays:
                return 0
            self.remove(pods, min(stays, key=lambda pod: (order[pod.phase], -pod.created)))
        missing = wanted - len(pods)
        for _ in range(missing):
            pod = _Pod(self.now, "waiting")
            pods.append(pod)
            if spot:
                self.place(pod)
            else:
                self.boot(pod)
        return missing


def _look(pods: list[_Pod]) -> SliceFact:
    phases = [pod.phase for pod in pods]
    pending = [pod.created for pod in pods if pod.phase in ("waiting", "booting")]
    return SliceFact(
        desired=len(pods),
        ready=phases.count("ready"),
        starting=phases.count("starting"),
        pending=len(pending),
        oldest_pending=min(pending, default=None),
        leaving=phases.count("leaving"),
    )


def play(world: World, market: Market, capacity: Capacity, decide: Decide | None = None) -> Outcome:
    """One policy in one market; without `decide` ours."""
    playing = _Play(world, market, decide or our_policy(), capacity, capacity.storm.window_seconds)
    playing.run()
    whole = world.replicas * market.seconds
    return Outcome(
        cost=playing.paid / whole,
        availability=playing.served / whole,
        decisions=playing.decisions,
        reversals=_count_reversals(playing.totals),
        on_demand=playing.paid_on_demand / market.seconds,
    )


def our_policy() -> Decide:
    """The operator's decision, its memory as a tier's status holds it, and its pace: what `reconcilers.capacity` does
    with a look."""
    status = CapacityStatus()

    def decide(facts: CapacityFacts, now: float) -> tuple[Split, float | None]:
        nonlocal status
        facts = replace(facts, state=read_capacity(status))
        decision = decide_capacity(facts, now)
        status = write_capacity(decision)
        if decision.split is None:
            raise ValueError("everything is known here")
        return pace(decision.split, facts), decision.wake_at

    return decide


def all_on_demand(facts: CapacityFacts, _now: float) -> tuple[Split, float | None]:
    return Split(on_demand=facts.wanted, spot=0), None


def pure_spot(facts: CapacityFacts, _now: float) -> tuple[Split, float | None]:
    leaving = 0 if facts.spot is None else facts.spot.leaving
    return Split(on_demand=0, spot=facts.wanted + leaving), None


def _count_reversals(totals: list[int]) -> int:
    ups = [later > earlier for earlier, later in pairwise(totals)]
    return sum(1 for earlier, later in pairwise(ups) if earlier != later)
