"""What became of a spot node under load, as news, figures and faults. Pure: pods, statuses, counts of engines and a
tally in, lines out. Times are Unix seconds: the cluster's processes have this host's clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hack.cluster import notices
from hack.demo.summary import Row
from hack.stack.kubectl import Object, condition
from hack.stack.load import Line, Tally
from npc_operator.api import names
from npc_operator.domain.capacity.decide import REVERSAL_SECONDS
from npc_operator.domain.conditions import parse_rfc3339
from npc_operator.domain.interruption.record import Record, read_record

AWAY_SECONDS = 1.0
"""After a pod left the routes no line begins there any more: the promise that is watched here."""
ENOUGH_LINES = 3
"""Lines that a new pod has answered when traffic is back: its probes ended before it was Ready."""

STEPS = {
    "replaced": "one more pod is asked for in its place",
    "unrouted": "no new line goes there any more",
    "covered": "its adapters are resident elsewhere",
    "drained": "the gateways say that no line runs there",
    "evicted": "evicted",
}
"""Of a record's times, and what each means."""


@dataclass(slots=True)
class Departure:
    """A tier whose pods on one node go away and come back there, as pods and statuses tell it."""

    tier: str
    node: str
    leaving: Mapping[str, str]
    """Uid to name of its pods that are on the node when the notice comes."""
    noticed: float = math.inf
    """When the notice was given; not yet."""
    records: dict[str, Record] = field(default_factory=dict)
    """Of the pods that go, the last that was seen."""
    gone: dict[str, float] = field(default_factory=dict)
    elsewhere: float | None = None
    """Another pod of the tier was ready."""
    off: float | None = None
    """The machine ended."""
    back: float | None = None
    """The node was there again."""
    returned: str = ""
    """Uid of the pod that was ready there since."""
    returned_at: float | None = None
    spoke_at: float | None = None
    """That pod had answered lines."""
    begun: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By pod uid: (when it was asked, lines it had ever begun), as its engine counts them."""
    _said: dict[str, str] = field(default_factory=dict)

    @property
    def all_gone(self) -> bool:
        return self.leaving.keys() <= self.gone.keys()

    def note_pod(self, type_: str, pod: Object, now: float) -> list[str]:
        """Learn from an event of the watch on the tier's pods; the news in it for people."""
        meta = pod["metadata"]
        uid = meta["uid"]
        if uid in self.leaving:
            return self._note_leaving(type_, pod, now)
        said = "gone" if type_ == "DELETED" else _state(pod)
        if said == "ready":
            if self.elsewhere is None:
                self.elsewhere = now
            if pod["spec"].get("nodeName") == self.node and self.back is not None and not self.returned:
                self.returned, self.returned_at = uid, now
            said = f"ready on {pod['spec']['nodeName']}, with every adapter proven"
        if self._said.get(uid) == said or (uid not in self._said and said == "gone"):
            return []
        self._said[uid] = said
        return [f"{self._after(now)} {meta['name']}: {said}"]

    def _note_leaving(self, type_: str, pod: Object, now: float) -> list[str]:
        meta, news = pod["metadata"], []
        before = self.records.get(meta["uid"])
        record = read_record((meta.get("annotations") or {}).get(names.ANNOTATION_INTERRUPTION))
        if record is not None:
            self.records[meta["uid"]] = record
            steps = [(at, words) for step, words in STEPS.items() if (at := _at(record, step)) != _at(before, step)]
            for at, words in sorted((at, words) for at, words in steps if at is not None):
                news.append(f"{self._after(at)} {meta['name']}: {words}")
        if type_ == "DELETED" and meta["uid"] not in self.gone:
            self.gone[meta["uid"]] = now
            news.append(f"{self._after(now)} {meta['name']}: gone")
        return news

    def note_tier(self, tier: Object, now: float) -> list[str]:
        """Learn from the tier's status; the news in it for people."""
        capacity = tier.get("status", {}).get("capacity") or {}
        said = f"{capacity.get('mode', 'Normal')}, {capacity.get('reason', '')}: {capacity.get('message', '')}"
        first = "tier" not in self._said
        if self._said.get("tier") == said:
            return []
        self._said["tier"] = said
        return [] if first else [f"{self._after(now)} tier {self.tier}: {said}"]

    def count(self, uid: str, asked: float, begun: float) -> None:
        """What a pod's engine said when it was asked how many lines it has ever begun."""
        counts = self.begun.setdefault(uid, [])
        counts.append((asked, begun))
        since = self.returned_at
        if uid == self.returned and since is not None and self.spoke_at is None:
            first = next((seen for at, seen in counts if at >= since), begun)
            if begun - first >= ENOUGH_LINES:
                self.spoke_at = asked

    def begun_late(self, uid: str) -> int:
        """Lines that began on a pod later than AWAY_SECONDS after it left the routes."""
        left = _at(self.records.get(uid), "unrouted")
        later = [] if left is None else [seen for at, seen in self.begun.get(uid, ()) if at > left + AWAY_SECONDS]
        return int(max(later) - later[0]) if later else 0

    def _after(self, at: float) -> str:
        return "before the notice," if at < self.noticed else f"{at - self.noticed:5.1f} s after the notice,"


def faults(
    tally: Tally, expected: Mapping[tuple[str, str], str], departure: Departure, *, falls_back_to: str
) -> list[str]:
    """What is not as it should be; empty when everything is."""
    found = [f"{_whom(line)}: {line.failure}" for line in tally.failures]
    found += [
        f"{_whom(line)}: answered {line.text!r} under {line.digest or 'no digest'}, which is not what that adapter says"
        for line in tally.mixed(expected)
    ]
    found += [
        f"{_whom(line)}: served by tier {line.tier or '(none)'}"
        for line in tally.lines
        if not line.failure and line.tier != line.ask.tier and not _fell_back(line, departure, falls_back_to)
    ]
    for uid, name in departure.leaving.items():
        record = departure.records.get(uid)
        for step in ("replaced", "unrouted", "evicted"):
            if _at(record, step) is None:
                found.append(f"{name}: the operator never said of it: {STEPS[step]}")
        late = departure.begun_late(uid)
        if late:
            found.append(f"{name}: {late} lines began on it later than {AWAY_SECONDS:.0f} s after it left the routes")
    if not any(line.ask.tier == departure.tier for line in tally.lines):
        found.append(f"nobody spoke on tier {departure.tier}, so nothing was shown")
    if departure.spoke_at is None:
        found.append(f"no pod on {departure.node} answered lines after it was back")
    return found


def rows(tally: Tally, departure: Departure, *, falls_back_to: str) -> list[Row]:
    """The figures. Where several pods went, the last of them counts."""
    fell = sum(_fell_back(line, departure, falls_back_to) for line in tally.lines)

    late = sum(map(departure.begun_late, departure.leaving))

    def step(name: str) -> str:
        times = [_at(departure.records.get(uid), name) for uid in departure.leaving]
        return _since(departure, max((math.inf if at is None else at for at in times), default=None))

    def since_back(at: float | None) -> str:
        return "-" if at is None or departure.back is None else f"{at - departure.back:.1f} s"

    return [
        Row("streaming requests", str(len(tally.lines))),
        Row("failed lines", str(len(tally.failures))),
        Row(f"answered by tier {falls_back_to} for {departure.tier}", str(fell)),
        Row("notice -> replacement asked for", step("replaced")),
        Row("notice -> another pod of the tier is ready", _since(departure, departure.elsewhere)),
        Row("notice -> no new line goes there", step("unrouted")),
        Row("notice -> its adapters are resident elsewhere", step("covered")),
        Row("notice -> no line runs there", step("drained")),
        Row("notice -> evicted", step("evicted")),
        Row("notice -> gone", _since(departure, max(departure.gone.values(), default=None))),
        Row(f"begun there {AWAY_SECONDS:.0f} s after it left the routes", str(late)),
        Row("notice -> the machine ended", _since(departure, departure.off)),
        Row("node back -> a pod is ready there", since_back(departure.returned_at)),
        Row("node back -> lines are answered there", since_back(departure.spoke_at)),
    ]


def bill(tier: Object) -> str:
    """What the operator's own account of the interruption says."""
    seen = tier.get("status", {}).get("interruptions") or {}
    return (
        f"{seen.get('lostLines', 0)} lines lost, {seen.get('reroutedLines', 0)} re-routed, "
        f"{seen.get('downgradedLines', 0)} downgraded, {seen.get('secondsBelowTarget', 0)} s below target"
    )


def stays_until(tier: Object) -> datetime | None:
    """When the on-demand pods that stand in may go at the earliest, by the tier's status; None where none do."""
    capacity: Mapping[str, Any] = tier.get("status", {}).get("capacity") or {}
    if not capacity.get("extraOnDemand") or not capacity.get("lastReversal"):
        return None
    begun = parse_rfc3339(str(capacity["lastReversal"]))
    return None if begun is None else datetime.fromtimestamp(begun + REVERSAL_SECONDS, UTC)


def is_well(node: Object) -> bool:
    """Ready, open, and nothing is said of its end; taints that it was made with are its own."""
    return condition(node, "Ready").get("status") == "True" and not notices.is_noticed(node)


def is_on(pod: Object, node: str) -> bool:
    """A pod that serves there, and that nothing is said of."""
    told = (pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_INTERRUPTION)
    return pod["spec"].get("nodeName") == node and _state(pod) == "ready" and not told


def begun(metrics: str) -> float:
    """How many lines an engine has ever begun, by what it tells Prometheus."""
    counted = ("vllm:request_success_total", "vllm:num_requests_running", "vllm:num_requests_waiting")
    return sum(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith(counted))


def _state(pod: Object) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "is being deleted"
    at = pod["spec"].get("nodeName")
    if not at:
        return f"waits for a node ({pod['metadata']['labels'].get(names.LABEL_SLICE, '')})"
    if condition(pod, "Ready").get("status") == "True":
        return "ready"
    return f"starts on {at}"


def _at(record: Record | None, step: str) -> float | None:
    at = None if record is None else getattr(record, step)
    return None if at is None else float(at)


def _since(departure: Departure, at: float | None) -> str:
    return "-" if at is None or math.isinf(at) else f"{max(0.0, at - departure.noticed):.1f} s"


def _fell_back(line: Line, departure: Departure, tier: str) -> bool:
    return not line.failure and line.ask.tier == departure.tier and line.tier == tier


def _whom(line: Line) -> str:
    return f"{line.ask.npc or line.ask.archetype} on {line.ask.tier or 'the default tier'}"
