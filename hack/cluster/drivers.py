"""Which driver to use: the one that made the running cluster, else what the host can do."""

from __future__ import annotations

from collections.abc import Callable

from hack.cluster import kind, local
from hack.cluster.console import say
from hack.cluster.context import ContextDriver
from hack.cluster.errors import ClusterError
from hack.cluster.info import Driver
from hack.cluster.paths import Layout, cache_dir, state_dir
from hack.cluster.state import host_owner, load

NAMES = ("auto", "local", "kind", "context")


def recorded_driver() -> str | None:
    """The driver of the cluster that is there, None when there is none."""
    for folder in (host_owner(), state_dir(), cache_dir() / "kind-cluster"):
        if folder is not None and (state := load(Layout(folder))) is not None:
            return state.driver
    return None


def driver(name: str = "auto", *, context: str = "") -> Driver:
    """The driver of that name; ``auto``: the running cluster's, else local as root on Linux, else kind with Docker.

    :raises ClusterError: when no driver can be used here; says why for each.
    """
    if name not in NAMES:
        raise ClusterError(f"unknown driver {name!r}; known: {', '.join(NAMES)}")
    if name == "auto":
        name = recorded_driver() or choose(local.unusable_because(), kind.unusable_because)
    elif (recorded := recorded_driver()) is not None and recorded != name:
        raise ClusterError(f"a cluster of the driver {recorded} is there already; end it first with 'down'")
    if context and name != "context":
        raise ClusterError(f"a context goes with --driver context; without it this would be the driver {name}")
    if name == "local":
        return local.LocalDriver()
    if name == "kind":
        return kind.KindDriver()
    return ContextDriver(context)


def choose(local_problem: str | None, kind_problem: Callable[[], str | None]) -> str:
    """Local where it can run; Docker is asked only where it cannot, because asking it takes time.

    :raises ClusterError: when neither can be used.
    """
    if local_problem is None:
        return "local"
    reason = kind_problem()
    if reason is None:
        say(f"the local driver cannot be used ({local_problem}); using kind")
        return "kind"
    raise ClusterError(
        f"no cluster can be made here. local: {local_problem}. kind: {reason}. "
        "Run this as root, or name a cluster of yours: --driver context --context NAME"
    )
