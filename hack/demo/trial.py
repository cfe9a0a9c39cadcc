"""What became of a bad candidate under load, as news, figures and faults. Pure: statuses and a tally in, lines out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hack.demo.summary import Row, line_faults
from hack.stack.load import Line, Tally
from npc_runtime.gateway.hashing import bucket

OFF_SECONDS = 2.0
"""After a verdict no line begins on the candidate any more: the promise that is watched here."""


@dataclass(slots=True, kw_only=True)
class OnTier:
    """The candidate on one tier. Times are time.monotonic() of when the status was seen to say so."""

    percent: int = 0
    """The largest share that it had."""
    below: int = 0
    """NPCs in lower buckets heard it, of 10,000."""
    verdict: float | None = None
    reason: str = ""
    message: str = ""


@dataclass(slots=True)
class Trial:
    """A candidate on every tier of a voice, as its status tells it."""

    archetype: str
    candidate: str
    applied: float
    """time.monotonic() of the apply."""
    tiers: dict[str, OnTier]
    _said: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether it was taken back everywhere."""
        return all(tier.verdict is not None for tier in self.tiers.values())

    @property
    def last_verdict(self) -> float:
        """time.monotonic() of the last of them; the apply while there is none."""
        return max((tier.verdict for tier in self.tiers.values() if tier.verdict is not None), default=self.applied)

    def note(self, seen: Mapping[str, Any], now: float) -> list[str]:
        """Learn from a status; the news in it for people."""
        news: list[str] = []
        for status in seen.get("status", {}).get("variants", ()):
            tier = self.tiers.get(status["tier"])
            if tier is None or tier.verdict is not None:
                continue
            rejected, candidate = status.get("rejected") or {}, status.get("candidate") or {}
            if rejected.get("digest") == self.candidate:
                tier.verdict, tier.reason, tier.message = now, rejected["reason"], rejected.get("message", "")
                news.append(f"{status['tier']}: taken back, {tier.reason}: {tier.message}")
            elif candidate.get("digest") == self.candidate:
                rollout = status.get("rollout") or {}
                tier.percent = max(tier.percent, rollout.get("percent", 0))
                tier.below = max(tier.below, rollout.get("below", 0))
                said = (rollout.get("phase", "Loading"), rollout.get("percent", 0))
                if self._said.get(status["tier"]) != said:
                    self._said[status["tier"]] = said
                    news.append(f"{status['tier']}: {said[0]}, {said[1]}% of the NPCs hear it")
        return news


def spoken_by(tally: Tally, trial: Trial, tier: str = "") -> list[Line]:
    """The candidate's whole answers."""
    return [
        line
        for line in tally.lines
        if line.digest == trial.candidate
        and not line.failure
        and line.ask.archetype == trial.archetype
        and tier in ("", line.ask.tier)
    ]


def faults(tally: Tally, expected: Mapping[tuple[str, str], str], trial: Trial) -> list[str]:
    """What is not as it should be; empty when everything is."""
    found = line_faults(tally, expected, applied=trial.applied, whom=_whom)
    for name, tier in trial.tiers.items():
        spoken = spoken_by(tally, trial, name)
        if tier.verdict is None:
            found.append(f"tier {name}: the candidate was not taken back")
            continue
        if not spoken:
            found.append(f"tier {name}: nobody heard the candidate, so nothing was shown")
        found += [
            f"{_whom(line)}: answered by the candidate {line.started - tier.verdict:.2f} s after the verdict"
            for line in spoken
            if line.started > tier.verdict + OFF_SECONDS
        ]
        found += [
            f"{_whom(line)}: heard the candidate, and is not among the NPCs that should"
            for line in spoken
            if bucket(line.ask.archetype.encode(), line.ask.npc.encode()) >= tier.below
        ]
    return found


def table(tally: Tally, trial: Trial) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Head and one row for each tier."""
    head = ("tier", "share", "bad answers", "heard by", "first one to verdict", "begun 2 s after it", "verdict")
    rows: list[Sequence[str]] = []
    for name, tier in trial.tiers.items():
        spoken = spoken_by(tally, trial, name)
        first = min((line.ended for line in spoken), default=None)
        took = "-" if first is None or tier.verdict is None else f"{max(0.0, tier.verdict - first):.1f} s"
        late = [line for line in spoken if tier.verdict is not None and line.started > tier.verdict + OFF_SECONDS]
        npcs = {line.ask.npc for line in spoken}
        everybody = {line.ask.npc for line in tally.lines if line.ask.archetype == trial.archetype}
        heard = f"{len(npcs)} of {len(everybody)} NPCs"
        rows.append((name, f"{tier.percent}%", str(len(spoken)), heard, took, str(len(late)), tier.reason or "none"))
    return head, rows


def rows(tally: Tally, trial: Trial, version: Callable[[str], str]) -> list[Row]:
    """The figures over all tiers; `version` names a digest."""
    lines = tally.lines
    bad = spoken_by(tally, trial)
    first = min((line.ended for line in bad), default=None)
    over = f"{trial.last_verdict - trial.applied:.1f} s" if trial.over else "never"
    return [
        Row("streaming requests", str(len(lines))),
        Row("failed lines", str(len(tally.failures))),
        Row(f"answered by {version(trial.candidate)} as {trial.archetype}", str(len(bad))),
        Row("apply -> first bad answer", "none" if first is None else f"{first - trial.applied:.1f} s"),
        Row("apply -> taken back on every tier", over),
    ]


def _whom(line: Line) -> str:
    return f"{line.ask.npc or line.ask.archetype} on {line.ask.tier or 'the default tier'}"
