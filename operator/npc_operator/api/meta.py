"""What all three kinds share: names, references, conditions, quantities, and the parsed metadata of an object.

Every string has a bound: a CEL rule costs what its longest input could cost, and the API server refuses a CRD whose
rules could cost too much.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, ListMap, Rule

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""A label that a Service may have as its name: it begins with a letter (RFC 1035)."""
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
DIGEST = r"^sha256:[0-9a-f]{64}$"
QUANTITY = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$"
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

POD_NAME_BASE = 58
"""A Deployment's pods are called `<name>-<hash>-<5 characters>`; the API server cuts what stands before the last five
after 58 characters, which would cut the hash off."""
_HASH = len("-1234567890-")
TIER_NAME_LENGTH = POD_NAME_BASE - len("-on-demand") - _HASH
REGION_NAME_LENGTH = POD_NAME_BASE - len("-gateway") - _HASH
ADAPTER_NAME_LENGTH = 63

TierName = Annotated[str, Field(min_length=1, max_length=TIER_NAME_LENGTH, pattern=DNS_NAME)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
OptionalObjectName = Annotated[str, Field(max_length=253, pattern=f"^$|{DNS_SUBDOMAIN}")]
Quantity = Annotated[str, Field(min_length=1, max_length=32, pattern=QUANTITY)] | Annotated[int, Field(ge=0, le=2**53)]
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]
AnnotationValue = Annotated[str, Field(max_length=4096)]
AwsRegion = Annotated[str, Field(min_length=4, max_length=32, pattern=r"^[a-z]{2,}(-[a-z]+)+-[0-9]+$")]
"""eu-west-1, us-gov-west-1, eusc-de-east-1."""

KEYS_ARE_LABELS = Rule(
    f"self.all(key, key.matches('{LABEL_KEY}'))",
    "keys must be label keys: an optional DNS prefix with a slash, then at most 63 letters, digits, '-', '_' and '.'",
)
Labels = Annotated[dict[str, LabelValue], KEYS_ARE_LABELS]
Annotations = Annotated[dict[str, AnnotationValue], KEYS_ARE_LABELS]


class Condition(ApiModel):
    """A metav1.Condition."""

    type: str = Field(min_length=1, max_length=64)
    """What it speaks of: Ready, Reconciling or Stalled (kstatus), or a word of this kind."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str = Field(min_length=1, max_length=256, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    """Why, as one CamelCase word that programs may match."""
    message: str = Field(default="", max_length=2048)
    """Why, for people, with what to do."""
    last_transition_time: str = Field(max_length=64, json_schema_extra={"format": "date-time"})
    """When status last changed (RFC 3339)."""
    observed_generation: int = 0
    """The generation of the spec this speaks of."""


Conditions = Annotated[tuple[Condition, ...], ListMap("type")]


class SecretRef(ApiModel):
    """A Secret in the same namespace."""

    name: ObjectName
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
    finalizers: tuple[str, ...] = ()
