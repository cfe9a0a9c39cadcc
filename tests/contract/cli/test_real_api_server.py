"""`kubectl npc` against a real kube-apiserver: missing kinds, rights that RBAC refuses, what lint foretells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from npc_runtime.cli.__main__ import main
from npc_runtime.cli.answers import Code
from npc_runtime.cli.clients.config import connect
from npc_runtime.cli.ports import Forbidden, NotFound, NotReached
from tests.component.cli.test_files import FAULTS
from tests.support import builders
from tests.support.granting import await_granted
from tests.support.kube_env import KubeEnv

NAMESPACE = builders.NAMESPACE
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "gold-1",
        "labels": {
            "app.kubernetes.io/part-of": "npc-fleet",
            "app.kubernetes.io/component": "engine",
            "npcfleet.dev/tier": "gold",
        },
    },
    "spec": {"containers": [{"name": "engine", "image": "vllm:test"}]},
}


def user_made(raw: dict[str, Any]) -> dict[str, Any]:
    """An object without what only the API server writes."""
    return raw | {"metadata": {"name": raw["metadata"]["name"], "namespace": NAMESPACE}}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeEnv]:
    """A control plane that has never heard of us."""
    control_plane = KubeEnv(tmp_path_factory.mktemp("cli-contract"))
    control_plane.start()
    try:
        control_plane.kubectl("create", "namespace", NAMESPACE)
        yield control_plane
    finally:
        control_plane.stop()


@pytest.fixture(scope="module")
def env(bare: KubeEnv) -> KubeEnv:
    """The same with the CRDs, a region and a pod that no node will ever run."""
    bare.install_crds()
    objects = [user_made(one) for one in (builders.region(), builders.tier(), builders.adapter())]
    bare.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump_all([*objects, POD]))
    return bare


def grant(env: KubeEnv, user: str, *rules: str) -> Path:
    """A user whose rights in the namespace are these: `verbs resources`."""
    for number, rule in enumerate(rules):
        verbs, resources = rule.split()
        name = f"{user}-{number}"
        env.kubectl("create", "role", name, "-n", NAMESPACE, f"--verb={verbs}", f"--resource={resources}")
        env.kubectl("create", "rolebinding", name, "-n", NAMESPACE, f"--role={name}", f"--user={user}")
        await_granted(env, user, [json.loads(env.kubectl("get", "role", name, "-n", NAMESPACE, "-o", "json"))])
    return env.kubeconfig_for(user)


OURS = "get,list npcregions.npcfleet.dev,gputiers.npcfleet.dev,archetypeadapters.npcfleet.dev"


def run(capsys: pytest.CaptureFixture[str], kubeconfig: Path, *words: str) -> tuple[int, str, str]:
    code = main([*words, "-n", NAMESPACE, "--kubeconfig", str(kubeconfig)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_missing_crds_are_said(bare: KubeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, bare.kubeconfig, "status")
    assert code == Code.NOT_FOUND
    assert "the CRDs are not installed" in err


def test_what_is_there_is_shown_and_that_nobody_keeps_it(env: KubeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, env.kubeconfig, "status", "-o", "json")
    assert code == Code.FINE
    told = json.loads(out)
    assert [one["name"] for kind in ("regions", "tiers", "adapters") for one in told[kind]] == [
        "eu-west",
        "gold",
        "vampire",
    ]
    code, out, _ = run(capsys, env.kubeconfig, "why")
    assert code == Code.NOT_AS_WANTED
    assert "1. operator: OperatorAbsent" in out
    assert "tier gold: NotLookedAt" in out
    assert "pod gold-1: Pending" in out


def test_a_stranger_is_told_the_right_that_is_missing(env: KubeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, env.kubeconfig_for("stranger"), "status")
    assert code == Code.FORBIDDEN
    assert "you may not list npcregions.npcfleet.dev in namespace eu-west" in err


def test_who_may_read_our_kinds_alone_gets_what_they_say(env: KubeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, grant(env, "reader", OURS), "why", "tier/gold")
    assert code == Code.NOT_AS_WANTED
    assert "tier gold: NotLookedAt" in out
    for what in ("pods", "deployments", "nodes", "events", "leases"):
        assert f"not looked at: {what}: you may not " in out
    assert "OperatorAbsent" not in out


def test_streams_are_refused_by_name_and_a_pod_without_a_node_is_not_reached(env: KubeEnv) -> None:
    limited = connect(kubeconfig=str(grant(env, "limited", "get,list pods")))
    with pytest.raises(Forbidden, match=r"(get|create) pods/portforward"), limited.forward(NAMESPACE, "gold-1", 9443):
        pass
    with pytest.raises(Forbidden, match=r"(get|create) pods/exec"):
        limited.execute(NAMESPACE, "gold-1", "engine", ["true"])
    limited.close()
    admin = connect(kubeconfig=str(env.kubeconfig))
    with pytest.raises(NotReached), admin.forward(NAMESPACE, "gold-1", 9443):
        pass
    with pytest.raises(NotFound), admin.forward(NAMESPACE, "ghost", 9443):
        pass
    admin.close()


def test_a_pod_is_deleted_only_while_it_is_the_one_that_was_looked_at(env: KubeEnv) -> None:
    pod = POD | {"metadata": {"name": "victim"}}
    env.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(pod))
    admin = connect(kubeconfig=str(env.kubeconfig))
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/victim"
    uid = admin.get(path)["metadata"]["uid"]
    with pytest.raises(NotFound, match="not the one that was looked at"):
        admin.delete(path, uid="another")
    admin.delete(path, uid=uid)
    with pytest.raises(NotFound, match="there is no pods/victim"):
        admin.get(path)
    admin.close()


@pytest.mark.parametrize("name", FAULTS)
def test_what_lint_refuses_the_api_server_refuses_too(name: str, env: KubeEnv) -> None:
    document = FAULTS[name][0]
    spoiled = user_made(document)
    done = env.kubectl(
        "apply", "--dry-run=server", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(spoiled), check=False
    )
    assert done == "", done


@pytest.mark.parametrize("make", [builders.region, builders.tier, builders.adapter])
def test_what_lint_lets_pass_the_api_server_takes(
    make: Any, env: KubeEnv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = yaml.safe_dump(user_made(make("other")) if make is not builders.tier else user_made(make("silver")))
    (tmp_path / "x.yaml").write_text(text)
    assert main(["lint", str(tmp_path / "x.yaml")]) == Code.FINE
    capsys.readouterr()
    assert "dry run" in env.kubectl("apply", "--dry-run=server", "-n", NAMESPACE, "-f", "-", stdin=text)
