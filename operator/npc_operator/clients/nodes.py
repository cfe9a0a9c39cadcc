"""Watches the cluster's nodes for as long as this process leads: what is said of a machine's end is on its Node first.

A watch of its own beside that of the other kinds. Nodes lie in no namespace, so whoever may look at some namespaces
only may not see them, and that must not end the watch of everything else. And a Node is large and changes often (its
images, its heartbeats) while a handful of its fields matter: the rest is left out at the door.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from npc_operator.clients.resources import Resource, find_resource
from npc_operator.domain.facts import NodeFact
from npc_operator.domain.interruption.sources.node import read_node
from npc_operator.domain.interruption.visibility import NODES, NodesFact
from npc_operator.loop.store import Store
from npc_operator.ports import Manifest, PortError

logger = logging.getLogger(__name__)

PAGE = 100
"""Nodes of a page; with the images they hold they have 20 kB each."""
RETRY_SECONDS = (0.2, 1.0, 5.0, 15.0)
"""Pauses after failures; the last repeats."""
SOUND_SECONDS = 30.0
"""A watch that held for so long, or brought news, was none of a row of failures."""
FORBIDDEN_SECONDS = 300.0
"""After a failure that only a change of rights can help."""


class NodeSource(Protocol):
    """What KubeClient has of it."""

    async def request(self, verb: str, resource: Resource, path: str, *, params: Mapping[str, str]) -> Any:
        """One request, parsed. Raises PortError."""
        ...

    def watch(
        self, api_version: str, kind: str, *, namespace: str, name: str, since: str
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """(type, object) of every change after `since`. Raises PortError (reason Expired when it is too old)."""
        ...


class NodeWatch:
    """Runs during a leadership. `strange` is called with what a sender says that is not understood, once per node and
    word."""

    def __init__(
        self,
        *,
        source: NodeSource,
        store: Store,
        strange: Callable[[str], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._store = store
        self._strange = strange
        self._jitter = jitter
        self._said = ""
        """The reason of what hinders the watch, as it was logged last; empty since the last watch that was sound."""

    async def run(self) -> None:
        """Watches until cancelled, and forgets all nodes then: what nobody watches may change, and a later leadership
        of this process would end healthy pods for a taint that was taken off meanwhile."""
        try:
            await self._follow()
        finally:
            for name in list(self._store.list(NodeFact, "")):
                self._store.drop(NodeFact, "", name)

    async def _follow(self) -> None:
        since, failures, time = "", 0, asyncio.get_running_loop().time
        self._said = ""
        while True:
            began = math.inf
            try:
                if not since:
                    since = await self._list()
                    self._store.mark_synced(NodeFact)
                    self._store.put(NodesFact, "", NODES, NodesFact(hidden=False))
                # A list that succeeds is no success yet: what comes of it may be too old each time.
                began = time()
                async for kind, node in self._source.watch("v1", "Node", namespace="", name="", since=since):
                    self._learn(kind, node)
                    since = str(node["metadata"]["resourceVersion"])
                    failures, self._said = 0, ""
                if time() >= began + SOUND_SECONDS:
                    failures, self._said = 0, ""
                pause = _pause(failures)  # the server ends every watch after a while
            except PortError as error:
                if time() >= began + SOUND_SECONDS:
                    failures, self._said = 0, ""
                if error.reason == "Expired":
                    since, pause = "", _pause(failures)
                elif error.reason == "Forbidden":
                    # Once it is granted again a list says so: a quiet watch would not.
                    since, pause = "", self._give_up(error)
                else:
                    self._say(error.reason, "nodes cannot be watched: %s", error)
                    pause = _pause(failures)
            except Exception:
                logger.exception("a node could not be understood, looking at all of them again")
                since, pause = "", RETRY_SECONDS[-1]
            failures += 1
            await asyncio.sleep(pause * (0.8 + 0.2 * self._jitter()))

    def _give_up(self, error: PortError) -> float:
        """Until somebody grants it; returns how long to wait."""
        self._say(
            error.reason,
            "the operator may not see nodes, so it hears of their end from pods and agents alone;"
            " it needs a ClusterRole with get, list and watch of nodes (docs/spot.md): %s",
            error,
        )
        # Nothing will ever be heard from there: what was heard before must not be waited for.
        self._store.mark_synced(NodeFact)
        self._store.put(NodesFact, "", NODES, NodesFact(hidden=True))
        return FORBIDDEN_SECONDS

    def _say(self, reason: str, text: str, error: PortError) -> None:
        """What hinders the watch, once."""
        if reason != self._said:
            self._said = reason
            logger.warning(text, error)

    async def _list(self) -> str:
        """All nodes, page by page; returns from which version on to watch."""
        resource = find_resource("v1", "Node")
        gone = set(self._store.list(NodeFact, ""))
        params = {"limit": str(PAGE)}
        while True:
            page = await self._source.request("list", resource, resource.path(), params=params)
            for node in page.get("items") or ():
                gone.discard(self._learn("ADDED", node))
            following = page["metadata"].get("continue")
            if not following:
                break
            params["continue"] = following
            await asyncio.sleep(0)
        for name in gone:
            self._store.drop(NodeFact, "", name)
        return str(page["metadata"].get("resourceVersion") or "")

    def _learn(self, kind: str, node: Manifest) -> str:
        fact = read_node(node)
        version = int(node["metadata"]["resourceVersion"])
        if kind == "DELETED":
            self._store.drop(NodeFact, "", fact.name, version=version)
            return fact.name
        known = self._store.get(NodeFact, "", fact.name)
        for word in fact.strange:
            if known is None or word not in known.strange:
                self._strange(word)
        self._store.put(NodeFact, "", fact.name, fact, version=version)
        return fact.name


def _pause(failures: int) -> float:
    return RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
