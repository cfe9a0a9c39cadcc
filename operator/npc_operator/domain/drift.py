"""Whether a live object already is what is wanted, so that nothing is written when nothing would change.

Three things make a difference: a wanted value that the live object has not; a field that our manager owns and no longer
wants; nothing else. Fields that others added stay theirs. Values are compared as the API server stores them: quantities
by amount, absent as empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

Path = tuple[str, ...]

QUANTITY_FIELDS = frozenset({"requests", "limits", "capacity"})
"""Maps whose values are quantities."""
QUANTITY_KEYS = frozenset({"sizeLimit"})

LIST_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""Lists the API server merges by key. `ports` differ by parent and are compared as whole lists unless they are
containers' (keyed below).
"""

ATOMIC_MAPS = frozenset(
    {"selector", "matchLabels", "nodeSelector", "podSelector", "namespaceSelector", "labelSelector"}
)
"""Maps that mean something as a whole: one more entry by somebody else is a change of what they say."""

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}


def parse_quantity(text: str | int | float) -> Decimal | None:
    """The amount a Kubernetes quantity stands for, or None if it is none."""
    raw = str(text)
    digits = raw.rstrip("numkKMGTPEi") if not raw.endswith(tuple("0123456789.")) else raw
    suffix = raw[len(digits) :]
    try:
        return Decimal(digits) * _SUFFIXES[suffix]
    except (InvalidOperation, KeyError):
        return None


def find_drift(desired: Mapping[str, Any], live: Mapping[str, Any], *, manager: str) -> tuple[str, ...]:
    """Paths in which the live object differs from what is wanted; empty means that no write is needed."""
    return tuple(_show(path) for path in _differences(desired, live, ())) + tuple(
        f"{path} (no longer wanted)" for path in find_surplus(desired, live, manager=manager)
    )


def _show(path: Path) -> str:
    return ".".join(path).replace(".[", "[")


def _differences(desired: Any, live: Any, path: Path) -> Iterator[Path]:
    if isinstance(desired, dict):
        if not isinstance(live, dict):
            if not (live is None and not desired):
                yield path
            return
        if path and path[-1] in ATOMIC_MAPS and live.keys() - desired.keys():
            yield path
            return
        for key, value in desired.items():
            yield from _differences(value, live.get(key), (*path, key))
    elif isinstance(desired, list | tuple):
        yield from _list_differences(desired, live, path)
    elif not _same_scalar(desired, live, path):
        yield path


def _same_scalar(desired: Any, live: Any, path: Path) -> bool:
    if desired == live and isinstance(desired, bool) == isinstance(live, bool):
        return True
    if live is None:
        return desired in (None, "", 0, False)  # the API server leaves empty values out
    if path[-1] in QUANTITY_KEYS or (len(path) > 1 and path[-2] in QUANTITY_FIELDS):
        amount = parse_quantity(desired)
        return amount is not None and amount == parse_quantity(live)
    return False


def _list_differences(desired: Sequence[Any], live: Any, path: Path) -> Iterator[Path]:
    if not isinstance(live, list | tuple):
        if desired or live is not None:
            yield path
        return
    keys = LIST_KEYS.get(path[-1]) if path else None
    if keys is None:
        if len(desired) != len(live):
            yield path
            return
        for index, (want, have) in enumerate(zip(desired, live, strict=True)):
            yield from _differences(want, have, (*path, f"[{index}]"))
        return
    known = {tuple(item.get(key) for key in keys): item for item in live if isinstance(item, dict)}
    for item in desired:
        identity = tuple(item.get(key) for key in keys)
        where = (*path, f"[{','.join(str(part) for part in identity)}]")
        if identity not in known:
            yield where
        else:
            yield from _differences(item, known[identity], where)


def find_surplus(desired: Mapping[str, Any], live: Mapping[str, Any], *, manager: str) -> tuple[str, ...]:
    """Paths that our manager applied once and that are not wanted any more."""
    owned = owned_fields(live, manager=manager)
    return () if owned is None else tuple(_surplus(owned, desired, ""))


def owned_fields(live: Mapping[str, Any], *, manager: str) -> Mapping[str, Any] | None:
    """The fieldsV1 of what `manager` applied, without subresources; None if it applied nothing."""
    for entry in live.get("metadata", {}).get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields: Mapping[str, Any] = entry.get("fieldsV1") or {}
            return fields
    return None


def _surplus(owned: Mapping[str, Any], desired: Any, path: str) -> Iterator[str]:
    for key, below in owned.items():
        if key == ".":
            continue
        where = f"{path}.{key[2:]}" if path else key[2:]
        found, value = pick_owned(key, desired)
        if not found:
            yield where
        elif below:
            yield from _surplus(below, value, where)


def pick_owned(key: str, value: Any) -> tuple[bool, Any]:
    """What one fieldsV1 key (`f:name`, `k:{...}`, `v:value`, `i:index`) points at in a manifest: (whether it is there,
    the value).
    """
    kind, _, text = key.partition(":")
    if kind == "f":
        return (True, value[text]) if isinstance(value, dict) and text in value else (False, None)
    if not isinstance(value, list | tuple):
        return False, None
    if kind == "k":
        identity = json.loads(text)
        for item in value:
            if isinstance(item, dict) and all(
                item.get(name, _KEY_DEFAULTS.get(name)) == wanted for name, wanted in identity.items()
            ):
                return True, item
        return False, None
    if kind == "v":
        wanted = json.loads(text)
        return (True, wanted) if wanted in value else (False, None)
    index = int(text)
    return (True, value[index]) if index < len(value) else (False, None)


_KEY_DEFAULTS = {"protocol": "TCP"}
"""Key fields the API server fills in before it writes managedFields."""


def extract_owned(live: Mapping[str, Any], owned: Mapping[str, Any]) -> Any:
    """The part of a live value that fieldsV1 say is ours: applying it again changes nothing."""
    picked: dict[str, Any] = {}
    for key, below in owned.items():
        if not key.startswith("f:"):
            continue
        name = key[2:]
        if name not in live:
            continue
        picked[name] = _extract(live[name], below)
    return picked


def _extract(value: Any, owned: Mapping[str, Any]) -> Any:
    below = {key: fields for key, fields in owned.items() if key != "."}
    if not below:
        return value
    if isinstance(value, dict):
        return extract_owned(value, below)
    picked = []
    for key, fields in below.items():
        found, item = pick_owned(key, value)
        if found:
            part = _extract(item, fields)
            if key.startswith("k:") and isinstance(part, dict):
                part = {**json.loads(key[2:]), **part}
            picked.append(part)
    return sorted(picked, key=lambda item: _position(item, value))


def _position(item: Any, items: Sequence[Any]) -> int:
    """Where an extracted item stood in the live list: order matters to env and initContainers."""
    for index, candidate in enumerate(items):
        if item == candidate:
            return index
        if (
            isinstance(item, dict)
            and isinstance(candidate, dict)
            and all(
                key in candidate and (candidate[key] == value or isinstance(value, dict | list))
                for key, value in item.items()
            )
        ):
            return index
    return len(items)
