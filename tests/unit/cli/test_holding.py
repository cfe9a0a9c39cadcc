"""What a rollout that holds waits for: the operator's own word, else what the spec's numbers say."""

from __future__ import annotations

import pytest

from npc_runtime.cli.explain.target import explain, find_target
from tests.unit.cli import objects as o
from tests.unit.cli.faults import healthy
from tests.unit.cli.moving_faults import on_its_way, voice

PLAYERS, APPROVAL = "TooLittleTraffic", "AwaitingApproval"


@pytest.mark.parametrize(
    ("said", "ceiling", "approved", "told"),
    [
        (PLAYERS, 10, "", PLAYERS),
        (APPROVAL, 100, "", APPROVAL),
        ("", 10, "", APPROVAL),
        ("", 10, o.NEW, PLAYERS),
        ("", 100, "", PLAYERS),
    ],
)
def test_the_operators_word_counts_and_the_ceiling_where_there_is_none(
    said: str, ceiling: int, approved: str, told: str
) -> None:
    rollout = {"steps": [10, 25, 50, 100], "ceilingPercent": ceiling, "approvedDigest": approved}
    world = healthy(adapters=[voice(on_its_way("Holding", said), spec={"rollout": rollout})])
    (link,) = explain(find_target("vampire", world), world, o.NOW).links
    assert link.reason == told
    assert ("a person's approval" in link.says) == (told == APPROVAL)
