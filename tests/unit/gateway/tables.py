"""Small route tables for tests of pure parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npc_runtime import wire

OLD = "sha256:" + "a1" * 32
NEW = "sha256:" + "b2" * 32


def route_table(
    *,
    tiers: Sequence[str] = ("gold", "bronze"),
    assignments: Mapping[str, str] | None = None,
    targets: Sequence[tuple[str, int]] = ((OLD, 100),),
    keys: Mapping[str, str] | None = None,
    **changes: object,
) -> wire.RouteTable:
    """A region where vampires speak on every tier."""
    table = wire.RouteTable(
        stamp=wire.Stamp(epoch=1, generation=1),
        namespace="eu",
        region="eu",
        default_tier=tiers[0],
        assignments=tuple(
            wire.Assignment(npc_prefix=prefix, tier=tier) for prefix, tier in (assignments or {}).items()
        ),
        tiers=tuple(
            wire.TierRoutes(
                name=tier,
                quality="Gold",
                endpoints=(wire.Endpoint(pod=f"{tier}-0", uid=f"u-{tier}", address=f"10.0.0.{number}", port=8000),),
            )
            for number, tier in enumerate(tiers)
        ),
        aliases=tuple(
            wire.Alias(
                archetype="vampire",
                tier=tier,
                targets=tuple(
                    wire.Target(served_name=wire.served_name("vampire", digest), digest=digest, percent=percent)
                    for digest, percent in targets
                ),
            )
            for tier in tiers
        ),
        api_keys=tuple(wire.ApiKey(name=name, sha256=value) for name, value in (keys or {}).items()),
    )
    return table.model_copy(update=changes)
