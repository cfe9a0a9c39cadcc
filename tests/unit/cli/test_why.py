"""Each named fault has one answer, word for word: what an engineer reads in an incident is an interface.

After a wanted change of words: `python -m tests.unit.cli.test_why` writes the files anew; read their difference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npc_runtime.cli.answers import Answer, Code
from npc_runtime.cli.explain.target import TargetError, explain, explain_namespace, find_target
from npc_runtime.cli.render import render
from npc_runtime.cli.views.why import view_why
from tests.support import builders
from tests.unit.cli import objects as o
from tests.unit.cli.faults import Fault, healthy
from tests.unit.cli.moving_faults import on_its_way, voice
from tests.unit.cli.named import FAULTS

GOLDEN = Path(__file__).parent / "golden"
FINE = {
    "all-is-well",
    "fallen-back",
    "nodes-that-go",
    "nodes-that-went",
    "rights-beside",
    "pod-terminating",
    "lease-not-readable",
    "waiting-for-its-turn",
    "waiting-behind-nobody-who-is-known",
    "gate-running",
    "canary-goes-on",
    "probing-for-players",
    "taken-back-and-mended",
}


def answer(fault: Fault) -> Answer:
    world = fault.world
    said = explain(find_target(fault.asked, world), world, o.NOW) if fault.asked else explain_namespace(world, o.NOW)
    return view_why(said, unread=world.unread, now=o.NOW)


def text(fault: Fault) -> str:
    question = f"$ kubectl npc why {fault.asked}".rstrip()
    return f"{question}\n{render(answer(fault), form='table', colours=False)}"


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_in_these_words(name: str) -> None:
    assert text(FAULTS[name]()) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FAULTS)
def test_every_cause_names_an_object_and_a_reason_and_what_to_do_next(name: str) -> None:
    data = answer(FAULTS[name]()).data
    assert isinstance(data, dict)
    assert data["causes"]
    for cause in data["causes"]:
        assert cause["object"]
        assert cause["reason"]
        assert cause["says"].endswith((".", "…")), cause["says"]
        assert not cause["says"].endswith("..")
        assert "POD" not in cause["next"]
        assert "TIER" not in cause["next"]
        assert cause["fine"] or cause["next"], cause


@pytest.mark.parametrize("name", FAULTS)
def test_the_exit_code_says_whether_something_is_wrong(name: str) -> None:
    assert answer(FAULTS[name]()).code == (Code.FINE if name in FINE else Code.NOT_AS_WANTED)


def test_there_is_a_golden_for_every_fault_and_for_nothing_else() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(FAULTS)


def test_a_name_that_two_kinds_share_has_to_be_said_with_its_kind() -> None:
    world = healthy(tiers=[o.tier("vampire")])
    with pytest.raises(TargetError, match="tier/vampire, adapter/vampire") as caught:
        find_target("vampire", world)
    assert caught.value.ambiguous
    assert str(find_target("gput/vampire", world)) == "tier vampire"


def test_an_archetype_stands_for_its_adapter() -> None:
    world = healthy(adapters=[o.adapter("vampire", name="voice-of-the-night")])
    assert str(find_target("vampire", world)) == "adapter voice-of-the-night"


@pytest.mark.parametrize("asked", ["ghost", "tier/ghost", "pod/vampire"])
def test_what_is_not_there_is_said_to_be_missing(asked: str) -> None:
    with pytest.raises(TargetError, match="there is no") as caught:
        find_target(asked, healthy())
    assert not caught.value.ambiguous


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TargetError, match="is no kind"):
        find_target("voice/vampire", healthy())


def test_of_a_region_faults_are_told_before_rollouts_that_go_on_and_only_faults_are_counted() -> None:
    def voices(state: o.Json, names: str, **status: Any) -> list[o.Json]:
        return [voice(state, **status) | {"metadata": builders.meta("x", f"{names}-{number}")} for number in range(6)]

    going = voices(on_its_way("Watching", "Watching"), "a-goes-on")
    message = "tier gold: x is quarantined"
    bad = voices(o.variant(reason="ServedNameClash", message=message), "b-stands", stalled=("ServedNameClash", message))
    told = explain_namespace(healthy(adapters=[*going, *bad]), o.NOW)
    assert [link.object for link in told.links[:5]] == [f"adapter b-stands-{number}" for number in range(5)]
    assert told.links[5].says.startswith("1 more voices")
    assert explain_namespace(healthy(adapters=going), o.NOW).fine


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, make in FAULTS.items():
        (GOLDEN / f"{name}.txt").write_text(text(make()), encoding="utf-8")
