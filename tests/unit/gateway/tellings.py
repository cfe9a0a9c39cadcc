"""An engine's side of streamed answers, as bytes, for tests of how they are told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npc_runtime.gateway.http.engine_answer import ChunkedAnswer, dechunk

PROMPT_TOKENS = 7


@dataclass(frozen=True)
class Speaker:
    """An engine that wants to say these tokens, and says the rest of them to whoever brings their beginning."""

    tokens: Sequence[str]
    name: str = "one"
    counts: bool = True
    """Whether it counts with every event, as it is asked to."""

    def stream(self, payload: Mapping[str, Any]) -> bytes:
        """The chunks of its whole answer to this request, the terminal one left out."""
        tokens = list(self.tokens)
        prompt = PROMPT_TOKENS
        last = payload["messages"][-1]
        if payload.get("continue_final_message"):
            assert last["role"] == "assistant"
            assert payload["add_generation_prompt"] is False
            tokens, skipped = _after(tokens, last["content"])
            prompt += skipped
        limit = payload.get("max_tokens", len(tokens) + 1)
        said, reason = tokens[:limit], "length" if limit <= len(tokens) else "stop"
        options = payload.get("stream_options", {})
        events = [self._event({"role": "assistant", "content": ""}, None, prompt, 0)]
        for number, token in enumerate(said, 1):
            over = reason if number == len(said) else None
            events.append(self._event({"content": token}, over, prompt, number))
        if not said:
            events.append(self._event({"content": ""}, "stop", prompt, 0))
        if options.get("include_usage"):
            events.append({**self._envelope(), "choices": [], "usage": _usage(prompt, len(said))})
        return b"".join(chunk(json.dumps(event).encode()) for event in events) + chunk(b"[DONE]")

    def _event(self, delta: dict[str, str], over: str | None, prompt: int, made: int) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": over}
        counted = {"usage": _usage(prompt, made)} if self.counts else {}
        return {**self._envelope(), "choices": [choice], **counted}

    def _envelope(self) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.name}", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def chunk(data: bytes) -> bytes:
    """One event in its own chunk."""
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


@dataclass(frozen=True)
class Heard:
    """What a client understood."""

    text: str
    finish: str | None
    usage: Mapping[str, int] | None
    done: bool
    ids: frozenset[str]
    roles: int
    marks: int
    counted: Sequence[Mapping[str, int]]


def hear(chunks: bytes) -> Heard:
    """Read a stream as a client library does."""
    text, finish, usage, done, ids, roles, marks = "", None, None, False, set(), 0, 0
    counted: list[Mapping[str, int]] = []
    events = dechunk(chunks).decode().split("\n\n")
    assert events.pop() == "", "an event without its end"
    for event in events:
        if event.startswith(": "):
            marks += event == ": X-NPC-Resumed: true"
            continue
        data = event.removeprefix("data: ")
        if data == "[DONE]":
            done = True
            continue
        assert not done
        body = json.loads(data)
        ids.add(body["id"])
        if not body["choices"]:
            usage = body["usage"]
            continue
        if "usage" in body:
            counted.append(body["usage"])
        (choice,) = body["choices"]
        assert finish is None, "words after the end"
        text += choice["delta"].get("content", "")
        roles += "role" in choice["delta"]
        finish = choice["finish_reason"]
    return Heard(text, finish, usage, done, frozenset(ids), roles, marks, counted)


def up_to(stream: bytes, place: int) -> bytes:
    """What of a stream that breaks at this byte the gateway passes on."""
    return ChunkedAnswer().feed(stream[:place])


def _usage(prompt: int, made: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + made, "completion_tokens": made}


def _after(tokens: Sequence[str], told: str) -> tuple[list[str], int]:
    """The tokens after `told`, and how many those before were; a token that it ends in is cut."""
    assert "".join(tokens).startswith(told), "the beginning is not what was said"
    skipped = 0
    for number, token in enumerate(tokens):
        if skipped + len(token) > len(told):
            return [token[len(told) - skipped :], *tokens[number + 1 :]], number
        skipped += len(token)
    return [], len(tokens)
