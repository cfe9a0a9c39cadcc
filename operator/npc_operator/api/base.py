"""The base of every API type: immutable pydantic models whose field docstrings become the CRD's descriptions.

camelCase outside, snake_case inside; fields of a newer API version are ignored when parsing, so an older operator keeps working beside newer CRDs.
Rules that one object can break are CEL expressions attached with `Rule`; the schema generator writes them into the CRD.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


@dataclass(frozen=True, slots=True)
class Rule:
    """One `x-kubernetes-validations` entry: a CEL expression that must hold, and what the user reads when it does not."""

    rule: str
    message: str
    field_path: str | None = None
    reason: str = "FieldValueInvalid"
    optional_old_self: bool = False


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
