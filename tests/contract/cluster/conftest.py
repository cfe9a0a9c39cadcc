"""A control plane of these tests' own with what fake nodes need: a scheduler, and the judges of nodes.

Beside it the real Karpenter core and kwok run as they do beside the local cluster, which none of this touches.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster import karpenter
from hack.cluster.beside import Beside
from hack.cluster.binaries import binary
from hack.cluster.kubeapi import KubeApi, credentials
from hack.cluster.ports import pick_port
from hack.cluster.processes import ProcessTable
from tests.support.kube_env import KubeEnv

# No controller that needs a certificate or a cloud; without the first, a fake node would keep its taint not-ready.
CONTROLLERS = (
    "node-lifecycle-controller,taint-eviction-controller,pod-garbage-collector-controller,namespace-controller"
)


@contextlib.contextmanager
def running(env: KubeEnv, name: str, *flags: str) -> Iterator[None]:
    """A component of the control plane, ended by its pid."""
    config = f"--kubeconfig={env.kubeconfig}"
    ports = ["--bind-address=127.0.0.1", f"--secure-port={pick_port()}", f"--cert-dir={env.folder / name}"]
    with (env.folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(binary(name)), config, "--leader-elect=false", *ports, *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def beside_of(env: KubeEnv) -> Beside:
    folder = env.folder / "beside"
    admin = env.client_certificate("admin", groups=("system:masters",))
    context = credentials(ca=env.folder / "pki" / "ca.crt", cert=admin.cert, key=admin.key)
    return Beside(
        kubeconfig=env.kubeconfig,
        api=KubeApi(env.server, context=context),
        folder=folder,
        logs=folder,
        processes=ProcessTable(folder / "pids", str(folder)),
    )


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    env = KubeEnv(Path(tmp_path_factory.mktemp("beside")))
    env.start()
    try:
        with running(env, "kube-scheduler"), running(env, "kube-controller-manager", f"--controllers={CONTROLLERS}"):
            made = beside_of(env)
            try:
                yield made
            finally:
                made.processes.stop(karpenter.ROLES, grace_seconds=1)
    finally:
        env.stop()
