"""One variant's rollout as a story: facts are set, time passes, and each look is decided from the last status alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from npc_operator.api.archetypeadapter import HistoryEntry, Revision, RolloutStatus, VariantStatus
from npc_operator.api.rollouts import Rollout
from npc_operator.domain.analysis.evidence import Evidence, Side, Verdict
from npc_operator.domain.conditions import Finding, rfc3339
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import GateFact
from npc_operator.domain.rollout import Decision, RolloutFacts, decide_rollout
from npc_runtime.wire import AdapterPhase
from tests.support.builders import agent_fact, digest, pod_fact, report

NOW = 1_790_000_000.0
OLD, NEW, THIRD = digest("old"), digest("new"), digest("third")
BAD = Verdict(Finding("CandidateErrors", "20 of 60 answers were bad"), enough=True, numbers="20 of 60, stable 1 of 500")
ENOUGH = Verdict(None, enough=True, numbers="0 of 60, stable 1 of 500")
TOO_FEW = Verdict(None, enough=False, numbers="0 of 3")
SIXTY = Evidence(candidate=Side(requests=60))


def revision(value: str) -> Revision:
    return Revision(digest=value, uri=f"s3://adapters/{value[7:12]}", rank=8)


def stable_since_ever(value: str = OLD, *more: str) -> VariantStatus:
    """A voice that serves `value`; `more` was stable before it, newest first."""
    history = tuple(
        HistoryEntry(time=rfc3339(NOW - 3600), digest=one, uri=revision(one).uri, reason="Moved")
        for one in (value, *more)
    )
    return VariantStatus(tier="gold", serving="Stable", stable=revision(value), history=history)


@dataclass
class Story:
    """What is observed, and the status that the last look left. Everything may be set between two looks."""

    wanted: str = NEW
    status: VariantStatus | None = field(default_factory=stable_since_ever)
    now: float = NOW
    spec: dict[str, Any] = field(default_factory=dict)
    pods: tuple[str, ...] = ("a", "b")
    lacking: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Digests that a pod has not proven."""
    phases: dict[tuple[str, str], tuple[AdapterPhase, str]] = field(default_factory=dict)
    """What a pod says of a digest instead of Resident: phase and reason."""
    mute: tuple[str, ...] = ()
    """Pods that prove no identity again."""
    unheard: tuple[str, ...] = ()
    """Pods whose agents cannot be reached: their last word stands."""
    ready_since: dict[str, float] = field(default_factory=dict)
    """Since when a pod's engine is ready, if that matters."""
    verdict: Verdict = ENOUGH
    evidence: Evidence = SIXTY
    facts: dict[str, Any] = field(default_factory=dict)
    """Anything else of RolloutFacts."""
    made: list[HistoryEntry] = field(default_factory=list)
    """Every decision until now, oldest first."""

    def engines(self) -> list[Engine]:
        check = self.status.rollout.check if self.status is not None and self.status.rollout is not None else 0
        return [self._engine(name, 0 if name in self.mute else check) for name in self.pods]

    def _engine(self, name: str, check: int) -> Engine:
        held = []
        for value in dict.fromkeys((OLD, self.wanted, NEW, THIRD)):
            if value in self.lacking.get(name, ()):
                continue
            phase, reason = self.phases.get((name, value), (AdapterPhase.RESIDENT, ""))
            held.append(report("vampire", value, phase, reason=reason, identity_checked=check))
        pod = pod_fact(name)
        since = self.ready_since.get(name, 0.0)
        return Engine(pod, agent_fact(pod, held, reachable=name not in self.unheard, since=since))

    def look(self) -> Decision:
        """Decide once; the status is all that is kept."""
        facts = RolloutFacts(
            archetype="vampire",
            tier="gold",
            wanted=revision(self.wanted),
            status=self.status,
            engines=self.engines(),
            rollout=Rollout.model_validate(self.spec),
            verdict=self.verdict,
            evidence=self.evidence,
            **self.facts,
        )
        decision = decide_rollout(facts, self.now)
        self.status = decision.status
        self.made.extend(decision.made)
        return decision

    def look_until(self, phase: str) -> Decision:
        """Look, a few times at most, until the rollout is in a phase."""
        for _ in range(4):
            decision = self.look()
            if self.rollout.phase == phase:
                return decision
        raise AssertionError(f"it is {self.rollout.phase} and not {phase}")

    def later(self, seconds: float) -> Decision:
        """Time passes, then one look."""
        self.now += seconds
        return self.look()

    def watch(self, percent: int) -> Decision:
        """Go on, with all that is needed, until the candidate has a share."""
        for _ in range(40):
            decision = self.look()
            if self.rollout.phase == "Watching" and self.rollout.percent == percent:
                return decision
            if self.rollout.phase == "Watching":
                self.now += self.spec.get("stepSeconds", 60)
        raise AssertionError(f"it never has {percent}%: {self.status}")

    @property
    def rollout(self) -> RolloutStatus:
        assert self.status is not None
        assert self.status.rollout is not None, self.status
        return self.status.rollout

    @property
    def known(self) -> VariantStatus:
        assert self.status is not None
        return self.status

    def reasons(self) -> list[str]:
        return [entry.reason for entry in self.made]

    def gate(self, state: Any, message: str = "") -> None:
        self.facts["gate"] = GateFact(state, message)

    def copy(self) -> Story:
        return replace(
            self,
            spec=dict(self.spec),
            lacking=dict(self.lacking),
            phases=dict(self.phases),
            facts=dict(self.facts),
            made=list(self.made),
        )
