"""Whether an answer proves an adapter.

Patterns come from users and answers from a language model, so they are matched by RE2: linear time, whatever both are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, cast

import re2

from ..wire import Probe
from .errors import Reason, refused

_PATTERN_MEMORY = 1 << 20
"""Bytes one compiled pattern may use; a pattern that needs more is refused rather than slow."""


class _Pattern(Protocol):
    def search(self, text: str) -> object | None: ...


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


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> _Pattern:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    try:
        return cast("_Pattern", re2.compile(pattern, options=options))
    except re2.error as error:
        raise refused(Reason.BAD_PATTERN, f"{pattern!r} is not an RE2 pattern: {_text(error)}") from None


def _text(error: Exception) -> str:
    detail = error.args[0] if error.args else ""
    return detail.decode("utf-8", errors="replace") if isinstance(detail, bytes) else str(detail)
