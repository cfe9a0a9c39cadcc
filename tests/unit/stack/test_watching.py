"""What the demo says while it waits: the operator's own words, when they are news, and that it still waits."""

from __future__ import annotations

from typing import Any

from hack.stack.kubectl import describe, is_ready
from hack.stack.watching import HEARTBEAT_SECONDS, QUIET_SECONDS, Pending, is_settled, is_stalled, why, word


def seen(
    kind: str = "GpuTier", name: str = "gold", *, generation: int = 2, **conditions: tuple[str, str]
) -> dict[str, Any]:
    """An object; conditions are type=(status, "Reason: message"), all of generation 2."""
    return {
        "kind": kind,
        "metadata": {"name": name, "generation": generation},
        "status": {
            "conditions": [
                {
                    "type": type_,
                    "status": status,
                    "reason": said.partition(": ")[0],
                    "message": said.partition(": ")[2],
                    "observedGeneration": 2,
                }
                for type_, (status, said) in conditions.items()
            ]
        },
    }


READY = seen(Ready=("True", "Serving: 1 of 1 pods are ready"))
STARTING = seen(Ready=("False", "Starting: 0 of 1"), Reconciling=("True", "Starting: engine Starting"))


def test_ready_for_an_older_spec_is_not_ready() -> None:
    assert is_ready(READY)
    assert not is_ready(seen(generation=3, Ready=("True", "Serving: yes")))


def test_an_object_is_called_by_the_words_of_the_documentation() -> None:
    names = [word(seen(kind, "x")) for kind in ("GpuTier", "ArchetypeAdapter", "NPCRegion")]
    assert names == ["tier x", "voice x", "region x"]


def test_why_prefers_what_needs_a_person_to_what_is_changing() -> None:
    stalled = seen(
        Ready=("False", "Starting: 0 of 1"),
        Reconciling=("True", "Starting: x"),
        Stalled=("True", "SecretNotFound: make it"),
    )
    assert is_stalled(stalled)
    assert why(stalled) == "SecretNotFound: make it"
    assert why(STARTING) == "Starting: engine Starting"
    assert why(READY) == ""


def test_a_voice_that_is_ready_with_its_old_bytes_is_still_waited_for() -> None:
    moving = seen("ArchetypeAdapter", "vampire", Ready=("True", "Serving: v2"), Reconciling=("True", "Loading: v1"))
    assert is_ready(moving)
    assert not is_settled(moving)
    assert why(moving) == "Loading: v1"
    assert is_settled(READY)


def test_an_object_without_status_says_that_nobody_looked() -> None:
    fresh = {"kind": "GpuTier", "metadata": {"name": "gold", "generation": 1}}
    assert why(fresh) == "not looked at yet"
    assert describe(fresh).startswith("last seen:")
    assert describe(None) == "it is not there"


def test_only_news_are_lines() -> None:
    pending = Pending(0.0)
    assert pending.lines([STARTING], 0.0) == ["tier gold: Starting: engine Starting"]
    assert pending.lines([STARTING], 5.0) == []
    assert pending.lines([READY], 5.5) == ["tier gold: ready"]
    assert pending.lines([READY], 6.0) == []


def test_fast_changes_of_one_object_are_told_once_they_calm_down() -> None:
    pending = Pending(0.0)
    other = seen(Reconciling=("True", "FetchingModel: 3 of 9 MB"))
    assert len(pending.lines([STARTING], 0.0)) == 1
    assert pending.lines([other], QUIET_SECONDS / 2) == []
    assert pending.lines([other], QUIET_SECONDS) == ["tier gold: FetchingModel: 3 of 9 MB"]


def test_becoming_ready_is_told_at_once() -> None:
    pending = Pending(0.0)
    pending.lines([STARTING], 0.0)
    assert pending.lines([READY], 0.1) == ["tier gold: ready"]


def test_after_a_while_without_news_it_says_that_it_still_waits_and_for_what() -> None:
    pending = Pending(0.0)
    objects = [STARTING, seen(name="silver", Ready=("True", "Serving: yes"))]
    pending.lines(objects, 0.0)
    assert pending.lines(objects, HEARTBEAT_SECONDS - 1) == []
    assert pending.lines(objects, HEARTBEAT_SECONDS) == ["still waiting for tier gold"]
    assert pending.lines(objects, HEARTBEAT_SECONDS + 1) == []
    assert Pending(0.0).lines([], HEARTBEAT_SECONDS) == []
