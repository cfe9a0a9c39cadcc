"""What approve, rollback, quarantine, pause and resume would write: which fields of one object, and when nothing."""

from __future__ import annotations

from typing import Any

import pytest

from npc_runtime.cli.answers import Code
from npc_runtime.cli.changes.approving import plan_approval
from npc_runtime.cli.changes.digests import match_digest
from npc_runtime.cli.changes.owners import find_keeper
from npc_runtime.cli.changes.plan import Change, NotDone, Plan, said, with_notes
from npc_runtime.cli.changes.quarantining import plan_quarantine, plan_release
from npc_runtime.cli.changes.rolling_back import plan_rollback
from npc_runtime.cli.changes.suspending import NOTHING_KNOWN, Around, plan_suspension
from npc_runtime.cli.parse import parse_region, parse_tier
from npc_runtime.cli.parse_voices import parse_adapter
from tests.support import builders
from tests.unit.cli import objects as o
from tests.unit.cli.moving_faults import decision, on_its_way, taken_back, voice

OLDER = builders.digest("vampire-0")


def changed(plan: Plan) -> dict[str, tuple[Any, Any]]:
    return {one.name: (one.before, one.after) for one in plan.changes}


def revision(digest: str, **more: Any) -> o.Json:
    return {"digest": digest, "uri": f"s3://adapters/vampire/{digest[7:11]}", "rank": 8, **more}


def canary(tier: str = "gold", *, candidate: str = o.NEW) -> o.Json:
    made = on_its_way("Watching", "Watching") | {"tier": tier, "stable": revision(o.OLD)}
    return made | {"candidate": revision(candidate)}


def settled(*history: o.Json, stable: str = o.NEW, **more: Any) -> o.Json:
    return o.variant(serving="Stable", stable=revision(stable), history=list(history), **more)


def banning(*digests: str) -> Around:
    return Around(region=parse_region(o.region(spec={"quarantinedDigests": list(digests)})))


def rollback(raw: o.Json, *, tier: str = "", to: str = "", around: Around = NOTHING_KNOWN) -> Plan:
    return plan_rollback(raw, parse_adapter(raw), tier=tier, to=to, around=around)


# --- approve ---


def approve(raw: o.Json, digest: str = "") -> Plan:
    return plan_approval(raw, parse_adapter(raw), digest=digest)


def test_the_candidate_of_all_tiers_is_approved() -> None:
    raw = voice(canary())
    plan = approve(raw)
    assert changed(plan) == {"spec.rollout.approvedDigest": ("", o.NEW)}
    assert plan.patch() == {
        "metadata": {"resourceVersion": "1"},
        "spec": {"rollout": {"approvedDigest": o.NEW}},
    }
    assert plan.question == ""


def test_two_candidates_need_a_word_about_which() -> None:
    other = builders.digest("vampire-silver")
    raw = voice(canary())
    raw["status"]["variants"].append(canary("silver", candidate=other))
    with pytest.raises(NotDone, match="2 candidates") as caught:
        approve(raw)
    assert o.NEW in str(caught.value)
    assert f"{other} on silver" in str(caught.value)
    assert "--digest" in caught.value.step
    assert changed(approve(raw, other[7:19])) == {"spec.rollout.approvedDigest": ("", other)}


def test_without_a_candidate_there_is_nothing_to_approve_and_it_says_what_became_of_it() -> None:
    with pytest.raises(NotDone, match=r"no candidate to approve; on gold .* was taken back .CandidateErrors"):
        approve(voice(taken_back("CandidateErrors", "x")))


def test_a_digest_that_is_yet_to_come_can_be_approved_by_its_whole_name_and_that_is_said() -> None:
    plan = approve(voice(settled()), OLDER)
    assert changed(plan) == {"spec.rollout.approvedDigest": ("", OLDER)}
    assert "no tier's candidate now" in plan.notes[0]


def test_what_is_approved_already_or_quarantined_is_not_approved() -> None:
    assert approve(voice(canary(), spec={"rollout": {"approvedDigest": o.NEW}})).changes == ()
    with pytest.raises(NotDone, match="is quarantined") as caught:
        approve(voice(canary(), spec={"quarantinedDigests": [o.NEW]}))
    assert "--remove" in caught.value.step
    raw = voice(canary())
    with pytest.raises(NotDone, match="is quarantined by region eu-west") as caught:
        plan_approval(raw, parse_adapter(raw), digest="", around=banning(o.NEW))
    assert "--region --remove" in caught.value.step


def test_an_approval_of_what_is_stable_already_says_that_it_lets_nothing_through() -> None:
    plan = approve(voice(canary()), o.OLD[7:19])
    assert plan.notes == (f"{o.OLD[7:19]} is stable on gold and no candidate, so there is nothing to let through",)


# --- rollback ---


@pytest.mark.parametrize("state", [canary(), taken_back("CandidateErrors", "x") | {"stable": revision(o.OLD)}])
def test_a_candidate_on_its_way_or_taken_back_gives_way_to_stable(state: o.Json) -> None:
    plan = rollback(voice(state))
    where = "spec.variants[tier=gold].source"
    assert changed(plan) == {
        f"{where}.digest": (o.NEW, o.OLD),
        f"{where}.uri": (f"s3://adapters/vampire/{o.NEW[7:15]}", f"s3://adapters/vampire/{o.OLD[7:11]}"),
    }
    assert "nothing is fetched" in plan.notes[0]
    assert plan.question


def test_stable_comes_back_with_its_own_secret_and_rank() -> None:
    raw = voice(canary())
    raw["spec"]["variants"][0]["source"]["secretRef"] = {"name": "new-bucket"}
    raw["spec"]["variants"][0]["rank"] = 32
    raw["status"]["variants"][0]["stable"] = revision(o.OLD, rank=16, secretRef={"name": "old-bucket"})
    plan = rollback(raw)
    told = changed(plan)
    assert told["spec.variants[tier=gold].source.secretRef"] == ({"name": "new-bucket"}, {"name": "old-bucket"})
    assert told["spec.variants[tier=gold].rank"] == (32, 16)
    raw["status"]["variants"][0]["stable"] = revision(o.OLD)
    told = changed(rollback(raw))
    assert told["spec.variants[tier=gold].source.secretRef"] == ({"name": "new-bucket"}, None)


def test_other_tiers_and_fields_that_this_tool_does_not_know_are_written_as_they_are() -> None:
    raw = voice(canary())
    raw["spec"]["variants"][0]["newer"] = {"field": 1}
    other = {"tier": "silver", "source": {"uri": "s3://x", "digest": OLDER}, "rank": 4}
    raw["spec"]["variants"].append(other)
    plan = rollback(raw, tier="gold")
    gold, silver = plan.spec["variants"]
    assert silver == other
    assert gold["newer"] == {"field": 1}
    assert {one.path[2] for one in plan.changes} == {("tier", "gold")}


def test_a_tier_without_a_way_back_stays_and_that_is_said() -> None:
    raw = voice(canary())
    raw["spec"]["variants"].append({"tier": "silver", "source": {"uri": "s3://x", "digest": OLDER}, "rank": 4})
    raw["status"]["variants"].append(settled(stable=OLDER) | {"tier": "silver"})
    plan = rollback(raw)
    assert [one["source"]["digest"] for one in plan.spec["variants"]] == [o.OLD, OLDER]
    assert f"tier silver stays: the history knows no digest that was stable there before {OLDER[7:19]}" in plan.notes


def test_from_stable_it_goes_to_what_was_stable_before_as_a_rollout_of_its_own() -> None:
    history = (decision(o.NEW, "Moved", 50, 100), decision(o.OLD, "First", 0, 100, previous=""))
    plan = rollback(voice(settled(*history)))
    assert changed(plan)["spec.variants[tier=gold].source.digest"] == (o.NEW, o.OLD)
    assert "a rollout of its own" in plan.notes[0]
    assert any("keeps neither Secret nor rank" in note for note in plan.notes)


def test_a_quarantined_digest_is_passed_over() -> None:
    history = (
        decision(o.NEW, "Moved", 50, 100),
        decision(o.OLD, "Moved", 50, 100, previous=OLDER),
        decision(OLDER, "First", 0, 100, previous=""),
    )
    assert changed(rollback(voice(settled(*history)), around=banning(o.OLD)))[
        "spec.variants[tier=gold].source.digest"
    ] == (
        o.NEW,
        OLDER,
    )
    with pytest.raises(NotDone, match=r"knows no digest that was stable there before .* is quarantined"):
        rollback(voice(settled(*history)), around=banning(o.OLD, OLDER))


def test_what_was_only_tried_was_never_stable() -> None:
    tried = builders.digest("tried")
    history = (
        decision(tried, "RolledBack", 10, 0),
        decision(tried, "Stepped", 0, 10),
        decision(o.NEW, "Moved", 50, 100),
        decision(o.OLD, "First", 0, 100),
    )
    assert changed(rollback(voice(settled(*history))))["spec.variants[tier=gold].source.digest"] == (o.NEW, o.OLD)


def test_what_stands_in_comes_back_without_the_rank_that_the_operator_only_assumed() -> None:
    raw = voice(o.variant(serving="LastGood", stable=revision(o.OLD, rank=512)))
    plan = rollback(raw, around=banning(o.NEW))
    assert changed(plan)["spec.variants[tier=gold].source.digest"] == (o.NEW, o.OLD)
    assert "spec.variants[tier=gold].rank" not in changed(plan)


def test_a_digest_whose_place_is_forgotten_is_not_guessed() -> None:
    with pytest.raises(NotDone, match=r"does not say where .* came from") as caught:
        rollback(voice(settled(decision(o.NEW, "Moved", 50, 100), decision(OLDER, "Adopted", 0, 100, uri=""))))
    assert caught.value.code == Code.REFUSED
    assert "kubectl npc history vampire" in caught.value.step


def test_a_named_digest_is_found_by_its_beginning_and_only_where_a_tier_knew_it() -> None:
    history = (decision(o.NEW, "Moved", 50, 100), decision(OLDER, "First", 0, 100))
    raw = voice(settled(*history))
    assert changed(rollback(raw, to=OLDER[7:19]))["spec.variants[tier=gold].source.digest"] == (o.NEW, OLDER)
    assert rollback(raw, to=o.NEW).changes == ()
    with pytest.raises(NotDone, match="is not known"):
        rollback(raw, to=builders.digest("never"))
    with pytest.raises(NotDone, match="is quarantined"):
        rollback(raw, to=OLDER, around=banning(OLDER))
    with pytest.raises(NotDone, match="no variant for tier iron; it has gold"):
        rollback(raw, tier="iron")


def paused(by: str) -> Around:
    return Around(
        region=parse_region(o.region(spec={"suspend": by == "region/eu-west"})),
        tiers=(parse_tier(o.tier(spec={"suspend": by == "tier/gold"})),),
    )


@pytest.mark.parametrize("by", ["adapter/vampire", "tier/gold", "region/eu-west"])
def test_while_something_is_paused_it_says_that_nothing_moves_and_what_would(by: str) -> None:
    raw = voice(canary(), spec={"suspend": True} if by.startswith("adapter") else {})
    plan = rollback(raw, around=paused(by))
    assert plan.notes[0] == (f"gold: paused by {by}, so nothing moves before: kubectl npc resume {by} -n eu-west")
    assert f"kubectl npc quarantine {o.NEW[7:19]} vampire -n eu-west" in plan.notes[1]
    assert not any("loses its traffic" in note for note in plan.notes)
    assert plan.question == ""
    approval = plan_approval(raw, parse_adapter(raw), digest="", around=paused(by))
    assert f"kubectl npc resume {by} -n eu-west" in approval.notes[1]


def test_a_tier_that_is_not_paused_goes_back_at_once_beside_one_that_is() -> None:
    raw = voice(canary())
    raw["spec"]["variants"].append({**raw["spec"]["variants"][0], "tier": "silver"})
    raw["status"]["variants"].append(canary() | {"tier": "silver"})
    plan = rollback(raw, around=paused("tier/gold"))
    assert plan.question == f"this changes what players hear: vampire on silver goes to {o.OLD[7:19]}"
    assert "silver: the candidate loses its traffic" in " ".join(plan.notes)
    assert plan.notes[0].startswith("gold: paused by tier/gold")


# --- quarantine ---


def test_a_digest_is_added_once_and_who_uses_it_is_said() -> None:
    raw = voice(canary(), spec={"quarantinedDigests": [OLDER]})
    adapter = parse_adapter(raw)
    plan = plan_quarantine(raw, adapter, o.OLD, [adapter])
    assert changed(plan) == {"spec.quarantinedDigests": ([OLDER], [OLDER, o.OLD])}
    assert "vampire on gold (stable)" in plan.question
    assert plan.notes[0].startswith("off every route at once: vampire on gold (stable); the last good digest stands in")
    again = plan_quarantine(raw, adapter, OLDER, [adapter])
    assert again.changes == ()
    assert again.question == ""


def test_a_digest_that_nobody_uses_is_quarantined_without_a_question() -> None:
    raw = {key: value for key, value in o.region().items() if key not in ("kind", "apiVersion")}  # as lists have it
    plan = plan_quarantine(raw, parse_region(raw), OLDER, [parse_adapter(voice(canary()))])
    assert plan.kind == "NPCRegion"
    assert plan.notes == ("nothing serves it now",)
    assert changed(plan) == {"spec.quarantinedDigests": ([], [OLDER])}
    assert plan.question == ""


def test_a_digest_comes_off_and_where_else_it_is_quarantined_is_said() -> None:
    raw = voice(canary(), spec={"quarantinedDigests": [OLDER, o.NEW]})
    plan = plan_release(raw, parse_adapter(raw), o.NEW, ["region eu-west"])
    assert changed(plan) == {"spec.quarantinedDigests": ([OLDER, o.NEW], [OLDER])}
    assert plan.notes == ("region eu-west quarantines it too",)
    assert plan_release(raw, parse_adapter(raw), o.OLD, []).changes == ()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "(none)"),
        ("", "(none)"),
        ([], "(none)"),
        (False, "false"),
        (8, "8"),
        (["a", "b"], "[a, b]"),
        ({"name": "keys", "more": []}, "{name: keys, more: (none)}"),
    ],
)
def test_a_value_is_told_as_people_read_it(value: object, words: str) -> None:
    assert said(value) == words


def test_notes_of_others_come_after_the_plans_own() -> None:
    plan = with_notes(Plan(target={}, notes=("own",)), ["another"])
    assert plan.notes == ("own", "another")
    assert with_notes(plan, []).notes == plan.notes


# --- pause and resume ---


@pytest.mark.parametrize(
    ("raw", "parse"), [(o.region(), parse_region), (o.tier(), parse_tier), (voice(canary()), parse_adapter)]
)
def test_each_kind_can_be_paused_and_goes_on(raw: o.Json, parse: Any) -> None:
    plan = plan_suspension(raw, raw["kind"], parse(raw), suspend=True)
    assert changed(plan) == {"spec.suspend": (False, True)}
    assert plan_suspension(raw, raw["kind"], parse(raw), suspend=False).changes == ()
    paused = {**raw, "spec": {**raw["spec"], "suspend": True}}
    assert changed(plan_suspension(paused, raw["kind"], parse(paused), suspend=False)) == {
        "spec.suspend": (True, False)
    }


# --- digests as people type them ---


@pytest.mark.parametrize("typed", [o.NEW, o.NEW[7:], o.NEW[7:19], f"sha256:{o.NEW[7:30]}", f" {o.NEW[7:19].upper()} "])
def test_a_digest_is_understood_as_people_type_it(typed: str) -> None:
    assert match_digest(typed, [o.OLD, o.NEW]) == o.NEW


@pytest.mark.parametrize("typed", ["", "abc", o.NEW[7:18], "vampire", f"md5:{o.NEW[7:]}", f"{o.NEW}0"])
def test_what_is_no_digest_is_no_digest(typed: str) -> None:
    with pytest.raises(NotDone) as caught:
        match_digest(typed, [o.OLD, o.NEW])
    assert caught.value.code == Code.USAGE


def test_a_beginning_that_fits_two_or_none_is_refused() -> None:
    twin = o.NEW[:30] + "0" * 41
    with pytest.raises(NotDone, match="may be any of"):
        match_digest(o.NEW[7:19], [o.NEW, twin])
    with pytest.raises(NotDone, match="no digest that is known here"):
        match_digest("0" * 12, [o.NEW])


# --- who keeps a field ---

SOURCE = ("spec", "variants", ("tier", "gold"), "source", "digest")
OWNED: dict[str, Any] = {
    "f:spec": {"f:variants": {'k:{"tier":"gold"}': {".": {}, "f:source": {"f:digest": {}, "f:uri": {}}}}}
}


def entry(manager: str, operation: str = "Update", fields: Any = None, **more: str) -> o.Json:
    return {"manager": manager, "operation": operation, "fieldsV1": OWNED if fields is None else fields, **more}


def kept(*entries: o.Json, path: Any = SOURCE, **metadata: Any) -> Any:
    target = {"kind": "ArchetypeAdapter", "metadata": {"name": "vampire", "managedFields": list(entries), **metadata}}
    return find_keeper(target, [Change(path=path, before=1, after=2)])


@pytest.mark.parametrize(
    "owner",
    [
        entry("kubectl-client-side-apply"),
        entry("kubectl", "Apply"),
        entry("kubectl-edit"),
        entry("kubectl-npc"),
        entry("node-fetch"),
        entry("argocd-controller", subresource="status"),
        entry("helm", fields={"f:spec": {"f:archetype": {}}}),
        entry("helm", fields={"f:spec": {"f:variants": {'k:{"tier":"silver"}': {"f:source": {"f:digest": {}}}}}}),
    ],
)
def test_hands_and_keepers_of_other_fields_keep_nothing(owner: o.Json) -> None:
    assert kept(owner) is None


@pytest.mark.parametrize(
    ("owner", "metadata", "where"),
    [
        (
            entry("argocd-controller"),
            {"annotations": {"argocd.argoproj.io/tracking-id": "voices:npcfleet.dev/ArchetypeAdapter:eu/vampire"}},
            "in its manifest in the repository of Argo CD's application voices",
        ),
        (
            entry("kustomize-controller", "Apply"),
            {"labels": {"kustomize.toolkit.fluxcd.io/name": "games"}},
            "in its manifest in the repository of Flux's Kustomization games",
        ),
        (
            entry("helm"),
            {
                "labels": {"helm.sh/chart": "npc-region-0.1.0"},
                "annotations": {"meta.helm.sh/release-name": "eu-west"},
            },
            "in the values (adapters.vampire) of Helm's release eu-west",
        ),
        (
            entry("helm-controller"),
            {"labels": {"helm.sh/chart": "npc-region-0.1.0", "helm.toolkit.fluxcd.io/name": "eu"}},
            "in the values (adapters.vampire) of Flux's HelmRelease eu",
        ),
        (entry("studio-deployer", "Apply"), {}, "in its manifest, wherever studio-deployer applies it from"),
    ],
)
def test_a_keeper_is_named_with_the_place_to_change(owner: o.Json, metadata: o.Json, where: str) -> None:
    found = kept(entry("kubectl-edit"), owner, **metadata)
    assert found.manager == owner["manager"]
    assert found.fields == ("spec.variants[tier=gold].source.digest",)
    assert found.where == where


def test_a_list_that_is_owned_as_a_whole_is_kept_by_its_owner() -> None:
    whole: dict[str, Any] = {"f:spec": {"f:quarantinedDigests": {}}}
    assert kept(entry("helm", fields=whole), path=("spec", "quarantinedDigests")).manager == "helm"
    assert kept(entry("helm", fields={"f:spec": {"f:variants": {}}})).manager == "helm"
    assert kept(entry("helm", fields={"f:spec": {}}), path=("spec", "suspend")).manager == "helm"
    assert kept(entry("helm"), path=("spec", "suspend")) is None
