"""Reading what others wrote without trusting it: a field that is missing or of another type is simply not there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from npc_operator.domain.interruption.notices import name_of

_LATEST = 32_503_680_000.0
"""The year 3000: a time beyond it is a number of something else."""
_LONGEST_TIME = 64


@dataclass(frozen=True, slots=True)
class Taint:
    """One taint of a Node."""

    key: str
    value: str
    effect: str
    added: float | None


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a Node or Pod."""

    type: str
    status: str
    reason: str
    message: str
    since: float | None


@dataclass(frozen=True, slots=True)
class NodeName:
    """How a node is called here and in its cloud."""

    node: str
    instance: str | None


def mapping(value: object, *path: str) -> Mapping[str, object]:
    """What lies at the path, or nothing."""
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def text(value: object, limit: int = 4096) -> str:
    """A string, cut at the limit; empty for anything else."""
    return value[:limit] if isinstance(value, str) else ""


def items(value: object) -> Iterator[Mapping[str, object]]:
    """The objects of a list."""
    if isinstance(value, list | tuple):
        for item in value:
            if isinstance(item, Mapping):
                yield item


def rfc3339(value: object) -> float | None:
    """Unix seconds of a time as Kubernetes and most clouds write it."""
    written = text(value)
    if not written or len(written) > _LONGEST_TIME:
        return None
    try:
        parsed = datetime.fromisoformat(written)
        return _seconds(parsed)
    except (ValueError, OverflowError):
        return None


def http_date(value: object) -> float | None:
    """Unix seconds of a time as e-mail and HTTP write it: `Sat, 01 Aug 2026 05:41:02 GMT`, the weekday optional."""
    written = text(value)
    if not written or len(written) > _LONGEST_TIME:
        return None
    try:
        return _seconds(parsedate_to_datetime(written))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def name_of_node(node: object) -> NodeName | None:
    """The names of a Node object; None if it has none."""
    name = name_of(mapping(node, "metadata").get("name"))
    if name is None:
        return None
    return NodeName(name, instance_of(mapping(node, "spec").get("providerID")))


def instance_of(provider_id: object) -> str | None:
    """The machine that a providerID names, if it is EC2's: the only cloud whose messages name machines and not nodes.
    Others number them per scale set, so that one number is many machines.
    """
    written = text(provider_id)
    return name_of(written.rsplit("/", 1)[-1]) if written.startswith("aws://") else None


def taints_of(node: object) -> Iterator[Taint]:
    """The taints of a Node object."""
    for taint in items(mapping(node, "spec").get("taints")):
        yield Taint(
            text(taint.get("key"), 512),
            text(taint.get("value"), 512),
            text(taint.get("effect"), 64),
            rfc3339(taint.get("timeAdded")),
        )


def conditions_of(manifest: object) -> Iterator[Condition]:
    """The conditions in an object's status."""
    for condition in items(mapping(manifest, "status").get("conditions")):
        yield Condition(
            text(condition.get("type"), 512),
            text(condition.get("status"), 16),
            text(condition.get("reason"), 1024),
            text(condition.get("message")),
            rfc3339(condition.get("lastTransitionTime")),
        )


def _seconds(parsed: datetime) -> float | None:
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return _bounded(parsed.timestamp())


def _bounded(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and 0.0 <= seconds <= _LATEST else None
