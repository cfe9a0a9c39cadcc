"""Where pods may go: the same words for engines and gateways."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, Rule
from npc_operator.api.meta import LABEL_KEY, Labels, LabelValue, OptionalObjectName


class Toleration(ApiModel):
    """A Pod toleration."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.operator == 'Exists' || (has(self.key) && self.key != '')",
            "an empty key needs operator Exists",
            field_path=".key",
        ),
        Rule(
            "self.operator == 'Equal' || !has(self.value) || self.value == ''",
            "operator Exists takes no value",
            field_path=".value",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "only effect NoExecute takes tolerationSeconds",
            field_path=".tolerationSeconds",
        ),
    )

    key: str = Field(default="", max_length=317, pattern=f"^$|{LABEL_KEY}")
    """Taint key; empty with operator Exists tolerates everything."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How value is compared."""
    value: LabelValue = ""
    """Taint value."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """Taint effect; empty means all."""
    toleration_seconds: int | None = Field(default=None, ge=0, le=2**31 - 1)
    """How long a NoExecute taint is tolerated."""


class Scheduling(ApiModel):
    """Where pods may go."""

    node_selector: Labels = Field(default={}, max_length=32)
    """Labels a node must have."""
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32)
    """Taints that are tolerated; the accelerator's own taint is tolerated anyway."""
    priority_class_name: OptionalObjectName = ""
    """PriorityClass of the pods."""
    runtime_class_name: OptionalObjectName = ""
    """RuntimeClass of the pods, e.g. nvidia."""
