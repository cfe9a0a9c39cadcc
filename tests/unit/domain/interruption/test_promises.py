"""What holds of every interruption, whatever is said in whatever order: random sequences of notices, repeats,
withdrawals, second waves, restarts of the operator and clocks that disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from npc_operator.domain.interruption.joining import HURRIED, LEAVING
from npc_operator.domain.interruption.machine import ROUTE_MARGIN_SECONDS, SETTLE_SECONDS
from npc_operator.domain.interruption.notices import Kind, Notice, Source
from npc_operator.domain.interruption.rebalance import REPLACEMENT_SECONDS, Replacements, read_replacements
from npc_operator.domain.interruption.record import read_record
from npc_operator.domain.interruption.waves import decide_wave
from npc_operator.domain.interruption.wishes import PodInterruption, Steps

START = 1_700_000_000.0
Details = tuple[Kind, Source, float | None, bool, int | None]
Act = tuple[str, str, Details, float]
ACTS = [
    "notice", "notice", "notice", "repeat", "withdraw", "withdraw_all", "restart", "deaf", "hear",
    "lines", "others", "covered", "closed", "ready", "delete", "clock", "wait",
]  # fmt: skip
NODES = {"a": "spot-1", "b": "spot-1", "c": "spot-2"}


@dataclass
class Pod:
    """What is true of a pod, and what of it is only written down."""

    notices: dict[Kind, Notice] = field(default_factory=dict)
    annotation: str | None = None
    lines: int | None = 2
    others: bool = True
    covered: bool = True
    closed: bool = True
    ready: bool = False
    deleting: bool = False
    unrouted_for: float | None = None


@st.composite
def acts(draw: st.DrawFn) -> list[Act]:
    """(act, pod, its argument, seconds until the next one)."""
    made = st.tuples(
        st.sampled_from(ACTS),
        st.sampled_from(sorted(NODES)),
        st.tuples(
            st.sampled_from(list(Kind)),
            st.sampled_from(list(Source)),
            st.none() | st.floats(-400, 2000),
            st.booleans(),
            st.none() | st.integers(0, 2),
        ),
        st.sampled_from([0.0, 0.2, 1.0, 5.0, 30.0, 120.0, 700.0]),
    )
    return draw(st.lists(made, min_size=1, max_size=25))


@dataclass
class World:
    """An operator that writes down what it must and forgets all else when it restarts."""

    now: float = START
    pods: dict[str, Pod] = field(default_factory=lambda: {uid: Pod() for uid in NODES})
    book: str = "{}"
    known: bool = True
    jumped: bool = False
    grants: list[tuple[str, float]] = field(default_factory=list)
    elapsed: float = 0.0

    def act(self, act: str, uid: str, argument: Details) -> None:
        pod = self.pods[uid]
        kind, source, left, flag, lines = argument
        if act in ("notice", "repeat"):
            if act == "repeat" and kind not in pod.notices:
                return
            pod.notices[kind] = Notice(
                source=source, kind=kind, node=NODES[uid], instance=None, pod_uid=None, seen=self.now,
                deadline=None if left is None else self.now + left,
            )  # fmt: skip
        elif act == "withdraw":
            pod.notices.pop(kind, None)
        elif act == "withdraw_all":
            pod.notices.clear()
        elif act == "restart":
            self.known = False
            # A new operator sees what is still there for the first time.
            pod.notices = {kind: replace(told, seen=self.now) for kind, told in pod.notices.items()}
        elif act in ("deaf", "hear"):
            self.known = act == "hear"
        elif act == "lines":
            pod.lines = lines
        elif act == "clock":
            self.now += (left or 0.0) / 4
            self.jumped = True
        elif act == "delete":
            pod.deleting = (flag and pod.deleting) or flag
        elif act in ("others", "covered", "closed", "ready"):
            setattr(pod, act, flag)

    def step(self) -> None:
        facts = {uid: self.facts(uid) for uid in self.pods}
        before = {uid: read_record(pod.annotation) for uid, pod in self.pods.items()}
        wave = decide_wave(facts, NODES, read_replacements(self.book), self.now)
        again = decide_wave(facts, NODES, read_replacements(self.book), self.now)
        assert wave == again
        for uid, steps in wave.steps.items():
            self.check(uid, facts[uid], steps)
            if steps.granted:
                self.grants.append((NODES[uid], self.elapsed))
                had = before[uid]
                assert had is None or had.replaced is None or had.kind is not Kind.REBALANCE
            pod = self.pods[uid]
            pod.annotation = None if steps.record is None else steps.record.write()
            if not steps.unroute:
                pod.unrouted_for = None
            elif pod.unrouted_for is None:
                pod.unrouted_for = self.elapsed
        self.book = wave.replacements.write()

    def facts(self, uid: str) -> PodInterruption:
        pod = self.pods[uid]
        return PodInterruption(
            notices=tuple(pod.notices.values()),
            known=self.known,
            record=read_record(pod.annotation),
            deleting=pod.deleting,
            node_closed=pod.closed,
            others_can_take=pod.others,
            covered=pod.covered,
            lines=pod.lines,
            replacement_ready=pod.ready,
            rebalance_at=0.0,
        )

    def check(self, uid: str, facts: PodInterruption, steps: Steps) -> None:
        record = steps.record
        deadline = record.deadline if record is not None and record.kind in LEAVING else None
        if steps.unroute:
            last = deadline is not None and self.now >= deadline - ROUTE_MARGIN_SECONDS - 0.01
            assert facts.deleting or facts.others_can_take or last
        if steps.evict:
            assert record is not None
            assert not facts.deleting
            assert steps.unroute
            drained = record.drained is not None and not facts.lines
            assert drained or (deadline is not None and self.now >= deadline - 0.01)
            if drained and not (deadline is not None and self.now >= deadline - 0.01):
                assert facts.node_closed
                assert facts.covered
                assert record.kind in HURRIED or facts.replacement_ready
                if not self.jumped:
                    assert record.unrouted is not None
                    assert self.now >= record.unrouted + SETTLE_SECONDS - 0.01
            assert record.kind in LEAVING or record.kind is Kind.REBALANCE
        if record is not None:
            assert len(record.write()) < 512
            assert read_record(record.write()) is not None
            if not facts.notices and facts.known:
                assert record.held_until is not None
                assert record.held_until > self.now
        else:
            assert steps.replacement == "None"
        assert steps.wake_at is None or steps.wake_at > self.now


@settings(max_examples=400, deadline=None)
@given(acts())
def test_no_pod_leaves_the_routes_or_is_evicted_before_it_may_be(
    sequence: list[Act],
) -> None:
    world = World()
    for act, uid, argument, seconds in sequence:
        world.act(act, uid, argument)
        world.step()
        world.now += seconds
        world.elapsed += seconds
        world.step()


@settings(max_examples=300, deadline=None)
@given(acts())
def test_a_node_gets_one_replacement_by_recommendation_in_ten_minutes(
    sequence: list[Act],
) -> None:
    world = World()
    for act, uid, (_, source, left, flag, lines), seconds in sequence:
        if act == "clock":
            continue
        kind = Kind.REBALANCE if act != "withdraw" or flag else Kind.CORDON
        world.act(act, uid, (kind, source, left, flag, lines))
        world.step()
        world.now += seconds
        world.elapsed += seconds
        world.step()
    for node in set(NODES.values()):
        times = [at for name, at in world.grants if name == node]
        # The book keeps milliseconds.
        assert all(later - earlier >= REPLACEMENT_SECONDS - 0.01 for earlier, later in pairwise(times))


@settings(max_examples=300, deadline=None)
@given(acts(), st.sampled_from(sorted(LEAVING)), st.sampled_from(list(Source)), st.none() | st.floats(-400, 2000))
def test_a_pod_whose_node_goes_ends(sequence: list[Act], kind: Kind, source: Source, left: float | None) -> None:
    """Whatever came before: once a notice stays, its pod is evicted by the end of it, if time alone passes and the
    operator only looks when it said it would."""
    world = World()
    for act, uid, argument, seconds in sequence:
        world.act(act, uid, argument)
        world.step()
        world.now += seconds
        world.elapsed += seconds
    pod = world.pods["a"]
    pod.deleting, world.known, pod.lines = False, True, 5
    world.act("notice", "a", (kind, source, left, True, None))
    for _ in range(60):
        facts = world.facts("a")
        wave = decide_wave({"a": facts}, NODES, Replacements(), world.now)
        steps = wave.steps["a"]
        world.check("a", facts, steps)
        pod.annotation = None if steps.record is None else steps.record.write()
        if steps.evict:
            return
        assert steps.wake_at is not None, "nothing would ever look again"
        assert steps.wake_at <= world.now + 2001.0
        world.now = steps.wake_at
    raise AssertionError("it never ended")
