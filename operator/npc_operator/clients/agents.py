"""The Agents port: desired sets to the sidecars in engine pods, and their reports back."""

from __future__ import annotations

from collections.abc import Callable

from npc_operator.clients.metrics import Metrics
from npc_operator.clients.transport import PodTransport, Trust
from npc_operator.ports import PortError
from npc_runtime.wire import AGENT_PORT, Accepted, AgentReport, DesiredSet


class AgentClient:
    """Implements ports.Agents over PodTransport."""

    def __init__(self, *, trust: Callable[[str], Trust | None], metrics: Metrics, port: int = AGENT_PORT) -> None:
        self._transport = PodTransport(port=port, trust=trust)
        self._metrics = metrics

    async def close(self) -> None:
        await self._transport.close()

    async def push(self, namespace: str, address: str, desired: DesiredSet, *, pod_uid: str) -> Accepted:
        try:
            accepted = await self._transport.put(namespace, address, "/v1/desired", desired, Accepted, pod_uid=pod_uid)
        except PortError as error:
            self._metrics.pushed("agent", error.reason)
            raise
        self._metrics.pushed("agent", "Accepted")
        return accepted

    async def watch(
        self, namespace: str, address: str, *, pod_uid: str, after: int, boot_id: str, wait_seconds: int
    ) -> AgentReport:
        return await self._transport.poll(
            namespace,
            address,
            "/v1/status",
            AgentReport,
            pod_uid=pod_uid,
            after=after,
            boot_id=boot_id,
            wait_seconds=wait_seconds,
        )
