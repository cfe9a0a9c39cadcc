"""Messages between the operator, the agents and the gateways.

This is the only module the operator and the runtime share, so it is the only place where their versions can disagree.
Every message carries `protocol`; a receiver accepts OLDEST_PROTOCOL..PROTOCOL (N and N-1), ignores fields it does not
know, and a sender never removes a field within one protocol number. Orders flow one way: the operator pushes whole
states (never single commands), stamped with an (epoch, generation) that receivers compare lexicographically and refuse
when older; reports flow back through long polls that answer at once when something changed.
"""

from __future__ import annotations

from npc_runtime.wire.agent import (
    AdapterPhase,
    AdapterReport,
    AgentReport,
    DesiredAdapter,
    DesiredSet,
    EngineReport,
    EngineState,
    Probe,
    Routable,
)
from npc_runtime.wire.base import (
    AGENT_HEALTH_PORT,
    AGENT_PORT,
    DIGEST_PATTERN,
    GATEWAY_ADMIN_PORT,
    GATEWAY_HEALTH_PORT,
    GATEWAY_PORT,
    LONG_POLL_SECONDS,
    OLDEST_PROTOCOL,
    POD_HEADER,
    PRE_STOP_SCRIPT,
    PROTOCOL,
    SERVED_NAME_DIGEST_HEX,
    Accepted,
    Refusal,
    Secret,
    Stamp,
    Wire,
    served_name,
    server_name,
)
from npc_runtime.wire.gateway import (
    AnswerCounts,
    GatewayReport,
    RolloutReport,
)
from npc_runtime.wire.routes import (
    Alias,
    AliasRollout,
    ApiKey,
    Assignment,
    Endpoint,
    EngineKey,
    GatewayLimits,
    Guard,
    Identity,
    Override,
    Rate,
    RouteTable,
    Target,
    TierRoutes,
    Voice,
)

__all__ = [
    "AGENT_HEALTH_PORT",
    "AGENT_PORT",
    "Accepted",
    "AdapterPhase",
    "AdapterReport",
    "AgentReport",
    "Alias",
    "AliasRollout",
    "AnswerCounts",
    "ApiKey",
    "Assignment",
    "DIGEST_PATTERN",
    "DesiredAdapter",
    "DesiredSet",
    "Endpoint",
    "EngineKey",
    "EngineReport",
    "EngineState",
    "GATEWAY_ADMIN_PORT",
    "GATEWAY_HEALTH_PORT",
    "GATEWAY_PORT",
    "GatewayLimits",
    "GatewayReport",
    "Guard",
    "Identity",
    "LONG_POLL_SECONDS",
    "OLDEST_PROTOCOL",
    "Override",
    "POD_HEADER",
    "PRE_STOP_SCRIPT",
    "PROTOCOL",
    "Probe",
    "Rate",
    "Refusal",
    "RolloutReport",
    "Routable",
    "RouteTable",
    "SERVED_NAME_DIGEST_HEX",
    "Secret",
    "Stamp",
    "Target",
    "TierRoutes",
    "Voice",
    "Wire",
    "served_name",
    "server_name",
]
