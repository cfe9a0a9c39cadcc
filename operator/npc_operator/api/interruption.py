"""Where a tier hears that a node goes away, beside what Kubernetes itself says."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from npc_operator.api.base import ApiModel


class InterruptionQueue(ApiModel):
    """An SQS queue that EventBridge sends EC2's, Auto Scaling's and Health's events to."""

    url: str = Field(
        min_length=16, max_length=512, pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[0-9]{12}/[A-Za-z0-9_-]{1,80}$"
    )
    """The queue's URL. A queue of your own for this operator: every reader takes messages from the others, so never
    Karpenter's or the Node Termination Handler's."""
    region: str = Field(min_length=4, max_length=32, pattern=r"^[a-z]{2,}(-[a-z]+)+-[0-9]+$")
    """Its AWS region, e.g. eu-west-1."""


class Interruption(ApiModel):
    """How the tier hears that a node goes away. Taints, conditions, drains and deletions are always heard."""

    agent_metadata: Literal["Off", "AWS", "GCP", "Azure"] = "Off"
    """Each pod's agent asks the metadata service of its machine. On AWS that needs a hop limit of 2, and then every pod
    of the node can reach the node's role."""
    queue: InterruptionQueue | None = None
    """Unset: no queue is read. Tiers that name the same queue share one reader."""
