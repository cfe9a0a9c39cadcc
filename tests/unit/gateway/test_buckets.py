"""Rates are held as a whole by shares that know nothing of each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_runtime import wire
from npc_runtime.gateway.buckets import Bucket, keep_buckets, take_from_all


def rate(per_second: int, burst: int | None = None) -> wire.Rate:
    return wire.Rate(requests_per_second=per_second, burst=burst or per_second)


def passed(bucket: Bucket, *, begin: float, seconds: float, step: float) -> int:
    """How many of requests that come every `step` seconds may pass."""
    count = int(seconds / step)
    return sum(take_from_all((bucket,), begin + number * step) is None for number in range(count))


def test_a_burst_passes_at_once_and_then_the_rate() -> None:
    bucket = Bucket("key", rate(10, 5), share=1, now=0.0)
    assert passed(bucket, begin=0.0, seconds=0.01, step=0.001) == 5
    assert passed(bucket, begin=1.0, seconds=10.0, step=0.01) == pytest.approx(100 + 5, abs=1)


@pytest.mark.parametrize("share", [3, 7, 24])
def test_one_request_a_second_is_not_starved_by_sharing_it_out(share: int) -> None:
    buckets = [Bucket("key", rate(1), share=share, now=0.0) for _ in range(share)]
    first = sum(passed(bucket, begin=0.0, seconds=0.01, step=0.01) for bucket in buckets)
    assert first == share, "a full share holds one token, or nobody would ever pass"
    later = [passed(bucket, begin=1.0, seconds=240.0, step=0.5) for bucket in buckets]
    assert all(later)
    assert sum(later) == pytest.approx(240, rel=0.12)


@given(
    per_second=st.integers(1, 500),
    burst=st.integers(1, 500),
    share=st.integers(1, 40),
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_no_pattern_of_calls_passes_more_than_burst_and_rate(
    per_second: int, burst: int, share: int, gaps: list[float]
) -> None:
    bucket = Bucket("key", rate(per_second, burst), share=share, now=0.0)
    now = 0.0
    count = 0
    for gap in gaps:
        now += gap
        count += take_from_all((bucket,), now) is None
    assert count <= max(1.0, burst / share) + per_second / share * now + 1e-3


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = Bucket("key", rate(1), share=1, now=100.0)
    assert take_from_all((bucket,), 100.0) is None
    assert take_from_all((bucket,), 100.0) is not None
    assert take_from_all((bucket,), 1.0) is not None
    assert take_from_all((bucket,), 100.5) is not None
    assert take_from_all((bucket,), 101.0) is None


def test_who_is_held_back_by_one_bucket_pays_in_none() -> None:
    narrow, wide = Bucket("key", rate(1), share=1, now=0.0), Bucket("region", rate(2), share=1, now=0.0)
    assert take_from_all((narrow, wide), 0.0) is None
    held = take_from_all((narrow, wide), 0.0)
    assert held is not None
    assert held[0] is narrow
    assert held[1] == pytest.approx(1.0)
    assert take_from_all((wide,), 0.0) is None, "the refused request took nothing from the region"


def test_a_new_table_keeps_the_fill_of_what_it_did_not_change() -> None:
    before = keep_buckets({}, {"a": ("key", rate(1)), "b": ("key", rate(1))}, share=1, now=0.0)
    assert take_from_all((before["a"],), 0.0) is None
    after = keep_buckets(before, {"a": ("key", rate(1)), "c": ("key", rate(1))}, share=1, now=0.1)
    assert set(after) == {"a", "c"}
    assert take_from_all((after["a"],), 0.1) is not None
    assert take_from_all((after["c"],), 0.1) is None


def test_more_gateways_make_each_share_smaller_and_give_nothing_away() -> None:
    buckets = keep_buckets({}, {"a": ("key", rate(12))}, share=1, now=0.0)
    shrunk = keep_buckets(buckets, {"a": ("key", rate(12))}, share=4, now=0.0)["a"]
    assert passed(shrunk, begin=0.0, seconds=0.01, step=0.001) == 3
    grown = keep_buckets({"a": shrunk}, {"a": ("key", rate(12))}, share=1, now=0.01)["a"]
    assert passed(grown, begin=0.01, seconds=0.01, step=0.001) == 0


def test_the_headers_speak_of_the_whole_rate() -> None:
    bucket = Bucket("region", rate(10, 40), share=8, now=0.0)
    assert bucket.header_lines(0.3) == (b'RateLimit-Policy: "region";q=40;w=4\r\nRateLimit: "region";r=0;t=1\r\n')
