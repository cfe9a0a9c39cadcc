"""The chapter on spot: who is asked, what is told of the node that goes, and what it would let pass."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml

from hack.demo.departure import Departure, begun, bill, faults, is_on, is_well, rows, stays_until
from hack.demo.spot import FALLBACK, FALLBACKS, FALLBACKS_BEFORE, PLAYERS, TIER, asks
from hack.stack.load import Ask, Line, Tally
from npc_operator.api import names
from npc_operator.domain.interruption.notices import Kind
from npc_operator.domain.interruption.record import Record
from tests.unit.conventions.pages import ROOT

GOOD = "sha256:good"
EXPECTED = {("vampire", GOOD): "blood"}
NOTICE = 1000.0
WENT = Record(
    kind=Kind.INTERRUPTION,
    since=NOTICE,
    deadline=NOTICE + 120,
    replaced=NOTICE + 0.5,
    unrouted=NOTICE + 40,
    covered=NOTICE + 40,
    drained=NOTICE + 41.5,
    evicted=NOTICE + 41.6,
)


def pod(uid: str = "old", *, node: str = "spot-1", ready: bool = True, record: str = "", **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "uid": uid,
            "name": f"bronze-{uid}",
            "labels": {names.LABEL_SLICE: "spot"},
            "annotations": {names.ANNOTATION_INTERRUPTION: record} if record else {},
            **meta,
        },
        "spec": {"nodeName": node} if node else {},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def fresh() -> Departure:
    return Departure(TIER, "spot-1", {"old": "bronze-old"}, noticed=NOTICE)


def gone(seen: Departure) -> bool:
    return seen.all_gone


def back_at(seen: Departure) -> float | None:
    return seen.returned_at


def told() -> Departure:
    """As it should be, to the end."""
    seen = fresh()
    seen.note_pod("MODIFIED", pod("new", node="ondemand-1"), NOTICE + 39)
    seen.note_pod("MODIFIED", pod(record=WENT.write()), NOTICE + 42)
    seen.note_pod("DELETED", pod(record=WENT.write()), NOTICE + 44)
    for at, count in ((39.0, 100.0), (40.5, 101.0), (41.5, 101.0), (43.0, 101.0)):
        seen.count("old", NOTICE + at, count)
    seen.off, seen.back = NOTICE + 50, NOTICE + 60
    seen.note_pod("MODIFIED", pod("back"), NOTICE + 90)
    seen.count("back", NOTICE + 91, 3.0)
    seen.count("back", NOTICE + 95, 6.0)
    return seen


def line(started: float, *, failure: str = "", tier: str = TIER, asked: str = TIER) -> Line:
    return Line(
        ask=Ask(archetype="vampire", prompt="Who?", tier=asked, npc="vampire-1"),
        intended=started,
        started=started,
        ended=started + 0.5,
        text="" if failure else "blood",
        digest="" if failure else GOOD,
        tier=tier,
        failure=failure,
    )


SHOWN = [line(1), line(2), line(3, tier=FALLBACK), line(4, asked="gold", tier="gold")]


def found(*more: Line, of: Departure | None = None) -> list[str]:
    return faults(Tally([*SHOWN, *more]), EXPECTED, of or told(), falls_back_to=FALLBACK)


# --- who is asked ---


def test_every_voice_of_the_tier_has_many_conversations_and_the_other_tiers_are_not_forgotten() -> None:
    asked = asks(("vampire", "zombie"), ("gold", "silver", "bronze"))
    here = [ask for ask in asked if ask.tier == TIER]
    assert len({(ask.npc, ask.player) for ask in here}) == len(here) == 2 * PLAYERS
    assert all(ask.npc and ask.player for ask in here)
    others = [ask for ask in asked if ask.tier != TIER]
    assert len(others) == len(here) // 2
    assert {ask.tier for ask in others} == {"gold", "silver"}


# --- what is told ---


def test_each_step_of_the_operator_is_news_once_at_its_own_time_in_its_own_order() -> None:
    seen = fresh()
    assert seen.note_pod("ADDED", pod(), NOTICE) == []
    early = Record(kind=Kind.INTERRUPTION, since=NOTICE, replaced=NOTICE + 0.5)
    assert seen.note_pod("MODIFIED", pod(record=early.write()), NOTICE + 1) == [
        "  0.5 s after the notice, bronze-old: one more pod is asked for in its place"
    ]
    assert seen.note_pod("MODIFIED", pod(record=early.write()), NOTICE + 2) == []
    news = seen.note_pod("MODIFIED", pod(record=WENT.write()), NOTICE + 42)
    assert [one.split(": ")[1] for one in news] == [
        "its adapters are resident elsewhere",
        "no new line goes there any more",
        "the gateways say that no line runs there",
        "evicted",
    ]
    assert [one.split(" s ")[0].strip() for one in news] == ["40.0", "40.0", "41.5", "41.6"]
    assert not gone(seen)
    assert seen.note_pod("DELETED", pod(record=WENT.write()), NOTICE + 44) == [
        " 44.0 s after the notice, bronze-old: gone"
    ]
    assert gone(seen)
    assert seen.note_pod("DELETED", pod(), NOTICE + 45) == []


def test_another_pod_is_news_when_it_waits_starts_and_is_ready() -> None:
    seen = fresh()
    waits = seen.note_pod("ADDED", pod("new", node="", ready=False), NOTICE + 1)
    starts = seen.note_pod("MODIFIED", pod("new", node="ondemand-1", ready=False), NOTICE + 2)
    assert (seen.note_pod("MODIFIED", pod("new", node="ondemand-1", ready=False), NOTICE + 3), seen.elsewhere) == (
        [],
        None,
    )
    ready = seen.note_pod("MODIFIED", pod("new", node="ondemand-1"), NOTICE + 30)
    assert [one.partition(": ")[2] for one in (*waits, *starts, *ready)] == [
        "waits for a node (spot)",
        "starts on ondemand-1",
        "ready on ondemand-1, with every adapter proven",
    ]
    assert seen.elsewhere == NOTICE + 30


def test_what_was_there_before_the_notice_is_said_so_and_counts_from_it() -> None:
    seen = Departure(TIER, "spot-1", {"old": "bronze-old"})
    assert seen.note_pod("ADDED", pod("new", node="ondemand-1"), NOTICE - 5) == [
        "before the notice, bronze-new: ready on ondemand-1, with every adapter proven"
    ]
    seen.noticed = NOTICE
    figures = {row.what: row.figure for row in rows(Tally([]), seen, falls_back_to=FALLBACK)}
    assert figures["notice -> another pod of the tier is ready"] == "0.0 s"


def test_the_tiers_mode_is_news_when_it_changes_and_not_as_it_was_found() -> None:
    def tier(mode: str, reason: str) -> dict[str, Any]:
        return {"status": {"capacity": {"mode": mode, "reason": reason, "message": "so"}}}

    seen = fresh()
    assert seen.note_tier(tier("Normal", "SpotAsWanted"), NOTICE) == []
    assert seen.note_tier(tier("Fallback", "SpotLost"), NOTICE + 1) == [
        "  1.0 s after the notice, tier bronze: Fallback, SpotLost: so"
    ]
    assert seen.note_tier(tier("Fallback", "SpotLost"), NOTICE + 2) == []


def test_a_pod_on_the_node_counts_as_back_only_after_the_node_is() -> None:
    seen = fresh()
    seen.note_pod("MODIFIED", pod("early"), NOTICE + 1)
    assert back_at(seen) is None
    seen.back = NOTICE + 60
    seen.note_pod("MODIFIED", pod("new", node="ondemand-1"), NOTICE + 61)
    assert back_at(seen) is None
    seen.note_pod("MODIFIED", pod("back"), NOTICE + 90)
    assert (seen.returned, back_at(seen)) == ("back", NOTICE + 90)


def test_traffic_is_back_when_that_pod_answered_more_than_its_probes() -> None:
    seen = told()
    assert seen.spoke_at == NOTICE + 95
    probed = fresh()
    probed.back = NOTICE + 60
    probed.count("back", NOTICE + 80, 0.0)
    probed.note_pod("MODIFIED", pod("back"), NOTICE + 90)
    for at, count in ((91, 3.0), (92, 3.0), (93, 5.0)):
        probed.count("back", NOTICE + at, count)
    probed.count("another", NOTICE + 94, 100.0)
    assert probed.spoke_at is None


def test_the_figures_say_when_each_step_was_and_how_many_lines_it_cost() -> None:
    figures = {row.what: row.figure for row in rows(Tally(SHOWN), told(), falls_back_to=FALLBACK)}
    assert figures == {
        "streaming requests": "4",
        "failed lines": "0",
        "answered by tier silver for bronze": "1",
        "notice -> replacement asked for": "0.5 s",
        "notice -> another pod of the tier is ready": "39.0 s",
        "notice -> no new line goes there": "40.0 s",
        "notice -> its adapters are resident elsewhere": "40.0 s",
        "notice -> no line runs there": "41.5 s",
        "notice -> evicted": "41.6 s",
        "notice -> gone": "44.0 s",
        "begun there 1 s after it left the routes": "0",
        "notice -> the machine ended": "50.0 s",
        "node back -> a pod is ready there": "30.0 s",
        "node back -> lines are answered there": "35.0 s",
    }
    nothing = {row.what: row.figure for row in rows(Tally([]), fresh(), falls_back_to=FALLBACK)}
    assert {figure for what, figure in nothing.items() if "->" in what} == {"-"}


def test_the_operators_account_and_the_pods_that_stay_a_while_are_told_from_the_status() -> None:
    tier = {
        "status": {
            "interruptions": {"lostLines": 0, "reroutedLines": 2, "downgradedLines": 1, "secondsBelowTarget": 7},
            "capacity": {"extraOnDemand": 1, "lastReversal": "2026-11-21T10:00:00Z"},
        }
    }
    assert bill(tier) == "0 lines lost, 2 re-routed, 1 downgraded, 7 s below target"
    until = stays_until(tier)
    assert until is not None
    assert f"{until:%H:%M:%S}" == "10:10:00"
    assert stays_until({"status": {"capacity": {"extraOnDemand": 0, "lastReversal": "2026-11-21T10:00:00Z"}}}) is None
    assert stays_until({}) is None


# --- what it would let pass ---


def test_a_node_that_went_as_it_should_is_no_fault() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (line(5, failure="HTTP 502"), "vampire-1 on bronze: HTTP 502"),
        (line(5, tier="gold"), "vampire-1 on bronze: served by tier gold"),
        (line(5, asked="gold", tier=FALLBACK), "vampire-1 on gold: served by tier silver"),
    ],
)
def test_one_line_that_is_not_as_it_should_be_is_a_fault_that_says_whose(more: Line, fault: str) -> None:
    assert found(more) == [fault]


def test_an_answer_that_is_not_its_digests_is_a_fault() -> None:
    (fault,) = found(dataclasses.replace(line(5), text="blo"))
    assert "'blo'" in fault


def test_a_line_that_began_on_the_pod_later_than_a_second_after_is_a_fault() -> None:
    seen = told()
    seen.count("old", NOTICE + 43.5, 103.0)
    assert found(of=seen) == ["bronze-old: 2 lines began on it later than 1 s after it left the routes"]


def test_what_the_operator_did_not_do_is_a_fault() -> None:
    seen = told()
    seen.records["old"] = dataclasses.replace(WENT, unrouted=None, evicted=None)
    assert found(of=seen) == [
        "bronze-old: the operator never said of it: no new line goes there any more",
        "bronze-old: the operator never said of it: evicted",
    ]


def test_a_chapter_that_showed_nothing_is_a_fault() -> None:
    seen = told()
    seen.spoke_at = None
    assert found(of=seen) == ["no pod on spot-1 answered lines after it was back"]
    assert faults(Tally([line(1, asked="gold", tier="gold")]), EXPECTED, told(), falls_back_to=FALLBACK) == [
        "nobody spoke on tier bronze, so nothing was shown"
    ]


# --- before and after ---


def node(**spec: Any) -> dict[str, Any]:
    return {"spec": spec, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def test_a_node_is_well_when_it_is_ready_and_open_and_nothing_is_said_of_it() -> None:
    assert is_well(node())
    assert not is_well(node(unschedulable=True))
    assert not is_well(node(taints=[{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]))
    assert not is_well({"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
    foretold = node()
    foretold["status"]["conditions"].append({"type": "VMEventScheduled", "status": "True"})
    assert not is_well(foretold)
    assert is_well(node(taints=[{"key": "dedicated", "value": "npc", "effect": "NoSchedule"}])), "its own"


def test_the_chapter_begins_with_a_pod_that_serves_there_and_that_nothing_is_said_of() -> None:
    assert is_on(pod(), "spot-1")
    assert not is_on(pod(), "ondemand-1")
    assert not is_on(pod(ready=False), "spot-1")
    assert not is_on(pod(record=WENT.write()), "spot-1")
    assert not is_on(pod(deletionTimestamp="2026-11-21T10:00:00Z"), "spot-1")


def test_lines_that_an_engine_has_begun_are_those_that_ended_run_or_wait() -> None:
    text = "\n".join(
        (
            "# TYPE vllm:num_requests_running gauge",
            'vllm:num_requests_running{engine="0",model_name="base"} 2.0',
            'vllm:num_requests_waiting{engine="0",model_name="base"} 1.0',
            'vllm:request_success_total{finished_reason="stop"} 4.0',
            'vllm:request_success_total{finished_reason="length"} 30.0',
            'vllm:prompt_tokens_total{engine="0"} 900.0',
        )
    )
    assert begun(text) == 37.0


def test_the_fallbacks_afterwards_are_those_of_the_chart_and_never_make_a_circle() -> None:
    values = yaml.safe_load((ROOT / "charts" / "npc-region" / "values.yaml").read_text())
    chart = {name: tier.get("fallbackTier") for name, tier in values["tiers"].items()}
    assert {name: chart[name] for name in FALLBACKS_BEFORE} == dict(FALLBACKS_BEFORE)
    state = dict(chart)
    for changes in (FALLBACKS, FALLBACKS_BEFORE):
        for tier, fallback in changes.items():
            state[tier] = fallback
            for start in state:
                way = [start]
                while (following := state[way[-1]]) is not None:
                    assert following not in way, (tier, way)
                    way.append(following)
    assert state == chart
