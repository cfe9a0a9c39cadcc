"""One chain of causes: from what was asked about down to what began it. Each link is one object and one reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

MESSAGE_LIMIT = 400
"""Characters of a message in a sentence: kubelet and registries can be very long-winded."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One cause. `fine` says that it is no fault: it is there to say that nothing is wrong."""

    object: str
    reason: str
    since: str
    says: str
    next: str = ""
    fine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer about one object."""

    object: str
    fine: bool
    links: tuple[Link, ...]


Rule = Callable[[T], Sequence[Link]]


def first(rules: Sequence[Rule[T]], facts: T) -> tuple[Link, ...]:
    """What the first rule that applies has to say."""
    for rule in rules:
        if found := tuple(rule(facts)):
            return found
    return ()


def gather(rules: Sequence[Rule[T]], facts: T) -> tuple[Link, ...]:
    """What all rules have to say, in their order."""
    return tuple(link for rule in rules for link in rule(facts))


def distinct(links: Sequence[Link]) -> tuple[Link, ...]:
    """Each link once, where it was said first: two voices may hang on one tier."""
    return tuple(dict.fromkeys(links))


def explanation(target: str, links: Sequence[Link]) -> Explanation:
    """The whole answer; without a cause there is nothing wrong."""
    chain = distinct(links)
    return Explanation(object=target, fine=all(link.fine for link in chain), links=chain)


def clip(text: str) -> str:
    """`text` on one line, shortened where it is too long for a sentence."""
    plain = " ".join(text.split())
    return plain if len(plain) <= MESSAGE_LIMIT else plain[: MESSAGE_LIMIT - 1] + "…"


def sentence(text: str) -> str:
    """`text` on one line, shortened, ending with one full stop."""
    plain = clip(text).rstrip(". ")
    return plain if plain.endswith("…") else plain + "."


def seconds_since(then: str, now: float) -> float | None:
    """Seconds from an RFC 3339 time to `now` (unix seconds); None if it is no time."""
    try:
        return now - datetime.fromisoformat(then).timestamp()
    except ValueError:
        return None


def how_long(then: str, now: float) -> str:
    """`5m` or `2h 10m`, empty if nobody knows; as coarse as people say it."""
    passed = seconds_since(then, now)
    if passed is None:
        return ""
    seconds = max(0, int(passed))
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 7200:
        return f"{seconds // 60}m"
    if seconds < 48 * 3600:
        minutes = seconds % 3600 // 60
        return f"{seconds // 3600}h {minutes}m" if minutes else f"{seconds // 3600}h"
    return f"{seconds // 86400}d"
