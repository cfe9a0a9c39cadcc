"""The words of an answer, out of the bytes an engine sent. Runs off the event loop.

Only what a player would hear counts as words. What cannot be read holds none: an engine's 200 that is no completion
is an empty answer.
"""

from __future__ import annotations

from typing import Any

import orjson

from npc_runtime.gateway.http.engine_answer import dechunk

MAX_TEXT = 16 << 10
"""Characters of one answer that are kept; what follows is not looked at. Far more than a character says in one line."""

_MAX_EVENT_BYTES = 64 << 10
"""Of an event whose end has not come; a longer one is dropped."""


class Words:
    """Takes one answer piece by piece. Never raises: whatever an engine sends, there are words in it or not."""

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}
        self._kept = 0
        self._rest = b""
        self.failed = False
        """The engine said in the middle of its answer that it failed."""
        self._calls = False

    @property
    def text(self) -> str:
        """What was said; several choices one below the other."""
        return "\n".join("".join(parts) for _, parts in sorted(self._parts.items()))

    @property
    def empty(self) -> bool:
        """Whether nothing was said and nothing was done (a tool called)."""
        return not self._calls and not self.text.strip()

    def read_stream(self, data: bytes) -> None:
        """Whole chunks of a stream of events, in their framing."""
        try:
            data = self._rest + dechunk(data)
        except ValueError:
            return
        *events, rest = data.replace(b"\r\n", b"\n").split(b"\n\n")
        self._rest = rest if len(rest) <= _MAX_EVENT_BYTES else b""
        for event in events:
            for line in event.split(b"\n"):
                if line.startswith(b"data:"):
                    self._read(line[5:].strip(), "delta")

    def read_body(self, body: bytes) -> None:
        """A whole answer that was not streamed."""
        self._read(body, "message")

    def _read(self, data: bytes, key: str) -> None:
        if data == b"[DONE]":
            return
        try:
            said = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        if not isinstance(said, dict):
            return
        if said.get("error"):
            self.failed = True
        choices = said.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._read_choice(choice, choice.get(key))

    def _read_choice(self, choice: dict[str, Any], message: object) -> None:
        if not isinstance(message, dict):
            return
        if message.get("tool_calls") or message.get("function_call"):
            self._calls = True
        text = message.get("content")
        if isinstance(text, str) and text and self._kept < MAX_TEXT:
            text = text[: MAX_TEXT - self._kept]
            self._kept += len(text)
            index = choice.get("index", 0)
            self._parts.setdefault(index if isinstance(index, int) else 0, []).append(text)
