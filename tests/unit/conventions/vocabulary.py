"""Every word that users can meet in conditions, events and metrics, collected from where the code defines it."""

from __future__ import annotations

import ast
import inspect
from types import ModuleType

from npc_operator.domain import reasons, tier
from npc_operator.domain.interruption import joining, machine
from npc_operator.reconcilers import events
from npc_runtime.agent.errors import Reason as AgentReason
from npc_runtime.gateway.errors import Reason as GatewayReason


def condition_reasons() -> set[str]:
    """Reasons of conditions and variants, history included."""
    named = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    # Passed on from kubelet as they are.
    return named | tier.CONFIG_FAULTS


def agent_reasons() -> set[str]:
    """Why an adapter is not resident on a pod."""
    return {reason.value for reason in AgentReason}


def gateway_reasons() -> set[str]:
    """Why a line failed."""
    return {reason.value for reason in GatewayReason}


def event_reasons() -> set[str]:
    """Reasons of Events that have words of their own; a Warning about a condition carries the condition's."""
    told = _first_arguments(machine, "Told") | _first_arguments(joining, "Told")
    return _first_arguments(events, "Event") | told


def _first_arguments(module: ModuleType, function: str) -> set[str]:
    """The literals that calls of `function` begin with."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
            first = node.args[0]
            found |= {
                part.value for part in ast.walk(first) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            }
    return found
