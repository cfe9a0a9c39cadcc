"""The demo's verdict on a swap: what it would let pass, and what it prints."""

from __future__ import annotations

import dataclasses

from hack.demo import summary
from hack.demo.summary import Swap
from hack.stack.load import Ask, Line, Tally

V1, V2 = "sha256:1", "sha256:2"
EXPECTED = {("vampire", V1): "old blood", ("vampire", V2): "new blood"}
SWAP = Swap(archetype="vampire", old=V1, new=V2, applied=100.0, status_seconds=1.0)
ASK = Ask(archetype="vampire", prompt="Who?", tier="gold")


def line(started: float, text: str, digest: str, *, tier: str = "gold", failure: str = "") -> Line:
    return Line(
        ask=ASK,
        intended=started,
        started=started,
        ended=started + 0.05,
        text=text,
        digest=digest,
        tier=tier,
        failure=failure,
    )


GOOD = [
    line(99.0, "old blood", V1),
    line(100.4, "old blood", V1),
    line(100.6, "new blood", V2),
    line(103.0, "new blood", V2),
]


def faults(*lines: Line, swap: Swap = SWAP) -> list[str]:
    return summary.faults(Tally(list(lines)), EXPECTED, swap)


def test_a_clean_swap_has_no_faults() -> None:
    assert faults(*GOOD) == []


def test_one_failed_line_is_a_fault_that_says_whose_when_and_why() -> None:
    (fault,) = faults(*GOOD, line(100.5, "", "", failure="HTTP 503: no pod"))
    assert fault == "vampire on gold, 0.50 s after the apply: HTTP 503: no pod"


def test_one_line_that_is_not_what_its_digest_says_is_a_fault() -> None:
    (fault,) = faults(*GOOD, line(100.5, "old blood", V2))
    assert "'old blood'" in fault
    assert V2 in fault


def test_an_answer_of_another_tier_is_a_fault() -> None:
    (fault,) = faults(*GOOD, line(100.6, "new blood", V2, tier="bronze"))
    assert fault == "vampire on gold: served by tier bronze"


def test_a_load_that_saw_only_one_version_proves_no_swap() -> None:
    (before,) = faults(*GOOD[:2])
    (after,) = faults(*GOOD[2:])
    assert V2 in before
    assert V1 in after


def test_the_old_voice_after_all_traffic_was_said_to_have_moved_is_a_fault() -> None:
    assert faults(*GOOD, line(105.9, "old blood", V1)) == []
    (fault,) = faults(*GOOD, line(106.1, "old blood", V1))
    assert "old digest" in fault


def test_the_figures_are_those_of_the_load() -> None:
    failed = line(100.5, "", "", failure="HTTP 503")
    versions = {V1: "vampire-v1", V2: "vampire-v2"}
    rows = {row.what: row.figure for row in summary.rows(Tally([*GOOD, failed]), SWAP, versions.__getitem__)}
    assert rows == {
        "streaming requests": "5",
        "failures": "1",
        "answered by vampire-v1": "2",
        "answered by vampire-v2": "2",
        "latency p50 / p99": "50 ms / 50 ms",
        "apply -> 100% (status)": "1.00 s",
        "apply -> first line of the new voice": "0.60 s",
        "apply -> last line that still got the old one": "0.40 s",
    }


def test_latency_counts_from_when_a_line_was_to_start() -> None:
    late = dataclasses.replace(GOOD[0], intended=97.0)
    rows = {row.what: row.figure for row in summary.rows(Tally([late]), SWAP, str)}
    assert rows["latency p50 / p99"] == "2050 ms / 2050 ms"


def test_a_load_without_answers_still_has_figures() -> None:
    rows = {row.what: row.figure for row in summary.rows(Tally([]), SWAP, str)}
    assert rows["latency p50 / p99"] == "- / -"
    assert rows["apply -> first line of the new voice"] == "none"
