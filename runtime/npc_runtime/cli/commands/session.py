"""What every command gets: what was asked, a cluster once it is needed, a console and a clock."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import paths
from .. import vocabulary as v
from ..console import Console
from ..facts import World
from ..observe import observe
from ..ports import Cluster, NotFound, Object


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the tool."""

    given: argparse.Namespace
    connect: Callable[[], Cluster]
    console: Console
    now: Callable[[], float]
    sleep: Callable[[float], None]

    def option(self, name: str) -> Any:
        return getattr(self.given, name)

    def namespace(self, cluster: Cluster) -> str:
        """The one namespace the command is about."""
        return str(self.given.namespace or cluster.namespace)

    def world(self, cluster: Cluster) -> World:
        """One look at that namespace."""
        return observe(cluster, self.namespace(cluster), operator_namespace=self.given.operator_namespace)

    def region(self, cluster: Cluster, namespace: str) -> Object:
        """The region that holds the namespace, as the API server has it. Raises NotFound."""
        found = sorted(
            cluster.list(paths.own(v.KIND_REGION, namespace)),
            key=lambda one: (
                bool(one["metadata"].get("deletionTimestamp")),
                one["metadata"].get("creationTimestamp", ""),
                one["metadata"]["name"],
            ),
        )
        if not found:
            raise NotFound(f"there is no NPCRegion in namespace {namespace}", step="kubectl get npcr -A")
        return found[0]
