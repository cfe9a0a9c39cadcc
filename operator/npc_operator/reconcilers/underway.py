"""What gateways may come to use before anybody hears that they do: what a status that is being written will route, and
tables that were pushed and not answered. A call that got no answer may still be carried out, so it counts until a
newer word of the same gateway, or of the same status, is known.
"""

from __future__ import annotations

from collections.abc import Iterable

from npc_operator.api.archetypeadapter import ArchetypeAdapterStatus
from npc_operator.domain.facts import Adapter
from npc_operator.reconcilers.world import Door
from npc_runtime.wire import Stamp, served_name

MOST_SENT = 66
"""Tables that are remembered as pushed to one gateway: more than those whose content is (`routebook.REMEMBERED`)."""


class UnderWay:
    """Statuses and tables on their way. Lives as long as one leadership."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, str], tuple[str, tuple[tuple[int, int], ...]]] = {}
        """By gateway: its pod's uid, and the tables that were pushed to it since the last that it is known to go by."""
        self._coming: dict[str, dict[str, frozenset[tuple[str, str]]]] = {}
        """By namespace and adapter: what routes may name as soon as a status is written."""

    def send(self, door: Door, applied: Stamp | None, stamp: Stamp) -> None:
        """A table is about to be pushed to a gateway that is known to go by another one, or by nothing."""
        known = self.pushed_after(door, (0, 0) if applied is None else applied.order())
        orders = (*(order for order in known if order != stamp.order()), stamp.order())
        if len(orders) > MOST_SENT:
            # A gateway that is heard and takes none for days. One whose content nobody remembers stands for all such.
            orders = (orders[0], *orders[2:])
        self._sent[door.pod.namespace, door.pod.name] = (door.pod.uid, orders)

    def pushed_after(self, door: Door, applied: tuple[int, int]) -> Iterable[tuple[int, int]]:
        """The stamps of what a gateway may go by instead of what it is known to go by."""
        uid, orders = self._sent.get((door.pod.namespace, door.pod.name), ("", ()))
        return [order for order in orders if order > applied] if uid == door.pod.uid else ()

    def forget_gateway(self, namespace: str, name: str) -> None:
        """The pod is gone."""
        self._sent.pop((namespace, name), None)

    def expect(self, adapter: Adapter, status: ArchetypeAdapterStatus) -> None:
        """This status is about to be written. Routes follow it whatever the spec has come to name meanwhile, so pods
        keep what it speaks of until it is settled what became of that."""
        coming = self._coming.setdefault(adapter.meta.namespace, {})
        named = {
            (variant.tier, served_name(adapter.spec.archetype, revision.digest))
            for variant in status.variants
            for revision in (variant.stable, variant.candidate)
            if revision is not None
        }
        # With what an earlier write spoke of that nobody answered: it may still be made.
        coming[adapter.meta.name] = coming.get(adapter.meta.name, frozenset()) | named

    def settle(self, namespace: str, adapter: str) -> None:
        """What was expected of an adapter is in the store, or will not come."""
        coming = self._coming.get(namespace, {})
        coming.pop(adapter, None)
        if not coming:
            self._coming.pop(namespace, None)

    def is_coming(self, namespace: str, wanted: tuple[str, str]) -> bool:
        """Whether a status that is being written speaks of a served name of a tier."""
        return any(wanted in names for names in self._coming.get(namespace, {}).values())
