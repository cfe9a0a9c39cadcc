"""The driver ``context``: a cluster that somebody else made, named by its kubeconfig context. Nothing of it is changed.

Chosen only by name (``--driver context --context NAME``), because a tool must never pick a cluster by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hack.cluster.binaries import binary
from hack.cluster.console import run_quiet, say
from hack.cluster.errors import ClusterError
from hack.cluster.files import write_atomically
from hack.cluster.image_store import Loadable
from hack.cluster.info import ClusterInfo, PartStatus
from hack.cluster.node import is_ready
from hack.cluster.paths import Layout, repository, state_dir
from hack.cluster.state import ClusterState, NodeSpec, load, save


class ContextDriver:
    """A named context; its minified kubeconfig is copied, so a later switch of contexts changes nothing."""

    name = "context"

    def __init__(self, context: str = "") -> None:
        self._layout = Layout(state_dir())
        self._context = context

    def _kubectl(self, *arguments: str) -> str:
        return run_quiet([binary("kubectl"), f"--kubeconfig={self._layout.kubeconfig}", *arguments])

    def up(self, nodes: Sequence[NodeSpec] | None = None) -> ClusterInfo:
        """See :class:`hack.cluster.info.Driver`."""
        existing = load(self._layout)
        context = self._context or (existing.context if existing else "")
        if not context:
            raise ClusterError("name the cluster: --driver context --context NAME (kubectl config get-contexts)")
        if nodes is not None:
            raise ClusterError("the nodes of a cluster that is not ours are not ours to choose")
        config = run_quiet(
            [binary("kubectl"), "config", "view", "--minify", "--flatten", f"--context={context}"],
            what=f"reading context {context}",
        )
        write_atomically(self._layout.kubeconfig, config, mode=0o600)
        self._kubectl("get", "--raw", "/readyz")
        save(self._layout, ClusterState(self.name, str(repository()), (), context, ""))
        say(f"using context {context}")
        return self._info(context)

    def down(self) -> None:
        """See :class:`hack.cluster.info.Driver`: forgets the context, the cluster stays as it is."""
        self._layout.kubeconfig.unlink(missing_ok=True)
        self._layout.state_file.unlink(missing_ok=True)

    def _nodes(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self._kubectl("get", "nodes", "--output=json"))["items"]
        return items

    def _info(self, context: str) -> ClusterInfo:
        names = tuple(node["metadata"]["name"] for node in self._nodes())
        return ClusterInfo(self.name, self._layout.kubeconfig, context, self._layout.root, names, None)

    def info(self) -> ClusterInfo | None:
        """See :class:`hack.cluster.info.Driver`."""
        state = load(self._layout)
        return None if state is None else self._info(state.context)

    def status(self) -> list[PartStatus]:
        """See :class:`hack.cluster.info.Driver`."""
        return [
            PartStatus(f"node {node['metadata']['name']}", ready, "Ready" if ready else "NotReady")
            for node in self._nodes()
            for ready in (is_ready(node),)
        ]

    def load_image(self, image: Loadable) -> None:
        """See :class:`hack.cluster.info.Driver`.

        :raises ClusterError: always: such a cluster pulls from its registry.
        """
        raise ClusterError(f"nodes of a named context pull their images: push {image.name} to a registry they use")

    def add_node(self, name: str, labels: dict[str, str], taints: Sequence[str]) -> None:
        """:raises ClusterError: always."""
        raise ClusterError("the nodes of a cluster that is not ours are not ours to add")

    def remove_node(self, name: str) -> None:
        """:raises ClusterError: always."""
        raise ClusterError("the nodes of a cluster that is not ours are not ours to remove")

    def logs(self) -> dict[str, Path]:
        """See :class:`hack.cluster.info.Driver`: there are none on this host."""
        return {}
