"""What one look at one place where something of a tier may be came to."""

from __future__ import annotations

from dataclasses import dataclass

from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding
from npc_operator.ports import PortError

GRANT = "grant it with: helm upgrade npc-operator charts/npc-operator --reuse-values --set nodePools.enabled=true"


@dataclass(frozen=True, slots=True)
class Looked:
    """Faults need a person, errors may pass by themselves."""

    faults: tuple[Finding, ...] = ()
    errors: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """What is there as wanted, by name."""
    empty: bool = False
    """Nothing of the tier is there, as was just seen."""
    unproven: bool = False
    """What is wanted is there, and whoever has to work with it has not said yet that they can."""
    busy: bool = False
    """Something goes on there that is worth another look soon."""


def join(looks: list[Looked]) -> Looked:
    """Several looks at one place: it is empty only if all say so."""
    return Looked(
        faults=tuple(fault for look in looks for fault in look.faults),
        errors=tuple(error for look in looks for error in look.errors),
        kept=tuple(name for look in looks for name in look.kept),
        empty=all(look.empty for look in looks),
        unproven=any(look.unproven for look in looks),
        busy=any(look.busy for look in looks),
    )


def failed(what: str, error: PortError) -> Looked:
    """A call to the API server failed."""
    if error.code == 403:
        return Looked(faults=(Finding(reasons.NODE_POOLS_FORBIDDEN, f"{what}: {error}; {GRANT}"),))
    if error.retryable:
        return Looked(errors=(f"{what}: {error}",))
    return Looked(faults=(Finding(reasons.NODE_POOLS_REFUSED, f"{what} was refused: {error}"),))
