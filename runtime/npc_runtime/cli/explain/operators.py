"""Whether somebody keeps what the objects say: with the operator away, their statuses are memories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import vocabulary as v
from ..conditions import Conditions, Meta
from ..facts import World
from .chain import Link, first, how_long, seconds_since


@dataclass(frozen=True, slots=True)
class Look:
    """The operator as it can be seen at one moment."""

    world: World
    now: float


def find_missing_lease(look: Look) -> Sequence[Link]:
    """Nobody ever led here. What could not be read is not held against the operator."""
    if look.world.lease is not None or not look.world.was_read("leases"):
        return ()
    namespace = look.world.operator_namespace
    return [
        Link(
            object="operator",
            reason="OperatorAbsent",
            since="",
            says=f"There is no Lease {v.LEASE} in namespace {namespace}, so no operator works from there "
            "and nothing of what follows is kept up to date.",
            next=f"install it, or name its namespace with --operator-namespace: kubectl get lease -A "
            f"--field-selector metadata.name={v.LEASE}",
        )
    ]


def find_released_lease(look: Look) -> Sequence[Link]:
    lease = look.world.lease
    if lease is None or lease.holder:
        return ()
    return [
        Link(
            object="operator",
            reason="NoLeader",
            since=lease.renewed,
            says=f"The Lease {v.LEASE} in namespace {lease.namespace} was given back and nobody has taken it: "
            "what runs goes on serving, nothing changes.",
            next=f"kubectl get pods -n {lease.namespace} -l app.kubernetes.io/component=operator",
        )
    ]


def find_stale_lease(look: Look) -> Sequence[Link]:
    lease = look.world.lease
    if lease is None or not lease.holder:
        return ()
    passed = seconds_since(lease.renewed, look.now)
    if passed is None or passed <= lease.seconds:
        return ()
    return [
        Link(
            object="operator",
            reason="LeaseStale",
            since=lease.renewed,
            says=f"The leader {lease.holder} last renewed its Lease {how_long(lease.renewed, look.now)} ago "
            f"(it should every few seconds): what runs goes on serving, nothing changes.",
            next=f"kubectl get pods -n {lease.namespace} -l app.kubernetes.io/component=operator",
        )
    ]


RULES = (find_missing_lease, find_released_lease, find_stale_lease)


def explain_operator(world: World, now: float) -> tuple[Link, ...]:
    """What is wrong with the operator; empty if nothing is, or if it could not be seen."""
    return first(RULES, Look(world, now))


def explain_unobserved(thing: str, kind: str, meta: Meta, conditions: Conditions) -> Sequence[Link]:
    """A status that speaks of an older spec, or of none."""
    if conditions.observed >= meta.generation:
        return ()
    said = "has not looked at it yet" if conditions.observed < 0 else f"has seen generation {conditions.observed} only"
    return [
        Link(
            object=thing,
            reason="NotLookedAt",
            since=meta.created if conditions.observed < 0 else "",
            says=f"Its spec is at generation {meta.generation} and the operator {said}; "
            "what its status says is not about the present spec.",
            next=f"wait a moment; if it stays: kubectl get {v.SHORT[kind]} {meta.name} -n {meta.namespace} -o yaml",
        )
    ]
