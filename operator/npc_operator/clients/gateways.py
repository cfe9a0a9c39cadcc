"""The Gateways port: route tables to a region's gateways, and which one they have applied."""

from __future__ import annotations

from collections.abc import Callable

from npc_operator.clients.metrics import Metrics
from npc_operator.clients.transport import PodTransport, Trust
from npc_operator.ports import PortError
from npc_runtime.wire import GATEWAY_ADMIN_PORT, Accepted, GatewayReport, RouteTable


class GatewayClient:
    """Implements ports.Gateways over PodTransport."""

    def __init__(
        self, *, trust: Callable[[str], Trust | None], metrics: Metrics, port: int = GATEWAY_ADMIN_PORT
    ) -> None:
        self._transport = PodTransport(port=port, trust=trust)
        self._metrics = metrics

    async def close(self) -> None:
        await self._transport.close()

    async def push(self, namespace: str, address: str, table: RouteTable, *, pod_uid: str) -> Accepted:
        try:
            accepted = await self._transport.put(namespace, address, "/v1/routes", table, Accepted, pod_uid=pod_uid)
        except PortError as error:
            self._metrics.pushed("gateway", error.reason)
            raise
        self._metrics.pushed("gateway", "Accepted")
        return accepted

    async def watch(
        self, namespace: str, address: str, *, pod_uid: str, after: int, boot_id: str, wait_seconds: int
    ) -> GatewayReport:
        return await self._transport.poll(
            namespace,
            address,
            "/v1/status",
            GatewayReport,
            pod_uid=pod_uid,
            after=after,
            boot_id=boot_id,
            wait_seconds=wait_seconds,
        )
