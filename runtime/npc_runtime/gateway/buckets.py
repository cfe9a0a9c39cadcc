"""How much may be asked: token buckets, of which every event loop of every gateway holds an equal share.

Nobody asks anybody else before a line: a share of the rate is taken locally, so the limit costs two subtractions and
holds as a whole when callers are spread evenly, which the region's Service does for connections. A caller with one
connection gets one loop's share; limits are for abuse, not for accounting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

from npc_runtime import wire


class Bucket:
    """One share of one rate. Times are seconds of a clock that never goes back (`time.monotonic`)."""

    __slots__ = ("_at", "_capacity", "_level", "_per_second", "burst", "label", "share", "whole_rate")

    def __init__(self, label: str, rate: wire.Rate, *, share: int, now: float) -> None:
        """A full bucket; `share` is among how many event loops the rate is divided."""
        self.label = label
        """What RateLimit headers call it."""
        self._at = now
        self._level = 0.0
        self.whole_rate = self.burst = self.share = 0
        self._per_second = self._capacity = 1.0
        self.resize(rate, share=share, now=now)
        self._level = self._capacity

    def resize(self, rate: wire.Rate, *, share: int, now: float) -> None:
        """Go on with another rate or share; what was spent stays spent."""
        self._refill(now)
        self.whole_rate, self.burst, self.share = rate.requests_per_second, rate.burst, share
        self._per_second = rate.requests_per_second / share
        # Less than one whole token would never let anything through: one request a second over three gateways is one
        # in three seconds on each, and not none.
        self._capacity = max(1.0, rate.burst / share)
        self._level = min(self._level, self._capacity)

    def seconds_until_free(self, now: float) -> float:
        """How long until one more may pass; 0 when it may now."""
        self._refill(now)
        return 0.0 if self._level >= 1.0 else (1.0 - self._level) / self._per_second

    def try_take(self, now: float) -> bool:
        """Let one pass, if one may now."""
        level = self._level
        elapsed = now - self._at
        if elapsed > 0:  # as `_refill` does
            self._at = now
            level = self._level = min(self._capacity, level + elapsed * self._per_second + 1e-9)
        if level < 1.0:
            return False
        self._level = level - 1.0
        return True

    def give_back(self) -> None:
        """What was taken just now is not used after all."""
        self._level += 1.0

    def header_lines(self, wait: float) -> bytes:
        """What a refused caller is told, as header lines (draft-ietf-httpapi-ratelimit-headers-10): the region's whole
        rate as so many (`q`) in a window of seconds (`w`), and when more are to be had (`t`)."""
        window = max(1, ceil(self.burst / self.whole_rate))
        return (
            f'RateLimit-Policy: "{self.label}";q={self.whole_rate * window};w={window}\r\n'
            f'RateLimit: "{self.label}";r=0;t={max(1, ceil(wait))}\r\n'
        ).encode()

    def _refill(self, now: float) -> None:
        elapsed = now - self._at
        if elapsed > 0:
            self._at = now
            # A hair is added because thirds of a second do not add up to a whole one in binary.
            self._level = min(self._capacity, self._level + elapsed * self._per_second + 1e-9)


def take_from_all(buckets: Sequence[Bucket], now: float) -> tuple[Bucket, float] | None:
    """Let one request pass that all of these must allow, or none of them pays: then the one that holds it longest, and
    for how many seconds."""
    for index, bucket in enumerate(buckets):
        if not bucket.try_take(now):
            for paid in buckets[:index]:
                paid.give_back()
            break
    else:
        return None
    holding, longest = bucket, 0.0
    for bucket in buckets:
        wait = bucket.seconds_until_free(now)
        if wait > longest:
            holding, longest = bucket, wait
    return holding, longest


def keep_buckets(
    known: Mapping[str, Bucket], wanted: Mapping[str, tuple[str, wire.Rate]], *, share: int, now: float
) -> dict[str, Bucket]:
    """The buckets for the rates of a new table: those that were there go on as full or empty as they are."""
    kept: dict[str, Bucket] = {}
    for key, (label, rate) in wanted.items():
        bucket = known.get(key)
        if bucket is None:
            bucket = Bucket(label, rate, share=share, now=now)
        else:
            bucket.resize(rate, share=share, now=now)
        kept[key] = bucket
    return kept
