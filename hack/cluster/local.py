"""The driver ``local``: every component a process of this host, every node a containerd and a kubelet. Needs root.

``up`` makes the wanted state true from whatever is there: nothing, a healthy cluster, or the remains of one after a
crash, a reboot or Ctrl-C. Nothing is ever assumed to have survived; each part is checked and started again where it
is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hack.cluster import cgroups, karpenter, mounts, network, packages, remains, silence
from hack.cluster.addresses import Network, chosen_network, parse_network
from hack.cluster.beside import Beside
from hack.cluster.binaries import CONTROL_PLANE, NODE, binaries, binary
from hack.cluster.console import say, step
from hack.cluster.control_plane import CONTEXT, ROLES, ControlPlane
from hack.cluster.errors import ClusterError
from hack.cluster.files import locked, write_atomically
from hack.cluster.image_store import ImageStore, Loadable
from hack.cluster.info import ClusterInfo, PartStatus
from hack.cluster.kubeapi import ApiError
from hack.cluster.node import Node, containerd_role, is_ready, kubelet_role
from hack.cluster.node_config import parse_taint
from hack.cluster.paths import Layout, repository, state_dir
from hack.cluster.processes import ProcessTable, end_processes
from hack.cluster.scratch_image import busybox_image
from hack.cluster.state import (
    HOST_LOCK,
    ClusterState,
    NodeSpec,
    check_owner,
    claim_host,
    host_owner,
    load,
    release_host,
    save,
)

DEFAULT_NODES = (
    NodeSpec(
        "ondemand-1",
        1,
        {"karpenter.sh/capacity-type": "on-demand", "topology.kubernetes.io/zone": "zone-a"},
    ),
    NodeSpec("spot-1", 2, {"karpenter.sh/capacity-type": "spot", "topology.kubernetes.io/zone": "zone-b"}),
)


def unusable_because() -> str | None:
    """Why this driver cannot run here, None when it can."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    if os.geteuid() != 0:
        return "it needs root"
    return None


class LocalDriver:
    """One cluster on this host, described by its state folder."""

    name = "local"

    def __init__(self, root: Path | None = None) -> None:
        self._layout = Layout(root or host_owner() or state_dir())
        self._processes = ProcessTable(self._layout.pids, str(self._layout.root))

    # -- up ------------------------------------------------------------------------------------------------------

    def up(self, nodes: Sequence[NodeSpec] | None = None) -> ClusterInfo:
        """See :class:`hack.cluster.info.Driver`."""
        reason = unusable_because()
        if reason is not None:
            raise ClusterError(f"the local driver cannot be used: {reason}")
        with self._turn("up"):
            check_owner(self._layout)
            state = self._wanted(nodes)
            plan = parse_network(state.network)
            packages.ensure(packages.NODES, purpose="the local cluster")
            programs = binaries((*CONTROL_PLANE, *NODE, "kubectl"))
            if load(self._layout) is None:
                network.check_foreign_kubernetes()
            network.check_routes(plan)
            claim_host(self._layout)
            save(self._layout, state)
            self._end_strays(state)
            with step(f"starting the cluster in {self._layout.root}", usually="10 to 20 s, 1 s when it runs already"):
                self._start(state, plan, programs)
        say(f"nodes {', '.join(n.name for n in state.nodes)} are Ready; kubeconfig: {self._layout.kubeconfig}")
        return self._info(state)

    def _turn(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return locked(HOST_LOCK, doing=doing)

    def _wanted(self, nodes: Sequence[NodeSpec] | None) -> ClusterState:
        existing = load(self._layout)
        if existing is None:
            return ClusterState(
                driver=self.name,
                checkout=str(repository()),
                nodes=tuple(DEFAULT_NODES if nodes is None else nodes),
                context=CONTEXT,
                network=chosen_network().base,
            )
        self._say_whose(existing)
        if nodes is not None and tuple(nodes) != existing.nodes:
            raise ClusterError("a cluster runs already with other nodes; change them with 'node add' and 'node remove'")
        return existing

    def _say_whose(self, existing: ClusterState) -> None:
        """There is one cluster per host, so it may be another checkout's, or lie elsewhere than one was told."""
        if existing.checkout != str(repository()):
            say(f"this host's cluster was made by the checkout in {existing.checkout}")
        if self._layout.root != state_dir():
            say(f"this host's cluster lies in {self._layout.root}, not in {state_dir()}")

    def _end_strays(self, state: ClusterState) -> None:
        """End what is ours by its mark but on no record: left by an interrupted start, or by nodes that are gone."""
        known = {record.pid for role in self._processes.roles() if (record := self._processes.running(role))}
        sockets = {str(self._layout.node(n.name).containerd_socket).encode() for n in state.nodes}
        strays = []
        for pid in self._processes.marked():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if pid not in known and words and not sockets.intersection(words) and _is_daemon(words):
                    strays.append(pid)
        if strays:
            say(f"ending {len(strays)} lost processes of an earlier run")
            end_processes(strays, grace_seconds=2)

    def _control_plane(self, plan: Network, programs: dict[str, Path] | None = None) -> ControlPlane:
        return ControlPlane(self._layout, plan, programs or {}, self._processes)

    def _node(self, spec: NodeSpec, plan: Network) -> Node:
        return Node(spec, self._layout, plan, binary("kubelet"), busybox_image().name, self._processes)

    def _start(self, state: ClusterState, plan: Network, programs: dict[str, Path]) -> None:
        self._layout.root.chmod(0o711)
        network.set_up_host(plan, self._layout.root / "sysctls.json")
        silence.lift()
        control = self._control_plane(plan, programs)
        control.check_ports()
        nodes = [self._node(spec, plan) for spec in state.nodes]
        with ThreadPoolExecutor(max_workers=len(nodes) + 1) as pool:
            # Container runtimes need no API server: they start meanwhile.
            runtimes = [pool.submit(self._prepare_runtime, node) for node in nodes]
            control.write_admin_kubeconfig()
            control.start_api()
            control.start_rest(state.nodes[0].name if state.nodes else "none")
            for runtime in runtimes:
                runtime.result()
            for node in nodes:
                node.start_kubelet()
            api = control.api()
            for ready in [pool.submit(node.wait_ready, api) for node in nodes]:
                ready.result()
        for role in ROLES:
            self._processes.check(role, log=self._layout.log(role))
        karpenter.repair(self._beside(plan))

    def _prepare_runtime(self, node: Node) -> None:
        node.start_containerd()
        node.import_image(busybox_image())

    # -- down ----------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """See :class:`hack.cluster.info.Driver`."""
        if os.geteuid() != 0:
            raise ClusterError("ending the local cluster needs root")
        with self._turn("down"):
            if not self._layout.root.exists() and host_owner() is None:
                say(f"no cluster in {self._layout.root}")
            state = self._readable_state()
            if state is not None:
                self._say_whose(state)
            plan = parse_network(state.network) if state else chosen_network()
            with step(f"removing the cluster in {self._layout.root}", usually="2 to 5 s"):
                self._end_everything()
                nodes = self._layout.root / "nodes"
                if nodes.is_dir():
                    for folder in nodes.iterdir():
                        remains.remove_node_files(self._layout.node(folder.name))
                mounts.unmount_below(self._layout.root)
                cgroups.remove()
                silence.lift()
                network.remove_host(plan, self._layout.root / "sysctls.json")
                if self._layout.root.exists():
                    shutil.rmtree(self._layout.root)
                remains.remove_empty_folders()
                release_host(self._layout)

    def _readable_state(self) -> ClusterState | None:
        try:
            return load(self._layout)
        except ClusterError:
            return None  # about to be deleted

    def _end_everything(self) -> None:
        """Kubelets first, so that none restarts what is being ended; then everything else of ours."""
        self._processes.stop([r for r in self._processes.roles() if r.endswith("/kubelet")], grace_seconds=3)
        marked = self._processes.marked()
        shims = remains.shims(marked)
        end_processes([*marked, *cgroups.processes()], grace_seconds=0)
        remains.remove_shim_sockets(shims)
        self._processes.stop(self._processes.roles(), grace_seconds=0)

    # -- what there is -------------------------------------------------------------------------------------------

    def state(self) -> ClusterState:
        """:raises ClusterError: when there is no cluster."""
        state = load(self._layout)
        if state is None:
            raise ClusterError(f"no cluster in {self._layout.root}; start one with: python3 -m hack.cluster up")
        return state

    def info(self) -> ClusterInfo | None:
        """See :class:`hack.cluster.info.Driver`."""
        state = load(self._layout)
        return None if state is None else self._info(state)

    def _info(self, state: ClusterState) -> ClusterInfo:
        return ClusterInfo(
            driver=self.name,
            kubeconfig=self._layout.kubeconfig,
            context=state.context,
            state_dir=self._layout.root,
            nodes=tuple(node.name for node in state.nodes),
            audit_log=self._layout.audit_log,
        )

    def status(self) -> list[PartStatus]:
        """See :class:`hack.cluster.info.Driver`."""
        state = self.state()
        parts = [self._process_status(role) for role in (*ROLES, *self._guests())]
        for spec in state.nodes:
            parts += [self._process_status(role(spec.name)) for role in (containerd_role, kubelet_role)]
        api = self._control_plane(parse_network(state.network)).api(timeout=10.0)
        parts.append(PartStatus("API server answers", api.answers(), parse_network(state.network).server))
        for spec in state.nodes:
            try:
                ready = is_ready(api.get(f"/api/v1/nodes/{spec.name}"))
                parts.append(PartStatus(f"node {spec.name}", ready, "Ready" if ready else "NotReady"))
            except ApiError as error:
                parts.append(PartStatus(f"node {spec.name}", False, str(error)))
        return parts

    def _process_status(self, role: str) -> PartStatus:
        record = self._processes.running(role)
        detail = f"pid {record.pid}" if record else f"not running; log: {self._layout.log(role)}"
        return PartStatus(role, record is not None, detail)

    def logs(self) -> dict[str, Path]:
        """See :class:`hack.cluster.info.Driver`."""
        state = self.state()
        roles = [
            *ROLES,
            *self._guests(),
            *(role(n.name) for n in state.nodes for role in (containerd_role, kubelet_role)),
        ]
        return {role: self._layout.log(role) for role in roles} | {"audit": self._layout.audit_log}

    # -- nodes and images ----------------------------------------------------------------------------------------

    def load_image(self, image: Loadable) -> None:
        """See :class:`hack.cluster.info.Driver`."""
        with self._turn("load-image"):
            state = self.state()
            plan = parse_network(state.network)
            with ThreadPoolExecutor(max_workers=max(1, len(state.nodes))) as pool:
                work = [pool.submit(self._node(spec, plan).import_image, image) for spec in state.nodes]
                for done in work:
                    done.result()
            # Nodes that are added later get what has been loaded so far, as long as the cache holds it.
            names = sorted({*self._loaded(), image.name})
            write_atomically(self._layout.root / "images.json", json.dumps(names))

    def _loaded(self) -> list[str]:
        try:
            names: list[str] = json.loads((self._layout.root / "images.json").read_text())
        except (FileNotFoundError, ValueError):
            return []
        return names

    def add_node(self, name: str, labels: dict[str, str], taints: Sequence[str]) -> None:
        """See :class:`hack.cluster.info.Driver`; adding a node that runs already repairs it."""
        check_name(name)
        for taint in taints:
            parse_taint(taint)
        with self._turn("node add"):
            state = self.state()
            plan = parse_network(state.network)
            index = next((n.index for n in state.nodes if n.name == name), None) or state.free_index()
            spec = NodeSpec(name, index, dict(labels), tuple(taints))
            save(self._layout, state.with_node(spec))
            node = self._node(spec, plan)
            with step(f"starting node {name}", usually="5 s"):
                silence.lift([index])
                self._prepare_runtime(node)
                for stored in map(ImageStore().get, self._loaded()):
                    if stored is not None:
                        node.import_image(stored)
                node.start_kubelet()
                node.wait_ready(self._control_plane(plan).api())

    def remove_node(self, name: str) -> None:
        """See :class:`hack.cluster.info.Driver`; pods are deleted without waiting for their grace periods."""
        with self._turn("node remove"):
            state = self.state()
            plan = parse_network(state.network)
            node = self._node(state.node(name), plan)
            with step(f"removing node {name}", usually="2 to 5 s"):
                silence.lift([node.spec.index])
                api = self._control_plane(plan).api()
                api.delete(f"/api/v1/nodes/{name}")
                node.remove()
                # The kubelet may have written its node once more between the two.
                api.delete(f"/api/v1/nodes/{name}")
                for pod in api.get(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{name}")["items"]:
                    meta = pod["metadata"]
                    api.delete(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}?gracePeriodSeconds=0")
            save(self._layout, state.without_node(name))

    # -- for tests of failure ------------------------------------------------------------------------------------

    def kill_node(self, name: str) -> None:
        """End a node's kubelet, runtime and containers with SIGKILL, as a machine that vanishes; ``up`` repairs it."""
        state = self.state()
        self._node(state.node(name), parse_network(state.network)).kill()

    def beside(self) -> Beside:
        """What a program that runs beside the control plane gets to know.

        :raises ClusterError: when there is no cluster.
        """
        return self._beside(parse_network(self.state().network))

    def _beside(self, plan: Network) -> Beside:
        return Beside(
            kubeconfig=self._layout.kubeconfig,
            api=self._control_plane(plan).api(),
            folder=self._layout.config,
            logs=self._layout.logs,
            processes=self._processes,
        )

    def _guests(self) -> tuple[str, ...]:
        """What runs beside the control plane because somebody asked for it."""
        return karpenter.ROLES if karpenter.wanted(self._layout.config) else ()

    def on_process(self, role: str, act: Callable[[ProcessTable, str], None]) -> None:
        """Let ``act`` do something to one process."""
        act(self._processes, role)


def check_name(name: str) -> None:
    """:raises ClusterError: when this cannot be a node: its name becomes a DNS label, a folder and a control group."""
    if len(name) > 32 or not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name):
        raise ClusterError(f"{name!r} cannot be a node's name: use a-z, 0-9 and inner dashes, 32 characters at most")


def _is_daemon(words: list[bytes]) -> bool:
    """Whether a command line is one of the programs we start (a shell opened beside them is not)."""
    program = words[0].decode("utf-8", "replace").rsplit("/", 1)[-1]
    ours = {*CONTROL_PLANE, *NODE, "containerd", *karpenter.PROGRAMS}
    return program in ours or program.startswith("containerd-shim")
