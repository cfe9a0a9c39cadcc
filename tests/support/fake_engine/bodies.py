"""Bodies in vLLM's own words and FastAPI's: what is not a chat's answer."""

from __future__ import annotations

import hmac
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web


def is_allowed(request: web.Request, keys: Sequence[str]) -> bool:
    """Whether a request brings one of the keys, if there are any."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    matches = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
    return not keys or (scheme.lower() == "bearer" and any(matches))


async def read_body(request: web.Request, required: Sequence[str]) -> tuple[dict[str, Any] | None, web.Response]:
    """The request's JSON object, or None and the refusal that FastAPI would give."""
    nothing = web.Response()
    if request.content_type != "application/json":
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        return None, error_response(message, "Bad Request", None, 400)
    try:
        body = json.loads(await request.read())
    except json.JSONDecodeError as error:
        message = (
            f"1 validation error:\n  {{'type': 'json_invalid', 'loc': 'body.{error.pos}', 'msg': 'JSON decode error', "
            f"'input': '<dict of 0 items>', 'ctx': {{'error': '{error.msg}'}}}}"
        )
        return None, error_response(message, "Bad Request", f"body.{error.pos}", 400)
    for name in required:
        if name not in body:
            return None, invalid(("missing", "Field required", f"<dict of {len(body)} items>"), f"body.{name}")
    return body, nothing


def invalid(fault: tuple[str, str, str], place: str) -> web.Response:
    kind, text, given = fault
    shown = given if given.startswith("'") else repr(given)
    message = f"1 validation error:\n  {{'type': '{kind}', 'loc': '{place}', 'msg': '{text}', 'input': {shown}}}"
    return error_response(message, "Bad Request", place, 400)


def error_response(message: str, kind: str, parameter: str | None, status: int) -> web.Response:
    return json_response({"error": {"message": message, "type": kind, "param": parameter, "code": status}}, status)


def plain_response(text: str) -> web.Response:
    # vLLM sends this text without a Content-Type; aiohttp insists on one, and nobody should look at it.
    return web.Response(body=text.encode())


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=compact(value), status=status, headers={"Content-Type": "application/json", **(headers or {})}
    )


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def break_off(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Break the connection without an end of the body, as a dying process does; aiohttp takes it for a client gone."""
    if request.transport is not None:
        request.transport.abort()
    return response


def card(name: str, root: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
    now = int(time.time())
    permission = {
        "id": f"modelperm-{uuid.uuid4().hex[:16]}",
        "object": "model_permission",
        "created": now,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": now,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [permission],
    }
