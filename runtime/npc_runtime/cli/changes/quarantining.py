"""quarantine: a digest that nothing may use, of one adapter or of the whole region."""

from __future__ import annotations

from collections.abc import Iterable

from .. import vocabulary as v
from ..facts import Adapter, Region
from ..plain import Json
from ..rollouts import short
from .digests import users_of
from .plan import Change, Plan, with_kind

PATH = ("spec", "quarantinedDigests")


def plan_quarantine(raw: Json, thing: Adapter | Region, digest: str, adapters: Iterable[Adapter]) -> Plan:
    """Add a digest. `adapters` are those that the list speaks for."""
    target, before = _list(raw, thing)
    if digest in before:
        return Plan(target=target, notes=(f"{digest} is quarantined there already",))
    used = [f"{one.meta.name} on {tier} ({role})" for one in adapters for tier, role in users_of(digest, one)]
    after = [*before, digest]
    return Plan(
        target=target,
        spec={"quarantinedDigests": after},
        changes=(Change(path=PATH, before=before, after=after),),
        notes=(
            f"off every route at once: {', '.join(used)}; the last good digest stands in, else the base model with the "
            "persona's prompt, else scripted lines"
            if used
            else "nothing serves it now",
        ),
        question=f"this takes {short(digest)} off every route at once: {', '.join(used)}" if used else "",
    )


def plan_release(raw: Json, thing: Adapter | Region, digest: str, elsewhere: Iterable[str]) -> Plan:
    """Take a digest off. `elsewhere` names other objects that quarantine it too."""
    target, before = _list(raw, thing)
    others = tuple(f"{one} quarantines it too" for one in elsewhere)
    if digest not in before:
        return Plan(target=target, notes=(f"{digest} is not quarantined there", *others))
    after = [one for one in before if one != digest]
    return Plan(
        target=target,
        spec={"quarantinedDigests": after},
        changes=(Change(path=PATH, before=before, after=after),),
        notes=others or ("it may be used again",),
    )


def _list(raw: Json, thing: Adapter | Region) -> tuple[Json, list[str]]:
    kind = v.KIND_ADAPTER if isinstance(thing, Adapter) else v.KIND_REGION
    return with_kind(raw, kind), list(thing.quarantined)
