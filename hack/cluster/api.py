"""The local cluster for Python callers: tests, the demo and the benchmarks.

    from hack.cluster import api

    cluster = api.up()                          # idempotent; repairs
    tag = api.build_fleet_image()               # seconds when nothing changed
    api.load_image(tag)                         # onto every node
    with api.api_server_away("frozen"):         # a fault, taken back at the end
        ...

Everything raises :class:`ClusterError` with a message for people. Progress goes to standard error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hack.cluster.binaries import binary
from hack.cluster.drivers import driver
from hack.cluster.errors import ClusterError
from hack.cluster.faults import api_server_away, kill_node, kill_process
from hack.cluster.guests import karpenter_down, karpenter_up
from hack.cluster.info import ClusterInfo, PartStatus
from hack.cluster.karpenter import DEFAULT_TYPES, InstanceType, without_spot
from hack.cluster.node_faults import (
    drain_node,
    give_notice,
    revive_node,
    silence_node,
    silent_nodes,
    withdraw_notice,
)
from hack.cluster.packages import IMAGES, ensure
from hack.cluster.scratch_image import busybox_image
from hack.images import build

__all__ = [
    "DEFAULT_TYPES",
    "ClusterError",
    "ClusterInfo",
    "InstanceType",
    "PartStatus",
    "add_node",
    "api_server_away",
    "binary",
    "build_engine_base_image",
    "build_fleet_image",
    "busybox",
    "down",
    "drain_node",
    "find",
    "give_notice",
    "karpenter_down",
    "karpenter_up",
    "kill_node",
    "kill_process",
    "load_image",
    "remove_node",
    "revive_node",
    "silence_node",
    "silent_nodes",
    "status",
    "up",
    "withdraw_notice",
    "without_spot",
]


def up(*, driver_name: str = "auto", context: str = "") -> ClusterInfo:
    """A running, healthy cluster: made, repaired or found. ``context`` is for the driver ``context`` alone."""
    return driver(driver_name, context=context).up(None)


def find() -> ClusterInfo | None:
    """The cluster that is there, without touching it; None when there is none."""
    return driver().info()


def down() -> None:
    """Remove the cluster and everything it made; nothing happens where there is none."""
    driver().down()


def status() -> list[PartStatus]:
    """Every process and node, and whether it works."""
    return driver().status()


def add_node(name: str, *, labels: Mapping[str, str] | None = None, taints: Sequence[str] = ()) -> None:
    """Add a node and wait until it is Ready; all images loaded so far are on it. Taints are ``key=value:Effect``."""
    driver().add_node(name, dict(labels or {}), taints)


def remove_node(name: str) -> None:
    """Take a node away at once: its Node object, its pods and everything it had on the host."""
    driver().remove_node(name)


def build_fleet_image() -> str:
    """Build the image of operator, agent and gateway from this checkout unless it is built; returns its name."""
    ensure(IMAGES, purpose="building images")
    return build.fleet().name


def build_engine_base_image() -> str:
    """Build the base image of the demo's CPU engines unless it is there; returns its name."""
    ensure(IMAGES, purpose="building images")
    return build.engine_base().name


def busybox() -> str:
    """The name of a tiny image on every node of the driver ``local``: ``sh``, ``httpd``, ``nc``, ``nslookup``."""
    return busybox_image().name


def load_image(image: str, *, name: str = "") -> str:
    """Make an image available to every node; a node that has it is left alone. Returns the image's name.

    ``image`` is what a ``build_...`` function returned, or the path of an OCI or Docker archive that holds ``name``.
    """
    loadable = build.resolve(image, name)
    driver().load_image(loadable)
    return loadable.name
