"""The product's own decisions, given to the platform."""

from __future__ import annotations

from collections.abc import Iterable

from npc_operator.domain.keys import Key
from npc_operator.loop.store import Change, Store
from npc_operator.manifests.network import OperatorPeer
from npc_operator.ports import Outside
from npc_operator.reconcilers import Reconcilers
from npc_operator.reconcilers.triggers import triggers
from npc_operator.settings import Settings


class FleetDecisions:
    """The product's own decisions (npc_operator.reconcilers)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def triggers(self, store: Store, change: Change) -> Iterable[Key]:
        return triggers(store, change)

    def begin(self, store: Store, outside: Outside) -> Reconcilers:
        peer = None
        if self._settings.in_cluster:
            labels = {"app.kubernetes.io/name": "npc-operator"}
            peer = OperatorPeer(namespace=self._settings.own_namespace, labels=labels)
        return Reconcilers(store, outside, operator=peer)
