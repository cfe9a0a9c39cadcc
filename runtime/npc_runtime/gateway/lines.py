"""`POST /v1/npcs/{npc}/lines`: one line for a game server that wants words and no events.

The request says who speaks to whom about what; here it becomes the chat that every archetype is asked with, and the
answer's words are taken out of what an engine sends. Everything between, from the caller's key to the scripted line, is
that of any line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote_to_bytes

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from npc_runtime.gateway import errors
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.answer import Client
from npc_runtime.gateway.chat import MAX_ARCHETYPE
from npc_runtime.gateway.errors import Fault, Refused, invalid
from npc_runtime.gateway.http.response import JSON

_PATH: Final = re.compile(rb"/v1/npcs/((?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)/lines")
"""A segment as RFC 3986 has it; what may be in an NPC's id is judged once it is decoded."""

_ROLES: Final = {"player": "user", "npc": "assistant"}

MAX_TEXT: Final = 8192
MAX_SCENE: Final = 16384
MAX_TURNS: Final = 64
MAX_TOKENS: Final = 4096


def _as_integer(value: object) -> object:
    """JSON knows one kind of number: 60.0 is an integer, as its schema says."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Turn(_Part):
    """Something that was said before."""

    who: Literal["player", "npc"] = Field(description="Who said it.")
    text: str = Field(min_length=1, max_length=MAX_TEXT, description="The words.")


class Context(_Part):
    """What the NPC knows of this conversation."""

    scene: str = Field(
        default="", max_length=MAX_SCENE, description="Where and when this is, and what the NPC knows; told first."
    )
    turns: tuple[Turn, ...] = Field(
        default=(), max_length=MAX_TURNS, description="What was said before, the oldest first."
    )


class LineRequest(_Part):
    """What the player says to the NPC."""

    archetype: str = Field(
        min_length=1, max_length=MAX_ARCHETYPE, description="The NPC's kind of character, whose voice answers."
    )
    text: str = Field(min_length=1, max_length=MAX_TEXT, description="What the player says.")
    context: Context = Field(default=Context(), description="What came before.")
    max_tokens: Annotated[int, BeforeValidator(_as_integer)] = Field(
        default=256, alias="maxTokens", ge=1, le=MAX_TOKENS, description="After so many tokens the line is cut."
    )

    def payload(self) -> dict[str, Any]:
        """The chat completion that is asked."""
        messages = [{"role": "system", "content": self.context.scene}] if self.context.scene else []
        messages += [{"role": _ROLES[turn.who], "content": turn.text} for turn in self.context.turns]
        messages.append({"role": "user", "content": self.text})
        return {"model": self.archetype, "messages": messages, "max_tokens": self.max_tokens, "stream": False}


def find_npc(path: bytes) -> bytes | None:
    """The NPC's id in the path of a line; None for every other path."""
    match = _PATH.fullmatch(path)
    return None if match is None else unquote_to_bytes(match.group(1))


def parse_line(body: bytes) -> LineRequest:
    """The request body.

    Raises:
        Refused: not JSON, or not such a request (400); its `param` is the path of the first field that is wrong.

    """
    try:
        return LineRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise Refused(
                invalid(f"The body is not valid JSON: {first['msg'].removeprefix('Invalid JSON: ')}.")
            ) from None
        path = _path(first["loc"])
        raise Refused(invalid(f"'{path}': {first['msg']}." if path else f"The body: {first['msg']}.", path)) from None


def _path(place: tuple[int | str, ...]) -> str | None:
    """`context.turns[3].text`"""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return path.removeprefix(".") or None


class LineClient:
    """The connection that asked for a line, as an exchange sees it. Implements `answer.Client`."""

    __slots__ = ("_client", "_record", "_said")

    def __init__(self, client: Client, record: Record) -> None:
        self._client = client
        self._record = record
        self._said: tuple[str, str | None] | None = None

    def read(self, body: bytes) -> bool:
        """Whether an engine's whole answer has words in it; they are kept to be sent."""
        self._said = _words(body)
        return self._said is not None

    def send_whole(self, status: int, content_type: bytes, body: bytes, extra: bytes) -> None:
        """Send the line, or an engine's refusal as it is."""
        if status >= 400:
            self._client.send_whole(status, content_type, body, extra)
        elif self._said is not None or self.read(body):
            self._client.send_whole(status, JSON, self._line(), extra)
        else:
            self.send_fault(errors.engine_failed(), b"")

    def send_fault(self, fault: Fault, extra: bytes) -> None:
        """Send a refusal."""
        self._client.send_fault(fault, extra)

    def start_stream(self, content_type: bytes, extra: bytes, data: bytes) -> Callable[[bytes], None]:
        """An engine streams what it was not asked to: nothing of that is sent."""
        return _ignore

    def end_stream(self, data: bytes, trailer: bytes) -> None:
        """Say that no line came of it."""
        self.send_fault(errors.engine_failed(), b"")

    def break_stream(self, data: bytes) -> None:
        """Say that no line came of it."""
        self.send_fault(errors.engine_failed(), b"")

    def _line(self) -> bytes:
        record = self._record
        text, finish_reason = self._said or ("", None)
        return orjson.dumps(
            {
                "npc": record.npc,
                "archetype": record.archetype,
                "text": text,
                "tier": record.served_tier or record.tier,
                "digest": record.digest if record.digest.startswith("sha256:") else None,
                "degraded": bool(record.degraded),
                "level": record.degraded or "Adapter",
                "finishReason": finish_reason,
                "requestId": record.request_id,
            }
        )


def _ignore(data: bytes) -> None:
    """Where nothing goes."""


def _words(body: bytes) -> tuple[str, str | None] | None:
    """The words of a chat completion and why they end; None where there are none."""
    try:
        (choice,) = orjson.loads(body)["choices"]
        text, finish_reason = choice["message"]["content"], choice.get("finish_reason")
    except (orjson.JSONDecodeError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if not isinstance(text, str) or not (text := text.strip()):
        return None
    return text, finish_reason if isinstance(finish_reason, str) else None
