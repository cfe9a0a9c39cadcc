"""The two ports: TLS with a token for operator and gateways, plain for kubelet and Prometheus. Only HTTP is here; what
it means is elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import ValidationError

from ..wire import (
    LONG_POLL_SECONDS,
    OLDEST_PROTOCOL,
    POD_HEADER,
    PROTOCOL,
    Accepted,
    DesiredSet,
    Refusal,
    Stamp,
    Wire,
    served_name,
)
from .credentials import Credentials
from .keeper import StaleOrderError
from .metrics import Metrics
from .report import Board

BODY_LIMIT = 16 << 20
"""Bytes of one desired set: a thousand adapters with long probes and credentials stay far below."""

_UID_LENGTH = 64
"""Characters of a sender's header that are told back: a uid has 36."""

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """The TLS port's application."""

    def __init__(
        self,
        *,
        board: Board,
        credentials: Credentials,
        metrics: Metrics,
        accept: Callable[[DesiredSet], Awaitable[None]],
        pod_uid: str = "",
    ) -> None:
        self._board = board
        self._pod_uid = pod_uid
        self._credentials = credentials
        self._metrics = metrics
        self._accept = accept

    def application(self) -> web.Application:
        """A new aiohttp application of this API."""
        app = web.Application(client_max_size=BODY_LIMIT, middlewares=[self._guard])
        app.router.add_put("/v1/desired", self._desired)
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/routable", self._routable)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Token first, then whether this pod is meant, then the handler, which is the first to read the body; every
        fault becomes a Refusal without anything of the request in it but a pod's uid.
        """
        response = await self._answer(request, handler)
        resource = request.match_info.route.resource
        self._metrics.request(resource.canonical if resource is not None else "other", response.status)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._credentials.accepts(request.headers.get("Authorization", "")):
            return _refuse(
                401,
                Refusal(reason="Unauthorized", message="the bearer token is neither the current nor the previous one"),
            )
        meant = request.headers.get(POD_HEADER, "")
        if meant and self._pod_uid and meant != self._pod_uid:
            return _refuse(
                421, Refusal(reason="OtherPod", message=f"this is pod {self._pod_uid}, not {meant[:_UID_LENGTH]}")
            )
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return _refuse(413, Refusal(reason="TooLarge", message=f"a message has at most {BODY_LIMIT} bytes"))
        except web.HTTPException as error:
            return _refuse(
                error.status, Refusal(reason="BadMessage" if error.status == 400 else "NotFound", message=error.reason)
            )
        except Exception:
            log.exception("request failed", extra={"path": request.path})
            return _refuse(500, Refusal(reason="Internal", message="unexpected fault of the agent, see its log"))

    async def _desired(self, request: web.Request) -> web.StreamResponse:
        try:
            order = DesiredSet.model_validate_json(await request.read())
        except ValidationError as error:
            return self._bad(_faults(error))
        if not OLDEST_PROTOCOL <= order.protocol <= PROTOCOL:
            self._metrics.order_refused("UnsupportedProtocol")
            message = f"protocol {order.protocol} is not {OLDEST_PROTOCOL} to {PROTOCOL}"
            return _refuse(400, Refusal(reason="UnsupportedProtocol", message=message, current=self._stamp))
        if fault := name_fault(order):
            return self._bad(fault)
        try:
            await self._accept(order)
        except StaleOrderError as stale:
            self._metrics.order_refused("StaleOrder")
            return _refuse(409, Refusal(reason="StaleOrder", message=str(stale), current=stale.current))
        return _json(Accepted(boot_id=self._board.boot_id, stamp=order.stamp, revision=self._board.revision))

    async def _status(self, request: web.Request) -> web.StreamResponse:
        after, boot, wait = _poll_of(request)
        return _json(await self._board.status(after=after, boot=boot, wait=wait))

    async def _routable(self, request: web.Request) -> web.StreamResponse:
        after, boot, wait = _poll_of(request)
        return _json(await self._board.routable(after=after, boot=boot, wait=wait))

    @property
    def _stamp(self) -> Stamp:
        return self._board.content.stamp

    def _bad(self, message: str) -> web.Response:
        self._metrics.order_refused("BadMessage")
        return _refuse(400, Refusal(reason="BadMessage", message=message, current=self._stamp))


def health_application(board: Board, metrics: Metrics) -> web.Application:
    """The plain port: alive while the loop runs, ready as the status report says, and metrics."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        content = board.content
        if content.ready:
            return web.Response(text="ready\n")
        why = (
            "draining"
            if content.draining
            else f"engine {content.engine.state}, {len(content.resident)} adapters proven"
        )
        return web.Response(status=503, text=f"not ready: {why}\n")

    async def show_metrics(_: web.Request) -> web.Response:
        metrics.show(board.content)
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
    return app


def name_fault(order: DesiredSet) -> str:
    """What is wrong with an order's served names, empty if nothing: each must be its archetype's and digest's, and
    appear once.
    """
    seen: set[str] = set()
    for adapter in order.adapters:
        if adapter.served_name != served_name(adapter.archetype, adapter.digest):
            return f"served name {adapter.served_name[:80]!r} is not that of its archetype and digest"
        if adapter.served_name in seen:
            return f"served name {adapter.served_name[:80]!r} appears twice"
        seen.add(adapter.served_name)
    return ""


def _poll_of(request: web.Request) -> tuple[int, str, float]:
    query = request.query
    try:
        after = int(query.get("after", "0"))
        wait = float(query.get("wait", str(LONG_POLL_SECONDS)))
    except ValueError:
        raise web.HTTPBadRequest(reason="after and wait are numbers") from None
    return after, query.get("boot", ""), wait


def _json(message: Wire) -> web.Response:
    return web.Response(body=message.to_bytes(), content_type="application/json")


def _refuse(status: int, refusal: Refusal) -> web.Response:
    return web.Response(status=status, body=refusal.to_bytes(), content_type="application/json")


def _faults(error: ValidationError) -> str:
    """Where a message is wrong, without a word of its content: it may hold secrets."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['type']}" for fault in faults[:5])
