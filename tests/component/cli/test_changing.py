"""approve, rollback, quarantine, pause and resume from the command line to the object, and all that stops them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from npc_runtime.cli.answers import Code
from tests.component.cli.conftest import OWN, Run
from tests.component.cli.fake_api import FakeApi
from tests.support import builders
from tests.unit.cli import objects as o
from tests.unit.cli.moving_faults import decision, on_its_way, taken_back, voice

VAMPIRE = f"{OWN}/archetypeadapters/vampire"


class Terminal(io.StringIO):
    """A person who has typed something."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def canary(api: FakeApi) -> dict[str, Any]:
    """The vampire in the middle of a rollout."""
    made = voice(on_its_way("Watching", "Watching"))
    api.collections[f"{OWN}/archetypeadapters"][:] = [made]
    return made


def spec(api: FakeApi, kind: str = "archetypeadapters") -> dict[str, Any]:
    found: dict[str, Any] = api.collections[f"{OWN}/{kind}"][0]["spec"]
    return found


async def test_an_approval_is_one_field_written_as_the_caller_and_told(run: Run, api: FakeApi) -> None:
    ran = await run("approve", "vampire")
    assert ran.code == Code.FINE, ran.err
    assert spec(api)["rollout"]["approvedDigest"] == o.NEW
    assert spec(api)["rollout"]["steps"] == [10, 25, 50, 100]
    assert ran.out.splitlines()[:2] == [
        "ArchetypeAdapter vampire in namespace eu-west: changed",
        f"  spec.rollout.approvedDigest: (none) -> {o.NEW}",
    ]
    ((path, query, body),) = api.patches
    assert path == VAMPIRE
    assert query == {"fieldManager": "kubectl-npc", "fieldValidation": "Strict"}
    assert body["metadata"]["resourceVersion"] == "1"
    again = await run("approve", "vampire")
    assert (again.code, len(api.patches)) == (Code.FINE, 1)
    assert "nothing to change" in again.out


async def test_what_was_changed_is_told_to_programs_too(run: Run, canary: dict[str, Any]) -> None:
    ran = await run("rollback", "vampire", "-o", "json")
    told = json.loads(ran.out)
    assert told["object"] == {"kind": "ArchetypeAdapter", "namespace": "eu-west", "name": "vampire"}
    assert told["changed"] is True
    assert told["changes"][0] == {"field": "spec.variants[tier=gold].source.digest", "from": o.NEW, "to": o.OLD}
    assert canary["spec"]["variants"][0]["source"] == {"uri": "s3://adapters/vampire/1", "digest": o.OLD}


async def test_a_dry_run_asks_the_api_server_and_changes_nothing(run: Run, api: FakeApi) -> None:
    ran = await run("rollback", "vampire", "--dry-run")
    assert ran.code == Code.FINE
    assert api.patches[0][1]["dryRun"] == "All"
    assert spec(api)["variants"][0]["source"]["digest"] == o.NEW
    assert "the API server would take this; nothing was changed" in ran.out


async def test_whoever_was_faster_is_looked_at_again(run: Run, api: FakeApi, canary: dict[str, Any]) -> None:
    other = builders.digest("vampire-3")

    def faster(_: FakeApi) -> None:
        api.on_patch = None
        canary["spec"]["quarantinedDigests"] = [other]
        canary["metadata"]["resourceVersion"] = "7"

    api.on_patch = faster
    ran = await run("quarantine", o.NEW[7:19], "vampire")
    assert ran.code == Code.FINE, ran.err
    assert spec(api)["quarantinedDigests"] == [other, o.NEW]
    assert len(api.patches) == 2


async def test_somebody_who_is_always_faster_is_told(run: Run, api: FakeApi, canary: dict[str, Any]) -> None:
    def faster(_: FakeApi) -> None:
        canary["metadata"]["resourceVersion"] = str(int(canary["metadata"]["resourceVersion"]) + 1)

    api.on_patch = faster
    ran = await run("pause", "vampire")
    assert ran.code == Code.REFUSED
    assert "was changed by somebody else meanwhile" in ran.err
    assert len(api.patches) == 5


async def test_a_rule_of_the_kind_is_passed_on_in_its_own_words(run: Run, api: FakeApi) -> None:
    api.refusal = (422, "spec.variants: Forbidden: a quarantined digest cannot be brought in")
    ran = await run("rollback", "vampire")
    assert ran.code == Code.REFUSED
    assert "a quarantined digest cannot be brought in" in ran.err
    api.refusal = (403, 'admission webhook "freeze.example.com" denied the request: change freeze')
    ran = await run("rollback", "vampire")
    assert ran.code == Code.REFUSED
    assert "change freeze" in ran.err


async def test_a_missing_right_is_named(run: Run, api: FakeApi) -> None:
    api.refusal = (403, "forbidden")
    ran = await run("pause", "tier/gold")
    assert ran.code == Code.FORBIDDEN
    assert "you may not patch gputiers.npcfleet.dev in namespace eu-west" in ran.err


@pytest.fixture
def kept(canary: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "f:spec": {"f:variants": {'k:{"tier":"gold"}': {"f:source": {"f:digest": {}, "f:uri": {}}}}}
    }
    canary["metadata"] |= {
        "managedFields": [{"manager": "argocd-controller", "operation": "Update", "fieldsV1": fields}],
        "annotations": {"argocd.argoproj.io/tracking-id": "voices:npcfleet.dev/ArchetypeAdapter:eu-west/vampire"},
    }


async def test_what_a_repository_keeps_is_left_alone_and_the_repository_is_named(
    run: Run, api: FakeApi, kept: None
) -> None:
    ran = await run("rollback", "vampire")
    assert ran.code == Code.REFUSED
    assert api.patches == []
    assert ran.err == (
        "error: spec.variants[tier=gold].source.digest, spec.variants[tier=gold].source.uri of ArchetypeAdapter "
        "vampire belong to argocd-controller, which sets them again at its next sync\n"
        "next: change it in its manifest in the repository of Argo CD's application voices; to do it here and now too: "
        "--anyway\n"
    )


async def test_anyway_it_is_done_and_the_repository_still_named(run: Run, api: FakeApi, kept: None) -> None:
    ran = await run("rollback", "vampire", "--anyway")
    assert ran.code == Code.FINE
    assert spec(api)["variants"][0]["source"]["digest"] == o.OLD
    assert "belong to argocd-controller" in ran.out
    assert "in the repository of Argo CD's application voices too" in ran.out


async def test_fields_that_the_repository_does_not_name_are_free(run: Run, api: FakeApi, kept: None) -> None:
    assert (await run("pause", "vampire")).code == Code.FINE
    assert spec(api)["suspend"] is True


@pytest.mark.parametrize(("typed", "code", "digest"), [("n\n", Code.DECLINED, o.NEW), ("y\n", Code.FINE, o.OLD)])
async def test_a_person_is_asked_where_players_hear_it_at_once(
    run: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch, typed: str, code: Code, digest: str
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    ran = await run("rollback", "vampire")
    assert ran.code == code
    assert "this changes what players hear: vampire on gold goes to" in ran.err
    assert f"{o.NEW} -> {o.OLD}" in ran.err
    assert spec(api)["variants"][0]["source"]["digest"] == digest


@pytest.mark.parametrize(
    "words",
    [
        ("rollback", "vampire", "--yes"),
        ("rollback", "vampire", "--dry-run"),
        ("approve", "vampire"),
        ("pause", "vampire"),
        ("quarantine", builders.digest("nobodys"), "vampire"),
    ],
)
async def test_nobody_is_asked_where_nothing_is_heard_or_where_it_was_answered(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(""))
    ran = await run(*words)
    assert (ran.code, ran.err) == (Code.FINE, "")


async def test_a_digest_is_quarantined_for_the_one_who_knows_it_or_for_the_region(run: Run, api: FakeApi) -> None:
    ran = await run("quarantine", o.NEW[7:19])
    assert ran.code == Code.FINE, ran.err
    assert spec(api)["quarantinedDigests"] == [o.NEW]
    assert "vampire on gold (candidate)" in ran.out
    ran = await run("quarantine", o.NEW[7:19], "--region")
    assert ran.code == Code.FINE, ran.err
    assert spec(api, "npcregions")["quarantinedDigests"] == [o.NEW]
    ran = await run("quarantine", o.NEW[7:19], "vampire", "--remove")
    assert spec(api)["quarantinedDigests"] == []
    assert "region eu-west quarantines it too" in ran.out
    stranger = builders.digest("never-seen")
    assert (await run("quarantine", stranger)).code == Code.REFUSED
    assert (await run("quarantine", stranger, "vampire", "--region")).code == Code.USAGE
    assert (await run("quarantine", stranger, "--region")).code == Code.FINE


async def test_what_the_region_quarantines_is_not_gone_back_to(run: Run, api: FakeApi) -> None:
    spec(api, "npcregions")["quarantinedDigests"] = [o.OLD]
    ran = await run("rollback", "vampire")
    assert ran.code == Code.REFUSED
    assert api.patches == []
    assert "kubectl npc history vampire" in ran.err


async def test_a_rollback_under_a_paused_region_asks_nothing_and_says_what_to_do(
    run: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(""))
    spec(api, "npcregions")["suspend"] = True
    ran = await run("rollback", "vampire")
    assert (ran.code, ran.err) == (Code.FINE, "")
    assert "paused by region/eu-west, so nothing moves before: kubectl npc resume region/eu-west -n eu-west" in ran.out
    assert spec(api)["variants"][0]["source"]["digest"] == o.OLD


async def test_an_object_that_is_deleted_between_look_and_patch_is_said_to_be_gone(run: Run, api: FakeApi) -> None:
    api.on_patch = lambda _: api.collections[f"{OWN}/archetypeadapters"].clear()
    api.refusal = (404, 'archetypeadapters.npcfleet.dev "vampire" not found')
    ran = await run("rollback", "vampire")
    assert ran.code == Code.NOT_FOUND
    assert ran.err == "error: there is no archetypeadapters.npcfleet.dev/vampire in namespace eu-west\n"


async def test_of_two_regions_the_older_that_stays_is_meant(run: Run, api: FakeApi) -> None:
    leaving = builders.meta("NPCRegion", "a", deletionTimestamp="2026-11-21T11:00:00Z", creationTimestamp="2020-01-01")
    younger = builders.meta("NPCRegion", "b", creationTimestamp="2026-11-20T00:00:00Z")
    regions = api.collections[f"{OWN}/npcregions"]
    regions[:] = [o.region() | {"metadata": leaving}, o.region() | {"metadata": younger}, *regions]
    ran = await run("quarantine", o.NEW[7:19], "--region")
    assert ran.out.startswith("NPCRegion eu-west in namespace eu-west: changed")


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ("vampire", "archetypeadapters"),
        ("tier/gold", "gputiers"),
        ("eu-west", "npcregions"),
        ("npcr/eu-west", "npcregions"),
    ],
)
async def test_each_kind_is_paused_and_goes_on(run: Run, api: FakeApi, asked: str, kind: str) -> None:
    assert (await run("pause", asked)).code == Code.FINE
    assert spec(api, kind)["suspend"] is True
    ran = await run("resume", asked)
    assert spec(api, kind)["suspend"] is False
    assert "spec.suspend: true -> false" in ran.out


async def test_a_kind_that_is_named_is_the_only_one_that_is_read(run: Run, api: FakeApi) -> None:
    api.refused |= {("list", "npcregions"), ("list", "gputiers")}
    assert (await run("pause", "adapter/vampire")).code == Code.FINE
    ran = await run("approve", "vampire")
    assert ran.code == Code.FINE
    assert "not looked at: whether the region pauses or quarantines it: you may not list npcregions" in ran.out
    assert "not looked at: whether a tier is paused: you may not list gputiers" in ran.out
    assert (await run("pause", "vampire")).code == Code.FORBIDDEN


async def test_what_is_not_there_or_cannot_be_paused_is_said(run: Run) -> None:
    assert (await run("pause", "ghost")).code == Code.NOT_FOUND
    assert (await run("pause", "pod/gold-1")).code == Code.USAGE
    assert (await run("approve", "tier/gold")).code == Code.USAGE
    assert (await run("rollback", "ghost")).code == Code.NOT_FOUND
    assert (await run("rollback", "vampire", "--to", "latest")).code == Code.USAGE


async def test_history_is_told_newest_last_by_archetype_or_name(run: Run, api: FakeApi) -> None:
    entries = decision(o.NEW, "RolledBack", 10, 0, verdict="14 of 61 bad"), decision(o.NEW, "Stepped", 0, 10)
    api.collections[f"{OWN}/archetypeadapters"][:] = [
        voice(taken_back("CandidateErrors", "x", *entries)) | {"metadata": builders.meta("x", "voice-of-the-night")}
    ]
    ran = await run("history", "vampire", "-o", "json")
    assert ran.code == Code.FINE, ran.err
    assert [one["reason"] for one in json.loads(ran.out)["history"]] == ["Stepped", "RolledBack"]
    assert (await run("history", "voice-of-the-night", "--tier", "gold")).code == Code.FINE
    ran = await run("history", "vampire", "--tier", "iron")
    assert ran.code == Code.NOT_FOUND
    assert "of these it does: gold" in ran.err
