"""The real Karpenter core with fake instances, beside the real nodes.

Karpenter's own program for tests: everything of it decides as in production, only the cloud is not there. A NodeClaim
becomes a Node object at once, and kwok (:mod:`hack.cluster.kwok`) says that it is Ready and that its pods run. So what
the operator asks of Karpenter is proven against Karpenter; engines that answer need the real nodes.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from hack.cluster import kwok
from hack.cluster.beside import Beside
from hack.cluster.binaries import KARPENTER, binary
from hack.cluster.bulk import Call, send_all
from hack.cluster.console import say, step, tail, wait_for
from hack.cluster.errors import ClusterError
from hack.cluster.files import write_atomically
from hack.cluster.go_modules import module_files
from hack.cluster.kubeapi import ApiError
from hack.cluster.ports import pick_port

ROLE = "karpenter"
ROLES = (ROLE, kwok.ROLE)
PROGRAMS = ("karpenter-kwok", "kwok")
NODE_CLASS = {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"}
"""What a NodePool's nodeClassRef names here; it is there after :func:`up`."""
CRDS = (
    "nodepools.karpenter.sh",
    "nodeclaims.karpenter.sh",
    "nodeoverlays.karpenter.sh",
    "capacitybuffers.autoscaling.x-k8s.io",
    "kwoknodeclasses.karpenter.kwok.sh",
)
_CRD_FOLDERS = ("kwok/charts/crds", "kwok/apis/crds")
_READY_SECONDS = 120.0
_CRDS_API = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_MERGE = "application/merge-patch+json"
_WHILE_KINDS_CHANGE = (404, 405, 409, 429)
"""What the API server answers about objects of a kind that is just being made or removed: ask again."""


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One kind of machine that Karpenter may order. Prices are dollars an hour; None: not to be had that way.

    Karpenter's test program takes every offering in its file for available, so a market that has run dry is one that
    is not in the file.
    """

    name: str
    cpu: int
    memory_gib: int
    gpus: int
    on_demand: Decimal | None
    spot: Decimal | None
    zones: tuple[str, ...] = ("zone-a", "zone-b")

    def as_file(self) -> dict[str, Any]:
        """As the file of instance types has it."""
        prices = (("spot", self.spot), ("on-demand", self.on_demand))
        resources = {
            "cpu": str(self.cpu),
            "memory": f"{self.memory_gib}Gi",
            "pods": "110",
            "ephemeral-storage": "100Gi",
        }
        return {
            "name": self.name,
            "architecture": "amd64",
            "operatingSystems": ["linux"],
            "resources": resources | ({"nvidia.com/gpu": str(self.gpus)} if self.gpus else {}),
            "offerings": [
                {"Price": float(price), "Available": True, "Requirements": _requirements(capacity, zone)}
                for capacity, price in prices
                if price is not None
                for zone in self.zones
            ],
        }


def _requirements(capacity: str, zone: str) -> list[dict[str, Any]]:
    wanted = {"karpenter.sh/capacity-type": capacity, "topology.kubernetes.io/zone": zone}
    return [{"key": key, "operator": "In", "values": [value]} for key, value in wanted.items()]


# Names, sizes and on-demand prices of AWS (us-east-1); spot at 30% of them.
DEFAULT_TYPES = (
    InstanceType("m5.2xlarge", 8, 32, 0, Decimal("0.384"), Decimal("0.1152")),
    InstanceType("g6.xlarge", 4, 16, 1, Decimal("0.8048"), Decimal("0.2414")),
    InstanceType("g5.xlarge", 4, 16, 1, Decimal("1.006"), Decimal("0.3018")),
    InstanceType("g5.12xlarge", 48, 192, 4, Decimal("5.672"), Decimal("1.7016")),
)


def without_spot(types: Sequence[InstanceType] = DEFAULT_TYPES) -> tuple[InstanceType, ...]:
    """The same machines when no spot capacity is left."""
    return tuple(replace(kind, spot=None) for kind in types)


@dataclass(frozen=True, slots=True)
class _Files:
    """What Karpenter is started with; the first of these being there says that it is wanted."""

    folder: Path

    @property
    def settings(self) -> Path:
        return self.folder / "karpenter.json"

    @property
    def types(self) -> Path:
        return self.folder / "instance-types.json"


def up(beside: Beside, types: Sequence[InstanceType] | None = None) -> None:
    """Karpenter and kwok run, their kinds are served, and a node class ``default`` is there. Repairs and repeats.

    Other ``types`` than before restart Karpenter: so a market runs dry or recovers. None keeps them.

    :raises ClusterError: when a program cannot be had, ends, or is not healthy within two minutes.
    """
    files = _Files(beside.folder)
    if types is not None or not files.types.exists():
        chosen = DEFAULT_TYPES if types is None else types
        write_atomically(files.types, json.dumps([kind.as_file() for kind in chosen], indent=2))
    with step("starting Karpenter with fake instances, and kwok", usually="3 to 10 s"):
        _apply_crds(beside)
        kwok.start(beside)
        environment = _settings(beside, files)
        beside.processes.start(
            ROLE,
            [str(binary(PROGRAMS[0]))],
            log=beside.log(ROLE),
            env=environment,
            depends_on=[files.settings, files.types],
        )
        _wait_healthy(beside, int(environment["HEALTH_PROBE_PORT"]))
        beside.api.apply(
            f"/apis/karpenter.kwok.sh/v1alpha1/kwoknodeclasses/{NODE_CLASS['name']}",
            {
                "apiVersion": "karpenter.kwok.sh/v1alpha1",
                "kind": NODE_CLASS["kind"],
                "metadata": {"name": NODE_CLASS["name"]},
            },
        )


def wanted(folder: Path) -> bool:
    """Whether :func:`up` was called for this folder and :func:`down` was not since."""
    return _Files(folder).settings.exists()


def repair(beside: Beside) -> None:
    """Start again what has died, where Karpenter was started before; nothing where it was not.

    :raises ClusterError: see :func:`up`.
    """
    if wanted(beside.folder):
        up(beside)


def down(beside: Beside) -> None:
    """End both programs, and remove fake nodes with their pods, everything of Karpenter's kinds, and the kinds.

    Karpenter is ended first and its finalizers taken off by us: waiting until it has drained what it made could take
    as long as the pods on it like. Nothing happens where there is nothing.

    :raises ClusterError: when the API server refuses, or the kinds do not go within a minute.
    """
    with step("removing Karpenter and its fake nodes", usually="1 to 5 s"):
        beside.processes.stop([ROLE], grace_seconds=3)
        removed = kwok.remove_nodes(beside)
        kwok.stop(beside)
        wait_for("Karpenter's kinds to go", lambda: _kinds_gone(beside), seconds=60)
        for path in (_Files(beside.folder).types, _Files(beside.folder).settings):
            path.unlink(missing_ok=True)
    say(f"Karpenter is gone, and {removed} fake nodes with it")


def _kinds_gone(beside: Beside) -> bool:
    """Look once: remove what is there of each kind, and the kind; True when nothing was left to remove."""
    gone = True
    for name in CRDS:
        crd = _find(beside, f"{_CRDS_API}/{name}")
        if crd is not None:
            gone = False
            try:
                _remove_objects(beside, crd)
                beside.api.delete(f"{_CRDS_API}/{name}")
            except ApiError as error:
                if error.status not in _WHILE_KINDS_CHANGE:
                    raise
    return gone


def _find(beside: Beside, path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = beside.api.get(path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    return found


def _remove_objects(beside: Beside, crd: dict[str, Any]) -> None:
    spec = crd["spec"]
    version = next(version["name"] for version in spec["versions"] if version["storage"])
    base, plural = f"/apis/{spec['group']}/{version}", spec["names"]["plural"]
    listed = _find(beside, f"{base}/{plural}")
    paths = [
        f"{base}/{f'namespaces/{namespace}/' if (namespace := meta.get('namespace')) else ''}{plural}/{meta['name']}"
        for meta in (item["metadata"] for item in (listed or {}).get("items", []))
    ]
    send_all(beside.api, (Call("DELETE", path, accept=(404,)) for path in paths))
    free = {"metadata": {"finalizers": None}}
    send_all(beside.api, (Call("PATCH", path, free, _MERGE, accept=(404,)) for path in paths))


def _apply_crds(beside: Beside) -> None:
    folders = module_files("sigs.k8s.io/karpenter", KARPENTER, _CRD_FOLDERS)
    named = [word for folder in folders for word in ("-f", folder)]
    beside.kubectl("apply", "--server-side", "--force-conflicts", *named)
    beside.kubectl("wait", "--for=condition=Established", "--timeout=60s", *(f"crd/{name}" for name in CRDS))


def _settings(beside: Beside, files: _Files) -> dict[str, str]:
    """Karpenter's environment: the same ports as long as it runs, others when it starts anew.

    It listens at all of the host's addresses and cannot be told otherwise, so its ports are picked, not fixed.
    """
    if beside.processes.running(ROLE) is not None and files.settings.exists():
        kept: dict[str, str] = json.loads(files.settings.read_text())
        return kept
    made = {
        "KUBECONFIG": str(beside.kubeconfig),
        "SYSTEM_NAMESPACE": "karpenter",
        "DISABLE_LEADER_ELECTION": "true",
        "INSTANCE_TYPES_FILE_PATH": str(files.types),
        "METRICS_PORT": str(pick_port("0.0.0.0")),
        "HEALTH_PROBE_PORT": str(pick_port("0.0.0.0")),
        "CLUSTER_NAME": "npc-fleet",
        "GOMAXPROCS": "2",
    }
    write_atomically(files.settings, json.dumps(made, indent=2))
    return made


def _wait_healthy(beside: Beside, port: int) -> None:
    log = beside.log(ROLE)

    def healthy() -> bool:
        beside.processes.check(ROLE, log=log)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    try:
        wait_for(f"Karpenter to be healthy; its log is {log}", healthy, seconds=_READY_SECONDS)
    except ClusterError as error:
        raise ClusterError(f"{error}\n{tail(log)}") from error


def node_pool(name: str, *, capacity: Sequence[str], taint: str = "") -> dict[str, Any]:
    """A plain NodePool over all instance types, for trying Karpenter itself: never consolidates, never expires.

    Without a taint (a key; NoSchedule) any pod that waits for room may get a fake node, and seem to run there.
    """
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": name},
        "spec": {
            "template": {
                "spec": {
                    "nodeClassRef": NODE_CLASS,
                    "expireAfter": "Never",
                    "taints": [{"key": taint, "effect": "NoSchedule"}] if taint else [],
                    "requirements": [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": list(capacity)}],
                },
            },
            "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "Never"},
        },
    }


def claims(beside: Beside) -> list[dict[str, Any]]:
    """Every NodeClaim: what Karpenter has ordered."""
    found: list[dict[str, Any]] = beside.api.get("/apis/karpenter.sh/v1/nodeclaims")["items"]
    return found


def wait_for_claims(beside: Beside, count: int, *, seconds: float = 60.0) -> list[dict[str, Any]]:
    """The NodeClaims as soon as at least ``count`` of them are Ready.

    :raises ClusterError: when they are not in time; with the end of Karpenter's log.
    """
    deadline = time.monotonic() + seconds
    while True:
        ready = [claim for claim in claims(beside) if _is_ready(claim)]
        if len(ready) >= count:
            return ready
        if time.monotonic() > deadline:
            log = beside.log(ROLE)
            raise ClusterError(
                f"{len(ready)} of {count} NodeClaims are Ready after {seconds:.0f} s; its log is {log}\n{tail(log)}"
            )
        time.sleep(0.1)


def _is_ready(claim: dict[str, Any]) -> bool:
    conditions = claim.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
