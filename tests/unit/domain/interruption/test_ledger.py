"""What an interruption cost is counted once, whoever restarts meanwhile."""

from __future__ import annotations

import pytest

from npc_operator.domain.interruption.ledger import Counts, Ledger, Sample, account, read_ledger


def look(at: float, ready: int, leaving: int = 0, **gateways: Counts) -> Sample:
    return Sample(at=at, gateways=gateways, ready=ready, target=3, leaving=leaving)


def test_what_is_lost_and_how_long_too_few_were_ready_is_added_up_until_all_is_well() -> None:
    ledger = account(None, look(0, 3, one=Counts(lost=7)))
    assert ledger is None, "nothing to account for"
    ledger = account(ledger, look(10, 3, leaving=1, one=Counts(lost=7, rerouted=1)))
    ledger = account(ledger, look(20, 2, leaving=1, one=Counts(lost=7, rerouted=4)))
    ledger = account(ledger, look(50, 2, one=Counts(lost=8, rerouted=4, downgraded=2)))
    assert ledger is not None
    assert not ledger.over
    ledger = account(ledger, look(80, 3, one=Counts(lost=8, rerouted=4, downgraded=2)))
    assert ledger is not None
    assert ledger.over
    assert (ledger.lost, ledger.rerouted, ledger.downgraded, ledger.seconds_below_target) == (1, 3, 2, 60.0)
    assert ledger.words() == "1 lines lost, 3 re-routed, 2 downgraded, 60 s below target"
    assert account(ledger, look(900, 2, one=Counts(lost=99))) is ledger, "not of this interruption"
    again = account(ledger, look(1000, 3, leaving=1, one=Counts(lost=99)))
    assert again is not None
    assert (again.since, again.lost) == (1000, 0)


def test_gateways_that_restart_or_are_silent_take_nothing_away_and_add_no_history() -> None:
    ledger = account(None, look(0, 3, leaving=1, one=Counts(lost=5)))
    ledger = account(ledger, look(1, 3, leaving=1))
    ledger = account(ledger, look(2, 3, leaving=1, one=Counts(lost=6), two=Counts(lost=1000)))
    ledger = account(ledger, look(3, 3, leaving=1, two=Counts(lost=1001)))
    assert ledger is not None
    assert ledger.lost == 2


def test_it_survives_the_operator_and_a_clock_that_is_set_back() -> None:
    ledger = account(None, look(0, 2, leaving=1, one=Counts(lost=5)))
    assert ledger is not None
    ledger = account(read_ledger(ledger.write()), look(-50, 2, leaving=1, one=Counts(lost=6)))
    assert ledger is not None
    ledger = account(read_ledger(ledger.write()), look(30, 2, leaving=1, one=Counts(lost=6)))
    assert isinstance(ledger, Ledger)
    assert (ledger.lost, ledger.seconds_below_target) == (1, 30.0)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "x", '{"last":1}', '{"last":{"a":{"x":1}},"since":0,"at":0,"below":1}', "{" * 9999]
)
def test_what_is_no_ledger_counts_as_none(text: str) -> None:
    assert read_ledger(text) is None
