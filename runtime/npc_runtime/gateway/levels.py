"""By what an archetype can be answered on a tier, best first: its adapter there, its adapter on the fallback tiers, the
base model with the persona's prompt, a line that was written before.

A ladder is made when it is first asked for after a table came, and only looked up from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from npc_runtime import wire
from npc_runtime.gateway.admission import engine_priority
from npc_runtime.gateway.scripted import SERVED_BY as SCRIPTED
from npc_runtime.gateway.table import Alias, CompiledTable, Target

log = logging.getLogger(__name__)

BASE: Final = "base"
"""What stands in X-NPC-Served-By where the base model answered."""


class Level(StrEnum):
    """How far below what was asked for an answer is; the value of X-NPC-Degraded, empty for not at all."""

    ADAPTER = ""
    TIER = "Tier"
    BASE_MODEL = "BaseModel"
    SCRIPTED = "Scripted"


@dataclass(frozen=True, slots=True)
class Rung:
    """One level that needs an engine."""

    level: Level
    tier: str
    """Whose engines are asked."""
    routes: wire.TierRoutes
    """What is known of that tier."""
    archetype: str
    alias: Alias | None
    """None: the base model is asked."""
    base: Target | None
    """The base model; None where the alias is asked."""
    mark: bytes
    """The header line that says that this level is less than what was asked for; empty where it is not."""
    first_token_seconds: float
    stall_seconds: float

    @property
    def key(self) -> tuple[str, str]:
        """What is held when this level cannot be asked: the tier, and the archetype or nothing for its base model."""
        return (self.tier, "" if self.alias is None else self.archetype)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Every level of one archetype on one tier."""

    archetype: str
    tier: str
    rungs: tuple[Rung, ...]
    voice: wire.Voice
    priority: int
    """For engines that order waiting lines by it."""
    prompt: dict[str, Any]
    """The message that makes the base model speak in its place."""
    scripted_headers: bytes
    scripted_lines: tuple[str, ...]
    """What there is to say without an engine; a line without a word in it is no answer, and left out."""
    has_last_resort: bool
    """Whether there is a line to say when no engine can."""


class Ladders:
    """The ladders of one table."""

    def __init__(self, table: CompiledTable) -> None:
        self._table = table
        self._tiers = {tier.name: tier for tier in table.source.tiers}
        self._voices = {voice.archetype: voice for voice in table.source.voices}
        self._made: dict[tuple[str, str], Ladder | None] = {}
        for tier in table.source.tiers:
            if tier.fallback_tier and tier.fallback_tier not in self._tiers:
                log.warning(
                    "a fallback tier is none of the region's and is passed over",
                    extra={"tier": tier.name, "fallback": tier.fallback_tier},
                )

    def find(self, tier: str, archetype: str) -> Ladder | None:
        """By what an archetype can be answered on a known tier; None if by nothing at all."""
        key = (tier, archetype)
        try:
            return self._made[key]
        except KeyError:
            if archetype not in self._table.archetypes:
                return None  # and not remembered: callers could ask for any number of those
            ladder = self._made[key] = self._make(tier, archetype)
            return ladder

    def _make(self, tier: str, archetype: str) -> Ladder | None:
        voice = self._voices.get(archetype) or wire.Voice(archetype=archetype)
        rungs = [rung for name in self._chain(tier) if (rung := self._adapter(name, archetype, tier)) is not None]
        if voice.system_prompt.strip():
            rungs += [self._base(name, archetype) for name in self._chain(tier) if self._tiers[name].base_model]
        scripted_lines = tuple(line for line in voice.scripted_lines if line.strip())
        if not rungs and not scripted_lines:
            return None
        return Ladder(
            archetype=archetype,
            tier=tier,
            rungs=tuple(rungs),
            voice=voice,
            priority=engine_priority(voice.importance, self._tiers[tier].quality),
            prompt={"role": "system", "content": voice.system_prompt},
            scripted_headers=_headers(tier, SCRIPTED) + _mark(Level.SCRIPTED),
            scripted_lines=scripted_lines,
            has_last_resort=bool(scripted_lines),
        )

    def _chain(self, tier: str) -> Iterator[str]:
        """The tier and its fallbacks, each once: a chain that leads back ends there."""
        seen: set[str] = set()
        while tier in self._tiers and tier not in seen:
            seen.add(tier)
            yield tier
            tier = self._tiers[tier].fallback_tier

    def _adapter(self, tier: str, archetype: str, asked: str) -> Rung | None:
        alias = self._table.aliases.get((tier, archetype))
        if alias is None:
            return None
        return self._rung(Level.ADAPTER if tier == asked else Level.TIER, tier, archetype, alias, None)

    def _base(self, tier: str, archetype: str) -> Rung:
        target = Target(self._tiers[tier].base_model, BASE, _headers(tier, BASE))
        return self._rung(Level.BASE_MODEL, tier, archetype, None, target)

    def _rung(self, level: Level, tier: str, archetype: str, alias: Alias | None, base: Target | None) -> Rung:
        routes = self._tiers[tier]
        return Rung(
            level=level,
            tier=tier,
            routes=routes,
            archetype=archetype,
            alias=alias,
            base=base,
            mark=_mark(level),
            first_token_seconds=routes.first_token_milliseconds / 1000,
            stall_seconds=float(routes.stall_seconds),
        )


def _headers(tier: str, served_by: str) -> bytes:
    return f"X-NPC-Served-Tier: {tier}\r\nX-NPC-Served-By: {served_by}\r\n".encode()


def _mark(level: Level) -> bytes:
    return f"X-NPC-Degraded: {level}\r\n".encode() if level else b""
