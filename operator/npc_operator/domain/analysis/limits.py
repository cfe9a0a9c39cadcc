"""What a candidate may not do whatever stable does: too many bad answers, too many first tokens that come late.

The same test that may be looked at at any time, against a fixed rate. So one bad answer of three alarms nobody, and a
candidate that answers nothing but errors is known by the third. Gateways hold their own counts against the same limit
with the same formula (`npc_runtime.wire.Guard`; cases in tests/support/vectors/guard.json).
"""

from __future__ import annotations

from npc_operator.domain.analysis.betting import log_evidence
from npc_operator.domain.analysis.evidence import Side

LATE_SHARE = 0.1
"""Share of first tokens that may come later than analysis.maxFirstTokenMilliseconds: a limit is a wish for nearly all,
and one slow minute of the whole tier must not be the adapter's fault."""


def log_over_limit(candidate: Side, max_error_percent: int) -> float:
    """Evidence that more of the candidate's answers are bad than the limit allows. A limit of 100 allows everything, of
    0 not one."""
    return log_evidence(candidate.bad, candidate.requests, max_error_percent / 100.0)


def log_late(timed: int, over_limit: int) -> float:
    """Evidence that more than LATE_SHARE of the candidate's first tokens come too late."""
    return log_evidence(over_limit, timed, LATE_SHARE)
