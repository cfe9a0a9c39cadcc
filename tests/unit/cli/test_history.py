"""history, weights and rollouts: what the status says of a digest's way, for people and for programs."""

from __future__ import annotations

import pytest

from npc_runtime.cli.answers import Answer
from npc_runtime.cli.parse_voices import parse_adapter
from npc_runtime.cli.render import render
from npc_runtime.cli.views.history import view_history
from npc_runtime.cli.views.residency import view_matrix
from npc_runtime.cli.views.status import view_status
from npc_runtime.wire import AdapterPhase
from tests.unit.cli import objects as o
from tests.unit.cli.faults import healthy
from tests.unit.cli.moving_faults import MOVING, NUMBERS, decision, on_its_way, voice
from tests.unit.cli.test_residency import heard, held


def shown(answer: Answer) -> list[str]:
    return render(answer, form="table", colours=False).splitlines()


def written() -> o.Json:
    """A canary that was taken back."""
    history = (
        decision(o.NEW, "RolledBack", 10, 0, verdict=NUMBERS, time="2026-11-21T11:55:00Z"),
        decision(o.NEW, "Stepped", 0, 10, time="2026-11-21T11:50:00Z"),
        decision(o.OLD, "First", 0, 100, previous="", by="alice", time="2026-11-01T08:00:00Z"),
    )
    return voice(o.variant(history=list(history)))


def test_the_history_of_all_tiers_is_told_newest_last() -> None:
    raw = written()
    silver = decision(o.OLD, "Moved", 50, 100, time="2026-11-21T11:52:00Z")
    raw["status"]["variants"].append(o.variant("silver", history=[silver]))
    answer = view_history(parse_adapter(raw), tier="")
    rows = [line.split()[:3] for line in shown(answer)[1:]]
    assert rows == [
        ["2026-11-01T08:00:00Z", "gold", o.OLD[7:19]],
        ["2026-11-21T11:50:00Z", "gold", o.NEW[7:19]],
        ["2026-11-21T11:52:00Z", "silver", o.OLD[7:19]],
        ["2026-11-21T11:55:00Z", "gold", o.NEW[7:19]],
    ]
    assert len(shown(view_history(parse_adapter(raw), tier="silver"))) == 2
    assert "50% -> 100%" in shown(view_history(parse_adapter(raw), tier="silver"))[1]


def test_decisions_of_one_second_keep_their_order() -> None:
    raw = voice(o.variant(history=[decision(o.NEW, "Moved", 50, 100), decision(o.NEW, "Stepped", 25, 50)]))
    assert [line.split()[-2] for line in shown(view_history(parse_adapter(raw), tier=""))[1:]] == ["Stepped", "Moved"]


def test_the_history_as_data_says_everything() -> None:
    data = view_history(parse_adapter(written()), tier="").data
    assert isinstance(data, dict)
    assert data["history"][-1] == {
        "time": "2026-11-21T11:55:00Z",
        "tier": "gold",
        "digest": o.NEW,
        "uri": f"s3://adapters/vampire/{o.NEW[7:11]}",
        "previous": o.OLD,
        "fromPercent": 10,
        "toPercent": 0,
        "reason": "RolledBack",
        "verdict": NUMBERS,
        "by": "npc-operator",
    }


def test_an_adapter_without_a_history_says_so() -> None:
    assert shown(view_history(parse_adapter(o.adapter()), tier="")) == ["nothing was decided yet"]


@pytest.mark.parametrize(
    ("state", "old", "new"),
    [
        (o.variant(), 100.0, None),
        (on_its_way("Watching", "Watching"), 90.0, 10.0),
        (on_its_way("Waiting", "WaitingForTurn", percent=0), 100.0, 0.0),
        (o.variant(serving="Scripted"), 0.0, None),
        (o.variant(serving="LastGood"), 100.0, None),
    ],
)
def test_the_matrix_says_which_share_each_digest_has(state: o.Json, old: float, new: float | None) -> None:
    world = healthy(adapters=[voice(state)])
    answer = view_matrix(world, [heard(world, held(o.OLD), held(o.NEW))], now=o.NOW)
    assert isinstance(answer.data, dict)
    assert {row["digest"]: row["weightPercent"] for row in answer.data["rows"]} == {o.OLD: old, o.NEW: new}


def test_a_share_that_was_raised_is_the_one_that_gateways_count() -> None:
    state = on_its_way("Watching", "Watching")
    state["rollout"]["below"] = 1150
    world = healthy(adapters=[voice(state)])
    lines = shown(view_matrix(world, [heard(world, held(o.OLD), held(o.NEW, AdapterPhase.RESIDENT))], now=o.NOW))
    assert [line.split()[5] for line in lines[1:]] == ["11.5%", "88.5%"]


def test_status_tells_a_rollout_with_its_step_and_what_it_waits_for() -> None:
    state = on_its_way("Watching", "Watching", "tier gold: 12 of 50 answers, none bad")
    answer = view_status((healthy(adapters=[voice(state)]),), now=o.NOW)
    lines = [" ".join(line.split()) for line in shown(answer)]
    place = lines.index("Rollouts")
    assert lines[place + 2] == (
        f"vampire gold {o.NEW[7:19]} {o.OLD[7:19]} 1/4 10% Watching 5m tier gold: 12 of 50 answers, none bad"
    )
    assert isinstance(answer.data, dict)
    (told,) = answer.data["rollouts"]
    assert (told["step"], told["steps"], told["percent"], told["requests"]) == (1, 4, 10, 12)


def test_status_keeps_telling_of_a_candidate_that_was_taken_back_until_the_spec_names_another() -> None:
    answer = view_status((MOVING["candidate-errors"]().world,), now=o.NOW)
    assert isinstance(answer.data, dict)
    (told,) = answer.data["rollouts"]
    assert (told["phase"], told["candidate"]) == ("TakenBack", o.NEW)
    assert told["verdict"].startswith("CandidateErrors: 23.0%")
    assert "Rollouts" not in shown(view_status((MOVING["taken-back-and-mended"]().world,), now=o.NOW))
