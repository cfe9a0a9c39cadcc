"""The data plane as the rest of the process sees it: whatever answers lines, in this process or in several.

One event loop is enough for most regions, so by default everything lives in one process. With more workers each has
an event loop of its own, and this is the whole contract between them and the process that holds the other ports.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from npc_runtime import wire
from npc_runtime.gateway.access_log import AccessLog
from npc_runtime.gateway.client_side import ClientConnection
from npc_runtime.gateway.degradation import Lines
from npc_runtime.gateway.disturbances import Disturbances, count_lines
from npc_runtime.gateway.http import limits
from npc_runtime.gateway.metrics import Metrics
from npc_runtime.gateway.rollouts.chooser import Rollouts
from npc_runtime.gateway.rollouts.judge import Judge
from npc_runtime.gateway.rollouts.prober import Prober
from npc_runtime.gateway.rollouts.tally import Seen
from npc_runtime.gateway.service import Service
from npc_runtime.gateway.supervise import supervise
from npc_runtime.gateway.table import CompiledTable, EndpointKey
from npc_runtime.gateway.tls import ServerTls

BACKLOG = 4096
"""Connections the kernel holds for a busy event loop."""


@dataclass(slots=True)
class Counts:
    """What a data plane has counted, added up over its event loops."""

    metrics: Metrics = field(default_factory=Metrics)
    connections: int = 0
    engine_connections: int = 0
    dropped_lines: int = 0
    ejected: int = 0
    """Pods left out now, counted once for each event loop that leaves them out."""
    ejections: dict[str, int] = field(default_factory=dict)
    """How often a pod was left out, by tier."""
    waiting: dict[str, int] = field(default_factory=dict)
    """Lines that wait for a slot, by tier."""


class DataPlane(Protocol):
    """Answers lines from the table it was given last."""

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError if it cannot be had."""
        ...

    async def apply_everywhere(self, table: CompiledTable) -> None:
        """Return once every event loop serves from the table."""
        ...

    def hear(self, key: EndpointKey, said: wire.Routable) -> None:
        """An agent answered."""
        ...

    def lose(self, key: EndpointKey) -> None:
        """Contact with an agent was lost."""
        ...

    async def counts(self) -> Counts:
        """What was counted up to now."""
        ...

    async def candidates(self) -> Sequence[Seen]:
        """What became of the candidates' answers up to now."""
        ...

    async def degraded(self) -> Lines:
        """Lines that lower levels answered up to now."""
        ...

    async def disturbances(self, lines: bool) -> Disturbances:
        """Lines on pods that have left the table; with `lines` also what went wrong up to now, by tier."""
        ...

    def leave(self) -> None:
        """From now on every answer asks its client to connect anew elsewhere; connections are still accepted."""
        ...

    async def drain(self, seconds: float) -> int:
        """Accept nothing more and let answers finish; returns how many were still running after so long."""
        ...

    async def close(self) -> None:
        """End now."""
        ...


def listen_socket(host: str, port: int, *, shared: bool) -> socket.socket:
    """A listening socket; `shared` lets several processes listen on the port, the kernel spreads connections over them.

    Raises:
        OSError: the port cannot be had.

    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and host == "::":
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


class LocalPlane:
    """The data plane on this event loop. Implements `DataPlane`."""

    def __init__(
        self, access_log: AccessLog, *, workers: int = 1, tls: ServerTls | None = None, prefix_affinity: bool = True
    ) -> None:
        """`workers` is how many processes share the region's limits; with `tls` only HTTPS is spoken; see `Service`
        for `prefix_affinity`."""
        self.metrics = Metrics()
        self._access_log = access_log
        self._tls = tls
        self.service = Service(
            loop=asyncio.get_running_loop(),
            metrics=self.metrics,
            access_log=access_log,
            workers=workers,
            prefix_affinity=prefix_affinity,
        )
        loop, fleet = self.service.loop, self.service.fleet
        self.rollouts = Rollouts(usable=fleet.usable, judge=Judge(loop), clock=loop.time)
        self.service.chooser = self.rollouts
        self._prober = Prober(self.rollouts, fleet, loop)
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, host: str, port: int) -> int:
        """Listen on a socket of our own; there is no other event loop."""
        self.lead()
        listening = listen_socket(host, port, shared=False)
        await self.serve(listening)
        return int(listening.getsockname()[1])

    async def serve(self, listening: socket.socket) -> None:
        """Serve on a socket that listens already."""
        loop = asyncio.get_running_loop()
        self._tasks.append(asyncio.create_task(supervise("the sweep", self.service.sweep_for_ever), name="sweep"))
        make = partial(ClientConnection, self.service)
        if self._tls is None:
            self._server = await loop.create_server(make, sock=listening, backlog=BACKLOG)
            return
        following = supervise("following the data port's certificate", self._tls.follow)
        self._tasks.append(asyncio.create_task(following, name="certificate"))
        self._server = await loop.create_server(
            make,
            sock=listening,
            backlog=BACKLOG,
            ssl=self._tls.context,
            ssl_handshake_timeout=limits.HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=limits.LINGER_SECONDS,
        )

    def lead(self) -> None:
        """Be the event loop that probes: of several only one is told to."""
        probing = supervise("probing candidates", self._prober.probe_for_ever)
        self._tasks.append(asyncio.create_task(probing, name="probes"))

    async def apply_everywhere(self, table: CompiledTable) -> None:
        """Serve from the table from now on."""
        self.service.apply(table)
        self.rollouts.apply(table)
        self._prober.wake()

    def hear(self, key: EndpointKey, said: wire.Routable) -> None:
        """An agent answered."""
        self.service.fleet.hear(key, said)

    def lose(self, key: EndpointKey) -> None:
        """Contact with an agent was lost."""
        self.service.fleet.lose(key)

    async def counts(self) -> Counts:
        """What was counted up to now."""
        return self.counts_now()

    def counts_now(self) -> Counts:
        """The same, without waiting."""
        fleet = self.service.fleet
        pools = sum(endpoint.pool.connections for endpoint in fleet.endpoints)
        return Counts(
            *(self.metrics, self.service.connections, pools, self._access_log.dropped),
            *(fleet.ejected, fleet.ejections, self.service.admission.waiting()),
        )

    async def candidates(self) -> Sequence[Seen]:
        """What became of the candidates' answers up to now."""
        return self.rollouts.seen()

    async def degraded(self) -> Lines:
        """Lines that lower levels answered up to now."""
        return self.metrics.degraded()

    async def disturbances(self, lines: bool) -> Disturbances:
        """Lines on pods that have left the table; with `lines` also what went wrong up to now, by tier."""
        return Disturbances(self.service.fleet.departures(), count_lines(self.metrics) if lines else None)

    def leave(self) -> None:
        """Answers ask their clients to connect anew elsewhere."""
        self.service.draining = True

    async def drain(self, seconds: float) -> int:
        """Accept nothing more and let answers finish."""
        if self._server is not None:
            self._server.close()
        self.service.close_idle()
        return 0 if await self.service.wait_until_quiet(seconds) else self.service.busy

    async def close(self) -> None:
        """End now, and write what is left of the access log."""
        if self._server is not None:
            self._server.close()
        self.service.abort_all()
        # One turn, so that the aborted connections end their records.
        await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.rollouts.close)
        await asyncio.to_thread(self._access_log.close)
