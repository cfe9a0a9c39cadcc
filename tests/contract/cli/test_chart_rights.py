"""The Role of the npc-region chart is all that `kubectl npc` needs in a namespace, by a real API server's RBAC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from npc_runtime.cli.__main__ import main
from npc_runtime.cli.answers import Code
from tests.contract.charts.helm import Helm
from tests.contract.cli.test_real_api_server import NAMESPACE, POD, user_made
from tests.support import builders
from tests.support.granting import await_granted
from tests.support.kube_env import KubeEnv

PERSON = {"kind": "User", "name": "on-call", "apiGroup": "rbac.authorization.k8s.io"}
RUNNING = {
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {
                "name": "engine",
                "ready": True,
                "restartCount": 0,
                "image": "x",
                "imageID": "x",
                "state": {"running": {"startedAt": "2026-11-21T11:00:00Z"}},
            }
        ],
    }
}


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeEnv]:
    """A region whose pod is said to run on a node that nobody can reach."""
    made = KubeEnv(tmp_path_factory.mktemp("cli-rights"))
    made.start()
    try:
        made.kubectl("create", "namespace", NAMESPACE)
        made.install_crds()
        pod = POD | {"spec": {"nodeName": "nowhere", "containers": [{"name": "engine", "image": "x"}]}}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "nowhere"},
            "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]},
        }
        internal = builders.secret(
            "npc-fleet-internal", {"ca.crt": (made.folder / "pki" / "ca.crt").read_text(), "token": "t"}
        )
        objects = [user_made(one) for one in (builders.region(auth="game-keys"), builders.tier(), builders.adapter())]
        objects += [node, pod, internal, builders.secret("game-keys", {"game": "key"})]
        made.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump_all(objects))
        made.kubectl("patch", "pod", "gold-1", "-n", NAMESPACE, "--subresource=status", "-p", json.dumps(RUNNING))
        yield made
    finally:
        made.stop()


def grant_tool(env: KubeEnv, tmp_path: Path, **options: Any) -> Path:
    """The chart's Role, bound to a person without any other right."""
    values = {
        "region": {"gateway": {"auth": {"mode": "ApiKey", "secretRef": {"name": "game-keys"}}}},
        "rbac": {"tool": {"create": True, "subjects": [PERSON], **options}},
    }
    rendered = Helm(env, tmp_path).render("npc-region", values, "--show-only", "templates/tool.yaml", release=NAMESPACE)
    for one in rendered:
        one["metadata"]["namespace"] = NAMESPACE
    env.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rendered))
    await_granted(env, PERSON["name"], rendered)
    return env.kubeconfig_for(PERSON["name"])


def run(capsys: pytest.CaptureFixture[str], kubeconfig: Path, *words: str) -> tuple[int, str, str]:
    code = main([*words, "-n", NAMESPACE, "--kubeconfig", str(kubeconfig)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_with_the_charts_role_everything_gets_as_far_as_the_pod(
    env: KubeEnv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = env.kubeconfig_for("stranger")
    assert run(capsys, stranger, "status")[0] == Code.FORBIDDEN
    person = grant_tool(env, tmp_path)
    assert run(capsys, person, "status")[0] == Code.FINE
    code, out, err = run(capsys, person, "matrix")
    # The kubelet is not there; all rights up to it are.
    assert code == Code.NOT_REACHED, err
    assert "not heard: pod gold-1 (gold)" in out
    archive = tmp_path / "d.tar.gz"
    code, out, err = run(capsys, person, "dump", "--file", str(archive))
    assert code == Code.FINE, err
    refused = {line for line in out.splitlines() if "you may not" in line}
    assert refused == {
        "not read: you may not get leases.coordination.k8s.io in namespace npc-system",
        "not read: you may not list nodes",
        "not read: you may not list pods in namespace npc-system",
        "not read: you may not list secrets in namespace eu-west",
    }
    code, _, err = run(capsys, person, "say", "vampire", "hi")
    assert code == Code.NOT_REACHED
    assert "gateway pods" in err
    assert run(capsys, person, "pause", "vampire")[0] == Code.FORBIDDEN


def test_changing_takes_a_switch_of_its_own(env: KubeEnv, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    person = grant_tool(env, tmp_path)
    code, _, err = run(capsys, person, "pause", "vampire")
    assert code == Code.FORBIDDEN
    assert "you may not patch archetypeadapters.npcfleet.dev in namespace eu-west" in err
    person = grant_tool(env, tmp_path, change=True)
    for target in ("vampire", "tier/gold", f"region/{NAMESPACE}"):
        code, _, err = run(capsys, person, "pause", target, "--dry-run")
        assert code == Code.FINE, err
    assert run(capsys, person, "drill", "engine", "gold-1", "--yes", "--wait", "0")[0] == Code.FORBIDDEN


def test_a_drill_takes_the_charts_other_switch(
    env: KubeEnv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("drill", "engine", "gold-1", "--yes", "--wait", "0")
    person = grant_tool(env, tmp_path)
    code, _, err = run(capsys, person, *words)
    assert code == Code.FORBIDDEN
    assert "pods/exec in namespace eu-west" in err
    person = grant_tool(env, tmp_path, drill=True)
    code, _, err = run(capsys, person, *words)
    assert code == Code.NOT_REACHED, err
    assert run(capsys, person, "drill", "pod", "gold-1", "--yes", "--wait", "0")[0] == Code.FINE
