"""Engines that end while they have a candidate are counted, and no others."""

from __future__ import annotations

from typing import Any

from npc_operator.domain.engines import Engine
from npc_operator.reconcilers.crashes import WINDOW_SECONDS, CrashWatch
from npc_runtime.wire import AdapterPhase, EngineReport, EngineState, served_name
from tests.support.builders import NAMESPACE, agent_fact, digest, pod_fact, report

NEW = digest("new")
NAME = served_name("vampire", NEW)
PLACE = (NAMESPACE, "vampire", "gold")


def engine(
    process: str,
    *,
    has: bool = True,
    pod: str = "a",
    state: EngineState = EngineState.READY,
    agent: str = "1",
    **more: Any,
) -> Engine:
    phase = AdapterPhase.RESIDENT if has else AdapterPhase.QUEUED
    fact = pod_fact(pod, **more)
    said = EngineReport(state=state, instance=process)
    return Engine(
        fact, agent_fact(fact, [report("vampire", NEW, phase)], engine=said, boot_id=agent) if process else None
    )


def down(process: str) -> Engine:
    return engine(process, has=False, state=EngineState.STARTING)


def count(watch: CrashWatch, *engines: Engine, known: int = 0, name: str = NAME, now: float = 0.0) -> int:
    return watch.count(PLACE, name, engines, known=known, now=now)


def test_a_new_process_on_a_pod_that_had_it_is_one_end_however_often_it_is_seen() -> None:
    watch = CrashWatch()
    assert count(watch, engine("1")) == 0
    assert [count(watch, down("2")) for _ in range(3)] == [1, 1, 1]
    assert count(watch, engine("2")) == 1
    assert count(watch, engine("3")) == 2, "it was loaded again in between, unseen"


def test_an_engine_that_keeps_ending_before_it_has_it_says_nothing() -> None:
    watch = CrashWatch()
    assert [count(watch, down(str(number))) for number in range(1, 6)] == [0] * 5


def test_a_pod_that_goes_or_is_replaced_is_no_end() -> None:
    watch = CrashWatch()
    count(watch, engine("1"))
    assert count(watch, engine("1", deleting=True)) == 0
    assert count(watch, engine("2", pod="b")) == 0
    assert count(watch, engine("9", uid="another-pod-of-that-name")) == 0


def test_a_node_that_starts_anew_says_nothing_of_the_candidate_on_it() -> None:
    """Agent and engine begin anew together, and the pods keep their uids."""
    watch = CrashWatch()
    assert count(watch, engine("1"), engine("1", pod="b")) == 0
    again = [engine("2", has=False, pod=pod, state=EngineState.STARTING, agent="2") for pod in "ab"]
    assert count(watch, *again) == 0
    assert count(watch, engine("2", agent="2"), engine("2", pod="b", agent="2")) == 0
    assert count(watch, engine("3", agent="2"), engine("2", pod="b", agent="2")) == 1, "this one ended alone"


def test_an_agent_that_starts_anew_forgets_no_engine() -> None:
    watch = CrashWatch()
    count(watch, engine("1"))
    assert count(watch, engine("1", has=False, agent="2")) == 0, "it proves again what is resident"
    assert count(watch, engine("2", has=False, agent="2")) == 1


def test_silence_is_no_end() -> None:
    watch = CrashWatch()
    count(watch, engine("1"))
    assert count(watch, engine("")) == 0
    assert count(watch, engine("1")) == 0


def test_a_new_leader_goes_on_from_what_the_status_tells() -> None:
    watch = CrashWatch()
    assert count(watch, engine("2"), known=1) == 1
    assert count(watch, down("3"), known=1) == 2


def test_engines_that_end_long_after_each_other_do_not_make_a_loop() -> None:
    watch = CrashWatch()
    assert count(watch, engine("1"), engine("1", pod="b")) == 0
    assert count(watch, engine("2"), engine("1", pod="b"), now=60.0) == 1
    assert count(watch, engine("2"), engine("1", pod="b"), now=60.0 + WINDOW_SECONDS) == 0
    assert count(watch, engine("2"), engine("2", pod="b"), now=86_400.0) == 1
    assert count(watch, engine("3"), engine("2", pod="b"), now=86_400.0 + WINDOW_SECONDS / 2) == 2


def test_what_an_earlier_leader_counted_counts_for_as_long_again_at_most() -> None:
    watch = CrashWatch()
    assert count(watch, engine("1"), known=1, now=100.0) == 1
    assert count(watch, engine("1"), known=1, now=99.0 + WINDOW_SECONDS) == 1
    assert count(watch, engine("1"), known=1, now=100.0 + WINDOW_SECONDS) == 0


def test_another_candidate_begins_with_nothing() -> None:
    watch = CrashWatch()
    count(watch, engine("1"))
    count(watch, down("2"))
    assert count(watch, engine("2"), name=served_name("vampire", digest("other"))) == 0
    watch.forget(PLACE)
    assert count(watch, engine("2")) == 0
