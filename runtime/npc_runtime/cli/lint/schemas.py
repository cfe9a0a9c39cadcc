"""The CRDs of this release as JSON Schema, the way the API server reads them under strict validation.

The files are those of `crds/`, which are generated from the operator's own types.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml

Schema = dict[str, Any]

NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""A DNS subdomain (RFC 1123), as the API server wants every object's name."""


@cache
def load_schemas() -> Mapping[tuple[str, str], Schema]:
    """(apiVersion, kind) -> schema of a whole object."""
    found: dict[tuple[str, str], Schema] = {}
    for file in resources.files("npc_runtime.cli").joinpath("crds").iterdir():
        if not file.name.endswith(".yaml"):
            continue
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]
        for version in spec["versions"]:
            api_version = f"{spec['group']}/{version['name']}"
            found[api_version, spec["names"]["kind"]] = _top(version["schema"]["openAPIV3Schema"])
    return found


def count_rules(schema: Any) -> int:
    """CEL rules anywhere in a schema: those are the API server's to check."""
    if isinstance(schema, Mapping):
        own = schema.get("x-kubernetes-validations")
        return (len(own) if isinstance(own, list) else 0) + sum(count_rules(value) for value in schema.values())
    return sum(count_rules(value) for value in schema) if isinstance(schema, list) else 0


def _top(schema: Schema) -> Schema:
    """The whole object: apiVersion, kind and metadata belong to every kind, status is not the user's to write."""
    properties = dict(schema["properties"])
    properties["metadata"] = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 253, "pattern": NAME}},
    }
    properties["status"] = {"type": "object"}
    required = sorted({"metadata", *schema.get("required", ())})
    closed = {name: value if name in ("metadata", "status") else strict(value) for name, value in properties.items()}
    return {"type": "object", "required": required, "properties": closed, "additionalProperties": False}


def strict(schema: Any) -> Any:
    """A structural schema as JSON Schema: unknown fields are refused, int-or-string is what it says."""
    if not isinstance(schema, dict):
        return schema
    made = {key: value for key, value in schema.items() if key not in ("properties", "items", "additionalProperties")}
    made.pop("default", None)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made.pop("anyOf", None)
        return {**made, "type": ["integer", "string"]}
    if made.pop("nullable", False) and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    if "properties" in schema:
        made["properties"] = {name: strict(value) for name, value in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = strict(schema["items"])
    return made
