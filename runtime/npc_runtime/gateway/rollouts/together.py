"""What several event loops saw of the candidates, as one. The main process asks them twice a second while something is
being tried; each knows its own counts only, so it is here that few bad answers each come to too many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from npc_runtime import wire
from npc_runtime.gateway.rollouts.guard import why_withdrawn
from npc_runtime.gateway.rollouts.tally import Pair, Seen, What, keep_newest, pairs_of
from npc_runtime.gateway.table import CompiledTable

_SUMS = ("pairs", "slower", "timed", "over_limit", "fallen", "unjudged")
_COUNTS = ("requests", "probes", "errors", "truncated", "empty", "mismatched")


class Together:
    """The sums, also over workers that are gone: to the operator this is one process."""

    def __init__(self) -> None:
        self._trying: dict[Pair, wire.AliasRollout] = {}
        self._gone: dict[Pair, Seen] = {}
        self._live: dict[int, dict[Pair, Seen]] = {}
        self._withdrawn: dict[What, tuple[Pair, str]] = {}

    @property
    def withdrawn(self) -> Sequence[tuple[Pair, str]]:
        """What was taken off and why, for workers that start later."""
        return list(self._withdrawn.values())

    def apply(self, table: CompiledTable) -> None:
        """Forget the counts of pairs that this table does not have."""
        self._trying = pairs_of(table)
        self._gone = {pair: seen for pair, seen in self._gone.items() if pair in self._trying}
        self._withdrawn = keep_newest(self._withdrawn, self._trying)

    def hear(self, said: Iterable[tuple[int, Sequence[Seen]]], living: Set[int]) -> list[tuple[Pair, str]]:
        """Take over what workers (by process id) say; returns which candidates must now be taken off everywhere, and
        why."""
        for worker, all_seen in said:
            self._live[worker] = {seen.pair: seen for seen in all_seen if seen.pair in self._trying}
        for worker in self._live.keys() - living:
            for pair, seen in self._live.pop(worker).items():
                if pair in self._trying:
                    self._gone[pair] = _plus(self._gone.get(pair), seen)
        news = []
        for seen in self.seen():
            rollout = self._trying[seen.pair]
            why = seen.withdrawn or why_withdrawn(rollout.guard, seen.candidate_counts)
            if why and seen.pair.what not in self._withdrawn:
                self._withdrawn[seen.pair.what] = (seen.pair, why)
                news.append((seen.pair, why))
        return news

    def seen(self) -> tuple[Seen, ...]:
        """The sums, in the table's order."""
        found = []
        for pair in self._trying:
            total = self._gone.get(pair)
            for by_pair in self._live.values():
                if pair in by_pair:
                    total = _plus(total, by_pair[pair])
            if total is not None:
                off = self._withdrawn.get(pair.what)
                found.append(total if off is None else total.model_copy(update={"withdrawn": off[1]}))
        return tuple(found)


def _plus(one: Seen | None, other: Seen) -> Seen:
    if one is None:
        return other
    return one.model_copy(
        update={
            **{name: getattr(one, name) + getattr(other, name) for name in _SUMS},
            "stable_counts": _plus_counts(one.stable_counts, other.stable_counts),
            "candidate_counts": _plus_counts(one.candidate_counts, other.candidate_counts),
            # Workers hear the same characters, so theirs are no sum.
            "npcs": max(one.npcs, other.npcs),
            "lowest_heard": _lower(one.lowest_heard, other.lowest_heard),
            "withdrawn": one.withdrawn or other.withdrawn,
        }
    )


def _plus_counts(one: wire.AnswerCounts, other: wire.AnswerCounts) -> wire.AnswerCounts:
    sums = {name: getattr(one, name) + getattr(other, name) for name in _COUNTS}
    return wire.AnswerCounts(**sums, first_bad_ms=_lower(one.first_bad_ms, other.first_bad_ms))


def _lower(one: int | None, other: int | None) -> int | None:
    return min((number for number in (one, other) if number is not None), default=None)
