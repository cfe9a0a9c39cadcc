"""A control plane of our own with the committed CRDs in force, and a namespace on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.crd.api_server import ApiServer, Namespace
from tests.support.kube_env import CONTEXT, KubeEnv

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
    env.install_crds()
    return ApiServer(env.kubeconfig, CONTEXT)


@pytest.fixture(scope="session")
def namespace(server: ApiServer, env: KubeEnv) -> Namespace:
    env.kubectl("create", "namespace", NAMESPACE)
    return Namespace(server, NAMESPACE)
