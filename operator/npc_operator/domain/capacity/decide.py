"""On-demand pods stand in for spot pods at once, and go again slowly, one by one.

The on-demand slice is the floor of `split_replicas` plus `extra`; only `extra` is decided here, and never below 0, so
no fact and no lost memory can break the floor.

Growth (never waits for anything):
- *lost*: spot pods that had been ready are gone, and nodes were interrupted within the storm's window. At most as many
  as nodes, or pods on them, were interrupted, so neither a rolling update nor a crashed engine buys GPUs. Pods that
  start in their place do not count: an on-demand pod begins at the same moment, and is there even if spot has no room.
- *pending*: a spot pod has waited `fallback.afterSeconds` for a node. What is neither ready nor starting is missing.
- *storm*: `storm.interruptions` within the window. Everything goes on demand for `holdSeconds` after the last of them;
  spot pods go as on-demand pods become ready.
Overprovisioned pods count as ready ones, so what they cover is not missing.

Return: enough spot pods have been ready for `fallback.returnAfterSeconds` that one on-demand pod is not missed. One
goes; the next when the next spot pod is ready and `RETURN_SPACING_SECONDS` have passed.

Flapping: a return begins `REVERSAL_SECONDS` after the last reversal at the earliest. Growth that reverses a return is
a reversal, too, and the only kind that may come sooner: a return needs enough ready spot pods, so growth after it takes
a loss of ready capacity or a higher wanted number, and lines would pay for waiting.

`maxReplicas` bounds running plus starting. On-demand grows into what ready and starting spot pods leave of it (pending
ones do not count), and while it stands in, fewer spot pods are asked for, so that both together are at most one above
it: that one makes a return possible without a break. Not in that sum: overprovisioned pods, and pods that are leaving.

Clocks: a remembered time that lies ahead (the clock was set back) counts as now, so every wait ends within its length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from npc_operator.api.capacity import CapacityMode, Storm
from npc_operator.domain import reasons
from npc_operator.domain.capacity import words
from npc_operator.domain.capacity.facts import CapacityDecision, CapacityFacts, CapacityState, SliceFact
from npc_operator.domain.replicas import Split, split_replicas

REVERSAL_SECONDS = 600.0
"""At most one change of direction in so long, growth that is needed apart (the project's rule against flapping)."""
RETURN_SPACING_SECONDS = 30.0
"""Between two on-demand pods that go: time for the gateways to find that the rest suffices."""
STORM_LEAST = 3
"""A tier of few spot pods is not in a storm because one zone took two of them."""
CLOCK_SKEW_SECONDS = 60.0
"""Machines' clocks may differ by so much. An interruption that lies further ahead was noted before the clock was set
back, and would otherwise be recent until the clock has caught up; when it does, it counts once more."""
CLOCK_SLACK_SECONDS = 1.0
"""Remembered times are rounded up to whole seconds, so they may lie ahead by so much."""


@dataclass(frozen=True, slots=True)
class _View:
    """One look, taken apart once: the floor, the market, and the memory made fit for both."""

    facts: CapacityFacts
    now: float
    floor: Split
    spot: SliceFact
    on_demand: SliceFact
    state: CapacityState

    @property
    def running(self) -> int:
        """Spot pods that count against maxReplicas."""
        return min(self.spot.ready + self.spot.starting, self.floor.spot)

    @property
    def after(self) -> float:
        return float(self.facts.capacity.fallback.after_seconds)

    @property
    def overprovision(self) -> int:
        return self.facts.capacity.overprovision_replicas if self.floor.spot else 0

    @property
    def limit(self) -> int:
        return max(self.facts.max_replicas, self.facts.wanted)


def decide_capacity(facts: CapacityFacts, now: float) -> CapacityDecision:
    """Replicas of both slices. Where a slice is not known nothing changes, and the memory stays as it is."""
    if facts.spot is None or facts.on_demand is None:
        return CapacityDecision(
            split=None,
            state=facts.state,
            reason=reasons.PODS_UNKNOWN,
            message="It is not known which pods run; waiting.",
        )
    floor = split_replicas(facts.wanted, facts.capacity)
    state = _recall(facts, facts.spot, facts.on_demand, floor, now)
    view = _View(facts, now, floor, facts.spot, facts.on_demand, state)
    view = replace(view, state=_watch(view))
    storming = (view.state.storm_until or 0.0) > now
    need, reason = _find_missing(view, storming=storming)
    state = _grow(view, need, storming=storming)
    grown = state.extra_on_demand > view.state.extra_on_demand
    if not grown and not storming:
        state = _give_back(replace(view, state=state))
    on_demand = floor.on_demand + state.extra_on_demand
    spot = _spot(replace(view, state=state), on_demand, storming=storming)
    state = replace(state, proven_spot=min(state.proven_spot, spot))
    told = words.tell(
        state,
        reason=reason,
        missing=need,
        wanted_spot=floor.spot,
        ready_spot=view.spot.ready,
        short=max(0, need - state.extra_on_demand),
    )
    return CapacityDecision(
        split=Split(on_demand=on_demand + view.on_demand.leaving, spot=spot + view.spot.leaving),
        state=state,
        reason=told.reason,
        message=told.message,
        wake_at=_wake(replace(view, state=state)),
    )


def storm_threshold(storm: Storm, wanted_spot: int) -> int:
    """Interruptions that make a storm; 0: none do. Unset: the whole slice within one window. Fewer are better met by
    fallback: holding half a slice's interruptions for a storm made 20 replicas on nodes that live an hour dearer by a
    quarter, for no more availability (hack/bench/spot_market.py)."""
    if storm.interruptions is not None:
        return storm.interruptions
    return max(STORM_LEAST, wanted_spot)


def _recall(facts: CapacityFacts, spot: SliceFact, on_demand: SliceFact, floor: Split, now: float) -> CapacityState:
    """The memory, with nothing in it that cannot be: times ahead, more stand-ins than there is to stand in for."""
    state = facts.state
    if state is None:
        # Status was lost or never written: what the live Deployment has beyond the floor is taken for stand-ins.
        extra = max(0, min(on_demand.desired - on_demand.leaving - floor.on_demand, floor.spot))
        begun = float(math.ceil(now))
        state = CapacityState(
            mode="Fallback" if extra else "Normal",
            since=begun,
            extra_on_demand=extra,
            last_reversal=begun if extra else None,
        )
    hold = facts.capacity.storm.hold_seconds
    until = state.storm_until
    return replace(
        state,
        extra_on_demand=max(0, min(state.extra_on_demand, floor.spot)),
        proven_spot=min(max(state.proven_spot, spot.ready), floor.spot),
        since=_past(state.since, now),
        storm_until=None if until is None else min(until, math.ceil(now) + hold),
        last_reversal=None if state.last_reversal is None else _past(state.last_reversal, now),
        last_return=None if state.last_return is None else _past(state.last_return, now),
        enough_since=None if state.enough_since is None else _past(state.enough_since, now),
        waiting_since=None if state.waiting_since is None else _past(state.waiting_since, now),
    )


def _past(time: float, now: float) -> float:
    return time if time <= now + CLOCK_SLACK_SECONDS else float(math.ceil(now))


def _watch(view: _View) -> CapacityState:
    """Notes a storm, and since when pods wait for nodes."""
    state, now, storm = view.state, view.now, view.facts.capacity.storm
    recent = _recent(view)
    threshold = storm_threshold(storm, view.floor.spot)
    until = state.storm_until
    if view.floor.spot == 0:
        until = None
    elif threshold and len(recent) >= threshold:
        until = max(until or 0.0, float(math.ceil(max(recent) + storm.hold_seconds)))
    if until is not None and until <= now:
        until = None
    oldest = view.spot.oldest_pending
    if view.spot.pending == 0 or oldest is None:
        waiting = None
    elif oldest <= now:
        waiting = oldest
    else:
        # The API server's clock is ahead of ours: its time says nothing here, the first look does.
        waiting = state.waiting_since if state.waiting_since is not None else float(math.ceil(now))
    return replace(state, storm_until=until, waiting_since=waiting)


def _recent(view: _View) -> list[float]:
    begin = view.now - view.facts.capacity.storm.window_seconds
    end = view.now + CLOCK_SKEW_SECONDS
    return [min(time, view.now) for time in view.facts.interruptions if begin < time <= end]


def _find_missing(view: _View, *, storming: bool) -> tuple[int, str]:
    """On-demand replicas that should stand in, and why."""
    spot = view.spot
    if storming:
        return view.floor.spot, reasons.SPOT_STORM
    recent = len(_recent(view))
    struck = max(recent, view.facts.struck) if recent else 0
    lost = min(view.state.proven_spot - spot.ready, struck)
    waited = view.state.waiting_since is not None and view.now >= view.state.waiting_since + view.after
    pending = view.floor.spot - spot.ready - spot.starting if waited else 0
    if pending > 0 and pending >= lost:
        return pending, reasons.SPOT_PENDING
    return (lost, reasons.SPOT_LOST) if lost > 0 else (0, reasons.SPOT_AS_WANTED)


def _grow(view: _View, need: int, *, storming: bool) -> CapacityState:
    """At once, as far as maxReplicas allows. A storm may go one beyond it, as a return may, or a full tier could never
    leave spot without a break."""
    state = view.state
    room = view.limit + int(storming) - view.floor.on_demand - view.running
    extra = max(state.extra_on_demand, min(need, room, view.floor.spot))
    mode = state.mode
    reversal = state.last_reversal
    if storming:
        mode = "Storm"
    elif extra > state.extra_on_demand or state.mode == "Storm":
        mode = "Fallback"
    if extra == 0:
        mode = "Storm" if storming else "Normal"
    # Growth after a return. A storm that has no room to grow into reverses nothing yet.
    shrank_last = reversal is None or (state.last_return is not None and state.last_return >= reversal)
    if extra > state.extra_on_demand and shrank_last:
        reversal = float(math.ceil(view.now))
    return replace(
        state,
        mode=mode,
        extra_on_demand=extra,
        last_reversal=reversal,
        enough_since=state.enough_since if extra == state.extra_on_demand and not storming else None,
        since=state.since if mode == state.mode else float(math.ceil(view.now)),
    )


def _give_back(view: _View) -> CapacityState:
    """One on-demand replica goes if it has not been missed for long enough."""
    state, now = view.state, view.now
    if state.extra_on_demand == 0:
        return replace(state, enough_since=None)
    surplus = view.spot.ready + state.extra_on_demand - view.floor.spot
    if surplus <= 0:
        return replace(state, enough_since=None)
    begun = float(math.ceil(now))
    state = replace(state, enough_since=begun if state.enough_since is None else state.enough_since)
    due = _return_due(view, state)
    if due is None or due > now:
        return state
    extra = state.extra_on_demand - 1
    mode: CapacityMode = "Returning" if extra else "Normal"
    return replace(
        state,
        extra_on_demand=extra,
        last_return=begun,
        last_reversal=begun if state.mode == "Fallback" else state.last_reversal,
        mode=mode,
        since=state.since if mode == state.mode else begun,
    )


def _return_due(view: _View, state: CapacityState) -> float | None:
    """When the next on-demand replica may go; None while it would be missed."""
    if state.enough_since is None or state.extra_on_demand == 0:
        return None
    if state.mode == "Returning":
        return (state.last_return or 0.0) + RETURN_SPACING_SECONDS
    quiet = state.enough_since + view.facts.capacity.fallback.return_after_seconds
    return max(quiet, (state.last_reversal or 0.0) + REVERSAL_SECONDS)


def _spot(view: _View, on_demand: int, *, storming: bool) -> int:
    """Spot replicas beside so many on demand, leaving ones apart."""
    wanted = view.facts.wanted
    alive = view.spot.ready + view.spot.starting
    # On-demand pods that get no node stand in for nobody.
    stuck = 0
    oldest = view.on_demand.oldest_pending
    if view.on_demand.pending and oldest is not None and view.now >= oldest + view.after:
        stuck = min(view.on_demand.pending, on_demand)
    if storming:
        kept = min(alive, max(0, wanted - view.on_demand.ready))
        return min(view.floor.spot, max(kept, wanted - on_demand + stuck))
    target = view.floor.spot + view.overprovision
    if view.state.extra_on_demand == 0:
        return target
    room = view.limit + 1 - on_demand + stuck
    return min(target, max(room + view.overprovision, alive))


def _wake(view: _View) -> float | None:
    """The next moment at which time alone changes the decision."""
    state = view.state
    times = [state.storm_until]
    if state.waiting_since is not None:
        times.append(state.waiting_since + view.after)
    if view.on_demand.pending and view.on_demand.oldest_pending is not None:
        times.append(view.on_demand.oldest_pending + view.after)
    if (state.storm_until or 0.0) <= view.now:
        times.append(_return_due(view, state))
    return min((time for time in times if time is not None and time > view.now), default=None)
