"""Faults that tests inject: an API server that is away, a node that vanishes."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Literal

from hack.cluster.control_plane import WATCHERS
from hack.cluster.errors import ClusterError
from hack.cluster.local import LocalDriver
from hack.cluster.processes import ProcessTable


@contextlib.contextmanager
def api_server_away(how: Literal["frozen", "stopped"] = "frozen") -> Iterator[None]:
    """The API server of the local cluster is away while the body runs, and ready again afterwards.

    ``frozen`` (SIGSTOP) leaves connections open that answer nothing, the harder case; ``stopped`` (SIGKILL) refuses
    new ones.

    :raises ClusterError: when there is no local cluster, or the API server does not come back.
    """
    driver = LocalDriver()
    if how == "frozen":
        driver.on_process("kube-apiserver", lambda table, role: table.signal(role, signal.SIGSTOP))
    else:
        driver.on_process("kube-apiserver", _stop)
    try:
        yield
    finally:
        if how == "frozen":
            for role in WATCHERS:  # as after `stopped`: see ControlPlane.end_watchers
                driver.on_process(role, _stop)
            driver.on_process("kube-apiserver", lambda table, role: table.signal(role, signal.SIGCONT))
        driver.up()


def kill_process(role: str) -> None:
    """SIGKILL one process of the local cluster by its role (``etcd``, ``spot-1/kubelet``), until it is gone.

    ``up`` repairs it.

    :raises ClusterError: when it does not run.
    """

    def kill(table: ProcessTable, name: str) -> None:
        if table.running(name) is None:
            raise ClusterError(f"{name} does not run")
        _stop(table, name)

    LocalDriver().on_process(role, kill)


def kill_node(name: str) -> None:
    """A node vanishes: kubelet, runtime and containers end at once; ``up`` or ``add_node`` brings it back.

    :raises ClusterError: when there is no such node.
    """
    LocalDriver().kill_node(name)


def _stop(table: ProcessTable, role: str) -> None:
    table.stop([role], grace_seconds=0)
