"""The OpenAPI document of the data port. Static, and held true by a test that generates requests from it
(schemathesis)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npc_runtime.gateway.chat import MAX_ARCHETYPE, ROLES
from npc_runtime.gateway.http.limits import MAX_ID_BYTES, MAX_REQUEST_ID_BYTES

Json = dict[str, Any]

_ID_PATTERN = r"^[!-~]([ -~]*[!-~])?$"


def _header(name: str, example: str, description: str, **schema: object) -> Json:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
        "example": example,
    }


def _error(description: str, *, headers: Mapping[str, Json] | None = None) -> Json:
    return {
        "description": description,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}, **(headers or {})},
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}

_COMMON_ERRORS: Json = {
    "400": _error("The request is not HTTP/1.1 or not what the schema says; also what the engine refuses."),
    "408": _error("The request did not arrive in time."),
    "414": _error("The path is too long."),
    "417": _error("An expectation other than 100-continue."),
    "431": _error("Request line and headers are too large."),
    "501": _error("A transfer coding other than chunked."),
    "505": _error("Not HTTP/1.1."),
}

_UNAUTHORIZED: Json = _error(
    "No valid API key or service account token, or one that has expired.",
    headers={"WWW-Authenticate": {"schema": {"type": "string"}, "description": "Bearer"}},
)

_FORBIDDEN: Json = _error(
    "The key's policy leaves out this archetype or tier, or the service account may not ask here."
)

_TOO_MANY: Json = _error(
    "The rate of the key or the region is used up, the tier has no room for another line, or the engine has none.",
    headers={
        **_RETRY,
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

_NOT_READY: Json = _error(
    "No route table yet, no pod with the adapter resident, or too many connections.", headers=_RETRY
)

_COMPLETION_HEADERS: Json = {
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

_PATHS: Json = {
    "/v1/chat/completions": {
        "post": {
            "operationId": "createChatCompletion",
            "summary": "One line of an NPC",
            "description": (
                "OpenAI's chat completions with an archetype as `model`. Fields beyond the schema go to the engine as "
                "they are. With `stream` the answer is server-sent events that end with `data: [DONE]`; a stream that "
                "cannot be finished carries an event with an `error` object and ends without `[DONE]`. The `model` of "
                "an answer is the served name, which names the adapter's digest."
            ),
            "security": [{"apiKey": []}],
            "parameters": [
                _header(
                    "X-NPC-Id",
                    "gold-vampire-0001",
                    "Which NPC speaks: decides the tier by its prefix, and keeps one voice during a rollout.",
                    minLength=1,
                    maxLength=MAX_ID_BYTES,
                    pattern=_ID_PATTERN,
                ),
                _header(
                    "X-Player-Id",
                    "player-17",
                    "Who is spoken to; with X-NPC-Id the conversation, whose lines go to one pod where possible.",
                    minLength=1,
                    maxLength=MAX_ID_BYTES,
                    pattern=_ID_PATTERN,
                ),
                _header(
                    "X-NPC-Tier",
                    "gold",
                    "The tier that shall answer, instead of the assigned or default one.",
                    minLength=1,
                    maxLength=63,
                    pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
                ),
                _header(
                    "X-Request-Id",
                    "4f1c-29",
                    f"Sent back and logged if it is 1 to {MAX_REQUEST_ID_BYTES} printable ASCII characters; "
                    "another is made otherwise.",
                ),
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/Completion"},
                        "example": {
                            "model": "vampire",
                            "stream": True,
                            "messages": [{"role": "user", "content": "Who goes there?"}],
                        },
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "The line.",
                    "headers": _COMPLETION_HEADERS,
                    "content": {
                        "application/json": {"schema": {"type": "object"}},
                        "text/event-stream": {
                            "schema": {
                                "description": "The fields of one event; its data is JSON, and [DONE] at the end.",
                                "type": "object",
                                "required": ["data"],
                                "properties": {"data": {"type": "string"}},
                            }
                        },
                    },
                },
                **_COMMON_ERRORS,
                "401": _UNAUTHORIZED,
                "403": _FORBIDDEN,
                "404": _error("The archetype or tier does not exist in this region."),
                "413": _error("The body is too large."),
                "422": _error("The engine cannot process the request."),
                "429": _TOO_MANY,
                "500": _error("The engine failed on this request, on every pod that was asked."),
                "502": _error("No engine could be reached, or none gave a usable answer.", headers=_RETRY),
                "503": _NOT_READY,
                "504": _error("The answer took longer than the region allows."),
            },
        }
    },
    "/v1/models": {
        "get": {
            "operationId": "listModels",
            "summary": "The archetypes the key may use",
            "security": [{"apiKey": []}],
            "responses": {
                "200": {
                    "description": "The archetypes, sorted by name.",
                    "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Models"}}},
                },
                **_COMMON_ERRORS,
                "401": _UNAUTHORIZED,
                "403": _FORBIDDEN,
                "413": _error("The body is too large."),
                "503": _NOT_READY,
            },
        }
    },
    "/openapi.json": {
        "get": {
            "operationId": "getOpenApi",
            "summary": "This document",
            "security": [],
            "responses": {
                "200": {
                    "description": "OpenAPI 3.1.",
                    "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
                    "content": {"application/json": {"schema": {"type": "object"}}},
                },
                **_COMMON_ERRORS,
                "413": _error("The body is too large."),
            },
        }
    },
}

_SCHEMAS: Json = {
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


def document() -> Json:
    """The whole document, ready for JSON."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "NPC fleet gateway",
            "version": "1",
            "description": "Lines of game characters from the adapters of their archetypes.",
        },
        "servers": [{"url": "/"}],
        "paths": _PATHS,
        "components": {
            "schemas": _SCHEMAS,
            "headers": {
                "RequestId": {"description": "Names this request in the access log.", "schema": {"type": "string"}}
            },
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key of the region, or the projected token of an allowed service account.",
                }
            },
        },
    }
