"""A control plane of our own, so that releases and CRDs of these tests are nobody else's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.charts.helm import Helm
from tests.support.kube_env import KubeEnv


@pytest.fixture(scope="session")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeEnv]:
    control_plane = KubeEnv(tmp_path_factory.mktemp("charts-contract"))
    control_plane.start()
    yield control_plane
    control_plane.stop()


@pytest.fixture(scope="session")
def helm(env: KubeEnv, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(env, tmp_path_factory.mktemp("helm-home"))


@pytest.fixture(scope="session")
def with_crds(helm: Helm, env: KubeEnv) -> KubeEnv:
    """The same with our kinds, installed by their chart."""
    helm.install("npc-crds", "npc-crds", "npc-system")
    env.await_crds()
    return env
