"""A control plane of a test's own with what fake nodes need: a scheduler, and the judges of nodes.

Beside it the real Karpenter core and kwok run as they do beside the local cluster, which none of this touches:

    with beside_env(tmp_path_factory.mktemp("beside")) as (env, beside):
        karpenter.up(beside)
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from hack.cluster import karpenter
from hack.cluster.beside import Beside
from hack.cluster.binaries import binary
from hack.cluster.kubeapi import credentials
from hack.cluster.ports import pick_port
from tests.support.kube_env import KubeEnv

# No controller that needs a certificate or a cloud; without the first, a fake node would keep its taint not-ready.
_CONTROLLERS = ("node-lifecycle", "taint-eviction", "pod-garbage-collector", "namespace")


@contextlib.contextmanager
def beside_env(folder: Path, *, controllers: tuple[str, ...] = ()) -> Iterator[tuple[KubeEnv, Beside]]:
    """The control plane with these controllers as well (``deployment``, ``replicaset``...); all of it ends with the
    body, and kwok and Karpenter with it."""
    env = KubeEnv(folder)
    env.start()
    wanted = ",".join(f"{name}-controller" for name in (*_CONTROLLERS, *controllers))
    try:
        with _running(env, "kube-scheduler"), _running(env, "kube-controller-manager", f"--controllers={wanted}"):
            admin = env.client_certificate("admin", groups=("system:masters",))
            tls = credentials(ca=folder / "pki" / "ca.crt", cert=admin.cert, key=admin.key)
            made = Beside.at(folder / "beside", server=env.server, tls=tls, kubeconfig=env.kubeconfig)
            try:
                yield env, made
            finally:
                made.processes.stop(karpenter.ROLES, grace_seconds=1)
    finally:
        env.stop()


@contextlib.contextmanager
def _running(env: KubeEnv, name: str, *flags: str) -> Iterator[None]:
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
