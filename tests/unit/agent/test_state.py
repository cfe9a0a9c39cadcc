from __future__ import annotations

from dataclasses import replace

from npc_runtime.agent.facts import EngineFacts, Progress, Proof, Stage
from npc_runtime.agent.state import State
from npc_runtime.wire import DesiredAdapter, DesiredSet, EngineState, Stamp, served_name

DIGEST = f"sha256:{'a' * 64}"
NAME = served_name("vampire", DIGEST)
UP = EngineFacts(EngineState.READY, "one", 1, {NAME: "/cache/a"})


def proven() -> State:
    state = State(engine=UP)
    state.proven(NAME, Proof("one", 5))
    assert NAME in state.proofs
    return state


def test_a_proof_outlives_a_hiccup_of_the_same_process() -> None:
    state = proven()
    state.engine_seen(replace(UP, state=EngineState.DOWN, listed={}))
    state.engine_seen(UP)
    assert NAME in state.proofs


def test_a_proof_ends_with_its_process_or_its_adapter_though_the_name_comes_back() -> None:
    for lost in (replace(UP, instance="two"), replace(UP, listed={})):
        state = proven()
        state.engine_seen(lost)
        state.engine_seen(replace(lost, listed=UP.listed))
        assert NAME not in state.proofs


def test_an_answer_of_a_process_that_is_gone_proves_nothing() -> None:
    for engine in (replace(UP, instance="two"), replace(UP, state=EngineState.DOWN), replace(UP, listed={})):
        state = State(engine=engine)
        state.proven(NAME, Proof("one", 5))
        assert not state.proofs


def test_a_load_voids_an_older_proof() -> None:
    state = proven()
    state.loaded(NAME, "/cache/a", "one")
    assert not state.proofs


def test_every_load_and_unload_marks_lists_asked_for_meanwhile_as_old() -> None:
    state = State(engine=UP)
    marks = [state.listing_mark]
    for stage in (Stage.LOAD, Stage.UNLOAD):
        state.started(stage, NAME, None)
        marks.append(state.listing_mark)
        state.ended(stage, NAME)
        marks.append(state.listing_mark)
    assert len(set(marks)) == len(marks)


def test_a_new_order_forgets_what_only_the_old_one_wanted() -> None:
    adapter = DesiredAdapter(served_name=NAME, archetype="vampire", digest=DIGEST, uri="s3://b/v", rank=8)
    state = State(engine=UP)
    state.ordered(DesiredSet(stamp=Stamp(epoch=1, generation=1), adapters=(adapter,)), frozenset({NAME}))
    state.reserved[DIGEST] = 10
    state.staged[DIGEST] = None  # type: ignore[assignment]
    state.ordered(DesiredSet(stamp=Stamp(epoch=1, generation=2)), frozenset())
    assert (state.staged, state.reserved, state.credentials_lost) == ({}, {}, frozenset())


def test_the_progress_that_threads_write_to_stays_the_same_object() -> None:
    adapter = DesiredAdapter(served_name=NAME, archetype="vampire", digest=DIGEST, uri="s3://b/v", rank=8)
    state = State(engine=UP)
    held = state.progress
    held[NAME], held["gone"] = Progress(1, 2), Progress(3, 4)
    state.ordered(DesiredSet(stamp=Stamp(epoch=1, generation=1), adapters=(adapter,)), frozenset())
    assert state.progress is held
    assert held == {NAME: Progress(1, 2)}


def test_an_unload_voids_the_proof_the_moment_it_begins() -> None:
    state = proven()
    state.started(Stage.UNLOAD, NAME, None)
    assert not state.proofs
