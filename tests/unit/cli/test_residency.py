"""matrix and diff: what agents say, beside what specs want. A pod that was not heard is never shown as empty."""

from __future__ import annotations

from typing import Any

import pytest

from npc_runtime.cli.answers import Answer, Code
from npc_runtime.cli.facts import World
from npc_runtime.cli.render import render
from npc_runtime.cli.views.residency import Heard, engine_pods, find_differences, view_diff, view_matrix
from npc_runtime.wire import AdapterPhase, AdapterReport, AgentReport, EngineReport, EngineState, Stamp, served_name
from tests.support import builders
from tests.unit.cli import objects as o
from tests.unit.cli.faults import healthy

POD = "gold-on-demand-5d9c7-x2x4q"
SINCE = 1_795_258_500_000  # 2026-11-21T10:55:00Z


def held(digest: str, phase: AdapterPhase = AdapterPhase.RESIDENT, **more: Any) -> AdapterReport:
    since = SINCE if phase is AdapterPhase.RESIDENT else None
    name = served_name("vampire", digest)
    return AdapterReport(
        served_name=name, archetype="vampire", digest=digest, phase=phase, resident_since_ms=since, **more
    )


def heard(world: World, *adapters: AdapterReport, pod: str = POD) -> Heard:
    report = AgentReport(
        boot_id="b",
        revision=1,
        stamp=Stamp(epoch=1, generation=1),
        full=True,
        ready=True,
        draining=False,
        engine=EngineReport(state=EngineState.READY),
        adapters=adapters,
    )
    return Heard(next(one for one in world.pods if one.meta.name == pod), report)


def swapping() -> World:
    """The spec names NEW, OLD is stable."""
    adapter = o.adapter(digests={"gold": o.NEW}, variants=[o.moving("Loading", "tier gold: proven on 0 of 1 pods")])
    return healthy(adapters=[adapter])


def shown(answer: Answer) -> str:
    return render(answer, form="table", colours=False)


def test_the_matrix_says_which_digest_is_where_and_since_when() -> None:
    world = swapping()
    answer = view_matrix(world, [heard(world, held(o.OLD), held(o.NEW, AdapterPhase.FETCHING))], now=o.NOW)
    assert shown(answer) == (
        "ARCHETYPE   TIER   POD                          DIGEST         ROLE        WEIGHT   PHASE      RESIDENT SINCE"
        "               MESSAGE\n"
        f"vampire     gold   {POD}   {o.NEW[7:19]}   candidate   0%       Fetching\n"
        f"vampire     gold   {POD}   {o.OLD[7:19]}   stable      100%     Resident   2026-11-21T10:55:00Z (65m)\n"
    )
    assert answer.code == Code.FINE


def test_the_matrix_can_be_narrowed_to_an_archetype_or_a_tier() -> None:
    world = swapping()
    reports = [heard(world, held(o.OLD))]
    assert "no pod holds" in shown(view_matrix(world, reports, archetype="zombie", now=o.NOW))
    assert "no pod holds" in shown(view_matrix(world, reports, tier="silver", now=o.NOW))
    assert o.OLD[7:19] in shown(view_matrix(world, reports, archetype="vampire", tier="gold", now=o.NOW))


def test_a_pod_that_was_not_heard_is_said_not_to_be_heard() -> None:
    world = healthy()
    answer = view_matrix(world, [Heard(world.pods[0], None, "connection refused")], now=o.NOW)
    assert f"not heard: pod {POD} (gold): connection refused" in shown(answer)
    assert answer.code == Code.NOT_REACHED


def test_nothing_differs_when_every_pod_holds_what_its_spec_wants() -> None:
    world = healthy()
    answer = view_diff(world, [heard(world, held(o.OLD))])
    assert shown(answer) == "nothing differs on the 1 pods that were heard\n"
    assert answer.code == Code.FINE


@pytest.mark.parametrize(
    ("reports", "says"),
    [
        ((), "its agent has not begun with it"),
        ((held(o.NEW, AdapterPhase.INSPECTING),), "still Inspecting"),
        (
            (held(o.NEW, AdapterPhase.REFUSED, reason="RankTooHigh", message="rank 64"),),
            "Refused: RankTooHigh: rank 64",
        ),
    ],
)
def test_a_pod_without_the_wanted_digest_differs_and_says_why(reports: tuple[AdapterReport, ...], says: str) -> None:
    world = swapping()
    found = find_differences(world, [heard(world, held(o.OLD), *reports)])
    assert [(one.pod, one.wanted, one.serves) for one in found] == [(POD, o.NEW, o.OLD), ("", o.NEW, o.OLD)]
    assert found[0].says == says
    assert found[1].says.startswith(f"traffic goes to {o.OLD[7:19]}, the spec names {o.NEW[7:19]}")
    assert view_diff(world, [heard(world, held(o.OLD), *reports)]).code == Code.NOT_AS_WANTED


def test_what_nobody_wants_and_is_resident_differs() -> None:
    world = healthy()
    stray = builders.digest("stray")
    found = find_differences(world, [heard(world, held(o.OLD), held(stray))])
    assert [(one.serves, one.says) for one in found] == [(stray, "resident, and neither spec nor status wants it")]


def test_a_digest_that_drains_is_no_stray() -> None:
    world = healthy()
    stray = builders.digest("stray")
    assert not find_differences(world, [heard(world, held(o.OLD), held(stray, AdapterPhase.DRAINING))])


def test_a_silent_pod_is_no_difference_but_no_agreement_either() -> None:
    world = healthy()
    answer = view_diff(world, [Heard(world.pods[0], None, "refused")])
    assert answer.code == Code.NOT_REACHED
    assert "nothing differs on the 0 pods that were heard" in shown(answer)


def test_a_variant_of_a_tier_that_is_not_there_differs() -> None:
    world = healthy(adapters=[o.adapter(digests={"platinum": o.NEW})])
    assert [one.says for one in find_differences(world, [])] == ["there is no GpuTier platinum"]


def test_differences_can_be_narrowed_to_an_archetype_or_a_tier() -> None:
    world = healthy(
        adapters=[o.adapter(digests={"gold": o.NEW}), o.adapter("zombie", digests={"gold": o.NEW, "iron": o.NEW})]
    )
    pods = [heard(world)]
    told = {(one.archetype, one.tier) for one in find_differences(world, pods)}
    assert told == {("vampire", "gold"), ("zombie", "gold"), ("zombie", "iron")}

    def narrowed(**to: str) -> set[tuple[str, str]]:
        data = view_diff(world, pods, **to).data
        assert isinstance(data, dict)
        return {(one["archetype"], one["tier"]) for one in data["differences"]}

    assert narrowed(archetype="zombie") == {("zombie", "gold"), ("zombie", "iron")}
    assert narrowed(tier="iron") == {("zombie", "iron")}
    assert view_diff(world, pods, archetype="vampire", tier="iron").code == Code.FINE


def test_only_running_engine_pods_that_stay_are_asked() -> None:
    going = o.pod("going", deletionTimestamp="2026-11-21T12:01:00Z")
    waits = o.pod("waits", ready=False, scheduled="no node")
    world = healthy(pods=[o.pod(POD), going, waits, o.pod("other", tier_name="silver"), o.gateway()])
    assert [pod.meta.name for pod in engine_pods(world, world.tiers)] == [POD]
