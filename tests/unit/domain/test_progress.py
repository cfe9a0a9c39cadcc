"""How far a download is, as a status tells it."""

from __future__ import annotations

import pytest

from npc_operator.domain.progress import describe_bytes


@pytest.mark.parametrize(
    ("done", "total", "told"),
    [
        (0, 0, "size not known yet"),
        (0, 10, "0% of 1 MB"),
        (99, 1000, "5% of 1 MB"),
        (7_999_999_999, 16_000_000_000, "45% of 16.0 GB"),
        (160_000_000, 160_000_000, "100% of 160 MB"),
    ],
)
def test_it_is_told_in_whole_steps_and_in_the_unit_that_fits(done: int, total: int, told: str) -> None:
    assert describe_bytes(done, total) == told
