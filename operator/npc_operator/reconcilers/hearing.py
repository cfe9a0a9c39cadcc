"""What is said of a pod now, by everybody who says something, and since when this leader has heard it.

Senders say what is, not when it began; the first time that this leader heard it is what clouds' notices are measured
from. Whoever leads next begins to hear anew, and goes on with the times that are written at the pods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import NodeFact, Pod
from npc_operator.domain.interruption.notices import HELD_SECONDS, Ignored, Notice, merge
from npc_operator.domain.interruption.record import Record
from npc_operator.domain.interruption.sources import metadata
from npc_operator.domain.interruption.sources.kubernetes import parse_pod
from npc_operator.domain.interruption.visibility import NODES, NodesFact
from npc_operator.loop.store import Store
from npc_runtime.wire import InterruptionReport

MAX_HELD = 10_000
"""Machines of which it is remembered what queues said: a bound, and far above any fleet."""
SILENT_SECONDS = 3.0
"""So long an agent is asked in vain before its pod is no help to others: a connection that breaks is no news."""
ENOUGH_MACHINES = 256
"""Machines whose words are remembered before it is looked which of them are gone."""


@dataclass(frozen=True, slots=True)
class _Words:
    """One node's notices, with the times they were first heard."""

    fact: NodeFact
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class _Report:
    report: InterruptionReport
    notice: Notice | None


@dataclass(frozen=True, slots=True)
class _Held:
    notice: Notice
    namespaces: frozenset[str] | None


class Hearing:
    """Lives as long as one leadership."""

    def __init__(self, store: Store, *, strange: Callable[[str], None]) -> None:
        """`strange` is told `sender/reason` where an agent says something that this version does not understand; the
        words of nodes are counted where they are read."""
        self._store = store
        self._strange = strange
        self._nodes: dict[str, _Words] = {}
        self._enough = ENOUGH_MACHINES
        self._agents: dict[str, _Report] = {}
        """By pod uid."""
        self._pods: dict[str, Notice] = {}
        """By uid: those that are being deleted, or will be."""
        self._silent: dict[tuple[str, str], dict[str, float]] = {}
        """By tier and pod uid: since when an agent was found not to be heard any more."""
        self._queues: dict[str, list[_Held]] = {}
        """By EC2's id of the machine."""

    def node(self, pod: Pod) -> NodeFact | None:
        """The machine of a pod; None: it has none, or none that is known."""
        return self._store.get(NodeFact, "", pod.node) if pod.node else None

    def is_off_the_cluster(self, pod: Pod) -> bool:
        """Whether a pod's machine has no Node, though nodes may be seen: whoever takes a machine away takes its Node
        away, too, some time before Kubernetes ends the pods. That silence takes nothing back."""
        nodes = self._store.get(NodesFact, "", NODES)
        return bool(pod.node) and self.node(pod) is None and not (nodes is not None and nodes.hidden)

    def about(self, engine: Engine, record: Record | None, now: float) -> tuple[Notice, ...]:
        """Everything that is said of a pod or its node. A deletion counts where something was said before, or whoever
        deletes says that it is a disruption; any other is nobody's interruption, and our own eviction is no news."""
        pod, node = engine.pod, self.node(engine.pod)
        found = [*self._of_node(pod.node, node, now), *self._of_agent(engine, node, now)]
        if node is not None and node.instance is not None:
            found += self._of_queues(node.instance, pod.namespace, now)
        ends = pod.disrupted or (pod.deleting and (record is not None or bool(found)))
        ours = record is not None and record.evicted is not None
        said = self._of_pod(pod, now) if ends and not ours else None
        if said is None:
            self._pods.pop(pod.uid, None)
            return tuple(found)
        return (*found, said)

    def hold(self, notice: Notice, namespaces: frozenset[str] | None) -> None:
        """A queue said it, once: it counts until it is out of date."""
        if notice.instance is None:
            return
        held = self._queues.setdefault(notice.instance, [])
        held[:] = [one for one in held if _counts(one.notice, notice.seen)]
        for place, one in enumerate(held):
            if one.notice.key == notice.key and one.namespaces == namespaces:
                # Said again: the first time counts, or the end would move away each time. Towards us it may move.
                (sooner,) = merge((one.notice, notice))
                held[place] = replace(one, notice=sooner)
                return
        held.append(_Held(notice, namespaces))
        if len(self._queues) > MAX_HELD:
            self._make_room(notice.seen)

    def queued(self, pod: Pod, now: float) -> list[Notice]:
        """What queues said of the machine of a pod, as far as it is not out of date."""
        node = self.node(pod)
        return [] if node is None or node.instance is None else self._of_queues(node.instance, pod.namespace, now)

    def silent(self, tier: tuple[str, str], engines: Iterable[Engine], now: float) -> set[str]:
        """Uids of the pods of a tier, by namespace and name, whose agents are not heard any more, and were not for a
        while. Asked without engines, it is as if all had been heard."""
        known = self._silent.pop(tier, {})
        since = {
            engine.pod.uid: min(now, known.get(engine.pod.uid, now))
            for engine in engines
            if engine.agent is not None and not engine.agent.reachable
        }
        if since:
            self._silent[tier] = since
        return {uid for uid, at in since.items() if now >= at + SILENT_SECONDS}

    def forget_tier(self, tier: tuple[str, str]) -> None:
        """It is gone."""
        self._silent.pop(tier, None)

    def forget(self, uids: Iterable[str]) -> None:
        """These pods are gone."""
        for uid in uids:
            self._pods.pop(uid, None)
            self._agents.pop(uid, None)

    def _of_node(self, name: str, fact: NodeFact | None, now: float) -> tuple[Notice, ...]:
        known = self._nodes.get(name)
        if fact is None or not fact.notices:
            if known is not None:
                del self._nodes[name]
            return ()
        if known is not None and known.fact is fact:
            return known.notices
        first = {} if known is None else {(one.source, one.key): one.seen for one in known.notices}
        heard = tuple(replace(one, seen=first.get((one.source, one.key), now)) for one in fact.notices)
        self._nodes[name] = _Words(fact, heard)
        if len(self._nodes) > self._enough:
            self._forget_machines()
        return heard

    def _forget_machines(self) -> None:
        """Of machines that are there and still say so, the words are kept: most are asked about for the last time
        while they still say it."""
        for name in list(self._nodes):
            known = self._store.get(NodeFact, "", name)
            if known is None or not known.notices:
                del self._nodes[name]
        self._enough = max(ENOUGH_MACHINES, 2 * len(self._nodes))

    def _of_agent(self, engine: Engine, node: NodeFact | None, now: float) -> tuple[Notice, ...]:
        agent, uid = engine.agent, engine.pod.uid
        if agent is None or agent.interruption is None:
            self._agents.pop(uid, None)
            return ()
        known = self._agents.get(uid)
        if known is None or known.report != agent.interruption:
            # Another end of the same is no other notice: it is measured from the first word.
            same = known is not None and known.report.kind == agent.interruption.kind
            said = metadata.parse_report(
                agent.interruption,
                node=engine.pod.node or None,
                instance=None if node is None else node.instance,
                seen=known.notice.seen if same and known is not None and known.notice is not None else now,
            )
            if isinstance(said, Ignored) and said.reason == metadata.UNKNOWN_KIND:
                self._strange(f"{said.source}/{said.reason}")
            known = self._agents[uid] = _Report(agent.interruption, said if isinstance(said, Notice) else None)
        return () if known.notice is None else (known.notice,)

    def _of_pod(self, pod: Pod, now: float) -> Notice | None:
        known = self._pods.get(pod.uid)
        said = parse_pod(_manifest(pod), seen=now if known is None else known.seen)
        if not isinstance(said, Notice):
            return None
        self._pods[pod.uid] = said
        return said

    def _make_room(self, now: float) -> None:
        """What is out of date goes first: where rules speak of a whole account, most of it is of machines that nobody
        here asks about."""
        for instance, held in list(self._queues.items()):
            if not any(_counts(one.notice, now) for one in held):
                del self._queues[instance]
        # Not again at the next word: a wave of them would look through all of this each time.
        while len(self._queues) > MAX_HELD * 9 // 10:
            del self._queues[next(iter(self._queues))]

    def _of_queues(self, instance: str, namespace: str, now: float) -> list[Notice]:
        held = self._queues.get(instance)
        if held is None:
            return []
        kept = [one for one in held if _counts(one.notice, now)]
        if kept:
            self._queues[instance] = kept
        else:
            del self._queues[instance]
        return [one.notice for one in kept if one.namespaces is None or namespace in one.namespaces]


def _counts(notice: Notice, now: float) -> bool:
    return (notice.held_until or notice.seen + HELD_SECONDS) > now


def _manifest(pod: Pod) -> dict[str, object]:
    """What `parse_pod` reads of a Pod."""
    condition = {"type": "DisruptionTarget", "status": "True" if pod.disrupted else "False"}
    return {
        "metadata": {"uid": pod.uid, "deletionTimestamp": pod.ends or None},
        "spec": {"nodeName": pod.node},
        "status": {"conditions": [condition]},
    }
