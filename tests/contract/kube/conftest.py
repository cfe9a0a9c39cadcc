"""A control plane for this folder, and the same port over it and over memory."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from npc_operator.clients.connection import connect
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.metrics import Metrics
from npc_operator.ports import Kube
from tests.support.fake_kube import FakeKube
from tests.support.kube_env import KubeEnv


@pytest.fixture(scope="session")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeEnv]:
    """Only these tests' own API server is ever touched: it is started here and ends here."""
    control_plane = KubeEnv(tmp_path_factory.mktemp("kube-contract"))
    control_plane.start()
    try:
        control_plane.install_crds()
        yield control_plane
    finally:
        control_plane.stop()


@dataclass(frozen=True, slots=True)
class World:
    """One implementation of the port, and a namespace of the test's own on it."""

    kube: Kube
    namespace: str


@pytest.fixture
async def client(env: KubeEnv) -> AsyncIterator[KubeClient]:
    """The real client on the real server, as administrator."""
    made = KubeClient(await connect(kubeconfig=str(env.kubeconfig)), metrics=Metrics())
    yield made
    await made.close()


@pytest.fixture
async def namespace(client: KubeClient) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    await client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager="test")
    return name


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "fake":
        return World(kube=FakeKube(), namespace="t-fake")
    return World(kube=request.getfixturevalue("client"), namespace=request.getfixturevalue("namespace"))
