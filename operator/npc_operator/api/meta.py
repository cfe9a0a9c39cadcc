"""What all three kinds share: conditions, references, and the parsed metadata of an object."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from npc_operator.api.base import ApiModel

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DIGEST = r"^sha256:[0-9a-f]{64}$"


class Condition(ApiModel):
    """A metav1.Condition."""

    type: str = Field(max_length=64)
    """What it speaks of: Ready, Reconciling or Stalled (kstatus), or a word of this kind."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str = Field(max_length=256)
    """Why, as one CamelCase word that programs may match."""
    message: str = Field(default="", max_length=2048)
    """Why, for people, with what to do."""
    last_transition_time: str = Field(max_length=64)
    """When status last changed (RFC 3339)."""
    observed_generation: int = 0
    """The generation of the spec this speaks of."""


class SecretRef(ApiModel):
    """A Secret in the same namespace."""

    name: str = Field(min_length=1, max_length=253)
    """Name of the Secret."""


class ObjectMeta(ApiModel):
    """The part of an object's metadata the operator uses; not part of any CRD."""

    name: str
    namespace: str
    uid: str
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
