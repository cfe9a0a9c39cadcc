"""Facts in, steps out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from npc_runtime.agent.cache import Folder
from npc_runtime.agent.errors import AdapterError, Reason
from npc_runtime.agent.facts import Base, EngineFacts, Facts, Failure, Proof, Stage, failure_of, identity
from npc_runtime.agent.plan import DRAIN_GRACE_SECONDS, UNLOAD_TRIES, Plan, Step, backoff, decide, next_step
from npc_runtime.agent.view import adapter_reports, resident_names, settled, slots_used
from npc_runtime.wire import AdapterPhase, AdapterReport, DesiredAdapter, EngineState, Stamp, served_name

OWNED = "/cache/sha256-"
NOW = 1000.0


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


def desired(archetype: str = "vampire", letter: str = "a", **changes: Any) -> DesiredAdapter:
    fields: dict[str, Any] = {"uri": f"s3://b/{archetype}", "rank": 16, **changes}
    name = served_name(archetype, digest(letter))
    return DesiredAdapter(served_name=name, archetype=archetype, digest=digest(letter), **fields)


VAMPIRE = desired()
NAME = VAMPIRE.served_name
READY = EngineFacts(EngineState.READY, "one", 1)


def path(letter: str = "a") -> str:
    return OWNED + letter * 64


def facts(*adapters: DesiredAdapter, **changes: Any) -> Facts:
    """A ready engine, a known base, nothing on disk."""
    blank = Facts(
        now=NOW,
        stamp=Stamp(epoch=1, generation=1),
        desired=adapters,
        credentials_lost=frozenset(),
        engine=READY,
        base=Base.KNOWN,
        owned=OWNED,
        disk={},
        staged=frozenset(),
        proofs={},
        identities={},
        failures={},
        busy={},
        busy_digests=frozenset(),
        progress={},
        draining_since={},
        unload_failures={},
        busy_names=None,
        drain_seconds=60.0,
        max_rank=16,
        slots=8,
    )
    return replace(blank, **changes)


def on_disk(*letters: str, rank: int = 8) -> dict[str, Folder]:
    return {digest(letter): Folder(digest(letter), "any", 100, rank, "context", 0.0) for letter in letters}


def listing(**listed: str) -> EngineFacts:
    return replace(READY, listed={name.replace("_", "-"): where for name, where in listed.items()})


LISTED = replace(READY, listed={NAME: path()})
PROVEN = {NAME: Proof("one", 5)}


def failed(
    adapter: DesiredAdapter, stage: Stage, *, permanent: bool = False, retry_at: float = NOW + 5, instance: str = "one"
) -> dict[str, Failure]:
    error = AdapterError(Reason.PROBE_MISMATCH if permanent else Reason.NOT_FOUND, "why", permanent=permanent)
    failure = failure_of(error, stage=stage, attempts=2, retry_at=retry_at, wanted=identity(adapter), instance=instance)
    return {adapter.served_name: failure}


def not_unloaded(attempts: int, *, instance: str = "one") -> Failure:
    error = AdapterError(Reason.LOAD_FAILED, "unload: HTTP 500", permanent=False)
    return failure_of(error, stage=Stage.UNLOAD, attempts=attempts, retry_at=NOW + 3, wanted="", instance=instance)


def steps(plan: Plan) -> list[tuple[str, str]]:
    return [(step.stage.value, step.name) for step in plan.steps]


@pytest.mark.parametrize(
    ("state", "stage"),
    [
        (facts(VAMPIRE), Stage.FETCH),
        (facts(VAMPIRE, staged=frozenset({digest("a")})), Stage.INSPECT),
        (facts(VAMPIRE, staged=frozenset({digest("a")}), base=Base.UNSEEN), Stage.INSPECT),
        (facts(VAMPIRE, staged=frozenset({digest("a")}), base=Base.PENDING), None),
        (facts(VAMPIRE, disk=on_disk("a")), Stage.LOAD),
        (facts(VAMPIRE, disk=on_disk("a"), engine=LISTED), Stage.PROBE),
        (facts(VAMPIRE, disk=on_disk("a"), engine=LISTED, proofs=PROVEN), None),
        (facts(VAMPIRE, disk=on_disk("a"), engine=LISTED, proofs={NAME: Proof("zero", 5)}), Stage.PROBE),
        (facts(VAMPIRE, disk=on_disk("a"), proofs=PROVEN), Stage.LOAD),  # unloaded behind our back
        (facts(VAMPIRE, disk=on_disk("a"), engine=replace(READY, state=EngineState.DOWN)), None),
        (facts(VAMPIRE, engine=replace(READY, state=EngineState.STARTING)), Stage.FETCH),
        (facts(VAMPIRE, busy={NAME: Stage.FETCH}, busy_digests=frozenset({digest("a")})), None),
        (facts(VAMPIRE, credentials_lost=frozenset({NAME})), None),
        (facts(VAMPIRE, credentials_lost=frozenset({NAME}), disk=on_disk("a")), Stage.LOAD),
    ],
)
def test_the_next_step_follows_from_what_is_there(state: Facts, stage: Stage | None) -> None:
    assert decide(state).steps == (() if stage is None else (Step(stage, NAME),))


def test_nothing_is_done_before_any_order_was_seen() -> None:
    plan = decide(facts(desired=None, engine=listing(old=path("b"))))
    assert plan == Plan((), (), (), (), None)


def test_more_important_adapters_go_first_and_kinds_are_bounded() -> None:
    ambient = [desired(f"ambient{n}", f"{n}", importance="Ambient") for n in range(6)]
    critical = desired("quest", "f", importance="Critical")
    assert steps(decide(facts(*ambient, critical))) == [
        ("Fetch", critical.served_name),
        *(("Fetch", adapter.served_name) for adapter in ambient[:3]),
    ]


def test_probes_overlap_with_a_few_loads() -> None:
    adapters = [desired(f"a{n}", f"{n}") for n in range(7)]
    engine = replace(READY, listed={adapters[0].served_name: path("0"), adapters[1].served_name: path("1")})
    state = facts(*adapters, disk=on_disk(*"0123456"), engine=engine, busy={adapters[2].served_name: Stage.LOAD})
    assert steps(decide(state)) == [
        ("Probe", adapters[0].served_name),
        ("Probe", adapters[1].served_name),
        *(("Load", adapter.served_name) for adapter in adapters[3:6]),
    ]


def test_bytes_that_two_archetypes_share_are_fetched_once() -> None:
    assert steps(decide(facts(VAMPIRE, desired("zombie", "a")))) == [("Fetch", NAME)]


def test_a_transient_failure_waits_for_its_time_and_others_go_on() -> None:
    zombie = desired("zombie", "b")
    state = facts(VAMPIRE, zombie, failures=failed(VAMPIRE, Stage.FETCH))
    plan = decide(state)
    assert steps(plan) == [("Fetch", zombie.served_name)]
    assert plan.wake_at == NOW + 5
    assert ("Fetch", NAME) in steps(decide(replace(state, now=NOW + 5)))


def test_a_failed_inspection_holds_the_next_fetch_back_too() -> None:
    state = facts(VAMPIRE, failures=failed(VAMPIRE, Stage.INSPECT))
    assert decide(state).steps == ()
    assert decide(state).wake_at == NOW + 5
    assert decide(replace(state, now=NOW + 5)).steps == (Step(Stage.FETCH, NAME),)


def test_a_failed_fetch_does_not_hold_back_a_load_of_bytes_that_came_another_way() -> None:
    state = facts(VAMPIRE, failures=failed(VAMPIRE, Stage.FETCH), disk=on_disk("a"))
    assert decide(state).steps == (Step(Stage.LOAD, NAME),)


@pytest.mark.parametrize(
    "other",
    [
        desired(uri="s3://elsewhere/vampire"),
        desired(credentials={"token": "x"}),
        desired(probe={"prompt": "Hm?"}),
        desired(rank=8),
    ],
)
def test_a_permanent_failure_stops_until_the_entry_changes(other: DesiredAdapter) -> None:
    state = facts(VAMPIRE, failures=failed(VAMPIRE, Stage.FETCH, permanent=True))
    assert decide(state).steps == ()
    assert decide(state).wake_at is None
    assert decide(replace(state, desired=(other,))).steps == (Step(Stage.FETCH, NAME),)


def test_an_engine_failure_is_forgotten_with_the_engine_process() -> None:
    state = facts(VAMPIRE, disk=on_disk("a"), failures=failed(VAMPIRE, Stage.LOAD, permanent=True))
    assert decide(state).steps == ()
    fresh = replace(state, engine=replace(READY, instance="two"))
    assert decide(fresh).steps == (Step(Stage.LOAD, NAME),)


def test_a_refused_adapter_is_taken_off_the_engine() -> None:
    state = facts(VAMPIRE, disk=on_disk("a"), engine=LISTED, failures=failed(VAMPIRE, Stage.PROBE, permanent=True))
    assert decide(state).steps == (Step(Stage.UNLOAD, NAME),)
    later = replace(state, unload_failures={NAME: not_unloaded(1)})
    assert decide(later).steps == ()
    assert decide(later).wake_at == NOW + 3


def test_other_bytes_under_a_served_name_are_refused_and_left_alone() -> None:
    state = facts(VAMPIRE, disk=on_disk("a"), engine=replace(READY, listed={NAME: path("b")}))
    plan = decide(state)
    assert [item.reason for item in plan.refused] == [Reason.NAME_CLASH]
    assert plan.steps == ()
    assert adapter_reports(state, plan.refused)[0].phase is AdapterPhase.REFUSED


def test_a_rank_above_the_declared_one_is_refused() -> None:
    plan = decide(facts(desired(rank=4), disk=on_disk("a", rank=8)))
    assert [item.reason for item in plan.refused] == [Reason.RANK_TOO_HIGH]
    assert plan.steps == ()


def test_a_proven_adapter_stays_whatever_rank_is_declared_later() -> None:
    plan = decide(facts(desired(rank=1), disk=on_disk("a", rank=8), engine=LISTED, proofs=PROVEN))
    assert (plan.refused, plan.steps) == ((), ())


# --- draining ---

OLD = "vampire--bbbbbbbbbbbb"
HOLDS_OLD = replace(READY, listed={OLD: path("b")})


def test_what_is_not_wanted_any_more_begins_to_drain() -> None:
    plan = decide(facts(engine=HOLDS_OLD))
    assert plan.drain == (OLD,)
    assert plan.steps == ()
    assert plan.wake_at == NOW + DRAIN_GRACE_SECONDS


@pytest.mark.parametrize(
    ("since", "running", "due"),
    [
        (NOW - 1, frozenset[str](), False),  # the grace is not over
        (NOW - 3, frozenset[str](), True),
        (NOW - 3, frozenset({OLD}), False),
        (NOW - 3, None, False),  # nobody knows
        (NOW - 61, frozenset({OLD}), True),  # longest wait is over: running requests finish on an unloaded adapter
        (NOW - 61, None, True),
    ],
)
def test_it_is_unloaded_when_quiet_or_when_time_is_up(since: float, running: frozenset[str] | None, due: bool) -> None:
    plan = decide(facts(engine=HOLDS_OLD, draining_since={OLD: since}, busy_names=running))
    assert plan.steps == ((Step(Stage.UNLOAD, OLD),) if due else ())


def test_adapters_of_others_in_the_engine_are_left_alone() -> None:
    plan = decide(facts(engine=replace(READY, listed={"static": "/models/static-lora"})))
    assert (plan.drain, plan.steps) == ((), ())


# --- reports ---


def report(state: Facts) -> AdapterReport:
    return adapter_reports(state, decide(state).refused)[0]


@pytest.mark.parametrize(
    ("state", "phase", "reason"),
    [
        (facts(VAMPIRE), AdapterPhase.QUEUED, ""),
        (facts(VAMPIRE, busy={NAME: Stage.FETCH}), AdapterPhase.FETCHING, ""),
        (facts(VAMPIRE, busy={NAME: Stage.INSPECT}), AdapterPhase.INSPECTING, ""),
        (facts(VAMPIRE, busy={NAME: Stage.LOAD}), AdapterPhase.LOADING, ""),
        (facts(VAMPIRE, busy={NAME: Stage.PROBE}), AdapterPhase.PROBING, ""),
        (facts(VAMPIRE, engine=LISTED, proofs=PROVEN, disk=on_disk("a")), AdapterPhase.RESIDENT, ""),
        (
            facts(VAMPIRE, engine=replace(READY, state=EngineState.DOWN), proofs=PROVEN, disk=on_disk("a")),
            AdapterPhase.QUEUED,
            "",
        ),
        (facts(VAMPIRE, failures=failed(VAMPIRE, Stage.FETCH)), AdapterPhase.RETRYING, "NotFound"),
        (facts(VAMPIRE, failures=failed(VAMPIRE, Stage.FETCH, permanent=True)), AdapterPhase.REFUSED, "ProbeMismatch"),
        (facts(VAMPIRE, credentials_lost=frozenset({NAME})), AdapterPhase.RETRYING, "CredentialsMissing"),
        (facts(engine=HOLDS_OLD), AdapterPhase.DRAINING, ""),
    ],
)
def test_each_state_has_its_phase(state: Facts, phase: AdapterPhase, reason: str) -> None:
    assert (report(state).phase, report(state).reason) == (phase, reason)


def test_only_what_is_wanted_and_proven_now_is_routable() -> None:
    engine = replace(READY, listed={NAME: path(), OLD: path("b")})
    proofs = {**PROVEN, OLD: Proof("one", 4)}
    state = facts(VAMPIRE, engine=engine, proofs=proofs, disk=on_disk("a", "b"))
    assert resident_names(adapter_reports(state, ())) == (NAME,)


def test_one_bad_adapter_does_not_hold_the_first_readiness_back() -> None:
    def one(phase: AdapterPhase, attempts: int = 0) -> AdapterReport:
        return AdapterReport(served_name="x", archetype="x", digest=digest("a"), phase=phase, attempts=attempts)

    assert settled((one(AdapterPhase.RESIDENT), one(AdapterPhase.REFUSED), one(AdapterPhase.RETRYING, 3)))
    assert not settled((one(AdapterPhase.RESIDENT), one(AdapterPhase.RETRYING, 2)))
    assert settled(())


def test_what_traffic_goes_to_is_waited_for_however_often_it_failed() -> None:
    def one(phase: AdapterPhase) -> AdapterReport:
        return AdapterReport(served_name="x", archetype="x", digest=digest("a"), phase=phase, attempts=9)

    assert not settled((one(AdapterPhase.RETRYING),), serving={"x"})
    assert settled((one(AdapterPhase.RETRYING),), serving={"y"})
    assert settled((one(AdapterPhase.REFUSED), one(AdapterPhase.RESIDENT)), serving={"x"})


def test_slots_count_stable_candidate_draining_and_loading_alike() -> None:
    engine = replace(READY, listed={NAME: path(), OLD: path("b"), "static": "/elsewhere"})
    assert slots_used(facts(VAMPIRE, engine=engine, busy={"zombie--cccccccccccc": Stage.LOAD})) == 3


CANDIDATE = desired("vampire", "c")


def test_what_drains_holds_its_slot_and_a_load_waits_for_it() -> None:
    engine = replace(READY, listed={NAME: path(), OLD: path("b")})
    full = {"engine": engine, "proofs": PROVEN, "disk": on_disk("a", "c"), "slots": 2}
    drains = facts(VAMPIRE, CANDIDATE, draining_since={OLD: NOW - 1}, **full)
    assert decide(drains).steps == ()
    assert decide(drains).waiting == (Step(Stage.LOAD, CANDIDATE.served_name),)
    assert decide(drains).wake_at == NOW + 59  # when the old one may go at the latest
    waits = next(one for one in adapter_reports(drains, ()) if one.served_name == CANDIDATE.served_name)
    assert (waits.phase, waits.message) == (
        AdapterPhase.QUEUED,
        "waits for a slot of the engine: 1 that drain hold theirs",
    )
    assert next_step(drains, CANDIDATE.served_name, CANDIDATE) is None
    gone = replace(drains, engine=LISTED, draining_since={})
    assert decide(gone).steps == (Step(Stage.LOAD, CANDIDATE.served_name),)


def test_a_slot_that_the_engine_will_not_give_up_is_not_waited_for() -> None:
    engine = replace(READY, listed={NAME: path(), OLD: path("b")})
    load = Step(Stage.LOAD, CANDIDATE.served_name)
    state = facts(
        VAMPIRE,
        CANDIDATE,
        engine=engine,
        proofs=PROVEN,
        disk=on_disk("a", "c"),
        slots=2,
        draining_since={OLD: NOW - 100},
    )
    for failure, waits in (
        (not_unloaded(UNLOAD_TRIES - 1), True),
        (not_unloaded(UNLOAD_TRIES), False),
        (not_unloaded(UNLOAD_TRIES, instance="zero"), True),
    ):
        stuck = replace(state, unload_failures={OLD: failure})
        assert (load in decide(stuck).waiting, load in decide(stuck).steps) == (waits, not waits)
        assert next_step(stuck, load.name, CANDIDATE) == (None if waits else load)
        told = {one.served_name: one for one in adapter_reports(stuck, ())}
        assert bool(told[load.name].message) is waits
        assert ("not waited for" in told[OLD].message) is not waits
    mixed = replace(
        state,
        engine=replace(engine, listed={**engine.listed, "zombie--dddddddddddd": path("d")}),
        draining_since={OLD: NOW - 100, "zombie--dddddddddddd": NOW},
        unload_failures={OLD: not_unloaded(9)},
    )
    assert decide(mixed).steps == ()  # another one is about to go
    assert "1 that drain" in next(one.message for one in adapter_reports(mixed, ()) if one.served_name == load.name)


def test_what_cannot_be_unloaded_says_why_for_as_long_as_its_engine_lives() -> None:
    state = facts(engine=HOLDS_OLD, draining_since={OLD: NOW - 100}, unload_failures={OLD: not_unloaded(1)})
    assert (report(state).phase, report(state).reason, report(state).message, report(state).attempts) == (
        AdapterPhase.DRAINING,
        "LoadFailed",
        "unload: HTTP 500",
        1,
    )
    assert decide(state).wake_at == NOW + 3
    other = replace(state, engine=replace(HOLDS_OLD, instance="two"))
    assert (report(other).reason, report(other).attempts) == ("", 0)
    assert decide(other).steps == (Step(Stage.UNLOAD, OLD),)


def test_a_load_that_is_under_way_takes_a_slot_too() -> None:
    zombie = desired("zombie", "d")
    state = facts(CANDIDATE, zombie, engine=HOLDS_OLD, draining_since={OLD: NOW - 1}, disk=on_disk("c", "d"), slots=2)
    assert decide(state).steps == (Step(Stage.LOAD, CANDIDATE.served_name),)
    assert decide(state).waiting == (Step(Stage.LOAD, zombie.served_name),)
    busy = replace(state, busy={CANDIDATE.served_name: Stage.LOAD})
    assert decide(busy).steps == ()
    assert next_step(busy, zombie.served_name, zombie) is None


def test_nothing_waits_for_a_slot_that_nobody_is_about_to_give_up() -> None:
    state = facts(VAMPIRE, CANDIDATE, engine=LISTED, proofs=PROVEN, disk=on_disk("a", "c"), slots=1)
    assert decide(state).steps == (Step(Stage.LOAD, CANDIDATE.served_name),)
    assert [one.message for one in adapter_reports(state, ())] == ["", ""]


def test_backoff_doubles_from_one_second_to_thirty() -> None:
    assert [backoff(attempt, 0.0) for attempt in (1, 2, 3, 4, 5, 6, 50)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff(50, 0.999) < 30 * 1.25
