"""Digests as people type them: whole, or as the first twelve or more hex digits that tables show."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..answers import Code
from ..facts import Adapter, VariantState
from ..rollouts import DIGITS, Revision
from .plan import NotDone

WHOLE = 64
_TYPED = re.compile(rf"(?:sha256:)?([0-9a-f]{{{DIGITS},{WHOLE}}})")


def match_digest(typed: str, known: Iterable[str]) -> str:
    """The one digest among `known` that begins so; a whole one needs not be known. Raises NotDone."""
    found = _TYPED.fullmatch(typed.strip().lower())
    if found is None:
        raise NotDone(
            f"{typed!r} is no digest: it takes sha256: and {WHOLE} hex digits, or at least the first {DIGITS}",
            code=Code.USAGE,
        )
    digits = found.group(1)
    if len(digits) == WHOLE:
        return f"sha256:{digits}"
    hits = sorted({one for one in known if one.removeprefix("sha256:").startswith(digits)})
    if not hits:
        raise NotDone(f"no digest that is known here begins with {digits}", step="name the whole digest")
    if len(hits) > 1:
        raise NotDone(f"{digits} may be any of {', '.join(hits)}", step="name the whole digest")
    return hits[0]


def digests_of(adapter: Adapter) -> frozenset[str]:
    """Every digest that spec and status of an adapter know."""
    known = {one.digest for one in adapter.variants} | set(adapter.quarantined) | {adapter.approved}
    for state in adapter.states:
        known |= {one.digest for one in revisions_of(state)}
        known |= {entry.previous for entry in state.history}
        known |= {state.rejected.digest} if state.rejected is not None else set()
    return frozenset(known - {""})


def revisions_of(state: VariantState) -> tuple[Revision, ...]:
    """What a tier can go to, with where it comes from: stable and candidate first, because only they say with which
    Secret and rank.
    """
    # What stands in was itself taken from the history: its Secret and rank are assumptions of the operator.
    assumed = state.stable if state.serving not in ("", "Stable") else ""
    found = {
        one.digest: Revision(digest=one.digest, uri=one.uri) if one.digest == assumed else one
        for one in state.revisions
    }
    for entry in state.history:
        if entry.digest and entry.uri:
            found.setdefault(entry.digest, Revision(digest=entry.digest, uri=entry.uri))
    return tuple(found.values())


def users_of(digest: str, adapter: Adapter) -> tuple[tuple[str, str], ...]:
    """(tier, `stable` or `candidate`) of each place where an adapter uses a digest."""
    return tuple(
        (state.tier, role)
        for state in adapter.states
        for role, used in (("stable", state.stable), ("candidate", state.candidate))
        if used == digest
    )
