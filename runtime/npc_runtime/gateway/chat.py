"""What a chat completion must look like before any engine is asked: exactly the promises of the OpenAPI document,
checked cheaply.

Everything else is the engine's to judge: fields are passed on as they are, so whatever vLLM accepts is accepted here.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from npc_runtime.gateway.errors import Refused, invalid, malformed
from npc_runtime.gateway.http.limits import MAX_ID_BYTES, MAX_REQUEST_ID_BYTES

ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
MAX_ARCHETYPE = 63

RESUME_SENTENCES: Final = b"Sentences"
"""The one value of X-NPC-Resume."""

UNRESUMABLE: Final = (
    "continue_final_message",
    "echo",
    "functions",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "logprobs",
    "prompt_logprobs",
    "response_format",
    "return_token_ids",
    "structured_outputs",
    "tools",
    "top_logprobs",
    "use_beam_search",
)
"""What an answer could not be begun with halfway, or what is told of a token that no pod said."""

_ID = re.compile(rb"[!-~](?:[ -~]*[!-~])?")
_REQUEST_ID = re.compile(rb"[!-~]+")
_TRACE = re.compile(rb"[!-~](?:[ -~]{0,510}[!-~])?")
_TRACE_HEADERS = ((b"traceparent", b"traceparent: "), (b"tracestate", b"tracestate: "))


def parse_completion(body: bytes) -> dict[str, Any]:
    """The request body as a dictionary, its `model` a plausible archetype and its `messages` a list of messages.

    Raises:
        Refused: not JSON, or not a chat completion (400).

    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(invalid(f"The body is not valid JSON: {error}.")) from error
    if not isinstance(payload, dict):
        raise Refused(invalid("The body must be a JSON object."))
    model = payload.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_ARCHETYPE:
        raise Refused(invalid(f"'model' must be the name of an archetype, 1 to {MAX_ARCHETYPE} characters.", "model"))
    messages = payload.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(invalid("'messages' must be a list with at least one message.", "messages"))
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in ROLES:
            raise Refused(invalid(f"Each message needs a 'role' out of {', '.join(sorted(ROLES))}.", "messages"))
    stream = payload.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise Refused(invalid("'stream' must be true or false.", "stream"))
    return payload


def set_engine_fields(payload: dict[str, Any], *, priority: int | None, cache_salt: str | None) -> None:
    """Put in what the gateway says to the engine beside the line. A caller's own `priority` never gets there: it would
    jump the queue, or be an error where engines have none; and where its key has a salt, neither does its own."""
    if priority is not None:
        payload["priority"] = priority
    else:
        payload.pop("priority", None)
    if cache_salt is not None:
        payload["cache_salt"] = cache_salt


def write_completion(payload: dict[str, Any], served_name: str) -> bytes:
    """The body for an engine that knows the archetype by `served_name`.

    Raises:
        Refused: nested deeper than can be written (254 levels; reading bears 1,024), which is 400.

    """
    payload["model"] = served_name
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        raise Refused(invalid("The body is nested too deeply.")) from error


def parse_id(name: str, value: bytes | None) -> bytes | None:
    """An id header: printable ASCII, 1 to 256 characters, or absent.

    Raises:
        Refused: anything else (400).

    """
    if value is None:
        return None
    if len(value) > MAX_ID_BYTES or _ID.fullmatch(value) is None:
        raise Refused(invalid(f"{name} must be 1 to {MAX_ID_BYTES} printable ASCII characters.", name))
    return value


def parse_resume(value: bytes | None, payload: dict[str, Any]) -> bool:
    """Whether a stream may be told in whole sentences, so that another pod can go on with it.

    Raises:
        Refused: the header has another value, or the answer could not be told like that (400).

    """
    if value is None:
        return False
    if value != RESUME_SENTENCES:
        raise Refused(invalid(f"X-NPC-Resume must be '{RESUME_SENTENCES.decode()}'.", "X-NPC-Resume"))
    for name in UNRESUMABLE:
        if payload.get(name):
            raise Refused(invalid(f"'{name}' cannot go with X-NPC-Resume.", name))
    if payload.get("n") not in (None, 1):
        raise Refused(invalid("'n' must be 1 with X-NPC-Resume.", "n"))
    if not isinstance(payload.get("stream_options"), dict | None):
        raise Refused(invalid("'stream_options' must be an object.", "stream_options"))
    return bool(payload.get("stream"))


def take_request_id(value: bytes | None) -> str | None:
    """The client's own request id if it is one that can be logged and sent back, else None."""
    if value is None or len(value) > MAX_REQUEST_ID_BYTES or _REQUEST_ID.fullmatch(value) is None:
        return None
    return value.decode("ascii")


def trace_lines(headers: dict[bytes, bytes]) -> bytes:
    """The only client headers that reach an engine: W3C trace context, as whole header lines.

    Raises:
        Refused: one of them could not be a header value (400).

    """
    lines = b""
    for name, start in _TRACE_HEADERS:
        value = headers.get(name)
        if value is not None:
            if _TRACE.fullmatch(value) is None:
                raise Refused(malformed(f"The header '{name.decode()}' is malformed."))
            lines += start + value + b"\r\n"
    return lines
