"""What runs beside the local cluster because somebody asked for it: Karpenter with kwok.

``up`` starts again what of it has died, ``down`` ends it with everything else.
"""

from __future__ import annotations

from collections.abc import Sequence

from hack.cluster import karpenter
from hack.cluster.beside import Beside
from hack.cluster.files import locked
from hack.cluster.karpenter import InstanceType
from hack.cluster.local import LocalDriver
from hack.cluster.state import HOST_LOCK


def karpenter_up(types: Sequence[InstanceType] | None = None) -> Beside:
    """The real Karpenter core with fake instances runs beside the real nodes; see :func:`hack.cluster.karpenter.up`.

    :raises ClusterError: when there is no local cluster, or Karpenter does not become healthy.
    """
    with locked(HOST_LOCK, doing="karpenter up"):
        beside = LocalDriver().beside()
        karpenter.up(beside, types)
    return beside


def karpenter_down() -> None:
    """Nothing of Karpenter and its fake nodes is left; see :func:`hack.cluster.karpenter.down`.

    :raises ClusterError: when there is no local cluster, or something does not go.
    """
    with locked(HOST_LOCK, doing="karpenter down"):
        karpenter.down(LocalDriver().beside())
