"""What an adapter's status says of the way of one digest: where it came from, how far it got, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

DIGITS = 12
"""Hex digits of a digest that people read, as in served names."""


def short(digest: str) -> str:
    """A digest as people read it."""
    return digest.removeprefix("sha256:")[:DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Bytes and where they come from."""

    digest: str
    uri: str = ""
    secret: str = ""
    """Name of the Secret with its credentials; empty for none."""
    rank: int = 0
    """Its declared rank; 0 where nobody wrote it down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a candidate is between its first load and all traffic."""

    phase: str
    step: int = 0
    """How many steps were taken."""
    percent: int = 0
    below: int = 0
    """NPCs whose hash bucket (0 to 9,999) is lower get it."""
    since: str = ""
    requests: int = 0

    @property
    def share(self) -> float:
        """Percent of the NPCs that get it, as the gateways count them."""
        return self.below / 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A candidate that was taken back."""

    digest: str
    time: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One entry of the history of a tier."""

    time: str
    digest: str
    uri: str = ""
    previous: str = ""
    """The stable digest before it."""
    reason: str = ""
    from_percent: int = 0
    to_percent: int = 0
    verdict: str = ""
    by: str = ""
