"""What happens to nodes of the local cluster: a notice that one goes, packets that are lost, and all well again.

A silent node's pods go on living and nobody hears of them. Its kubelet is frozen rather than cut off: it shares the
host's loopback device with the API server, where its packets look like everybody's; and one that were cut off from its
pods alone would restart them for probes that fail, which no lost network does to a machine. Frozen, it renews no Lease
and answers nobody, and connections to it hang.
"""

from __future__ import annotations

import signal
import subprocess
from datetime import datetime

from hack.cluster import notices, silence
from hack.cluster.addresses import parse_network
from hack.cluster.binaries import binary
from hack.cluster.console import say
from hack.cluster.local import LocalDriver
from hack.cluster.node import kubelet_role
from hack.cluster.notices import Source


def give_notice(name: str, *, seconds: float, source: Source) -> datetime:
    """Write onto a node what this source writes ``seconds`` before the machine goes; returns when that is.

    Nothing ends it then: that is :func:`hack.cluster.faults.kill_node`, at the time returned.

    :raises ClusterError: when there is no such node.
    """
    driver = LocalDriver()
    driver.state().node(name)
    deadline = notices.give(driver.beside().api, name, source, seconds=seconds)
    say(f"{name} has a notice as {source} gives it: the machine goes at {deadline:%H:%M:%S} UTC")
    return deadline


def withdraw_notice(name: str) -> bool:
    """Take every notice and cordon off a node, as when the cloud thought better of it; False when there was none.

    :raises ClusterError: when there is no such node.
    """
    driver = LocalDriver()
    driver.state().node(name)
    return notices.withdraw(driver.beside().api, name)


def drain_node(name: str, *, seconds: float) -> bool:
    """Evict the node's pods as every one of these sources does, PodDisruptionBudgets respected.

    False when some were still there after ``seconds``, as a machine finds when its time is over.

    :raises ClusterError: when there is no such node.
    """
    driver = LocalDriver()
    driver.state().node(name)
    done = subprocess.run(
        [
            str(binary("kubectl")),
            f"--kubeconfig={driver.beside().kubeconfig}",
            "drain",
            name,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            f"--timeout={max(1, round(seconds))}s",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        say(f"{name} is not drained after {seconds:g} s: {done.stderr.strip().rpartition(chr(10))[2]}")
    return done.returncode == 0


def silence_node(name: str) -> None:
    """From now on no packet reaches the node and none leaves it; nothing is refused, connections hang.

    :func:`revive_node` and ``up`` end it, ``down`` leaves nothing of it.

    :raises ClusterError: when there is no such node, or its kubelet does not run.
    """
    driver = LocalDriver()
    state = driver.state()
    spec = state.node(name)
    driver.on_process(kubelet_role(name), lambda table, role: table.signal(role, signal.SIGSTOP))
    silence.apply(spec.index, parse_network(state.network).node(spec.index))
    say(f"{name} is silent: its packets are dropped, its kubelet is frozen")


def revive_node(name: str) -> None:
    """Whatever happened to the node, it is well again: heard, running, without notices, and Ready.

    :raises ClusterError: when there is no such node, or it does not become Ready.
    """
    driver = LocalDriver()
    spec = driver.state().node(name)
    driver.add_node(name, dict(spec.labels), spec.taints)
    withdraw_notice(name)
    say(f"{name} is back")


def silent_nodes() -> list[str]:
    """The nodes whose packets are being dropped.

    :raises ClusterError: when there is no local cluster.
    """
    names = {node.index: node.name for node in LocalDriver().state().nodes}
    return [names[index] for index in silence.silent() if index in names]
