"""rollback: an earlier digest comes back into spec.variants[].source, with where it came from.

The operator takes a bad candidate off by itself and never writes into spec; this puts the spec right afterwards, or
takes back what no analysis can judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import vocabulary as v
from ..answers import Code
from ..facts import Adapter, Variant, VariantState
from ..plain import Json, entries, mapping, text
from ..rollouts import Revision, short
from .digests import match_digest, revisions_of
from .plan import Change, NotDone, Plan, with_kind
from .suspending import NOTHING_KNOWN, Around, find_pauses, tell_pauses


@dataclass(frozen=True, slots=True)
class Way:
    """What one tier goes back to, or why it does not."""

    tier: str
    to: Revision | None
    why: str = ""


def plan_rollback(raw: Json, adapter: Adapter, *, tier: str, to: str, around: Around = NOTHING_KNOWN) -> Plan:
    """Back on every tier, or on one; to what was before, or to a digest that the tier knows.

    Raises NotDone where no tier can go back.
    """
    name, namespace = adapter.meta.name, adapter.meta.namespace
    bad = frozenset(around.banned) | set(adapter.quarantined)
    variants = [one for one in adapter.variants if tier in ("", one.tier)]
    if not variants:
        tiers = ", ".join(one.tier for one in adapter.variants)
        raise NotDone(f"{name} has no variant for tier {tier}; it has {tiers}", code=Code.NOT_FOUND)
    wanted = _resolve(adapter, variants, to) if to else ""
    ways = [_way(adapter.state(one.tier), one, wanted, bad) for one in variants]
    going = {way.tier: way.to for way in ways if way.to is not None}
    staying = tuple(f"tier {way.tier} stays: {way.why}" for way in ways if way.to is None)
    target = with_kind(raw, v.KIND_ADAPTER)
    if not going:
        if wanted and all(one.digest == wanted for one in variants):
            return Plan(target=target, notes=staying)
        raise NotDone(
            f"{name} has nothing to go back to: " + "; ".join(f"{way.tier}: {way.why}" for way in ways),
            step=f"kubectl npc history {name} -n {namespace}",
        )
    written, changes = _written(raw, going)
    pauses = find_pauses(adapter, around)
    heard = [f"{name} on {one} goes to {short(to.digest)}" for one, to in going.items() if one not in pauses]
    return Plan(
        target=target,
        spec={"variants": written},
        changes=tuple(changes),
        notes=(*_notes(adapter, going, pauses), *staying),
        question=f"this changes what players hear: {'; '.join(heard)}" if heard else "",
    )


def _resolve(adapter: Adapter, variants: Iterable[Variant], to: str) -> str:
    """The digest that is meant, among all that these tiers know."""
    states = [state for one in variants if (state := adapter.state(one.tier)) is not None]
    known = {one.digest for state in states for one in revisions_of(state)} | {one.digest for one in variants}
    digest = match_digest(to, known)
    if digest not in known:
        raise NotDone(
            f"neither status nor history of {adapter.meta.name} knows {digest}, so where its bytes are is not known",
            step="put source.uri and source.digest into the spec yourself: "
            f"kubectl edit npca {adapter.meta.name} -n {adapter.meta.namespace}",
        )
    return digest


def _way(state: VariantState | None, variant: Variant, wanted: str, bad: frozenset[str]) -> Way:
    tier = variant.tier
    if state is None:
        return Way(tier, None, "its status says nothing yet")
    known = {one.digest: one for one in revisions_of(state)}
    if wanted:
        if wanted == variant.digest:
            return Way(tier, None, f"its spec names {short(wanted)} already")
        if wanted in bad:
            return Way(tier, None, f"{short(wanted)} is quarantined")
        return Way(tier, known.get(wanted), f"it never had {short(wanted)}")
    if state.stable and state.stable != variant.digest and state.stable not in bad:
        return Way(tier, known[state.stable])
    return _earlier(state, variant, known, bad)


def _earlier(state: VariantState, variant: Variant, known: Mapping[str, Revision], bad: frozenset[str]) -> Way:
    """The newest digest that was stable before the present one and may be used."""
    passed = {variant.digest, state.stable}
    skipped = ""
    for entry in state.history:
        if entry.reason not in v.BECAME_STABLE or entry.digest in passed:
            continue
        passed.add(entry.digest)
        if entry.digest in bad:
            skipped += f" ({short(entry.digest)} is quarantined)"
            continue
        if entry.digest not in known:
            return Way(state.tier, None, f"the history does not say where {short(entry.digest)} came from{skipped}")
        return Way(state.tier, known[entry.digest])
    present = short(state.stable or variant.digest)
    return Way(state.tier, None, f"the history knows no digest that was stable there before {present}{skipped}")


def _written(raw: Json, going: Mapping[str, Revision]) -> tuple[list[dict[str, Any]], list[Change]]:
    """All variants, those of `going` changed: a merge patch replaces lists as a whole."""
    written: list[dict[str, Any]] = []
    changes: list[Change] = []
    for one in entries(mapping(raw.get("spec")).get("variants")):
        tier = text(one.get("tier"))
        revision = going.get(tier)
        if revision is None:
            written.append(dict(one))
            continue
        source = dict(mapping(one.get("source")))
        after = {**source, "uri": revision.uri, "digest": revision.digest}
        made = {**one, "source": after}
        if revision.rank:
            # Status knows this one with all that belongs to it; of older ones only digest and place are kept.
            after.pop("secretRef", None)
            if revision.secret:
                after["secretRef"] = {"name": revision.secret}
            made["rank"] = revision.rank
        written.append(made)
        where: tuple[str | tuple[str, str], ...] = ("spec", "variants", ("tier", tier))
        for key in ("digest", "uri", "secretRef"):
            if source.get(key) != after.get(key):
                path = (*where, "source", key)
                changes.append(Change(path=path, before=source.get(key), after=after.get(key)))
        if one.get("rank") != made.get("rank"):
            changes.append(Change(path=(*where, "rank"), before=one.get("rank"), after=made.get("rank")))
    return written, changes


def _notes(adapter: Adapter, going: Mapping[str, Revision], pauses: Mapping[str, tuple[str, ...]]) -> Iterable[str]:
    meta = adapter.meta
    yield from tell_pauses(going, pauses, meta.namespace)
    held = [one for one in adapter.variants if one.tier in going and one.tier in pauses]
    for digest in dict.fromkeys(one.digest for one in held):
        off = f"kubectl npc quarantine {short(digest)} {meta.name} -n {meta.namespace}"
        yield f"a quarantine acts in spite of a pause; to have {short(digest)} off at once: {off}"
    free = [tier for tier in going if tier not in pauses]
    at_once = [tier for tier in free if (state := adapter.state(tier)) and state.stable == going[tier].digest]
    anew = [tier for tier in free if tier not in at_once]
    if at_once:
        yield f"{', '.join(at_once)}: the candidate loses its traffic; stable is still loaded, so nothing is fetched"
    if anew:
        yield (
            f"{', '.join(anew)}: an earlier digest comes back as a rollout of its own, by the steps of spec.rollout; "
            "to have it off at once quarantine the present one"
        )
    old = [tier for tier, one in going.items() if not one.rank]
    if old:
        yield f"{', '.join(old)}: the history keeps neither Secret nor rank, so those of the spec stay"
