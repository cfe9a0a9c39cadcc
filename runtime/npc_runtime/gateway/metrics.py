"""What the gateway counts. Counting on the hot path is a few additions to plain integers; Prometheus' form is made when
it is scraped.

Series exist per (archetype, tier) of the present table and for requests that never got that far (both labels empty),
so their number is bounded by the table; series of archetypes that left the table leave too. NPC and player ids are
never labels.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from npc_runtime.gateway.errors import Reason

FIRST_TOKEN_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
"""Bounds around what a spoken line may take to begin."""

DURATION_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Bounds up to the default request timeout."""


Dumped = list[Any]
"""One series as JSON: archetype, tier, in flight, retries, resumed lines, answers, errors, degraded lines, and two
histograms as counts and total."""


class Histogram:
    """Counts of observations per bucket, not cumulative until they are read."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def add(self, counts: list[int], total: float) -> None:
        """Add another histogram's observations."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts, strict=True)]
        self.total += total

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative (upper bound, count) pairs as Prometheus wants them."""
        running = 0
        pairs: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            pairs.append((bound, float(running)))
        return pairs


class Series:
    """Everything counted for one archetype on one tier."""

    __slots__ = ("answers", "degraded", "duration", "errors", "first_token", "in_flight", "resumed", "retries")

    def __init__(self) -> None:
        self.in_flight = 0
        self.answers: dict[int, int] = {}
        self.errors: dict[Reason, int] = {}
        self.degraded: dict[str, int] = {}
        """Lines answered by less than what was asked for, by the level that answered."""
        self.retries = 0
        self.resumed = 0
        """Lines that broke off and that another pod went on with, or was asked to."""
        self.first_token = Histogram(FIRST_TOKEN_SECONDS)
        self.duration = Histogram(DURATION_SECONDS)

    def count_answer(self, status: int) -> None:
        """Count one finished request by its status; 499 when the client left first."""
        self.answers[status] = self.answers.get(status, 0) + 1

    def count_error(self, reason: Reason) -> None:
        """Count one failure."""
        self.errors[reason] = self.errors.get(reason, 0) + 1

    def count_degraded(self, level: str) -> None:
        """Count one line that a lower level answered."""
        self.degraded[level] = self.degraded.get(level, 0) + 1


class Metrics:
    """All series of one process."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], Series] = {}
        self.unrouted = Series()
        """Requests refused before archetype and tier were known."""

    def series(self, archetype: str, tier: str) -> Series:
        """The series of a known archetype on a known tier."""
        found = self._series.get((archetype, tier))
        if found is None:
            found = self._series[archetype, tier] = Series()
        return found

    def keep_only(self, known: Collection[tuple[str, str]]) -> None:
        """Drop the idle series whose (archetype, tier) is not among `known`."""
        for key in [key for key, series in self._series.items() if key not in known and series.in_flight == 0]:
            del self._series[key]

    def items(self) -> Iterator[tuple[tuple[str, str], Series]]:
        """Every series with its (archetype, tier) labels."""
        yield ("", ""), self.unrouted
        yield from self._series.items()

    def degraded(self) -> dict[tuple[str, str, str], int]:
        """Downgraded lines by (archetype, tier, level); only those that there are."""
        return {
            (*key, level): count for key, series in self._series.items() for level, count in series.degraded.items()
        }

    def dump(self) -> list[Dumped]:
        """Everything as JSON values, for another process to `add`."""
        return [
            [
                *key,
                series.in_flight,
                series.retries,
                series.resumed,
                {str(status): count for status, count in series.answers.items()},
                {reason.value: count for reason, count in series.errors.items()},
                series.degraded,
                *(series.first_token.counts, series.first_token.total),
                *(series.duration.counts, series.duration.total),
            ]
            for key, series in self.items()
        ]

    def add(self, dumped: list[Dumped]) -> None:
        """Add what another process counted."""
        for archetype, tier, in_flight, retries, resumed, answers, faults, degraded, *histograms in dumped:
            series = self.series(archetype, tier) if archetype else self.unrouted
            series.in_flight += in_flight
            series.retries += retries
            series.resumed += resumed
            for status, count in answers.items():
                series.answers[int(status)] = series.answers.get(int(status), 0) + count
            for reason, count in faults.items():
                series.errors[Reason(reason)] = series.errors.get(Reason(reason), 0) + count
            for level, count in degraded.items():
                series.degraded[level] = series.degraded.get(level, 0) + count
            firsts, first_total, durations, total = histograms
            series.first_token.add(firsts, first_total)
            series.duration.add(durations, total)


Reading = tuple[str, str, Callable[[], float]]
"""Name, help and present value of something without labels."""


class GatewayCollector(Collector):
    """Renders the counts when Prometheus asks."""

    def __init__(
        self,
        metrics: Callable[[], Metrics],
        *,
        gauges: Iterable[Reading],
        counters: Iterable[Reading],
        ejections: Callable[[], Mapping[str, int]],
        waiting: Callable[[], Mapping[str, int]],
    ) -> None:
        self._metrics = metrics
        self._gauges = tuple(gauges)
        self._counters = tuple(counters)
        self._ejections = ejections
        self._waiting = waiting

    def collect(self) -> Iterable[Metric]:
        """Every family, in a fixed order."""
        yield from self._of_lines()
        yield _by_tier(
            CounterMetricFamily,
            "npc_gateway_ejections",
            "How often a pod was left out for what it did to lines.",
            self._ejections(),
        )
        yield _by_tier(GaugeMetricFamily, "npc_gateway_lines_waiting", "Lines that wait for a slot.", self._waiting())
        for name, help_text, value in self._gauges:
            yield GaugeMetricFamily(name, help_text, value=value())
        for name, help_text, value in self._counters:
            yield CounterMetricFamily(name, help_text, value=value())

    def _of_lines(self) -> Iterable[Metric]:
        families = _LineFamilies()
        for key, series in self._metrics().items():
            families.add(key, series)
        return families.all


class _LineFamilies:
    """What is counted of requests and lines, by archetype and tier."""

    def __init__(self) -> None:
        labels = ("archetype", "tier")
        self._requests = CounterMetricFamily(
            "npc_gateway_requests",
            "Finished requests by status code (499: the client left first).",
            labels=(*labels, "code"),
        )
        self._errors = CounterMetricFamily(
            "npc_gateway_errors", "Failed requests by the gateway's reason.", labels=(*labels, "reason")
        )
        self._retries = CounterMetricFamily("npc_gateway_retries", "Requests sent to another pod.", labels=labels)
        self._resumed = CounterMetricFamily(
            "npc_gateway_resumed_lines",
            "Lines that broke off in the middle and that another pod went on with, or was asked to.",
            labels=labels,
        )
        self._degraded = CounterMetricFamily(
            "npc_gateway_degraded_lines",
            "Lines answered by less than the archetype's adapter on the tier that was asked: by another tier, by the "
            "base model, or by a scripted line.",
            labels=(*labels, "level"),
        )
        self._in_flight = GaugeMetricFamily("npc_gateway_requests_in_flight", "Requests being answered.", labels=labels)
        self._first_token = HistogramMetricFamily(
            "npc_gateway_time_to_first_token_seconds",
            "From the end of a request to the first event of its streamed answer.",
            labels=labels,
        )
        self._duration = HistogramMetricFamily(
            "npc_gateway_request_duration_seconds",
            "From the end of a request to the end of its answer.",
            labels=labels,
        )

    @property
    def all(self) -> tuple[Metric, ...]:
        """Each family, in a fixed order."""
        return (
            *(self._requests, self._errors, self._degraded, self._retries),
            *(self._resumed, self._in_flight, self._first_token, self._duration),
        )

    def add(self, key: tuple[str, str], series: Series) -> None:
        """One (archetype, tier), or the requests that never got that far: those have no line to count."""
        for status, count in list(series.answers.items()):
            self._requests.add_metric((*key, str(status)), count)
        for reason, count in list(series.errors.items()):
            self._errors.add_metric((*key, reason.value), count)
        for level, count in list(series.degraded.items()):
            self._degraded.add_metric((*key, level), count)
        if key == ("", ""):
            return
        self._retries.add_metric(key, series.retries)
        self._resumed.add_metric(key, series.resumed)
        self._in_flight.add_metric(key, series.in_flight)
        self._first_token.add_metric(key, series.first_token.buckets(), series.first_token.total)
        self._duration.add_metric(key, series.duration.buckets(), series.duration.total)


def _by_tier(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily], name: str, help_text: str, counts: Mapping[str, int]
) -> Metric:
    family = kind(name, help_text, labels=("tier",))
    for tier, count in counts.items():
        family.add_metric((tier,), count)
    return family
