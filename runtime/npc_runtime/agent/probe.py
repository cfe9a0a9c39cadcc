"""Whether an answer proves an adapter.

Patterns come from users and answers from a language model, so they are matched by RE2: linear time, whatever both are.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..patterns import BadPattern, Pattern, compile_pattern
from ..wire import Probe
from .errors import Reason, refused


def check_patterns(probe: Probe) -> None:
    """Raises AdapterError(BadPattern) for a pattern that is not RE2."""
    for pattern in (*probe.must_match, *probe.must_not_match):
        _compiled(pattern)


def check_answer(probe: Probe, answer: str) -> None:
    """Raises AdapterError(ProbeMismatch) unless the answer matches every mustMatch and no mustNotMatch. The answer
    itself is not quoted.
    """
    for pattern in probe.must_match:
        if _compiled(pattern).search(answer) is None:
            raise refused(Reason.PROBE_MISMATCH, f"the answer of {len(answer)} characters does not match {pattern!r}")
    for pattern in _matching(probe.must_not_match, answer):
        raise refused(
            Reason.PROBE_MISMATCH, f"the answer of {len(answer)} characters matches {pattern!r}, which it must not"
        )


def _matching(patterns: Sequence[str], answer: str) -> list[str]:
    return [pattern for pattern in patterns if _compiled(pattern).search(answer) is not None]


def _compiled(pattern: str) -> Pattern:
    try:
        return compile_pattern(pattern)
    except BadPattern as error:
        raise refused(Reason.BAD_PATTERN, str(error)) from None
