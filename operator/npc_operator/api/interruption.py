"""Where a tier hears that a node goes away, beside what Kubernetes itself says."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from npc_operator.api.base import ApiModel
from npc_operator.api.meta import AwsRegion


class InterruptionQueue(ApiModel):
    """An SQS queue that EventBridge sends EC2's, Auto Scaling's and Health's events to."""

    url: str = Field(
        min_length=16, max_length=512, pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[0-9]{12}/[A-Za-z0-9_-]{1,80}$"
    )
    """The queue's URL. A queue of your own for this operator: every reader takes messages from the others, so never
    Karpenter's or the Node Termination Handler's."""
    region: AwsRegion
    """Its AWS region, e.g. eu-west-1."""


class Interruption(ApiModel):
    """How the tier hears that a node goes away. Taints, conditions, drains and deletions are always heard."""

    agent_metadata: Literal["Off", "AWS", "GCP", "Azure"] = "Off"
    """Each pod's agent asks the metadata service of its machine. On AWS that needs a hop limit of 2, and then every pod
    of the node can reach the node's role."""
    queue: InterruptionQueue | None = None
    """Unset: the operator's own speaks for this tier, where it has one. Tiers that name the same queue share one
    reader; what it says concerns the pods of the namespaces that name it alone."""


class InterruptionStatus(ApiModel):
    """Pods that go away with their nodes, what the last interruption cost, and what another operator process needs to
    go on from."""

    pods: int = 0
    """Pods that are there and that a notice is known of, of whatever kind."""
    unrouted: int = 0
    """Of these, pods that take no new lines any more."""
    since: str = Field(default="", max_length=64)
    """When the last interruption began (RFC 3339); empty if there was none."""
    over: bool = True
    """Nobody leaves, and as many pods are ready as are wanted."""
    lost_lines: int = 0
    """Lines that it cost: they ended in an error after they had begun, or nobody answered them."""
    rerouted_lines: int = 0
    """Lines that began anew on another pod before the game server had a byte."""
    downgraded_lines: int = 0
    """Lines that were answered by less than their tier's own adapter."""
    seconds_below_target: int = 0
    """For so long fewer pods were ready than wanted."""
    nodes: str = Field(default="", max_length=65536)
    """Nodes with spot pods that went away of late, and when: JSON of the operator's own."""
    replacements: str = Field(default="", max_length=98304)
    """Nodes that were replaced of late because of a recommendation, and when: JSON of the operator's own."""
    heard: str = Field(default="", max_length=65536)
    """What queues said of the machines of this tier's pods while its suspension keeps that from being written at the
    pods: JSON of the operator's own."""
    ledger: str = Field(default="", max_length=65536)
    """What the counts were made from: JSON of the operator's own, while the interruption lasts."""
