"""What the table says of a figure: medians, spreads, verdicts, percentiles."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack.bench.figures import Bar, Figure, cells, number, percentile, render_table


def figure(*runs: float, bar: Bar | None = None, **more: str) -> Figure:
    return Figure(row="change", what="something", unit="ms", runs=runs, bar=bar, **more)


@pytest.mark.parametrize(
    ("runs", "bar", "verdict"),
    [
        ((1.0, 2.0, 3.0), Bar(3), "yes"),
        ((1.0, 2.0, 9.0), Bar(3), "median"),
        ((1.0, 4.0, 9.0), Bar(3), "no"),
        ((0.0, 0.0, 0.0), Bar(0), "yes"),
        ((0.0, 0.0, 1.0), Bar(0), "median"),
        ((900.0,), Bar(1000, least=True), "no"),
        ((1100.0,), Bar(1000, least=True), "yes"),
        ((1.0,), None, ""),
    ],
)
def test_a_bar_is_met_by_the_median_and_a_run_beyond_it_is_said(
    runs: tuple[float, ...], bar: Bar | None, verdict: str
) -> None:
    assert figure(*runs, bar=bar).verdict() == verdict


def test_a_line_shows_every_run_the_median_and_the_spread() -> None:
    line = cells(figure(12.34, 9.0, 1000.4, bar=Bar(40), peer="16 ms"))
    assert line == ("change", "something", "12.3 9 1000", "12.3 ms", "9-1000", "<= 40 ms", "16 ms", "median")


def test_the_table_is_markdown_of_even_width_with_its_notes_below() -> None:
    text = render_table([figure(1.0), figure(100.0, note="on two pods")])
    table, notes = text.split("\n\n")
    assert len({len(line) for line in table.splitlines()}) == 1
    assert table.splitlines()[1].strip("|-") == ""
    assert notes == "- change, something: on two pods"


def test_json_keeps_every_run_and_the_verdict() -> None:
    kept = json.loads(json.dumps(figure(1.0, 2.0, 5.0, bar=Bar(3)).as_json()))
    assert kept["runs"] == [1.0, 2.0, 5.0]
    assert (kept["median"], kept["met"], kept["bar"]["limit"]) == (2.0, "median", 3)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1), (0.07, 7), (0.0, 1), (0.995, 100)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 100))
def test_a_percentile_covers_its_share_and_no_smaller_value_does(values: list[int], percent: int) -> None:
    found = percentile(values, percent / 100)
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00123456, "0.00123"),
        (0.5, "0.5"),
        (12.345, "12.3"),
        (123.4, "123"),
        (1234.5, "1234"),
        (-1.5, "-1.5"),
    ],
)
def test_numbers_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert number(value) == text
