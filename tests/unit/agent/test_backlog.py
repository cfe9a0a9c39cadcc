"""What waits for a place, and whether one name alone is judged as in the company of all."""

from __future__ import annotations

import random

from npc_runtime.agent.backlog import Backlog
from npc_runtime.agent.errors import AdapterError, Reason
from npc_runtime.agent.facts import Base, EngineFacts, Facts, Proof, Stage, failure_of, identity
from npc_runtime.agent.plan import BOUNDS, Step, decide, next_step
from npc_runtime.wire import EngineState
from tests.unit.agent.test_plan import NOW, desired, digest, facts, not_unloaded, on_disk, path

LETTERS = "abcdef0123456789"


def test_who_is_first_in_the_desired_set_is_first_here_and_strangers_are_last() -> None:
    backlog = Backlog()
    steps = [Step(Stage.LOAD, name) for name in ("c", "stranger", "a")]
    backlog.replace(steps, {"a": 0, "b": 1, "c": 2})
    backlog.add(Step(Stage.LOAD, "b"))
    backlog.add(Step(Stage.PROBE, "a"))
    assert [backlog.pop(Stage.LOAD) for _ in range(5)] == ["a", "b", "c", "stranger", None]
    assert backlog.pop(Stage.PROBE) == "a"


def test_a_new_plan_replaces_all_that_waited() -> None:
    backlog = Backlog()
    backlog.replace([Step(Stage.LOAD, "a")], {})
    backlog.replace([Step(Stage.FETCH, "b")], {})
    assert (backlog.pop(Stage.LOAD), backlog.pop(Stage.FETCH)) == (None, "b")


def any_facts(chance: random.Random) -> Facts:
    """Sixteen adapters, each in a state of its own, with an engine that may be down, full, or hold others' bytes."""
    wanted = [
        desired(f"voice{letter}", letter, importance=chance.choice(["Critical", "Normal", "Ambient"]))
        for letter in LETTERS
    ]
    names = [adapter.served_name for adapter in wanted]
    there = [letter for letter in LETTERS if chance.random() < 0.6]
    listed = {name: path(letter) for name, letter in zip(names, LETTERS, strict=True) if chance.random() < 0.4}
    for name in chance.sample(names, 2):
        if name in listed:
            listed[name] = path("9" if chance.random() < 0.5 else listed[name][-1])
    state = chance.choice([EngineState.READY] * 4 + [EngineState.DOWN])
    engine = EngineFacts(state, "one", 1, listed if state is EngineState.READY else {})
    dropped = chance.sample(names, 3)
    failures = {
        adapter.served_name: failure_of(
            AdapterError(Reason.LOAD_FAILED, "no", permanent=chance.random() < 0.3),
            stage=chance.choice(list(Stage)),
            attempts=1,
            retry_at=NOW + chance.choice([-1, 1]),
            wanted=identity(adapter),
            instance=chance.choice(["one", "two"]),
        )
        for adapter in chance.sample(wanted, 4)
    }
    busy = {name: chance.choice(list(Stage)) for name in chance.sample(names, chance.randrange(4))}
    return facts(
        *[adapter for adapter in wanted if adapter.served_name not in dropped],
        engine=engine,
        base=chance.choice([Base.KNOWN, Base.PENDING]),
        disk=on_disk(*there, rank=chance.choice([8, 8, 32])),
        staged=frozenset(digest(letter) for letter in LETTERS if letter not in there and chance.random() < 0.3),
        proofs={name: Proof("one", 5) for name in names if chance.random() < 0.3},
        failures=failures,
        busy=busy,
        busy_digests=frozenset(digest(letter) for letter in chance.sample(LETTERS, 2)),
        credentials_lost=frozenset(chance.sample(names, 2)),
        draining_since={name: NOW - chance.choice([1, 100]) for name in dropped if chance.random() < 0.7},
        busy_names=chance.choice([None, frozenset(dropped)]),
        slots=chance.choice([2, 8, 32]),
        unload_failures={
            name: not_unloaded(chance.choice([1, 9]), instance=chance.choice(["one", "two"]))
            for name in dropped
            if chance.random() < 0.5
        },
    )


def test_one_name_alone_is_judged_as_in_the_company_of_all() -> None:
    begun = waited = 0
    for seed in range(400):
        state = any_facts(random.Random(seed))
        plan = decide(state)
        by_name = {adapter.served_name: adapter for adapter in state.desired or ()}
        alone = {
            name: next_step(state, name, by_name.get(name)) for name in by_name.keys() | state.engine.listed.keys()
        }
        for step in plan.steps:
            # Of the places that a plan gives away one after the other, the first is free for each alone.
            assert alone.pop(step.name) == step
        for step in plan.waiting:
            assert alone.pop(step.name) in {step, None}
        assert set(alone.values()) <= {None}
        begun, waited = begun + len(plan.steps), waited + len(plan.waiting)
    assert begun > 400
    assert waited > 400


def test_a_plan_never_begins_more_than_the_places_there_are() -> None:
    for seed in range(200):
        state = any_facts(random.Random(seed))
        steps = decide(state).steps
        for stage in Stage:
            running = sum(busy is stage for busy in state.busy.values())
            begun = sum(step.stage is stage for step in steps)
            assert begun == 0 or running + begun <= BOUNDS[stage]
