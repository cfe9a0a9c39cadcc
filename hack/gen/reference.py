"""docs/api: every field of the three kinds in tables, from the same schema the API server has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hack.gen.text import GENERATED

Schema = Mapping[str, Any]


def reference_pages(crds: Mapping[str, dict[str, Any]]) -> Mapping[str, str]:
    """Page name -> Markdown, one page per kind and an index."""
    pages = {f"{crd['spec']['names']['singular']}.md": _page(crd) for crd in crds.values()}
    return {"README.md": _index(crds), **pages}


def _index(crds: Mapping[str, dict[str, Any]]) -> str:
    lines = [
        f"<!-- {GENERATED} -->",
        "# API reference",
        "",
        "Group `npcfleet.dev`, version `v1alpha1`; all kinds are namespaced, and one namespace holds one region.",
        "`kubectl explain npcregion.spec --recursive` shows the same on a cluster.",
        "",
        "| kind | short name | what it is |",
        "|---|---|---|",
    ]
    for crd in crds.values():
        names = crd["spec"]["names"]
        description = _object_schema(crd)["description"]
        lines.append(
            f"| [{names['kind']}]({names['singular']}.md) | `{names['shortNames'][0]}` | {_cell(description)} |"
        )
    return "\n".join([*lines, ""])


def _page(crd: Mapping[str, Any]) -> str:
    names = crd["spec"]["names"]
    schema = _object_schema(crd)
    categories = ", ".join(f"`kubectl get {category}`" for category in names["categories"])
    lines = [
        f"<!-- {GENERATED} -->",
        f"# {names['kind']}",
        "",
        schema["description"],
        "",
        f"`kubectl get {names['plural']}` (short: `{names['shortNames'][0]}`; also in {categories}).",
        "",
    ]
    for part, title in (("spec", "Spec"), ("status", "Status")):
        lines += [f"## {title}", "", "| field | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(path, field, required) for path, field, required in _fields(schema["properties"][part])]
        lines.append("")
    lines += ["## Rules", "", "What the API server refuses, and where it says so.", "", "| where | rule |", "|---|---|"]
    lines += [f"| `{where}` | {_cell(message)} |" for where, message in _rules(schema, "")]
    return "\n".join([*lines, ""])


def _object_schema(crd: Mapping[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _fields(schema: Schema, prefix: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """Every field below a schema in order: dotted path, its schema, whether it must be given."""
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, field, name in required
        yield from _fields(field, f"{path}.")
        if "items" in field:
            yield from _fields(field["items"], f"{path}[].")


def _rules(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"{path}{rule.get('fieldPath', '')}".lstrip(".") or "metadata.name", rule["message"]
    for name, field in schema.get("properties", {}).items():
        yield from _rules(field, f"{path}.{name}")
    if "items" in schema:
        yield from _rules(schema["items"], f"{path}[]")


def _row(path: str, field: Schema, required: bool) -> str:
    default = "required" if required else _default(field)
    return f"| `{path}` | {_type(field)} | {default} | {_cell(field.get('description', ''))} |"


def _default(field: Schema) -> str:
    value = field.get("default")
    if value is None or value == {}:
        return ""
    if isinstance(value, dict):
        return "see below"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "items" in field:
        inner = field["items"]
        kind = "list of objects" if "properties" in inner else f"list of {_type(inner)}"
        return f"{kind}, at most {field['maxItems']}"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}, at most {field['maxProperties']}"
    kind = str(field["type"])
    if "minimum" in field and "maximum" in field:
        return f"{kind} {field['minimum']}..{field['maximum']}"
    return kind


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
