"""What every object has, whatever its kind: an identity, and conditions in the words of the API conventions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from . import vocabulary as v


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Identity of an object."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    created: str = ""
    deleted: str = ""
    """When its deletion was asked for; empty if it was not."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of any object."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    since: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The conditions of one object and the generation they speak of."""

    observed: int = -1
    all: tuple[Condition, ...] = ()

    def find(self, kind: str) -> Condition | None:
        return next((one for one in self.all if one.type == kind), None)

    def holds(self, kind: str) -> bool:
        found = self.find(kind)
        return found is not None and found.status == "True"

    def ready(self) -> str:
        """True, False or Unknown, as the condition Ready says; Unknown without one."""
        found = self.find(v.READY)
        return found.status if found is not None else "Unknown"


NO_CONDITIONS = Conditions()
"""Of an object whose status nobody has written."""
