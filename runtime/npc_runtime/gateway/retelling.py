"""A streamed answer that is told in whole sentences, so that another pod can go on with it where the first one broke.

An engine's events are read, and sent on as soon as a sentence is whole. When the engine breaks, the sentence it was in
the middle of was never sent: the next pod is given what was, as the beginning of its own answer, and what it says is
told as the same answer, with the same id, the tokens of both counted once, and the caller's bound on them kept. Costs a
parse of each event, which is why only requests that ask for it are told like this.

Pure but for its own state: bytes of an engine in, bytes for the client out.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from npc_runtime.gateway.events import Event, data_event, frame, with_text
from npc_runtime.gateway.http.engine_answer import dechunk
from npc_runtime.gateway.sentences import last_end

MARK: Final = "X-NPC-Resumed"
"""What a resumed line is marked with: a comment where the next pod went on, and a trailer at the end."""

HEAD: Final = f"Trailer: {MARK}\r\n".encode()
"""The header line that announces it."""

TRAILER: Final = f"{MARK}: true\r\n".encode()
_COMMENT: Final = f": {MARK}: true".encode()

MAX_TOLD: Final = 16 << 10
"""Characters after which a line is too long to be begun again with: far more than a character says at once."""

MAX_HELD: Final = 2048
"""Characters that wait for the end of their sentence; what has none by then is no speech, and is told as it is."""

_MAX_EVENT_BYTES: Final = 256 << 10

_LIMITS: Final = ("max_tokens", "max_completion_tokens")


class Retelling:
    """One line, from the first engine's first event to the last one's end."""

    __slots__ = (
        "_asked_usage",
        "_before",
        "_created",
        "_held",
        "_held_text",
        "_id",
        "_is_speech",
        "_model",
        "_prompt_tokens",
        "_read",
        "_rest",
        "_stops",
        "_told",
        "_told_tokens",
        "_whole_sentences",
        "failed",
        "is_whole",
        "said_done",
        "went_on",
    )

    def __init__(self, payload: dict[str, Any]) -> None:
        """`payload` is the caller's request."""
        self._asked_usage: dict[str, Any] = payload.get("stream_options") or {}
        stop = payload.get("stop")
        stops = stop if isinstance(stop, list) else [stop]
        self._stops = [each for each in stops if isinstance(each, str)]
        self._id: object = None
        self._created: object = None
        self._model: object = None
        self._rest = b""
        self._held: list[Event] = []
        self._held_text = ""
        self._told: list[str] = []
        self._told_tokens = 0
        self._read = 0
        self._before = 0
        """Tokens that the line had when the present engine was asked."""
        self._prompt_tokens: int | None = None
        self._is_speech = True
        """Nothing but words came so far."""
        self._whole_sentences = True
        """What was told ends with a sentence."""
        self.went_on = False
        """Whether another pod was asked to go on."""
        self.failed = False
        """The engine said, in the middle of its answer, that it failed, or something that is no answer."""
        self.is_whole = False
        """Whether all words are here, so that only the end's formalities could be missing."""
        self.said_done = False

    def asking(self, payload: dict[str, Any]) -> dict[str, Any]:
        """A request as engines are asked it: to count their tokens with every event."""
        return {
            **payload,
            "stream_options": {**self._asked_usage, "include_usage": True, "continuous_usage_stats": True},
        }

    # --- from the engine to the client

    def take(self, data: bytes) -> bytes:
        """Whole chunks of an engine's stream; returns what may be told of it, as chunks."""
        *events, self._rest = (self._rest + dechunk(data)).replace(b"\r\n", b"\n").split(b"\n\n")
        told: list[bytes] = []
        for event in events:
            if not self.failed:
                self._take_event(event, told)
        if len(self._rest) > _MAX_EVENT_BYTES:
            self.failed = True
        return frame(told)

    def finish(self) -> bytes:
        """What is missing at the end of a line whose words are all told, because its engine broke after the last."""
        told: list[bytes] = []
        if self._asked_usage.get("include_usage"):
            envelope = {"id": self._id, "object": "chat.completion.chunk", "created": self._created}
            usage = self._usage({}, self._told_tokens)
            told.append(data_event({**envelope, "model": self._model, "choices": [], "usage": usage}))
        told.append(b"data: [DONE]")
        return frame(told)

    # --- going on

    @property
    def may_go_on(self) -> bool:
        """Whether another pod could go on so that nothing is repeated, lost, or cut through."""
        told = self.told
        return (
            not self.went_on
            and not self.is_whole
            and self._is_speech
            and self._whole_sentences
            and len(told) <= MAX_TOLD
            # A stop string that began in what was told would not be seen by an engine that makes only the rest.
            and not any(told.endswith(stop[:cut]) for stop in self._stops for cut in range(1, len(stop)))
        )

    @property
    def told(self) -> str:
        """All words that were told."""
        return "".join(self._told)

    def go_on(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """The request for the pod that goes on, made of the one that the first was asked; None where no token is left
        to be made. Whatever the first engine said beyond its last whole sentence is forgotten."""
        told, tokens = self.told, self._told_tokens
        rest = {**payload}
        for name in _LIMITS:
            if isinstance(limit := payload.get(name), int):
                if limit <= tokens:
                    return None
                rest[name] = limit - tokens
        if isinstance(least := payload.get("min_tokens"), int):
            rest["min_tokens"] = max(0, least - tokens)
        if told:
            rest["messages"] = [*payload["messages"], {"role": "assistant", "content": told}]
            rest["continue_final_message"] = True
            rest["add_generation_prompt"] = False
        self.went_on, self.failed = True, False
        self._rest, self._held, self._held_text = b"", [], ""
        self._before = self._read = tokens
        return rest

    def mark(self) -> bytes:
        """What tells the client, at this place of the stream, that another pod goes on."""
        return frame([_COMMENT])

    # --- reading

    def _take_event(self, event: bytes, told: list[bytes]) -> None:
        data = next((line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")), None)
        if data is None:
            return  # a comment, meant for whoever keeps the connection to the engine
        if data == b"[DONE]":
            self._release(len(self._held), told)
            self.said_done = True
            told.append(b"data: [DONE]")
            return
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict) or body.get("error") or not isinstance(body.get("choices"), list):
            self.failed = True
            return
        self._take_body(body, told)

    def _take_body(self, body: dict[str, Any], told: list[bytes]) -> None:
        if self._id is None:
            self._id, self._created, self._model = body.get("id"), body.get("created"), body.get("model")
        else:
            body |= {"id": self._id, "created": self._created}
        choices, usage = body["choices"], body.pop("usage", None)
        choice = choices[0] if choices and isinstance(choices[0], dict) else {}
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        text = delta.get("content")
        text = text if isinstance(text, str) else ""
        self._count(usage, counts=bool(text))
        if not choices:
            self._release(len(self._held), told)
            if self._asked_usage.get("include_usage"):
                told.append(data_event({**body, "usage": self._usage(usage, self._read)}))
            return
        over = choice.get("finish_reason") is not None
        if self.went_on and self._told and not text and not over:
            return  # who speaks was said already
        self._held.append(Event(body, text, self._read))
        self._held_text += text
        if over:
            self.is_whole = True
            self._release(len(self._held), told)
        elif any(value for key, value in delta.items() if key not in ("role", "content")):
            # Thoughts or a tool's call: no next pod could be given those as its beginning.
            self._is_speech = False
            self._release(len(self._held), told)
        elif text:
            self._release_sentences(told)
        elif not self._held_text:
            self._release(len(self._held), told)

    def _count(self, usage: object, *, counts: bool) -> None:
        """Go by what the engine counts, else by its events: one token each."""
        usage = usage if isinstance(usage, dict) else {}
        made, prompt = usage.get("completion_tokens"), usage.get("prompt_tokens")
        self._read = self._before + made if isinstance(made, int) else self._read + counts
        if self._prompt_tokens is None and isinstance(prompt, int):
            # A pod that goes on is also prompted with what was told.
            self._prompt_tokens = prompt - self._before if self.went_on else prompt

    def _usage(self, usage: object, tokens: int) -> dict[str, Any]:
        prompt = self._prompt_tokens or 0
        counted = usage if isinstance(usage, dict) else {}
        return {
            **counted,
            "prompt_tokens": prompt,
            "total_tokens": prompt + tokens,
            "completion_tokens": tokens,
        }

    # --- telling

    def _release_sentences(self, told: list[bytes]) -> None:
        end = last_end(self._held_text)
        if not end:
            if len(self._held_text) > MAX_HELD:
                self._whole_sentences = False
                self._release(len(self._held), told)
            return
        self._whole_sentences = True
        count = 0
        for event in self._held:
            if len(event.text) > end:
                break
            end -= len(event.text)
            count += 1
        if end:
            # Several tokens in one event, the sentence ending between them.
            event = self._held[count]
            first = Event(with_text(event.body, event.text[:end]), event.text[:end], event.tokens)
            rest = Event(with_text(event.body, event.text[end:]), event.text[end:], event.tokens)
            self._held[count : count + 1] = [first, rest]
            count += 1
        self._release(count, told)

    def _release(self, count: int, told: list[bytes]) -> None:
        for event in self._held[:count]:
            if self._asked_usage.get("include_usage") and self._asked_usage.get("continuous_usage_stats"):
                event.body["usage"] = self._usage({}, event.tokens)
            told.append(data_event(event.body))
            self._told.append(event.text)
            self._told_tokens = event.tokens
        del self._held[:count]
        self._held_text = "".join(event.text for event in self._held)
