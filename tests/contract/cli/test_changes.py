"""What `kubectl npc` writes, against a real kube-apiserver: fields and their owners, races, rules, rights, dry runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from npc_runtime.cli import paths
from npc_runtime.cli import vocabulary as v
from npc_runtime.cli.__main__ import main
from npc_runtime.cli.answers import Code
from npc_runtime.cli.changes.owners import MANAGER
from npc_runtime.cli.clients.config import connect
from npc_runtime.cli.ports import Conflict, Forbidden, Refused
from tests.contract.cli.test_real_api_server import grant, user_made
from tests.support import builders
from tests.support.kube_env import KubeEnv

NAMESPACE = builders.NAMESPACE
OLD, NEW, OTHER = (builders.digest(f"vampire-{number}") for number in (1, 2, 3))
VAMPIRE = paths.own(v.KIND_ADAPTER, NAMESPACE, "vampire")
Object = dict[str, Any]


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeEnv]:
    made = KubeEnv(tmp_path_factory.mktemp("cli-changes"))
    made.start()
    try:
        made.kubectl("create", "namespace", NAMESPACE)
        made.install_crds()
        yield made
    finally:
        made.stop()


@pytest.fixture
def env(control_plane: KubeEnv) -> Iterator[KubeEnv]:
    """A region, a tier and a vampire in the middle of a rollout on two tiers, as `kubectl apply` and an operator leave
    them.
    """
    sources = {"gold": NEW, "silver": NEW}
    voice = builders.adapter(digests=sources, secret="bucket", spec={"rollout": {"ceilingPercent": 25}})
    objects = [user_made(one) for one in (builders.region(), builders.tier(), voice)]
    control_plane.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump_all(objects))
    stable = {"digest": OLD, "uri": "s3://adapters/vampire/old", "secretRef": {"name": "old-bucket"}, "rank": 4}
    candidate = {"digest": NEW, "uri": "s3://adapters/vampire/new", "rank": 8}
    rollout = {"phase": "Holding", "step": 2, "percent": 25, "below": 2500, "since": "2026-11-21T11:55:00Z"}
    history = [{"time": "2026-11-21T11:50:00Z", "digest": NEW, "uri": "s3://adapters/vampire/new", "previous": OLD}]
    variants = [
        {"tier": tier, "stable": stable, "candidate": candidate, "rollout": rollout, "history": history}
        for tier in sources
    ]
    status = {"status": {"observedGeneration": 1, "variants": variants}}
    control_plane.kubectl(
        "patch", "npca", "vampire", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", json.dumps(status)
    )
    try:
        yield control_plane
    finally:
        control_plane.kubectl("delete", "npcr,gput,npca", "--all", "-n", NAMESPACE)


def run(capsys: pytest.CaptureFixture[str], env: KubeEnv, *words: str, kubeconfig: Path | None = None) -> Any:
    """(code, data or None, standard error)."""
    code = main([*words, "-n", NAMESPACE, "--kubeconfig", str(kubeconfig or env.kubeconfig), "-o", "json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def get(env: KubeEnv, kind: str = "npca", name: str = "vampire") -> Object:
    found: Object = json.loads(env.kubectl("get", kind, name, "-n", NAMESPACE, "-o", "json", "--show-managed-fields"))
    return found


def owned(seen: Object, manager: str) -> Object:
    """What a manager owns of the spec."""
    entries = [one for one in seen["metadata"]["managedFields"] if one["manager"] == manager]
    return dict(entries[0]["fieldsV1"]["f:spec"]) if entries else {}


def test_an_approval_touches_one_field_and_owns_it(env: KubeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    before = get(env)["spec"]
    code, told, err = run(capsys, env, "approve", "vampire")
    assert code == Code.FINE, err
    assert told["changes"] == [{"field": "spec.rollout.approvedDigest", "from": "", "to": NEW}]
    seen = get(env)
    assert seen["spec"]["rollout"].pop("approvedDigest") == NEW
    before["rollout"].pop("approvedDigest", None)
    assert seen["spec"] == before
    assert owned(seen, MANAGER) == {"f:rollout": {"f:approvedDigest": {}}}
    generation = seen["metadata"]["generation"]
    code, told, _ = run(capsys, env, "approve", "vampire")
    assert (code, told["changed"]) == (Code.FINE, False)
    assert get(env)["metadata"]["generation"] == generation


def test_a_rollback_of_one_tier_brings_place_secret_and_rank_and_leaves_the_other(
    env: KubeEnv, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told, err = run(capsys, env, "rollback", "vampire", "--tier", "gold")
    assert code == Code.FINE, err
    gold, silver = get(env)["spec"]["variants"]
    assert gold["source"] == {"uri": "s3://adapters/vampire/old", "digest": OLD, "secretRef": {"name": "old-bucket"}}
    assert gold["rank"] == 4
    assert (silver["source"]["digest"], silver["rank"]) == (NEW, 8)
    assert list(owned(get(env), MANAGER)["f:variants"]) == ['k:{"tier":"gold"}']
    assert {one["field"].rpartition(".")[2] for one in told["changes"]} == {"digest", "uri", "secretRef", "rank"}


def test_applying_the_manifest_again_afterwards_puts_the_new_digest_back(
    env: KubeEnv, capsys: pytest.CaptureFixture[str]
) -> None:
    """`rollback` changes the cluster, not the file: a person's next apply decides."""
    assert run(capsys, env, "rollback", "vampire")[0] == Code.FINE
    voice = builders.adapter(digests={"gold": NEW, "silver": NEW}, secret="bucket")
    env.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(user_made(voice)))
    assert {one["source"]["digest"] for one in get(env)["spec"]["variants"]} == {NEW}


def test_a_dry_run_is_checked_by_the_api_server_and_leaves_nothing(
    env: KubeEnv, capsys: pytest.CaptureFixture[str]
) -> None:
    before = get(env)["metadata"]["resourceVersion"]
    code, told, _ = run(capsys, env, "rollback", "vampire", "--dry-run")
    assert (code, told["dryRun"], told["changed"]) == (Code.FINE, True, False)
    assert get(env)["metadata"]["resourceVersion"] == before


def test_a_patch_of_an_object_that_went_on_or_was_made_anew_is_a_conflict(env: KubeEnv) -> None:
    admin = connect(kubeconfig=str(env.kubeconfig))
    seen = {"resourceVersion": get(env)["metadata"]["resourceVersion"]}
    pause: Object = {"metadata": seen, "spec": {"suspend": True}}
    env.kubectl("label", "npca", "vampire", "-n", NAMESPACE, "touched=yes")
    with pytest.raises(Conflict):
        admin.patch(VAMPIRE, pause, manager=MANAGER, dry_run=False)
    env.kubectl("delete", "npca", "vampire", "-n", NAMESPACE)
    env.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(user_made(builders.adapter())))
    with pytest.raises(Conflict):
        admin.patch(VAMPIRE, pause, manager=MANAGER, dry_run=False)
    admin.close()


def test_a_field_that_the_kind_does_not_have_is_refused(env: KubeEnv) -> None:
    admin = connect(kubeconfig=str(env.kubeconfig))
    with pytest.raises(Refused, match="unknown field"):
        admin.patch(VAMPIRE, {"metadata": {}, "spec": {"suspended": True}}, manager=MANAGER, dry_run=True)
    admin.close()


def test_a_digest_is_quarantined_and_cannot_be_brought_in_by_anybody(
    env: KubeEnv, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told, err = run(capsys, env, "quarantine", OLD[7:19], "vampire")
    assert code == Code.FINE, err
    assert told["changes"] == [{"field": "spec.quarantinedDigests", "from": [], "to": [OLD]}]
    code, _, err = run(capsys, env, "rollback", "vampire")
    assert code == Code.REFUSED
    assert "nothing to go back to" in err
    admin = connect(kubeconfig=str(env.kubeconfig))
    variants = get(env)["spec"]["variants"]
    variants[0]["source"]["digest"] = OLD
    with pytest.raises(Refused, match="a quarantined digest cannot be brought in"):
        admin.patch(VAMPIRE, {"metadata": {}, "spec": {"variants": variants}}, manager=MANAGER, dry_run=False)
    admin.close()
    # The one that is there may be quarantined, and comes off again.
    assert run(capsys, env, "quarantine", NEW[7:19], "vampire")[0] == Code.FINE
    assert run(capsys, env, "quarantine", NEW[7:19], "vampire", "--remove")[0] == Code.FINE
    assert get(env)["spec"]["quarantinedDigests"] == [OLD]


def test_the_region_quarantines_for_all(env: KubeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, env, "quarantine", OTHER, "--region")
    assert code == Code.FINE, err
    assert get(env, "npcr", "eu-west")["spec"]["quarantinedDigests"] == [OTHER]


@pytest.mark.parametrize(("asked", "kind", "name"), [("vampire", "npca", "vampire"), ("gold", "gput", "gold")])
def test_pausing_and_going_on_is_one_field(
    env: KubeEnv, capsys: pytest.CaptureFixture[str], asked: str, kind: str, name: str
) -> None:
    assert run(capsys, env, "pause", asked)[0] == Code.FINE
    seen = get(env, kind, name)
    assert seen["spec"]["suspend"] is True
    assert owned(seen, MANAGER) == {"f:suspend": {}}
    assert run(capsys, env, "resume", asked)[0] == Code.FINE
    assert get(env, kind, name)["spec"]["suspend"] is False


def test_what_a_tool_applies_is_left_alone_until_one_insists(env: KubeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    """Server-side apply as Flux does it: its fields are its own, others are free."""
    voice = user_made(builders.adapter(digests={"gold": NEW, "silver": NEW}, secret="bucket"))
    voice["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "games"}
    env.kubectl(
        "apply", "--server-side", "--force-conflicts", "--field-manager=kustomize-controller", "-n", NAMESPACE,
        "-f", "-", stdin=yaml.safe_dump(voice),
    )  # fmt: skip
    code, _, err = run(capsys, env, "rollback", "vampire")
    assert code == Code.REFUSED
    assert "belong to kustomize-controller" in err
    assert "Flux's Kustomization games" in err
    assert {one["source"]["digest"] for one in get(env)["spec"]["variants"]} == {NEW}
    assert run(capsys, env, "pause", "vampire")[0] == Code.FINE
    code, told, _ = run(capsys, env, "rollback", "vampire", "--anyway")
    assert code == Code.FINE
    assert any("games too" in note for note in told["notes"])
    assert {one["source"]["digest"] for one in get(env)["spec"]["variants"]} == {OLD}


def test_reading_is_not_enough_and_the_missing_right_is_named(env: KubeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    ours = "get,list npcregions.npcfleet.dev,gputiers.npcfleet.dev,archetypeadapters.npcfleet.dev"
    code, _, err = run(capsys, env, "pause", "vampire", kubeconfig=grant(env, "watcher", ours))
    assert code == Code.FORBIDDEN
    assert "you may not patch archetypeadapters.npcfleet.dev in namespace eu-west" in err
    limited = connect(kubeconfig=str(env.kubeconfig_for("nobody")))
    with pytest.raises(Forbidden):
        limited.patch(VAMPIRE, {"metadata": {}, "spec": {"suspend": True}}, manager=MANAGER, dry_run=True)
    limited.close()


def test_history_is_told_from_what_the_api_server_keeps(env: KubeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = run(capsys, env, "history", "vampire", "--tier", "gold")
    assert code == Code.FINE
    assert [(one["digest"], one["previous"]) for one in told["history"]] == [(NEW, OLD)]
