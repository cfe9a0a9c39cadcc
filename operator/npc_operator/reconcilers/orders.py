"""What each agent was last told to have, as far as its own words may be older than that.

An agent that was just told to let an adapter go still says that it is resident, in words that were under way by then.
If the adapter is wanted back in that moment, traffic must not move on such words: its engine is about to lose it. So
what an order left out counts as proven again only once the agent speaks of an order that has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from npc_operator.domain.engines import Engine
from npc_runtime.wire import DesiredAdapter, Stamp


@dataclass(frozen=True, slots=True)
class _Told:
    """The last order that was sent to one process of an agent, whether or not it arrived."""

    pod_uid: str
    boot_id: str
    entries: tuple[DesiredAdapter, ...]
    names: frozenset[str]
    again: Mapping[str, tuple[int, int]]
    """Served names that an order before it did not have, with the first order that has them."""


class OrderBook:
    """Orders of this leadership. Another leader's are not known here: its agents' words are taken as they are."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], _Told] = {}
        self._last: tuple[tuple[DesiredAdapter, ...], frozenset[str]] = ((), frozenset())

    def note(self, engine: Engine, entries: tuple[DesiredAdapter, ...], stamp: Stamp) -> None:
        """This set is about to be sent to an agent that was heard."""
        if engine.agent is None:
            return
        place = (engine.pod.namespace, engine.pod.name)
        known = self._told.get(place)
        if known is not None and known.entries is entries and known.boot_id == engine.agent.boot_id:
            return
        names = self._names(entries)
        again: dict[str, tuple[int, int]] = {}
        if known is not None and (known.pod_uid, known.boot_id) == (engine.pod.uid, engine.agent.boot_id):
            heard = engine.agent.stamp.order()
            again = {name: since for name, since in known.again.items() if name in names and since > heard}
            again.update(dict.fromkeys(names - known.names, stamp.order()))
        self._told[place] = _Told(engine.pod.uid, engine.agent.boot_id, entries, names, again)

    def forget(self, namespace: str, pod: str) -> None:
        """The pod is gone."""
        self._told.pop((namespace, pod), None)

    def doubted(self, engine: Engine, names: Iterable[str]) -> frozenset[str]:
        """Of these served names, those of which the agent's last word is older than what it was told of them since."""
        told = self._told.get((engine.pod.namespace, engine.pod.name))
        agent = engine.agent
        if told is None or agent is None or (told.pod_uid, told.boot_id) != (engine.pod.uid, agent.boot_id):
            return frozenset()
        heard = agent.stamp.order()
        return frozenset(name for name in names if name not in told.names or told.again.get(name, heard) > heard)

    def _names(self, entries: tuple[DesiredAdapter, ...]) -> frozenset[str]:
        """Pods of a tier get the same set, one after the other: its names are collected once."""
        if self._last[0] is not entries:
            self._last = (entries, frozenset(entry.served_name for entry in entries))
        return self._last[1]
