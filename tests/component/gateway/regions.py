"""Route tables, as the operator would have pushed them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from npc_runtime import wire
from tests.component.gateway.words import AGENT_TOKEN, ENGINE_KEY, KEY, NAMESPACE, OLD


class Pod(Protocol):
    """Anything that answers as an engine on a port."""

    port: int
    loaded: set[str]


@dataclass
class World:
    """What a route table is made of; `table()` makes one with the next generation."""

    engines: Mapping[str, Sequence[Pod]] = field(default_factory=dict)
    default_tier: str = "gold"
    aliases: dict[tuple[str, str], list[tuple[str, int]]] = field(
        default_factory=lambda: {("gold", "vampire"): [(OLD, 100)]}
    )
    assignments: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=lambda: {"game": KEY})
    authentication: str = "ApiKey"
    limits: dict[str, int] = field(default_factory=dict)
    agent_tokens: list[str] = field(default_factory=lambda: [AGENT_TOKEN])
    agent_ca: str = ""
    addresses: dict[int, str] = field(default_factory=dict)
    """Address by engine port, where it is not 127.0.0.1."""
    resident: dict[int, tuple[str, ...] | None] = field(default_factory=dict)
    """Residency by engine port, where it is not what the engine has loaded now."""
    engine_keys: dict[str, str] = field(default_factory=lambda: {"k1": ENGINE_KEY})
    engine_key_id: str = "k1"
    epoch: int = 1
    generation: int = 0

    def table(self) -> wire.RouteTable:
        self.generation += 1
        return wire.RouteTable.model_validate(
            {
                "stamp": {"epoch": self.epoch, "generation": self.generation},
                "namespace": NAMESPACE,
                "region": "eu-west",
                "default_tier": self.default_tier,
                "assignments": [{"npc_prefix": prefix, "tier": tier} for prefix, tier in self.assignments.items()],
                "tiers": [
                    {
                        "name": tier,
                        "quality": "Gold",
                        "endpoints": [
                            {
                                "pod": f"{tier}-{engine.port}",
                                "uid": f"uid-{engine.port}",
                                "address": self.addresses.get(engine.port, "127.0.0.1"),
                                "port": engine.port,
                                "engine_key_id": self.engine_key_id,
                                "resident": self.resident.get(engine.port, tuple(sorted(engine.loaded))),
                            }
                            for engine in engines
                        ],
                    }
                    for tier, engines in self.engines.items()
                ],
                "aliases": [
                    {
                        "archetype": archetype,
                        "tier": tier,
                        "targets": [
                            {"served_name": wire.served_name(archetype, digest), "digest": digest, "percent": percent}
                            for digest, percent in targets
                        ],
                    }
                    for (tier, archetype), targets in self.aliases.items()
                ],
                "authentication": self.authentication,
                "api_keys": [
                    {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()}
                    for name, key in self.keys.items()
                ],
                "engine_keys": [{"id": key_id, "key": key} for key_id, key in self.engine_keys.items()],
                "agent_tokens": self.agent_tokens,
                "agent_ca": self.agent_ca,
                "limits": self.limits,
            }
        )
