"""Manifests against the schemas of this release, each fault with the path of its field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from .. import vocabulary as v
from .documents import NoDocuments, read_documents
from .schemas import NAME, Schema, count_rules, load_schemas


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that the API server would refuse; `path` is that of the field, empty for the whole document."""

    source: str
    object: str
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at and what is wrong with it."""

    objects: tuple[str, ...]
    foreign: int
    """Documents of kinds that are not ours, which were left alone."""
    rules: int
    """CEL rules of these objects' kinds, which only the API server checks."""
    faults: tuple[Fault, ...]


def lint_text(source: str, text: str, *, named: bool = True) -> Report:
    """All documents of one file, YAML or JSON. A file that nobody `named`, found in a folder, may be something else
    than manifests: data of an example, values of a chart.
    """
    try:
        documents = read_documents(text)
    except NoDocuments as error:
        return Report((), 0, 0, (Fault(source, "", "", str(error)),))
    objects: list[str] = []
    faults: list[Fault] = []
    foreign = rules = 0
    for document in _unpacked(documents):
        if not isinstance(document, Mapping):
            if not named:
                foreign += 1
                continue
            faults.append(Fault(source, "", "", "is no object"))
            continue
        api_version, kind = str(document.get("apiVersion", "")), str(document.get("kind", ""))
        if api_version.partition("/")[0] != v.GROUP:
            foreign += 1
            continue
        name = f"{kind}/{_name(document)}"
        objects.append(name)
        schema = load_schemas().get((api_version, kind))
        if schema is None:
            known = ", ".join(sorted(f"{one} {two}" for one, two in load_schemas()))
            faults.append(Fault(source, name, "kind", f"{api_version} {kind} is not known; this release has {known}"))
            continue
        rules += count_rules(schema)
        faults += [Fault(source, name, path, message) for path, message in check(document, schema)]
    return Report(tuple(objects), foreign, rules, tuple(faults))


def merge(reports: Iterable[Report]) -> Report:
    """Several files as one report."""
    every = list(reports)
    return Report(
        tuple(name for one in every for name in one.objects),
        sum(one.foreign for one in every),
        sum(one.rules for one in every),
        tuple(fault for one in every for fault in one.faults),
    )


def check(document: Mapping[str, Any], schema: Schema) -> list[tuple[str, str]]:
    """(field path, message) of everything the schema refuses, in the order of the fields."""
    found = [(_path(error.absolute_path), _message(error)) for error in _leaves(document, schema)]
    found += list(_twice(document, schema, ""))
    return sorted(set(found))


def _leaves(document: Mapping[str, Any], schema: Schema) -> Iterator[ValidationError]:
    yield from Draft202012Validator(schema).iter_errors(document)


def _twice(value: Any, schema: Any, path: str) -> Iterator[tuple[str, str]]:
    """Entries of a list-map with the same key, which the API server refuses and JSON Schema has no word for."""
    if isinstance(value, Mapping) and isinstance(schema, Mapping):
        properties = schema.get("properties") or {}
        for key, inner in value.items():
            yield from _twice(inner, properties.get(key), f"{path}.{key}" if path else str(key))
    if not isinstance(value, list) or not isinstance(schema, Mapping):
        return
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    seen: set[tuple[str, ...]] = set()
    for index, inner in enumerate(value):
        here = f"{path}[{index}]"
        if keys and isinstance(inner, Mapping):
            own = tuple(str(inner.get(key)) for key in keys)
            if own in seen:
                yield here, f"is there twice: another entry has the same {' and '.join(keys)}"
            seen.add(own)
        yield from _twice(inner, schema.get("items"), here)


def _message(error: ValidationError) -> str:
    limit: Any = error.validator_value
    schema: Any = error.schema
    instance: Any = error.instance
    match error.validator:
        case "required":
            missing = [name for name in limit if name not in instance]
            return f"needs {', '.join(missing)}"
        case "additionalProperties":
            known = schema.get("properties", {})
            unknown = [name for name in instance if name not in known]
            return f"has no field called {', '.join(unknown)}"
        case "enum":
            return f"must be one of {', '.join(map(str, limit))}, not {_shown(instance)}"
        case "type":
            wanted = " or ".join(limit) if isinstance(limit, list) else limit
            return f"must be of type {wanted}, not {_shown(instance)}"
        case "minimum":
            return f"must be at least {limit}, not {_shown(instance)}"
        case "maximum":
            return f"must be at most {limit}, not {_shown(instance)}"
        case "pattern" if limit == NAME:
            return f"must be lower case letters, digits, - and ., not {_shown(instance)}"
        case "pattern":
            return f"must match {limit}, not {_shown(instance)}"
        case "maxLength" | "maxItems" | "maxProperties":
            return f"is too long: at most {limit}"
        case "minLength" | "minItems" | "minProperties":
            return f"is too short: at least {limit}"
        case _:
            return error.message[:200]


def _shown(value: Any) -> str:
    """A value as it is told back, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _path(parts: Iterable[str | int]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _unpacked(documents: Sequence[Any]) -> Iterator[Any]:
    for document in documents:
        if isinstance(document, Mapping) and document.get("kind") == "List":
            yield from document.get("items") or ()
        else:
            yield document


def _name(document: Mapping[str, Any]) -> str:
    meta = document.get("metadata")
    return str(meta.get("name", "?")) if isinstance(meta, Mapping) else "?"
