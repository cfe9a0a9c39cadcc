"""Gateways that are not heard: when one is worth a word, and when it cannot be there any more.

A gateway goes by its last routes for as long as it lives, so what it may still ask for stays resident until it is heard
or gone. Its pod object alone does not say which: on a node that died the kubelet never confirms the end, and the object
stays for ever. Time does say it, with nobody's word: the node's side ends a pod when its grace is over, so what is long
past that end and silent to everybody has no one left who would still run it and take its traffic. Were it alive behind
a cut network after all, agents would tell it what is not resident any more: it could refuse a line, never mix voices.
"""

from __future__ import annotations

from npc_operator.domain.conditions import parse_rfc3339
from npc_operator.domain.facts import Pod

SILENT_SECONDS = 15.0
"""A gateway that is not heard for so long is named: longer than a restart of the operator's connection takes."""
GONE_MARGIN_SECONDS = 60.0
"""So long after its grace a pod must have been silent: clocks differ, and kubelet may be slow to kill."""


def is_silent(since: float | None, now: float) -> bool:
    """Whether it is worth a word that a gateway was not heard since then (Unix seconds; None: it is heard)."""
    return since is not None and now - since >= SILENT_SECONDS


def may_serve(pod: Pod, *, heard: bool) -> bool:
    """Whether a gateway of which nothing is known now can have lines to end or to take: while it is ready, while it
    ends what its connections still ask, and from the moment it is heard, because it may start from an older table and
    be ready next. One that is still starting has none, and never will if it is to go."""
    return heard or pod.ready or (pod.deleting and pod.phase != "Pending")


def gone_at(pod: Pod, since: float | None) -> float | None:
    """From when on (Unix seconds) a gateway that was not heard since then counts as gone; None: not in this state."""
    end = parse_rfc3339(pod.ends)
    if since is None or end is None or pod.ready or not pod.deleting:
        return None
    return max(since, end) + GONE_MARGIN_SECONDS
