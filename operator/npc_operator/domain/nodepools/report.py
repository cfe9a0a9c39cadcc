"""What a tier's status says of its nodes: one finding, the first that needs somebody, or that all is as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npc_operator.api.meta import Condition
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, condition

NODE_POOLS_READY = "NodePoolsReady"
"""The condition: there while spec.nodePools asks for anything to be made, and until what it asked for before is gone.
The tier serves whatever it says."""


@dataclass(frozen=True, slots=True)
class NodePoolsFact:
    """The last look at what brings a tier's nodes, filed under the tier."""

    ready: bool
    reason: str
    message: str

    def entry(self) -> tuple[str, str, Finding]:
        """As a condition is built from it."""
        return (NODE_POOLS_READY, "True" if self.ready else "False", Finding(self.reason, self.message))


def summarize(faults: Sequence[Finding], kept: Sequence[str], leaving: Sequence[str] = ()) -> NodePoolsFact:
    """Faults in the order of their weight; `kept` are names of what is there as wanted, `leaving` places where
    something that is not wanted any more still is."""
    if faults:
        more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
        return NodePoolsFact(ready=False, reason=faults[0].reason, message=f"{faults[0].message}{more}")
    message = f"as wanted: {', '.join(kept)}" if kept else "as wanted"
    if leaving:
        message += f"; what is not wanted any more is being removed from {', '.join(leaving)}"
    return NodePoolsFact(ready=True, reason=reasons.NODE_POOLS_KEPT, message=message)


def condition_entries(
    fact: NodePoolsFact | None, previous: Sequence[Condition], *, wanted: bool
) -> tuple[tuple[str, str, Finding], ...]:
    """For the status of a tier that wants something made, or still has some. Before the first look of a new leader what
    was said last still holds."""
    if not wanted:
        return ()
    if fact is not None:
        return (fact.entry(),)
    said = condition(previous, NODE_POOLS_READY)
    return () if said is None else ((NODE_POOLS_READY, said.status, Finding(said.reason, said.message)),)
