"""From a pydantic model to the structural OpenAPI schema that a CustomResourceDefinition accepts.

JSON Schema and structural schemas differ in small ways that the API server punishes one by one: no `$ref`, no `const`,
no null types, no unions but integer-or-string, defaults only as literals, and inner defaults only below a parent that
has one. What has no structural form raises here, at generation, instead of being dropped on the way.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema, to_jsonable_python

from npc_operator.api.base import VALIDATIONS, ApiModel

Schema = dict[str, Any]

_INT32_MAX = 2**31 - 1
# Keywords that mean the same in both worlds, in the order people like to read them.
_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)
# Read, and written in another form.
_CONSUMED = {
    "$defs",
    "$ref",
    "title",
    "default",
    "properties",
    "required",
    "items",
    "additionalProperties",
    "anyOf",
    "const",
    VALIDATIONS,
}


class NotStructuralError(TypeError):
    """A type says something a structural schema cannot."""


class _Generator(GenerateJsonSchema):
    """JSON Schema of the model, with defaults as a user would write them."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Optional means absent: the API server prunes an explicit null."""
        return self.generate_inner(schema["schema"])

    def encode_default(self, dft: Any) -> Any:
        """Only what differs from the inner defaults: those apply by themselves once the parent is there (`default:
        {}`)."""
        if isinstance(dft, ApiModel):
            return dft.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return to_jsonable_python(dft)


def structural_schema(model: type[ApiModel], *, defaults: bool = True) -> Schema:
    """The structural schema of one model; without `defaults` for a status, which is written whole by its one writer.

    :raises NotStructuralError: for a type or constraint that has no structural form, recursion included.
    """
    raw = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _Converter(raw.get("$defs", {}), defaults=defaults).convert(raw, path=model.__name__)


class _Converter:
    """Walks one JSON Schema; holds its definitions and how deep it already is in each."""

    def __init__(self, definitions: dict[str, Schema], *, defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults
        self._open: list[str] = []

    def convert(self, node: Schema, *, path: str) -> Schema:
        """One node and all below it."""
        if "$ref" in node:
            return self._convert_reference(node, path)
        unknown = set(node) - set(_KEPT) - _CONSUMED
        if unknown:
            raise NotStructuralError(f"{path}: no structural form for {', '.join(sorted(unknown))}")
        if "anyOf" in node:
            return self._convert_int_or_string(node, path)
        out: Schema = {key: node[key] for key in _KEPT if key in node}
        if "description" in out:
            out["description"] = " ".join(out["description"].split())
        if "const" in node:
            out["enum"] = [node["const"]]
        if out.get("type") == "integer" and "format" not in out:
            out["format"] = "int32" if out.get("maximum", _INT32_MAX + 1) <= _INT32_MAX else "int64"
        if out.get("type") == "array":
            self._convert_list(node, out, path)
        if "additionalProperties" in node:
            out["additionalProperties"] = self.convert(node["additionalProperties"], path=f"{path}[]")
        if "properties" in node:
            self._convert_object(node, out, path)
        if node.get(VALIDATIONS):
            out[VALIDATIONS] = node[VALIDATIONS]
        if out.get("type") is None:
            raise NotStructuralError(f"{path}: has no type")
        self._keep_default(node, out)
        return out

    def _convert_reference(self, node: Schema, path: str) -> Schema:
        name = node["$ref"].removeprefix("#/$defs/")
        if name in self._open:
            raise NotStructuralError(f"{path}: {name} holds itself")
        self._open.append(name)
        merged = {**self._definitions[name], **{key: value for key, value in node.items() if key != "$ref"}}
        merged[VALIDATIONS] = [*self._definitions[name].get(VALIDATIONS, ()), *node.get(VALIDATIONS, ())]
        out = self.convert(merged, path=path)
        self._open.pop()
        return out

    def _convert_int_or_string(self, node: Schema, path: str) -> Schema:
        """The one union there is; value rules for strings and for numbers may stand beside each other."""
        options = {option.get("type"): option for option in node["anyOf"]}
        if set(options) != {"integer", "string"} or len(node["anyOf"]) != 2:
            raise NotStructuralError(f"{path}: the only union is integer or string")
        out: Schema = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
        for option in options.values():
            out |= {key: value for key, value in option.items() if key in _KEPT and key != "type"}
        out |= {key: node[key] for key in ("description",) if key in node}
        return out

    def _convert_list(self, node: Schema, out: Schema, path: str) -> None:
        if "items" not in node:
            raise NotStructuralError(f"{path}: a list of unknown items")
        out["items"] = self.convert(node["items"], path=f"{path}[]")
        out.setdefault("x-kubernetes-list-type", "atomic")

    def _convert_object(self, node: Schema, out: Schema, path: str) -> None:
        out["properties"] = {
            name: self.convert(child, path=f"{path}.{name}") for name, child in node["properties"].items()
        }
        if node.get("required"):
            out["required"] = sorted(node["required"])

    def _keep_default(self, node: Schema, out: Schema) -> None:
        """An empty string, list or map is what absence means anyway: writing it into everybody's objects is noise.

        An empty object with fields of its own is different: without it the defaults inside would not apply.
        """
        value = node.get("default")
        if not self._defaults or value is None or (value in ("", [], {}) and "properties" not in out):
            return
        out["default"] = value
