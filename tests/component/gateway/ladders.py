"""Regions whose archetypes have more than one way to be answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from npc_runtime import wire
from tests.component.gateway.regions import World

BASE = "base"
"""The engines' own name for the base model."""

PERSONA = "You are a vampire of few words."
LINES = ("Leave me.", "The night is long, stranger.", "I have nothing to say to you.", "Come back after dusk.")


@dataclass
class Region(World):
    """A world with voices, and with tiers that say where they fall back to and how long they may take."""

    voices: tuple[dict[str, Any], ...] = ()
    routes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """More fields of a tier, by its name."""

    def table(self) -> wire.RouteTable:
        table = super().table()
        tiers = tuple(tier.model_copy(update=self.routes.get(tier.name, {})) for tier in table.tiers)
        voices = tuple(wire.Voice.model_validate(voice) for voice in self.voices)
        return table.model_copy(update={"tiers": tiers, "voices": voices})


def voice(
    *, prompt: str = "", lines: tuple[str, ...] = (), archetype: str = "vampire", importance: str = "Normal"
) -> dict[str, Any]:
    """What is known of an archetype beside its adapters."""
    return {"archetype": archetype, "system_prompt": prompt, "scripted_lines": lines, "importance": importance}
