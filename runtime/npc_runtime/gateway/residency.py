"""What may be asked of a pod right now: the table's offer minus what the pod's own agent withdrew. Pure.

Two sources speak about one pod, and neither carries the other's clock, so each is believed where it knows better:

- the table offers (the operator saw a proof); an agent never adds a name the table does not offer;
- the agent withdraws: not accepting, or an offered name missing from its answer. That is fresher than the table it
  was asked under (`agents_watch` sees to it that a later table's new names are not withdrawn by it);
- a name that a later table offers anew is usable at once: the operator heard of the proof first, by milliseconds;
- a name withdrawn while offered stays withdrawn until the agent lists it again, or a table without it was seen (then
  the operator knows of the withdrawal, and its next offer is a new proof);
- a table that does not know a pod's residency leaves it to the agent, and while that is silent to the last table
  that did;
- lost contact is unknown, never bad: what the agent withdrew last stays so until the next table, then the table's
  word counts alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from npc_runtime import wire

Offer = frozenset[str] | None
"""Served names a table offers on one pod; None in a table without residency, where the agent alone says them."""


@dataclass(frozen=True, slots=True)
class AgentWord:
    """The last thing one pod's agent said, and what it thereby took back."""

    boot_id: str
    revision: int
    accepting: bool
    resident: frozenset[str]
    withdrawn: frozenset[str] = frozenset()
    in_contact: bool = True


def hear(previous: AgentWord | None, said: wire.Routable, offered: Offer) -> AgentWord:
    """The agent's word after an answer heard while the table offered `offered`.

    An answer older than what is known (same boot, lower revision) renews the contact and nothing else.
    """
    if previous is not None and said.boot_id == previous.boot_id and said.revision < previous.revision:
        return replace(previous, in_contact=True)
    resident = frozenset(said.resident)
    return AgentWord(said.boot_id, said.revision, said.accepting, resident, (offered or frozenset()) - resident)


def lose(previous: AgentWord | None) -> AgentWord | None:
    """The agent's word after contact was lost: remembered, but no longer heard."""
    return None if previous is None else replace(previous, in_contact=False)


def see_table(previous: AgentWord | None, offered: Offer) -> AgentWord | None:
    """The agent's word once a new table was applied that offers `offered` on its pod."""
    if previous is None or offered is None:
        return previous
    if not previous.in_contact:
        return None
    return replace(previous, withdrawn=previous.withdrawn & offered)


def usable_names(offered: Offer, word: AgentWord | None, remembered: frozenset[str]) -> frozenset[str]:
    """The served names that may be asked of a pod. `remembered` is the last offer of a table that knew one."""
    if word is None:
        return remembered if offered is None else offered
    if not word.accepting:
        return frozenset()
    if offered is None:
        return word.resident
    return offered - word.withdrawn
