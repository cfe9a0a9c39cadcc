"""Regions, tiers and voices at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from ..answers import Answer, Block, Cell, Table, Tone, text, tone_of
from ..conditions import Condition, Conditions
from ..explain.chain import clip, how_long
from ..explain.machines import brief
from ..explain.operators import explain_operator
from ..facts import Adapter, Degradation, Region, Tier, VariantState, World
from ..rollouts import short


def view_status(worlds: tuple[World, ...], *, now: float, everywhere: bool = False) -> Answer:
    """What there is in these namespaces and whether it is ready; `everywhere` says that nobody named a namespace."""
    wide = everywhere or len(worlds) > 1
    regions = [(world, one) for world in worlds for one in world.regions]
    tiers = [(world, one) for world in worlds for one in world.tiers]
    adapters = [(world, one) for world in worlds for one in world.adapters]
    operator = explain_operator(worlds[0], now) if worlds else ()
    blocks: list[Block] = (
        [text(*(f"! {link.object}: {link.reason}: {link.says}" for link in operator))] if operator else []
    )
    names = ("NAMESPACE",) if wide else ()

    def row(world: World, cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
        return (Cell(world.namespace), *cells) if wide else cells

    blocks += [
        Table(
            "Regions",
            (*names, "NAME", "READY", "REASON", "TIERS", "GATEWAYS", "ARCHETYPES", "NPCS", "FOR"),
            tuple(row(world, _region(one, now)) for world, one in regions),
        ),
        Table(
            "Tiers",
            (*names, "NAME", "QUALITY", "READY", "REASON", "PODS", "ADAPTERS", "FOR", "MESSAGE"),
            tuple(row(world, _tier(one, now)) for world, one in tiers),
        ),
    ]
    rollouts = [
        (world, one, state)
        for world, one in adapters
        for state in one.states
        if state.rollout or _taken_back(one, state)
    ]
    if rollouts:
        blocks.append(
            Table(
                "Rollouts",
                (*names, "NAME", "TIER", "CANDIDATE", "STABLE", "STEP", "SHARE", "PHASE", "FOR", "VERDICT"),
                tuple(row(world, _rollout(one, state, now)) for world, one, state in rollouts),
            )
        )
    degraded = [(world, one, less) for world, one in adapters for less in one.degraded]
    if degraded:
        blocks.append(
            Table(
                "Degraded",
                (*names, "NAME", "TIER", "LEVEL", "FOR", "MESSAGE"),
                tuple(row(world, _degraded(one, less, now)) for world, one, less in degraded),
            )
        )
    blocks.append(
        Table(
            "Adapters",
            (*names, "NAME", "READY", "REASON", "VARIANTS", "DIGEST", "FOR", "MESSAGE"),
            # Of hundreds the few that need somebody come first.
            tuple(row(world, _adapter(one, now)) for world, one in sorted(adapters, key=lambda each: _quiet(each[1]))),
        )
    )
    unread = {(one.what, one.why) for world in worlds for one in world.unread}
    if unread:
        blocks.append(text(*(f"not looked at: {what}: {why}" for what, why in sorted(unread))))
    data = {
        "operator": [asdict(link) for link in operator],
        "regions": [_data(one, one.conditions) | _region_data(one) for _, one in regions],
        "tiers": [_data(one, one.conditions) | _tier_data(one) for _, one in tiers],
        "adapters": [_data(one, one.conditions) | _adapter_data(one) for _, one in adapters],
        "rollouts": [_rollout_data(one, state) for _, one, state in rollouts],
        "degraded": [_degraded_data(one, less) for _, one, less in degraded],
        "notLookedAt": [{"what": what, "why": why} for what, why in sorted(unread)],
    }
    return Answer(data, tuple(blocks))


def is_empty(answer: Answer) -> bool:
    """Whether a status has nothing to tell of."""
    data = answer.data
    return isinstance(data, Mapping) and not any(data[kind] for kind in ("regions", "tiers", "adapters"))


def _quiet(one: Adapter) -> bool:
    """Whether an adapter needs nobody."""
    return one.conditions.ready() == "True" and not one.conditions.holds("Stalled") and not one.degraded


def _summary(conditions: Conditions) -> Condition:
    """What to show: what needs a person, else what is ready or not."""
    stalled, ready = conditions.find("Stalled"), conditions.find("Ready")
    if stalled is not None and stalled.status == "True":
        return stalled
    return ready or Condition(type="Ready", status="Unknown", reason="NotLookedAt")


def _state(conditions: Conditions, now: float) -> tuple[Cell, Cell, Cell, Cell]:
    """Ready, reason, how long, message."""
    ready, said = conditions.ready(), _summary(conditions)
    quiet = ready == "True" and said.type == "Ready"
    tone = tone_of(ready) if said.type == "Ready" else Tone.BAD
    if ready == "False" and conditions.holds("Reconciling"):
        tone = Tone.BUSY
    message = "" if quiet else clip(said.message)
    return Cell(ready, tone_of(ready)), Cell(said.reason, tone), Cell(how_long(said.since, now)), Cell(message)


def _region(one: Region, now: float) -> tuple[Cell, ...]:
    ready, reason, since, _ = _state(one.conditions, now)
    tiers, gateways = f"{one.ready_tiers}/{len(one.tiers)}", f"{one.gateway_ready}/{one.gateway_wanted}"
    counts = (Cell(tiers), Cell(gateways), Cell(str(one.archetypes)), Cell(str(one.population)))
    return (Cell(one.meta.name), ready, reason, *counts, since)


def _tier(one: Tier, now: float) -> tuple[Cell, ...]:
    ready, reason, since, message = _state(one.conditions, now)
    counts = (Cell(f"{one.ready}/{one.wanted}"), Cell(f"{one.resident}/{one.adapters}"))
    said = message if message.text else Cell(clip(brief(one)))
    return (Cell(one.meta.name), Cell(one.quality), ready, reason, *counts, since, said)


def _adapter(one: Adapter, now: float) -> tuple[Cell, ...]:
    ready, reason, since, message = _state(one.conditions, now)
    return (Cell(one.meta.name), ready, reason, Cell(one.ready_variants or "0"), Cell(one.digest), since, message)


def _taken_back(one: Adapter, state: VariantState) -> bool:
    """Whether the spec still names a candidate that was taken back."""
    rejected = state.rejected
    return rejected is not None and any(
        variant.tier == state.tier and variant.digest == rejected.digest for variant in one.variants
    )


def _rollout(one: Adapter, state: VariantState, now: float) -> tuple[Cell, ...]:
    told = _rollout_data(one, state)
    tone = Tone.BAD if state.rollout is None else Tone.BUSY
    return (
        Cell(one.meta.name),
        Cell(state.tier),
        Cell(short(str(told["candidate"]))),
        Cell(short(state.stable)),
        Cell(f"{told['step']}/{told['steps']}"),
        Cell(f"{told['sharePercent']:g}%"),
        Cell(str(told["phase"]), tone),
        Cell(how_long(str(told["since"]), now)),
        Cell(clip(str(told["verdict"]))),
    )


def _rollout_data(one: Adapter, state: VariantState) -> dict[str, object]:
    """A candidate on its way, or the one that was taken back."""
    rollout, rejected = state.rollout, state.rejected
    if rollout is None and rejected is not None:
        candidate, phase, since = rejected.digest, "TakenBack", rejected.time
        verdict = f"{rejected.reason}: {rejected.message}" if rejected.message else rejected.reason
    else:
        candidate, verdict = state.candidate, state.message
        phase, since = (rollout.phase, rollout.since or state.candidate_since) if rollout is not None else ("", "")
    return {
        "namespace": one.meta.namespace,
        "name": one.meta.name,
        "tier": state.tier,
        "candidate": candidate,
        "stable": state.stable,
        "phase": phase,
        "step": rollout.step if rollout is not None else 0,
        "steps": len(one.steps),
        "percent": rollout.percent if rollout is not None else 0,
        "sharePercent": rollout.share if rollout is not None else 0.0,
        "requests": rollout.requests if rollout is not None else 0,
        "since": since,
        "verdict": verdict,
    }


def _degraded(one: Adapter, less: Degradation, now: float) -> tuple[Cell, ...]:
    level = Cell(less.level, Tone.BAD)
    return (Cell(one.meta.name), Cell(less.tier), level, Cell(how_long(less.since, now)), Cell(clip(less.message)))


def _degraded_data(one: Adapter, less: Degradation) -> dict[str, object]:
    """A tier on which players hear less than the voice."""
    return {"namespace": one.meta.namespace, "name": one.meta.name, "archetype": one.archetype} | asdict(less)


def _data(one: Region | Tier | Adapter, conditions: Conditions) -> dict[str, object]:
    said = _summary(conditions)
    return {
        "namespace": one.meta.namespace,
        "name": one.meta.name,
        "ready": conditions.ready(),
        "reason": said.reason,
        "message": said.message,
        "since": said.since,
        "suspended": one.suspend,
    }


def _region_data(one: Region) -> dict[str, object]:
    return {
        "tiers": list(one.tiers),
        "readyTiers": one.ready_tiers,
        "gatewayReady": one.gateway_ready,
        "gatewayReplicas": one.gateway_wanted,
        "archetypes": one.archetypes,
        "population": one.population,
        "endpoint": one.endpoint,
        "note": one.note,
    }


def _tier_data(one: Tier) -> dict[str, object]:
    return {
        "quality": one.quality,
        "readyReplicas": one.ready,
        "wantedReplicas": one.wanted,
        "adapters": one.adapters,
        "residentAdapters": one.resident,
        "capacityMode": one.capacity.mode if one.capacity is not None else "",
        "interruptedPods": one.interruption.pods if one.interruption is not None else 0,
    }


def _adapter_data(one: Adapter) -> dict[str, object]:
    variants = [
        {
            "tier": state.tier,
            "stable": short(state.stable),
            "candidate": short(state.candidate),
            "percent": state.percent,
            "serving": state.serving,
            "residentReplicas": state.resident,
            "wantedReplicas": state.wanted,
            "reason": state.reason,
        }
        for state in one.states
    ]
    return {"archetype": one.archetype, "digest": one.digest, "readyVariants": one.ready_variants, "variants": variants}
