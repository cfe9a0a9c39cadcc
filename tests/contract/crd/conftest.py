"""A control plane of our own with the committed CRDs in force, and a namespace on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.crd.api_server import PLURALS, ApiServer, Namespace
from tests.support.kube_env import CONTEXT, KubeEnv

ROOT = Path(__file__).resolve().parents[3]
NAMESPACE = "crd-contract"


@pytest.fixture(scope="session")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeEnv]:
    """Only these tests' own API server is ever touched: it is started here and ends here."""
    control_plane = KubeEnv(tmp_path_factory.mktemp("crd-contract"))
    control_plane.start()
    yield control_plane
    control_plane.stop()


@pytest.fixture(scope="session")
def server(env: KubeEnv) -> ApiServer:
    """The API server with the CRDs of this checkout, in force."""
    env.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    env.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(ROOT / "crds"))
    client = ApiServer(env.kubeconfig, CONTEXT)
    deadline = time.monotonic() + 30
    # Established is written a moment before the paths answer.
    while any(
        client.request("GET", f"/apis/npcfleet.dev/v1alpha1/{plural}").code != 200 for plural in PLURALS.values()
    ):
        assert time.monotonic() < deadline, "the API server never served the kinds"
        time.sleep(0.1)
    return client


@pytest.fixture(scope="session")
def namespace(server: ApiServer, env: KubeEnv) -> Namespace:
    env.kubectl("create", "namespace", NAMESPACE)
    return Namespace(server, NAMESPACE)
