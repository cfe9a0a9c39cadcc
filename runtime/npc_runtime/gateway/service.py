"""What the data port serves: the few paths that exist, who may use them, and the way from a parsed request to an
exchange.

Holds everything the connections of one event loop share. Several event loops (processes) each have their own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Final, Protocol

import orjson

from npc_runtime import wire
from npc_runtime.gateway import chat, errors
from npc_runtime.gateway.access_log import AccessLog, Record
from npc_runtime.gateway.admission import Admission
from npc_runtime.gateway.affinity import Affinity
from npc_runtime.gateway.answer import Client
from npc_runtime.gateway.asking import Asking
from npc_runtime.gateway.callers import Callers, Proof
from npc_runtime.gateway.errors import Fault, Refused
from npc_runtime.gateway.exchange import Exchange
from npc_runtime.gateway.fleet import Fleet
from npc_runtime.gateway.forecast import Forecasts
from npc_runtime.gateway.http.parser import RequestHead
from npc_runtime.gateway.http.response import JSON
from npc_runtime.gateway.lines import find_npc
from npc_runtime.gateway.metrics import Metrics
from npc_runtime.gateway.openapi import document
from npc_runtime.gateway.pursuit import Means
from npc_runtime.gateway.rollouts.observer import NOBODY, Chooser, Observer
from npc_runtime.gateway.routing import choose_target
from npc_runtime.gateway.table import Alias, CompiledTable, Target

log = logging.getLogger(__name__)

COMPLETIONS: Final = b"/v1/chat/completions"
MODELS: Final = b"/v1/models"
OPENAPI: Final = b"/openapi.json"
_METHODS: Final = {COMPLETIONS: b"POST", MODELS: b"GET", OPENAPI: b"GET"}
_DEFAULT_LIMITS: Final = wire.GatewayLimits()

SWEEP_SECONDS: Final = 0.25
"""How often deadlines are compared and the access log is handed on."""


class Connection(Client, Protocol):
    """What the service needs of a client's connection."""

    record: Record | None
    proof: Proof | None
    deadline: float

    @property
    def is_idle(self) -> bool:
        """Whether no byte of a request is here and no answer is running."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether a request is arriving or being answered."""
        ...

    def run(self, exchange: Exchange) -> None:
        """Let an exchange answer the present request."""

    def expire(self) -> None:
        """The deadline of the present state has passed."""

    def close(self) -> None:
        """Close after what was written is sent."""

    def abort(self) -> None:
        """Close now."""


class ByHash:
    """Chooses by the NPC's hash alone, and nobody counts. Implements `Chooser`."""

    def choose(self, alias: Alias, npc: bytes | None) -> tuple[Target, Observer]:
        """The digest for this NPC."""
        return choose_target(alias, npc), NOBODY


class Service:
    """The data plane of one event loop."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        access_log: AccessLog,
        workers: int = 1,
        prefix_affinity: bool = True,
    ) -> None:
        """`workers` event loops share the region's limits; with `prefix_affinity` lines go where their beginning is
        cached."""
        self.loop = loop
        self.metrics = metrics
        self.fleet = Fleet(loop)
        self.fleet.affinity = Affinity() if prefix_affinity else None
        self.callers = Callers()
        self.admission = Admission(lambda tier: len(self.fleet.accepting(tier)))
        self.forecasts = Forecasts()
        self.chooser: Chooser = ByHash()
        """Takes effect with the next table."""
        self._asking: Asking | None = None
        self.draining = False
        """Answers say `Connection: close` from now on."""
        self._access_log = access_log
        self._workers = workers
        self._connections: set[Connection] = set()
        self._openapi = orjson.dumps(document())
        # Unique without asking the kernel for randomness each time: a random start per process, then counting.
        self._id_start = os.urandom(6).hex()
        self._id_count = 0
        self._aged_at = 0.0
        self._quiet = asyncio.Event()

    @property
    def limits(self) -> wire.GatewayLimits:
        """The region's bounds, or the defaults while there is no table."""
        table = self.fleet.table
        return _DEFAULT_LIMITS if table is None else table.limits

    @property
    def connections(self) -> int:
        """Open client connections."""
        return len(self._connections)

    @property
    def busy(self) -> int:
        """Connections with an answer that is running or still being sent."""
        return sum(connection.is_busy for connection in self._connections)

    def apply(self, table: CompiledTable) -> None:
        """Serve from this table from now on."""
        self.fleet.apply(table)
        means = Means(self.fleet, self.chooser, self.admission, self.forecasts, self.loop)
        self._asking = Asking(means, self.callers, self.metrics)
        self.metrics.keep_only({(archetype, tier) for archetype in table.archetypes for tier in table.tiers})
        self.callers.apply(table, workers=self._workers)
        self.admission.apply(table.source, workers=self._workers)
        self.forecasts.keep_only(frozenset(table.tiers))
        if self.fleet.affinity is not None:
            self.fleet.affinity.apply(table.source, workers=self._workers)

    # --- for connections

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; False when there are too many already."""
        self._connections.add(connection)
        return len(self._connections) * self._workers <= self.limits.max_connections

    def dismiss(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self._connections.discard(connection)
        self.note_end()

    def note_end(self) -> None:
        """Called at the end of each answer and connection; wakes who waits for the last one."""
        if self.draining and not self.busy:
            self._quiet.set()

    async def wait_until_quiet(self, seconds: float) -> bool:
        """Wait, at most so long, until nothing is busy; whether that came true. Only once `draining` is set."""
        self._quiet.clear()  # a quiet moment while routes still led here says nothing of what came after it
        self.note_end()
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    def begin(self, head: RequestHead | None) -> tuple[Record, bytes]:
        """A record for a new request (None: one that could not be parsed), and the header line with its id."""
        request_id = None if head is None else chat.take_request_id(head.headers.get(b"x-request-id"))
        if request_id is None:
            self._id_count += 1
            request_id = f"{self._id_start}-{self._id_count:x}"
        record = Record(request_id)
        if head is not None:
            record.method = head.method.decode("ascii")
            record.path = head.path.decode("latin-1")
        return record, b"X-Request-Id: " + request_id.encode("ascii") + b"\r\n"

    def precheck(self, connection: Connection, head: RequestHead) -> Fault | None:
        """What can be refused before a body is read: path, method, readiness, key."""
        method = _METHODS.get(head.path)
        if method is None:
            if find_npc(head.path) is None:
                return errors.unknown_path()
            method = b"POST"
        if head.method != method:
            return errors.method_not_allowed(method.decode())
        if head.path == OPENAPI:
            return None
        table = self.fleet.table
        if table is None:
            return errors.not_ready()
        try:
            proof = self.callers.identify(table, connection.proof, head.headers.get(b"authorization", b""))
        except Refused as refusal:
            return refusal.fault
        connection.proof = proof
        if connection.record is not None:
            connection.record.key_name = proof.caller.name
        return None

    def answer(self, connection: Connection, head: RequestHead, body: bytes) -> None:
        """Answer one whole request that passed `precheck`, now or through an exchange.

        Raises:
            Refused: the request is not one that can be sent to an engine.

        """
        if head.path == COMPLETIONS:
            self._ask().complete(connection, head, body)
        elif head.path in _METHODS:
            self._describe(connection, head.path)
        elif (npc := find_npc(head.path)) is not None:
            self._ask().say(connection, head, body, npc)

    def _ask(self) -> Asking:
        if self._asking is None:
            raise Refused(errors.not_ready())
        return self._asking

    def _describe(self, connection: Connection, path: bytes) -> None:
        if connection.record is not None:
            connection.record.status = 200
        self.metrics.unrouted.count_answer(200)
        proof = connection.proof
        if path != MODELS or proof is None:
            connection.send_whole(200, JSON, self._openapi, b"")
        else:
            connection.send_whole(200, JSON, proof.caller.models(), b"")

    def count_refusal(self, connection: Connection, fault: Fault) -> None:
        """Count a refusal, unless the exchange that ended with it already has."""
        record = connection.record
        if record is not None and record.status == 0:
            record.status = fault.status
            record.reason = fault.reason.value
            self.metrics.unrouted.count_answer(fault.status)
            self.metrics.unrouted.count_error(fault.reason)

    def log(self, record: Record) -> None:
        """Take the record of a finished request."""
        if self._access_log.enabled:
            record.at = time.time()
            self._access_log.add(record)

    # --- housekeeping

    async def sweep_for_ever(self) -> None:
        """Run until cancelled: expire what lasted too long, age engine connections, hand the access log on."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep(self.loop.time())

    def sweep(self, now: float) -> None:
        """One round of housekeeping at loop time `now`."""
        for connection in [connection for connection in self._connections if connection.deadline < now]:
            try:
                connection.expire()
            except Exception:  # one that cannot be ended properly must not keep the others for ever
                log.exception("a connection could not be expired and is cut off")
                connection.abort()
        self.admission.wake()
        if now - self._aged_at >= 1.0:
            self._aged_at = now
            self.fleet.close_aged_connections()
        self._access_log.flush()

    def close_idle(self) -> None:
        """Close the connections without a request."""
        for connection in [connection for connection in self._connections if connection.is_idle]:
            connection.close()

    def abort_all(self) -> None:
        """Close every connection now."""
        for connection in list(self._connections):
            connection.abort()
        self.fleet.close()
