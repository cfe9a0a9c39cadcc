"""The base of every API type: immutable pydantic models whose field docstrings become the CRD's descriptions.

camelCase outside, snake_case inside; fields of a newer API version are ignored when parsing, so an older operator keeps
working beside newer CRDs. Rules that one object can break are CEL expressions attached with `Rule`; the schema
generator writes them into the CRD. A rule about one value stands in that value's annotation, so that the error names
the exact item; a rule about several fields stands in `rules` of the object that holds them all.

The API server also tries an object's rules on its own `default: {}` when it accepts the CRD, before the inner defaults
are filled in: a rule that reads a field with a default begins with `!has(...) ||` for that one moment. In stored
objects the field is always there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """One `x-kubernetes-validations` entry: a CEL expression that must hold, and what the user reads otherwise."""

    rule: str
    message: str
    field_path: str | None = None
    """Where the fault is shown, relative to the object that carries the rule, e.g. `.model.uri`; None means that object
    itself."""
    reason: str = "FieldValueInvalid"
    optional_old_self: bool = False

    def entry(self) -> dict[str, Any]:
        """The rule as the CRD has it."""
        entry: dict[str, Any] = {"rule": self.rule, "message": self.message, "reason": self.reason}
        if self.field_path is not None:
            entry["fieldPath"] = self.field_path
        if self.optional_old_self:
            entry["optionalOldSelf"] = True
        return entry

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """In an annotation: the rule of one value (`self` is the value)."""
        schema = handler(core_schema)
        schema.setdefault(VALIDATIONS, []).append(self.entry())
        return schema


@dataclass(frozen=True, slots=True)
class ListMap:
    """A list whose items are told apart by one key: unique, and merged item by item under server-side apply."""

    key: str

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        schema["x-kubernetes-list-type"] = "map"
        schema["x-kubernetes-list-map-keys"] = [self.key]
        return schema


@dataclass(frozen=True, slots=True)
class ListSet:
    """A list of distinct scalars."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        schema["x-kubernetes-list-type"] = "set"
        return schema


class ApiModel(BaseModel):
    """Base of all API types. Class variable `rules` holds the CEL rules of the object itself."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        if cls.rules:
            schema[VALIDATIONS] = [rule.entry() for rule in cls.rules]
        return schema
