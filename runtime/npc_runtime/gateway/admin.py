"""The operator's side: TLS and a bearer token; routes come in, and a long poll says which are in force."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from math import isnan

from aiohttp import web
from pydantic import ValidationError

from npc_runtime import wire
from npc_runtime.gateway.internal import InternalDir
from npc_runtime.gateway.persistence import MAX_BYTES
from npc_runtime.gateway.routes import Routes, StaleOrder
from npc_runtime.gateway.table import BadTable, compile_table

log = logging.getLogger(__name__)

_UID_LENGTH = 64
"""Characters of a sender's header that are told back: a uid has 36."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _answer(message: wire.Wire, status: int = 200) -> web.Response:
    return web.Response(status=status, body=message.to_bytes(), content_type="application/json")


def _refuse(status: int, refusal: wire.Refusal) -> web.Response:
    return _answer(refusal, status)


def build_admin(*, routes: Routes, internal: InternalDir, pod_uid: str = "") -> web.Application:
    """The application of the admin port. With `pod_uid` what is meant for another pod is refused before its body is
    read."""
    admin = _Admin(routes, internal, pod_uid)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await admin.guard(request, handler)

    app = web.Application(middlewares=[guard], client_max_size=MAX_BYTES)
    app.router.add_put("/v1/routes", admin.put_routes)
    app.router.add_get("/v1/status", admin.get_status)
    return app


class _Admin:
    """Who may ask, and what is answered."""

    def __init__(self, routes: Routes, internal: InternalDir, pod_uid: str) -> None:
        self._routes = routes
        self._internal = internal
        self._pod_uid = pod_uid

    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse whoever may not ask, and whatever is meant for another pod."""
        if not self._internal.allows(request.headers.get("Authorization")):
            return _refuse(401, wire.Refusal(reason="Unauthorized", message="A valid bearer token is required."))
        meant = request.headers.get(wire.POD_HEADER, "")
        if meant and self._pod_uid and meant != self._pod_uid:
            message = f"this is pod {self._pod_uid}, not {meant[:_UID_LENGTH]}"
            return _refuse(421, wire.Refusal(reason="OtherPod", message=message))
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return _refuse(413, wire.Refusal(reason="TooLarge", message=f"At most {MAX_BYTES} bytes."))
        except web.HTTPException as error:
            return _refuse(error.status, wire.Refusal(reason="NotFound", message=error.reason))
        except Exception:  # whatever it is, the operator gets an answer that it understands
            log.exception("a request of the operator could not be handled", extra={"path": request.path})
            return _refuse(500, wire.Refusal(reason="Internal", message="the gateway failed on this request"))

    async def put_routes(self, request: web.Request) -> web.StreamResponse:
        """Put a table in force."""
        data = await request.read()
        try:
            message = wire.RouteTable.model_validate_json(data)
        except ValidationError as error:
            # Only where and what kind: the values may be secrets.
            found = error.errors(include_input=False, include_url=False, include_context=False)[:5]
            problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in found)
            return _refuse(400, wire.Refusal(reason="BadMessage", message=problems))
        if not wire.OLDEST_PROTOCOL <= message.protocol <= wire.PROTOCOL:
            understood = f"Protocols {wire.OLDEST_PROTOCOL} to {wire.PROTOCOL} are understood, not {message.protocol}."
            return _refuse(400, wire.Refusal(reason="UnsupportedProtocol", message=understood))
        try:
            accepted = await self._routes.accept(compile_table(message))
        except BadTable as error:
            return _refuse(400, wire.Refusal(reason="BadMessage", message=str(error)))
        except StaleOrder as error:
            return _refuse(409, wire.Refusal(reason="StaleOrder", message=str(error), current=error.current))
        log.info(
            "a route table is in force",
            extra={
                "epoch": accepted.stamp.epoch,
                "generation": accepted.stamp.generation,
                "revision": accepted.revision,
            },
        )
        return _answer(accepted)

    async def get_status(self, request: web.Request) -> web.StreamResponse:
        """The long poll: what is in force, and what became of candidates."""
        try:
            after = int(request.query.get("after", "-1"))
            seconds = float(request.query.get("wait", "0"))
        except ValueError:
            return _refuse(400, wire.Refusal(reason="BadMessage", message="'after' and 'wait' must be numbers."))
        if isnan(seconds):
            return _refuse(400, wire.Refusal(reason="BadMessage", message="'wait' must be a number."))
        seconds = min(max(seconds, 0.0), float(wire.LONG_POLL_SECONDS))
        boot_id = request.query.get("boot", "")
        return _answer(await self._routes.wait_for_news(boot_id=boot_id, after=after, seconds=seconds))
