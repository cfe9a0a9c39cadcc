"""The tool inside a pod, as the image has it: no kubeconfig, the pod's own service account, and HTTPS by its CA."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kubernetes.config import incluster_config, kube_config

from npc_runtime.cli.__main__ import main
from npc_runtime.cli.answers import Code
from tests.component.cli.conftest import POD, Ran
from tests.component.cli.fake_api import NAMESPACE, FakeApi, serving
from tests.component.gateway.certificates import write_certificate


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What kubelet mounts into a pod, where the client looks for it; a home without a kubeconfig."""
    made = tmp_path / "serviceaccount"
    made.mkdir()
    write_certificate(made)
    (made / "token").write_text("callers-own-token")
    (made / "namespace").write_text(NAMESPACE)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(made / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(made / "ca.crt"))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "home" / ".kube" / "config"))
    return made


@pytest.fixture
async def here(api: FakeApi, account: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    """The same API server behind the addresses that kubelet tells a pod."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(account / "tls.crt", account / "tls.key")
    async with serving(FakeApi(collections=api.collections), tls=context) as made:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(made.port))
        yield made


async def run(capsys: pytest.CaptureFixture[str], *words: str) -> Ran:
    code = await asyncio.to_thread(main, list(words))
    said = capsys.readouterr()
    return Ran(code, said.out, said.err)


async def test_it_speaks_of_the_pods_own_namespace_with_the_pods_own_token(
    here: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = await run(capsys, "status", "-o", "json")
    assert ran.code == Code.FINE, ran.err
    assert [one["namespace"] for one in json.loads(ran.out)["regions"]] == [NAMESPACE]
    ran = await run(capsys, "why")
    assert (ran.code, ran.out.splitlines()[0]) == (Code.FINE, f"namespace {NAMESPACE} serves"), ran.err


async def test_websockets_go_the_same_way(here: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    await run(capsys, "drill", "engine", POD, "--yes", "--wait", "0.1")
    assert [pod for pod, _ in here.executed] == [POD]


async def test_an_api_server_with_another_certificate_is_not_believed(
    here: FakeApi, account: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_certificate(account)
    ran = await run(capsys, "status")
    assert ran.code == Code.NO_CLUSTER
    assert "certificate verify failed" in ran.err
    assert not here.requests
    assert "callers-own-token" not in ran.err


@pytest.mark.parametrize("named", [("--kubeconfig", "/nowhere/config"), ("--context", "production")])
async def test_who_names_a_cluster_is_not_given_the_pods_own(
    here: FakeApi, named: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    ran = await run(capsys, "status", *named)
    assert ran.code == Code.NO_CLUSTER
    assert "there is no kubeconfig at" in ran.err
    assert not here.requests


async def test_a_pod_that_was_given_no_token_is_told_what_is_missing(
    here: FakeApi, account: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (account / "token").unlink()
    ran = await run(capsys, "status")
    assert ran.code == Code.NO_CLUSTER
    assert "there is no kubeconfig at" in ran.err
