"""What the operations of the OpenAPI document are made of: headers, refusals and schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npc_runtime.gateway.chat import MAX_ARCHETYPE, RESUME_SENTENCES, ROLES, UNRESUMABLE
from npc_runtime.gateway.http.limits import MAX_ID_BYTES, MAX_REQUEST_ID_BYTES
from npc_runtime.gateway.lines import LineRequest
from npc_runtime.gateway.retelling import MARK

Json = dict[str, Any]

ID_PATTERN = r"^[!-~]([ -~]*[!-~])?$"


def header(name: str, example: str, description: str, **schema: object) -> Json:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
        "example": example,
    }


def error(description: str, *, headers: Mapping[str, Json] | None = None) -> Json:
    return {
        "description": description,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}, **(headers or {})},
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}

COMMON_ERRORS: Json = {
    "400": error("The request is not HTTP/1.1 or not what the schema says; also what the engine refuses."),
    "408": error("The request did not arrive in time."),
    "414": error("The path is too long."),
    "417": error("An expectation other than 100-continue."),
    "431": error("Request line and headers are too large."),
    "501": error("A transfer coding other than chunked."),
    "505": error("Not HTTP/1.1."),
}

UNAUTHORIZED: Json = error(
    "No valid API key or service account token, or one that has expired.",
    headers={"WWW-Authenticate": {"schema": {"type": "string"}, "description": "Bearer"}},
)

FORBIDDEN: Json = error("The key's policy leaves out this archetype or tier, or the service account may not ask here.")

TOO_MANY: Json = error(
    "The rate of the key or the region is used up, the tier has no room for another line, or the engine has none.",
    headers={
        **RETRY,
        "RateLimit-Policy": {
            "description": "Whose rate it is: so many requests (q) in so many seconds (w). Only for used-up rates.",
            "schema": {"type": "string"},
        },
        "RateLimit": {
            "description": "What is left (r) and when there is more (t, seconds). Only for used-up rates.",
            "schema": {"type": "string"},
        },
    },
)

NOT_READY: Json = error("No route table yet, no pod with the adapter resident, or too many connections.", headers=RETRY)

LINE_HEADERS: Json = {
    "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
    "X-NPC-Served-Tier": {
        "description": "The tier that answered; with a scripted line the tier that was asked.",
        "schema": {"type": "string"},
    },
    "X-NPC-Served-By": {
        "description": "The full digest of the adapter that answered, `base` for the base model, or `scripted`.",
        "schema": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64}|base|scripted)$"},
    },
    "X-NPC-Degraded": {
        "description": (
            "Only where less than the archetype's adapter on the chosen tier answered: its adapter on another tier, "
            "the base model with its persona, or a line that was written before."
        ),
        "required": False,
        "schema": {"type": "string", "enum": ["Tier", "BaseModel", "Scripted"]},
    },
}

PLAYER_ID: Json = header(
    "X-Player-Id",
    "player-17",
    "Who is spoken to; with the NPC's id the conversation, whose lines go to one pod where possible.",
    minLength=1,
    maxLength=MAX_ID_BYTES,
    pattern=ID_PATTERN,
)

TIER: Json = header(
    "X-NPC-Tier",
    "gold",
    "The tier that shall answer, instead of the assigned or default one.",
    minLength=1,
    maxLength=63,
    pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
)

REQUEST_ID: Json = header(
    "X-Request-Id",
    "4f1c-29",
    f"Sent back and logged if it is 1 to {MAX_REQUEST_ID_BYTES} printable ASCII characters; another is made otherwise.",
)

RESUME: Json = header(
    "X-NPC-Resume",
    RESUME_SENTENCES.decode(),
    "Allows another pod to go on with a stream whose engine broke in the middle. The stream then comes in whole "
    "sentences. Where another pod with the same digest goes on, once at most, the stream carries the comment "
    f"`: {MARK}: true`, and ends with the trailer `{MARK}: true`; `id`, `usage` and `max_tokens` are those of the "
    "whole line. Without it, and where no other pod can go on, a broken stream ends with an `error` event. Has no "
    f"effect without `stream`, and cannot go with `n` above 1, {', '.join(UNRESUMABLE)}.",
    enum=[RESUME_SENTENCES.decode()],
)

LINE_ERRORS: Json = {
    **COMMON_ERRORS,
    "401": UNAUTHORIZED,
    "403": FORBIDDEN,
    "404": error("The archetype or tier does not exist in this region."),
    "413": error("The body is too large."),
    "422": error("The engine cannot process the request."),
    "429": TOO_MANY,
    "500": error("The engine failed on this request, on every pod that was asked."),
    "502": error("No engine could be reached, or none gave a usable answer.", headers=RETRY),
    "503": NOT_READY,
    "504": error("The answer took longer than the region allows, or no tier could begin it in time.", headers=RETRY),
}


def _line_schemas() -> Json:
    """Of the request for a line, as it is checked."""
    schema = LineRequest.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    parts: Json = schema.pop("$defs")
    return {name: _untitled(part) for name, part in {**parts, "LineRequest": schema}.items()}


def _untitled(part: Any) -> Any:
    """Without the titles that are made of the fields' names."""
    if isinstance(part, dict):
        return {key: _untitled(value) for key, value in part.items() if key != "title"}
    return [_untitled(each) for each in part] if isinstance(part, list) else part


SCHEMAS: Json = {
    **_line_schemas(),
    "Line": {
        "type": "object",
        "required": [
            *("npc", "archetype", "text", "tier", "digest", "degraded", "level", "finishReason", "requestId"),
        ],
        "properties": {
            "npc": {"type": "string", "description": "Who speaks."},
            "archetype": {"type": "string"},
            "text": {"type": "string", "minLength": 1, "description": "The words."},
            "tier": {
                "type": "string",
                "description": "The tier that answered; with a scripted line the tier that was asked.",
            },
            "digest": {
                "type": ["string", "null"],
                "pattern": "^sha256:[0-9a-f]{64}$",
                "description": "Of the adapter that answered; null where none did.",
            },
            "degraded": {
                "type": "boolean",
                "description": "Whether less answered than the archetype's adapter on the tier that was asked.",
            },
            "level": {
                "enum": ["Adapter", "Tier", "BaseModel", "Scripted"],
                "description": "What answered: Adapter where the line is not degraded, else as X-NPC-Degraded.",
            },
            "finishReason": {
                "type": ["string", "null"],
                "description": "`stop`: the line is whole. `length`: it was cut at maxTokens.",
            },
            "requestId": {"type": "string", "description": "Names this request in the access log."},
        },
        "additionalProperties": False,
    },
    "Completion": {
        "type": "object",
        "required": ["model", "messages"],
        "properties": {
            "model": {"type": "string", "minLength": 1, "maxLength": MAX_ARCHETYPE, "description": "The archetype."},
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["role"],
                    "properties": {"role": {"type": "string", "enum": sorted(ROLES)}},
                    "additionalProperties": True,
                },
            },
            "stream": {"type": ["boolean", "null"], "default": False},
            "priority": {"description": "Taken out: the archetype's importance decides who goes first."},
            "cache_salt": {"description": "Replaced where the caller's key has a salt of its own."},
        },
        "additionalProperties": True,
    },
    "Models": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "object", "created", "owned_by"],
                    "properties": {
                        "id": {"type": "string"},
                        "object": {"const": "model"},
                        "created": {"type": "integer"},
                        "owned_by": {"type": "string"},
                    },
                },
            },
        },
    },
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "integer", "null"]},
                },
            }
        },
    },
}
