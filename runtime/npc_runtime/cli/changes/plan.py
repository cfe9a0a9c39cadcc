"""One change of one object: which fields, from what to what, and the patch that does it and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .. import vocabulary as v
from ..answers import Code
from ..plain import Json, mapping, text

Path = tuple[str | tuple[str, str], ...]
"""Keys from the object's root; (key, value) chooses the entry of a list-map, as in ("tier", "gold")."""


class NotDone(Exception):
    """The change makes no sense, or somebody else keeps the field; the message says which, `step` what to do."""

    def __init__(self, message: str, *, step: str = "", code: Code = Code.REFUSED) -> None:
        super().__init__(message)
        self.step = step
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field, from what to what; None where it was or will be absent."""

    path: Path
    before: Any
    after: Any

    @property
    def name(self) -> str:
        """As people write it: `spec.variants[tier=gold].source.digest`."""
        said = ""
        for part in self.path:
            said += f"[{part[0]}={part[1]}]" if isinstance(part, tuple) else f".{part}"
        return said.removeprefix(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be done to one object. Without changes there is nothing to do, and `notes` say why."""

    target: Json
    spec: Mapping[str, Any] = field(default_factory=dict)
    """The merge patch of spec."""
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    question: str = ""
    """What to ask first, where players hear the difference at once; empty where they do not."""

    @property
    def kind(self) -> str:
        return text(self.target.get("kind"))

    @property
    def name(self) -> str:
        return text(mapping(self.target.get("metadata")).get("name"))

    @property
    def namespace(self) -> str:
        return text(mapping(self.target.get("metadata")).get("namespace"))

    @property
    def thing(self) -> str:
        return f"{self.kind} {self.name} in namespace {self.namespace}"

    def patch(self) -> dict[str, Any]:
        """A merge patch that is refused if the object is not the one that was looked at any more: no two objects, and
        no two states of one, ever have the same resourceVersion.
        """
        seen = mapping(self.target.get("metadata")).get("resourceVersion")
        return {"metadata": {"resourceVersion": seen}, "spec": dict(self.spec)}


def said(value: Any) -> str:
    """A value as a sentence shows it."""
    if value is None or value == "" or value == []:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {said(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(said(one) for one in value) + "]"
    return str(value)


def with_kind(raw: Json, kind: str) -> Json:
    """The object with its kind, which lists leave out."""
    return {"apiVersion": v.API_VERSION, "kind": kind, **raw}


def with_notes(plan: Plan, notes: Sequence[str]) -> Plan:
    """The plan with more to say."""
    return replace(plan, notes=(*plan.notes, *notes)) if notes else plan
