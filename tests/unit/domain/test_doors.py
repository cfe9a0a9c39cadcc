"""When a gateway that is not heard is named, and when it counts as gone."""

from __future__ import annotations

import pytest

from npc_operator.domain.doors import GONE_MARGIN_SECONDS, SILENT_SECONDS, gone_at, is_silent, may_serve
from npc_operator.domain.facts import Pod

END = 1_790_000_000.0
DEAD = Pod("eu", "gw-0", "u1", "gateway", deleting=True, ends="2026-09-21T14:13:20Z")


@pytest.mark.parametrize(
    ("since", "expected"),
    [(None, False), (END, False), (END - SILENT_SECONDS + 1, False), (END - SILENT_SECONDS, True)],
)
def test_a_short_silence_is_not_worth_a_word(since: float | None, expected: bool) -> None:
    assert is_silent(since, END) is expected


@pytest.mark.parametrize(
    ("pod", "since", "expected"),
    [
        (DEAD, END - 500, END + GONE_MARGIN_SECONDS),
        (DEAD, END + 30, END + 30 + GONE_MARGIN_SECONDS),
        (DEAD, None, None),
        (Pod("eu", "gw-0", "u1", "gateway"), END - 500, None),
        (Pod("eu", "gw-0", "u1", "gateway", deleting=True, ends=DEAD.ends, ready=True), END - 500, None),
        (Pod("eu", "gw-0", "u1", "gateway", deleting=True, ends="?"), END - 500, None),
    ],
    ids=["silent before its end", "silent after its end", "heard", "not deleted", "ready", "no time"],
)
def test_a_gateway_is_gone_a_margin_after_both_its_grace_and_its_last_word(
    pod: Pod, since: float | None, expected: float | None
) -> None:
    assert gone_at(pod, since) == expected


@pytest.mark.parametrize(
    ("pod", "heard", "expected"),
    [
        (Pod("eu", "gw-0", "u1", "gateway", ready=True), False, True),
        (Pod("eu", "gw-0", "u1", "gateway", phase="Running", deleting=True), False, True),
        (Pod("eu", "gw-0", "u1", "gateway", phase="Running"), True, True),
        (Pod("eu", "gw-0", "u1", "gateway", phase="Running"), False, False),
        (Pod("eu", "gw-0", "u1", "gateway", phase="Pending", deleting=True), False, False),
    ],
    ids=["ready", "ending its lines", "heard", "starting", "to go before it started"],
)
def test_a_gateway_may_serve_from_when_it_is_heard_or_ready_until_it_is_gone(
    pod: Pod, heard: bool, expected: bool
) -> None:
    assert may_serve(pod, heard=heard) is expected
