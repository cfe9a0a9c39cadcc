"""Why a tier is not ready: what its status says, then Deployments that get no pods, then pods that do not serve."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .. import vocabulary as v
from ..conditions import Condition
from ..facts import Tier, World
from .advice import next_step
from .chain import Link, gather, sentence
from .machines import explain_capacity, explain_interruption, explain_machines
from .operators import explain_unobserved
from .pods import explain_pod

PODS = 3
"""Pods that are explained; the others that do not serve are counted."""


FOLLOWS = ("Starting", "RollingUpdate")
"""What a tier is said to do while something is in its way: no cause of its own beside that."""
_CONTAINER = re.compile(r"\bcontainer ([a-z0-9-]+)")


@dataclass(frozen=True, slots=True)
class TierCase:
    """One tier among everything else, at one moment."""

    tier: Tier
    world: World
    now: float

    def link(self, condition: Condition, says: str) -> Link:
        meta = self.tier.meta
        container = _CONTAINER.search(condition.message)
        step = next_step(
            condition.reason,
            namespace=meta.namespace,
            short=v.SHORT[v.KIND_TIER],
            name=meta.name,
            tier=meta.name,
            pod=next(
                (pod.meta.name for pod in self.world.pods_of(meta.name) if pod.meta.name in condition.message), ""
            ),
            container=container.group(1) if container is not None else "",
        )
        return Link(object=f"tier {meta.name}", reason=condition.reason, since=condition.since, says=says, next=step)


def find_unobserved(case: TierCase) -> Sequence[Link]:
    meta = case.tier.meta
    return explain_unobserved(f"tier {meta.name}", v.KIND_TIER, meta, case.tier.conditions)


def find_stalled(case: TierCase) -> Sequence[Link]:
    condition = case.tier.conditions.find(v.STALLED)
    if condition is None or condition.status != "True":
        return ()
    counts = "" if case.tier.conditions.holds(v.READY) else f"{_counts(case.tier)}. "
    return [case.link(condition, f"{counts}A person is needed: {sentence(condition.message)}")]


def find_unready(case: TierCase) -> Sequence[Link]:
    condition = case.tier.conditions.find(v.READY)
    if condition is None or condition.status == "True":
        return ()
    stalled = case.tier.conditions.find(v.STALLED)
    if stalled is not None and stalled.status == "True" and condition.reason in (stalled.reason, *FOLLOWS):
        return ()
    says = f"{_counts(case.tier)}: {sentence(condition.message)}"
    return [case.link(condition, says)]


def find_machines(case: TierCase) -> Sequence[Link]:
    """No fault as long as the tier is ready, and always worth knowing."""
    tier = case.tier
    return [*explain_capacity(tier), *explain_interruption(tier), *explain_machines(tier)]


def _counts(tier: Tier) -> str:
    return f"{tier.ready} of {tier.wanted} wanted pods are ready"


def find_refused_pods(case: TierCase) -> Sequence[Link]:
    """Deployments that the API server gives no pods, as they say themselves: also with the operator away."""
    links = []
    for deployment in case.world.deployments:
        if deployment.meta.labels.get(v.LABEL_TIER) != case.tier.meta.name:
            continue
        refused = next(
            (one for one in deployment.conditions if one.type == "ReplicaFailure" and one.status == "True"), None
        )
        if refused is not None:
            says = f"The API server refuses its pods: {sentence(refused.message)}"
            step = next_step("QuotaExceeded", namespace=case.tier.meta.namespace)
            name = f"deployment {deployment.meta.name}"
            links.append(Link(object=name, reason="PodsRefused", since=refused.since, says=says, next=step))
    return links


def find_pods(case: TierCase) -> Sequence[Link]:
    """The pods that do not serve, one of each kind of trouble."""
    said: dict[str, Link] = {}
    count: dict[str, int] = {}
    for pod in sorted(case.world.pods_of(case.tier.meta.name), key=lambda pod: pod.meta.name):
        for link in explain_pod(pod, case.world, case.now)[:1]:
            said.setdefault(link.reason, link)
            count[link.reason] = count.get(link.reason, 0) + 1
    links = []
    for reason, link in list(said.items())[:PODS]:
        others = count[reason] - 1
        more = "" if not others else f" The same goes for {others} more pod{'s' if others > 1 else ''} of the tier."
        links.append(replace(link, says=link.says + more))
    return links


RULES = (find_unobserved, find_stalled, find_unready, find_machines, find_refused_pods, find_pods)


def explain_tier(tier: Tier, world: World, now: float) -> tuple[Link, ...]:
    """The chain of a tier; a tier that is ready and replaces one pod by another has a chain too, and says so."""
    return gather(RULES, TierCase(tier, world, now))
