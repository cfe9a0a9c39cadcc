"""The operator as real processes, started as in a pod but outside of one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.bench.control_plane import ControlPlane, free_port
from hack.bench.kube import Kube
from hack.bench.processes import Child, start

USER = "npc-operator"
"""As the audit log shows it."""
SYSTEM_NAMESPACE = "npc-system"
LEASE_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/npc-operator"


@dataclass(slots=True)
class Operator:
    """One replica."""

    name: str
    child: Child

    @property
    def pid(self) -> int:
        return self.child.pid


def start_operator(
    plane: ControlPlane,
    name: str,
    *,
    resync_seconds: float,
    program: Sequence[str] = ("npc_operator",),
    cwd: Path = Path("/"),
) -> Operator:
    """Starts a replica and returns at once. Its defaults are the product's, but for how often it looks at everything.

    It has every right: that the chart's rights suffice is proven elsewhere, and costs nothing here. `program` is a
    module, and what it wants to be told before the product's own arguments.
    """
    command = [
        *(sys.executable, "-m", *program, "run"),
        *("--fleet-image=bench/fleet:1", "--engine-image=bench/engine:1", f"--lease-namespace={SYSTEM_NAMESPACE}"),
        f"--kubeconfig={plane.kubeconfig(USER, 'system:masters')}",
        *("--metrics-host=127.0.0.1", f"--metrics-port={free_port()}"),
        *(f"--resync-seconds={resync_seconds:g}", "--log-format=text"),
    ]
    env = {"PATH": os.environ["PATH"], "HOME": str(plane.folder), "POD_NAME": name, "POD_NAMESPACE": SYSTEM_NAMESPACE}
    return Operator(name, start(command, log=plane.folder / f"{name}.log", env=env, cwd=cwd))


async def find_leader(kube: Kube, operators: list[Operator]) -> Operator | None:
    """Who holds the Lease; None when nobody does, or somebody who is gone."""
    lease = await kube.find(LEASE_PATH)
    holder = ((lease or {}).get("spec") or {}).get("holderIdentity") or ""
    return next((one for one in operators if holder.startswith(f"{one.name}_") and not one.child.ended()), None)
