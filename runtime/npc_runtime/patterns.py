"""Patterns that people write and language models' answers are searched for: matched by RE2, in linear time, whatever
both are."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, cast

import re2

PATTERN_MEMORY = 1 << 20
"""Bytes one compiled pattern may use; a pattern that needs more is refused rather than slow."""


class BadPattern(ValueError):
    """Not an RE2 pattern, or one that needs too much memory."""


class Pattern(Protocol):
    """A compiled pattern."""

    def search(self, text: str) -> object | None:
        """Something truthy where the pattern occurs anywhere in the text."""
        ...


@lru_cache(maxsize=512)
def compile_pattern(pattern: str) -> Pattern:
    """Compile a pattern, once.

    Raises:
        BadPattern: says what is wrong with it.

    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = PATTERN_MEMORY
    try:
        return cast("Pattern", re2.compile(pattern, options=options))
    except re2.error as error:
        detail = error.args[0] if error.args else ""
        text = detail.decode("utf-8", errors="replace") if isinstance(detail, bytes) else str(detail)
        raise BadPattern(f"{pattern!r} is not an RE2 pattern: {text}") from None
