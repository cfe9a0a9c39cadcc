"""One engine pod together with the last word of its agent, and what follows from the two.

Silence is never taken as bad news: a pod whose kubelet calls it ready counts although its agent is not heard, with
unknown residency.
"""

from __future__ import annotations

from dataclasses import dataclass

from npc_operator.domain.facts import AgentFact, Pod
from npc_operator.domain.holdings import Held
from npc_runtime.wire import AdapterPhase, EngineState

OVER = frozenset({"Succeeded", "Failed"})
"""Phases of pods that will never run again."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A pod, and its agent's last word if there is one about this very pod."""

    pod: Pod
    agent: AgentFact | None
    unrouted: bool = False
    """Its node goes away, and no new line may go there."""
    doubted: frozenset[str] = frozenset()
    """Served names that it was told to let go since it last spoke: whatever it says, they are not proven."""

    def alive(self) -> bool:
        """Whether the pod is here to stay: not being deleted, not over."""
        return not self.pod.deleting and self.pod.phase not in OVER

    def counts(self) -> bool:
        """Whether the engine is ready as far as is known, so that it should have every adapter of its tier.

        An agent that stopped talking on a pod that kubelet calls unready is taken at kubelet's word: the node is
        probably gone.
        """
        if not self.alive() or self.unrouted:
            return False
        if self.agent is None:
            return self.pod.ready
        if self.agent.draining or self.agent.engine.state is not EngineState.READY:
            return False
        return self.agent.reachable or self.pod.ready

    def routable(self) -> bool:
        """Whether the gateways may be offered this pod; where residency is unknown they ask its agent themselves."""
        return bool(self.pod.ip) and self.counts()

    def report(self, served_name: str) -> Held | None:
        return None if self.agent is None else self.agent.adapters.entries.get(served_name)

    def proven(self, served_name: str) -> bool:
        """Whether the present engine process has answered the probe under this name."""
        report = self.report(served_name)
        return (
            report is not None
            and report.phase is AdapterPhase.RESIDENT
            and self.agent is not None
            and self.agent.engine.state is EngineState.READY
            and served_name not in self.doubted
        )

    def resident(self) -> frozenset[str] | None:
        """All served names that the present engine process has proven; None where the agent was not heard."""
        if self.agent is None:
            return None
        return self.agent.resident() if self.agent.engine.state is EngineState.READY else frozenset()

    def ready_since(self) -> float:
        """Unix seconds since when the engine is ready; 0 if unknown."""
        return 0.0 if self.agent is None else self.agent.engine.since_ms / 1000


def build_engine(pod: Pod, agent: AgentFact | None, *, unrouted: bool = False) -> Engine:
    """Pair a pod with its agent's word, unless that speaks of an earlier pod of the same name."""
    return Engine(pod, agent if agent is not None and agent.pod_uid == pod.uid else None, unrouted)
