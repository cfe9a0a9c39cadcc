"""The last resort: a line that somebody wrote for the archetype, said in the same form as any answer of an engine.

The line is chosen by a hash of who speaks and what was said, so that a retry gets the same answer, and another question
another one.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import orjson

SERVED_BY: Final = "scripted"
"""What stands where another answer has its digest, and its model."""

CONTENT_TYPE: Final = b"text/event-stream; charset=utf-8"
_MAX_CHOICES: Final = 16


def pick_line(lines: Sequence[str], *, archetype: str, npc: bytes | None, messages: Sequence[Mapping[str, Any]]) -> str:
    """The line for this NPC and the last thing that was said to it."""
    said: object = ""
    for message in reversed(messages):
        if message.get("role") == "user":
            said = message.get("content")
            break
    key = b"\x00".join((archetype.encode(), npc or b"", orjson.dumps(said)))
    return lines[int.from_bytes(sha256(key).digest()[:8], "big") % len(lines)]


def whole_body(line: str, payload: Mapping[str, Any]) -> bytes:
    """The answer to a request that wants no stream."""
    message = {"role": "assistant", "content": line}
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": "stop"}
        for index in range(_choices(payload))
    ]
    return orjson.dumps({**_envelope("chat.completion"), "choices": choices, "usage": _USAGE})


def stream_chunks(line: str, payload: Mapping[str, Any]) -> bytes:
    """All chunks of a streamed answer but the terminal one: an event that names the speaker, one for each word, one
    that ends each choice, the usage if it was asked for, and [DONE]."""
    envelope = _envelope("chat.completion.chunk")
    words = [word if index == 0 else f" {word}" for index, word in enumerate(line.split(" "))]
    events: list[dict[str, Any]] = []
    for index in range(_choices(payload)):
        deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": word}, None) for word in words]
        deltas.append(({"content": ""}, "stop"))
        events += [
            envelope | {"choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}
            for delta, finish_reason in deltas
        ]
    options = payload.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        events.append(envelope | {"choices": [], "usage": _USAGE})
    return b"".join(_chunk(orjson.dumps(event)) for event in events) + _chunk(b"[DONE]")


_USAGE: Final = {"prompt_tokens": 0, "total_tokens": 0, "completion_tokens": 0}


def _envelope(kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": SERVED_BY}


def _choices(payload: Mapping[str, Any]) -> int:
    wanted = payload.get("n")
    return wanted if isinstance(wanted, int) and 1 <= wanted <= _MAX_CHOICES else 1


def _chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)
