"""The OpenAPI document of the data port. Static, and held true by a test that generates requests from it
(schemathesis)."""

from __future__ import annotations

from npc_runtime.gateway.http.limits import MAX_ID_BYTES
from npc_runtime.gateway.openapi_parts import (
    COMMON_ERRORS,
    FORBIDDEN,
    ID_PATTERN,
    LINE_ERRORS,
    LINE_HEADERS,
    NOT_READY,
    PLAYER_ID,
    REQUEST_ID,
    RESUME,
    SCHEMAS,
    TIER,
    UNAUTHORIZED,
    Json,
    error,
    header,
)
from npc_runtime.gateway.retelling import MARK

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
                header(
                    "X-NPC-Id",
                    "gold-vampire-0001",
                    "Which NPC speaks: decides the tier by its prefix, and keeps one voice during a rollout.",
                    minLength=1,
                    maxLength=MAX_ID_BYTES,
                    pattern=ID_PATTERN,
                ),
                PLAYER_ID,
                TIER,
                RESUME,
                REQUEST_ID,
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
                    "headers": {
                        **LINE_HEADERS,
                        "Trailer": {
                            "description": f"With X-NPC-Resume: `{MARK}`, which follows a stream that was resumed.",
                            "required": False,
                            "schema": {"const": MARK},
                        },
                    },
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
                **LINE_ERRORS,
            },
        }
    },
    "/v1/npcs/{npc}/lines": {
        "post": {
            "operationId": "createLine",
            "summary": "One line of an NPC, in words",
            "description": (
                "What a game server needs of a line, and no more: the same keys, tiers, rollouts and fallbacks as chat "
                "completions, and never streamed. The scene is told first, then what was said before, then the "
                "player's words."
            ),
            "security": [{"apiKey": []}],
            "parameters": [
                {
                    "name": "npc",
                    "in": "path",
                    "required": True,
                    "description": (
                        "Which NPC speaks, percent-encoded where needed: decides the tier by its prefix, and keeps one "
                        "voice during a rollout."
                    ),
                    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES, "pattern": ID_PATTERN},
                    "example": "quest-lady-orlok",
                },
                PLAYER_ID,
                TIER,
                REQUEST_ID,
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/LineRequest"},
                        "example": {
                            "archetype": "vampire",
                            "text": "Who goes there?",
                            "context": {
                                "scene": "Midnight, at the castle's gate. It rains.",
                                "turns": [
                                    {"who": "player", "text": "Open!"},
                                    {"who": "npc", "text": "The master sleeps."},
                                ],
                            },
                            "maxTokens": 60,
                        },
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "The line.",
                    "headers": LINE_HEADERS,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Line"}}},
                },
                **LINE_ERRORS,
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
                **COMMON_ERRORS,
                "401": UNAUTHORIZED,
                "403": FORBIDDEN,
                "413": error("The body is too large."),
                "503": NOT_READY,
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
                **COMMON_ERRORS,
                "413": error("The body is too large."),
            },
        }
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
            "schemas": SCHEMAS,
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
