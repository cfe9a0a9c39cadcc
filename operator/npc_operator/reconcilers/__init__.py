"""Observe, decide, act, publish: one module per kind of key. The loop needs `Reconcilers` and `triggers` only."""

from npc_operator.reconcilers.root import Reconcilers
from npc_operator.reconcilers.triggers import triggers

__all__ = ["Reconcilers", "triggers"]
