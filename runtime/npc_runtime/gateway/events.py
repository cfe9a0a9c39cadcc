"""Events of a streamed answer that is told anew: read from one engine, written for the client. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(slots=True)
class Event:
    """One event that is not told yet."""

    body: dict[str, Any]
    text: str
    tokens: int
    """Of the whole line, up to the end of this event."""


def frame(events: list[bytes]) -> bytes:
    """Events as one chunk; nothing for none."""
    if not events:
        return b""
    body = b"\n\n".join((*events, b""))
    return b"%x\r\n%b\r\n" % (len(body), body)


def data_event(body: dict[str, Any]) -> bytes:
    """The lines of one event."""
    return b"data: " + orjson.dumps(body)


def with_text(body: dict[str, Any], text: str) -> dict[str, Any]:
    """The same event with other words."""
    choice = body["choices"][0]
    return {**body, "choices": [{**choice, "delta": {**choice["delta"], "content": text}}]}
