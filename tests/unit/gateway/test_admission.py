"""Who goes to the engines, who waits, and who is turned away."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from npc_runtime.gateway.admission import FREE, PROBE_PRIORITY, Admission, State, Ticket, engine_priority
from tests.unit.gateway.tables import route_table


class Tier:
    """A gold tier under test, and what its lines were told."""

    def __init__(self, *, slots: int = 2, queue: int = 3, pods: int = 1, gateways: int = 1, workers: int = 1) -> None:
        self.pods = pods
        self.told: list[str] = []
        self.admission = Admission(lambda _: self.pods)
        self.apply(slots=slots, queue=queue, gateways=gateways, workers=workers)

    def apply(self, *, slots: int, queue: int, gateways: int = 1, workers: int = 1) -> None:
        tiers = tuple(
            tier.model_copy(update={"slots": slots if tier.name == "gold" else 1, "queue": queue})
            for tier in route_table().tiers
        )
        table = route_table(tiers=("gold", "bronze")).model_copy(update={"tiers": tiers, "ready_gateways": gateways})
        self.admission.apply(table, workers=workers)

    def line(self, name: str, importance: str = "Normal", tier: str = "gold") -> Ticket:
        return self.admission.acquire(
            tier, importance, lambda: self.told.append(f"{name} ready"), lambda: self.told.append(f"{name} shed")
        )


def states(tickets: list[Ticket]) -> list[str]:
    return [ticket.state.name for ticket in tickets]


def test_a_tier_without_slots_is_not_looked_at() -> None:
    tier = Tier(slots=0)
    tickets = [tier.line(str(number)) for number in range(100)]
    assert all(ticket is FREE for ticket in tickets)
    tickets[0].release()
    assert tier.line("next").state is State.ADMITTED, "the ticket that all share is never used up"


def test_lines_run_then_wait_then_are_shed() -> None:
    tier = Tier(slots=2, queue=3)
    tickets = [tier.line(str(number)) for number in range(7)]
    assert states(tickets) == ["ADMITTED"] * 2 + ["WAITING"] * 3 + ["SHED"] * 2
    assert tier.admission.waiting()["gold"] == 3
    assert tier.told == []


def test_a_free_slot_goes_to_the_most_important_and_of_equals_to_the_first() -> None:
    tier = Tier(slots=1, queue=10)
    running = tier.line("running")
    waiting = {
        name: tier.line(name, importance)
        for name, importance in [
            ("crowd 1", "Ambient"),
            ("guard 1", "Normal"),
            ("queen", "Critical"),
            ("guard 2", "Normal"),
        ]
    }
    running.release()
    for name in ("queen", "guard 1", "guard 2", "crowd 1"):
        assert tier.told[-1] == f"{name} ready"
        waiting[name].release()
    assert len(tier.told) == 4


def test_the_least_important_that_came_last_gives_its_place_to_a_more_important_line() -> None:
    tier = Tier(slots=1, queue=3)
    tier.line("running", "Ambient")
    first, second = tier.line("crowd 1", "Ambient"), tier.line("crowd 2", "Ambient")
    tier.line("guard", "Normal")
    queen = tier.line("queen", "Critical")
    assert tier.told == ["crowd 2 shed"]
    assert (queen.state, first.state, second.state) == (State.WAITING, State.WAITING, State.SHED)
    tier.line("king", "Critical")
    tier.line("prince", "Critical")
    assert tier.told == ["crowd 2 shed", "crowd 1 shed", "guard shed"]
    assert tier.line("thief", "Normal").state is State.SHED, "nobody less important waits"
    assert tier.line("hero", "Critical").state is State.SHED, "equals are not displaced"


def test_a_line_whose_client_left_gives_its_place_back() -> None:
    tier = Tier(slots=1, queue=1)
    running, gone = tier.line("running"), tier.line("gone")
    assert tier.line("too many").state is State.SHED
    gone.release()
    gone.release()
    stays = tier.line("stays")
    running.release()
    assert tier.told == ["stays ready"]
    assert stays.state is State.ADMITTED


def test_a_slot_is_given_back_once() -> None:
    tier = Tier(slots=1, queue=5)
    running = tier.line("running")
    waiting = [tier.line(str(number)) for number in range(3)]
    running.release()
    running.release()
    assert states(waiting) == ["ADMITTED", "WAITING", "WAITING"]


@pytest.mark.parametrize(
    ("slots", "pods", "share", "runs"), [(8, 2, 1, 16), (8, 2, 4, 4), (1, 1, 3, 1), (8, 1, 3, 3), (8, 0, 1, 1)]
)
def test_slots_are_shared_out_and_each_loop_has_at_least_one(slots: int, pods: int, share: int, runs: int) -> None:
    tier = Tier(slots=slots, pods=pods, queue=1000, gateways=share)
    tickets = [tier.line(str(number)) for number in range(50)]
    assert states(tickets).count("ADMITTED") == runs


def test_workers_share_like_gateways() -> None:
    tier = Tier(slots=8, queue=8, gateways=2, workers=2)
    assert states([tier.line(str(number)) for number in range(6)]) == ["ADMITTED"] * 2 + ["WAITING"] * 2 + ["SHED"] * 2


def test_one_tier_makes_no_other_wait() -> None:
    tier = Tier(slots=2, queue=1)
    for number in range(50):
        tier.line(str(number), "Critical", tier="bronze")
    assert tier.line("gold", "Ambient").state is State.ADMITTED


def test_pods_that_come_let_in_who_waits() -> None:
    tier = Tier(slots=1, queue=5, pods=1)
    for number in range(4):
        tier.line(str(number))
    tier.pods = 3
    tier.admission.wake()
    assert tier.told == ["1 ready", "2 ready"]


def test_a_table_that_bounds_a_tier_no_more_lets_all_of_it_in() -> None:
    tier = Tier(slots=1, queue=5)
    tickets = [tier.line(str(number)) for number in range(4)]
    tier.apply(slots=0, queue=0)
    assert states(tickets) == ["ADMITTED"] * 4
    for ticket in tickets:
        ticket.release()
    tier.apply(slots=2, queue=0)
    assert states([tier.line(str(number)) for number in range(3)]) == ["ADMITTED"] * 2 + ["SHED"]


def test_thousands_that_fail_as_soon_as_they_are_let_in_do_not_nest() -> None:
    tier = Tier(slots=1, queue=5000)
    running = tier.line("running")
    tickets: list[Ticket] = []
    for _ in range(5000):
        number = len(tickets)
        tickets.append(tier.admission.acquire("gold", "Normal", lambda n=number: tickets[n].release(), lambda: None))  # type: ignore[misc]
    running.release()
    assert all(ticket.state is State.OVER for ticket in tickets)


def test_a_line_that_cannot_be_told_does_not_keep_the_next_from_its_slot(caplog: pytest.LogCaptureFixture) -> None:
    tier = Tier(slots=1, queue=5)
    running = tier.line("running")

    def fail() -> None:
        raise RuntimeError

    broken = tier.admission.acquire("gold", "Critical", fail, lambda: None)
    tier.line("next")
    running.release()
    assert "could not be told" in caplog.text
    broken.release()
    assert tier.told == ["next ready"]


def test_engines_are_told_the_same_order() -> None:
    order = [
        engine_priority(importance, quality)
        for importance in ("Critical", "Normal", "Ambient")
        for quality in ("Gold", "Silver", "Bronze")
    ]
    assert order == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert max(order) < PROBE_PRIORITY


class Lines(RuleBasedStateMachine):
    """Any order of lines, ends and changes: nobody is lost, counted twice, or let in beyond the limit."""

    def __init__(self) -> None:
        super().__init__()
        self.slots, self.queue = 2, 4
        self.tier = Tier(slots=2, queue=4)
        self.tickets: list[tuple[int, Ticket]] = []
        self.told: list[str] = []

    @rule(importance=st.sampled_from(["Critical", "Normal", "Ambient"]))
    def ask(self, importance: str) -> None:
        rank = ["Critical", "Normal", "Ambient"].index(importance)
        ticket = self.tier.line("x", importance)
        if ticket.state is State.SHED:
            assert all(other <= rank for other, each in self.tickets if each.state is State.WAITING)
        self.tickets.append((rank, ticket))

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        _, ticket = self.tickets.pop(data.draw(st.integers(0, len(self.tickets) - 1)))
        ticket.release()

    @rule(pods=st.integers(0, 3))
    def scale(self, pods: int) -> None:
        self.tier.pods = pods
        self.tier.admission.wake()

    @invariant()
    def counts_are_true(self) -> None:
        states = [ticket.state for _, ticket in self.tickets]
        gate = self.tier.admission._gates["gold"]
        assert gate.in_flight == states.count(State.ADMITTED)
        assert gate.waiting == states.count(State.WAITING) == sum(len(lane) for lane in gate._lanes)
        assert gate.waiting <= gate.room
        if gate.in_flight < gate.limit:
            assert not gate.waiting


Lines.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_any_order_of_lines = Lines.TestCase
