"""The recorded-like words of clouds and handlers in tests/data/interruptions, and how each kind of file is parsed."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from npc_operator.domain.interruption.notices import Parsed
from npc_operator.domain.interruption.sources import parse_node
from npc_operator.domain.interruption.sources.eventbridge import parse_message
from npc_operator.domain.interruption.sources.kubernetes import parse_pod
from npc_operator.domain.interruption.sources.metadata import parse_report

FOLDER = Path(__file__).parents[3] / "data" / "interruptions"
SEEN = datetime.fromisoformat("2026-08-01T05:40:05+00:00").timestamp()
NODE = "ip-10-0-1-7.eu-west-1.compute.internal"


def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def names(*prefixes: str) -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json") if path.stem.startswith(prefixes))


def parse(name: str, content: object) -> tuple[Parsed, ...]:
    """As the kind of file is parsed: told by the first word of its name."""
    match name.split("-", 1)[0]:
        case "eventbridge":
            return parse_message(json.dumps(content), seen=SEEN)
        case "node":
            return parse_node(content, seen=SEEN)
        case "pod":
            return (parse_pod(content, seen=SEEN),)
        case "report":
            return (parse_report(content, node=NODE, instance=None, seen=SEEN),)
        case other:
            raise AssertionError(f"no parser for {other}")
