"""Why a tier serves what it does while a digest is on its way: what stands in, what was taken back, what it waits for.

A rollout that goes on by itself is no fault; one that waits for a person is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import vocabulary as v
from ..facts import Adapter, VariantState, World
from ..rollouts import Progress, Rejection, short
from .advice import GATE_LOG, next_step
from .chain import Link, sentence

STAND_INS = {
    "LastGood": "the last good digest stands in",
    "BaseModel": "the base model speaks with the persona's prompt",
    "Scripted": "scripted lines are spoken",
    "Nothing": "nothing can speak: the persona has neither a prompt nor lines",
}
PHASES = {
    "Waiting": ("WaitingForTurn", True),
    "Gating": ("Gating", True),
    "Checking": ("CheckingIdentity", True),
    "Watching": ("Watching", True),
    "Probing": ("Probing", True),
    "Holding": ("", False),
}
"""Phase -> its reason and whether it goes on by itself; Loading is told by what it waits for."""
QUOTED = frozenset({"Gating", "CheckingIdentity", "WaitingForTurn"})
"""Reasons of which the status knows more than its numbers: what the gate says, whose proof is missing, who is first."""
STOOD = frozenset({"IdentityTimeout", "Suspended"})
"""Reasons of a rollout that stands still because of something else: told together with that pod or that pause."""
PLAYERS = "TooLittleTraffic"
APPROVAL = "AwaitingApproval"


@dataclass(frozen=True, slots=True)
class MoveCase:
    """One tier of a voice at one moment."""

    adapter: Adapter
    state: VariantState
    world: World

    @property
    def thing(self) -> str:
        return f"adapter {self.adapter.meta.name}"

    @property
    def serves(self) -> str:
        return f"traffic stays on {short(self.state.stable)}" if self.state.stable else "nothing else is served yet"

    def command(self, words: str) -> str:
        """A command of this tool about the adapter."""
        verb, _, rest = words.partition(" ")
        name, namespace = self.adapter.meta.name, self.adapter.meta.namespace
        return f"kubectl npc {verb} {name}{f' {rest}' if rest else ''} -n {namespace}"

    def advice(self, reason: str) -> str:
        meta = self.adapter.meta
        return next_step(
            reason, namespace=meta.namespace, short=v.SHORT[v.KIND_ADAPTER], name=meta.name, tier=self.state.tier
        )

    def ceiling(self) -> tuple[int, str]:
        """The lowest percent that holds the rollout, and the field it stands in."""
        region = self.world.region()
        own, theirs = self.adapter.ceiling, region.ceiling if region is not None else 100
        if region is not None and theirs < own:
            return theirs, f"spec.rolloutLimits.ceilingPercent of region {region.meta.name}"
        return own, "spec.rollout.ceilingPercent"


def find_stand_in(case: MoveCase) -> Sequence[Link]:
    """What the spec names is quarantined: what answers instead."""
    stands = STAND_INS.get(case.state.serving)
    if stands is None and case.state.reason == "Quarantined" and case.state.rejected is None:
        stands = case.serves
    if stands is None:
        return ()
    tier, name = case.state.tier, case.adapter.meta.name
    bad = next((one.digest for one in case.adapter.variants if one.tier == tier), "")
    region = case.world.region()
    lists = [f"adapter {name}"] if bad in case.adapter.quarantined else []
    lists += [f"region {region.meta.name}"] if region is not None and bad in region.quarantined else []
    what = f"{short(bad)} is quarantined by {' and '.join(lists)}" if lists else "its digest may not be used"
    says = f"On tier {tier} {what}: {stands}{_brought_back(case)}."
    whose = name if bad in case.adapter.quarantined or not lists else "--region"
    off = f"kubectl npc quarantine {short(bad)} {whose} --remove -n {case.adapter.meta.namespace}"
    step = f"put a good digest into the spec: {case.command(f'rollback --tier {tier}')}; or take it off: {off}"
    return [Link(object=case.thing, reason="Quarantined", since=_decided(case), says=says, next=step)]


def find_rejection(case: MoveCase) -> Sequence[Link]:
    """The newest digest was taken back, with the numbers it was judged by."""
    found = case.state.rejected
    if found is None or not _is_wanted(case, found):
        return ()
    entry = next((one for one in case.state.history if one.digest == found.digest and one.to_percent == 0), None)
    had = f" at {entry.from_percent}%" if entry is not None and entry.from_percent else " before it had traffic"
    verdict = entry.verdict.removeprefix(f"{found.reason}: ") if entry is not None else ""
    numbers = f" Judged by: {sentence(verdict)}" if verdict and verdict != found.message else ""
    stays = f"{case.serves[0].upper()}{case.serves[1:]}"
    says = (
        f"On tier {case.state.tier} candidate {short(found.digest)} was taken back{had}: "
        f"{sentence(found.message or found.reason)}{numbers} {stays}; it is not tried again until the variant names "
        "another digest."
    )
    log = GATE_LOG.format(namespace=case.adapter.meta.namespace, name=case.adapter.meta.name)
    heard = f"hear what your gate says: {log}; " if found.reason == "GateFailed" else ""
    step = heard + (
        f"put the old digest back into the spec: {case.command(f'rollback --tier {case.state.tier}')}; "
        "or publish a mended adapter under its new digest"
    )
    return [Link(object=case.thing, reason=found.reason or "RolledBack", since=found.time, says=says, next=step)]


def find_progress(case: MoveCase) -> Sequence[Link]:
    """Where the candidate is, and what it waits for."""
    rollout = case.state.rollout
    if rollout is None or not case.state.candidate or rollout.phase not in PHASES:
        return ()
    if case.state.reason in STOOD:
        return ()
    reason, goes_on = PHASES[rollout.phase]
    if rollout.phase == "Holding":
        reason = _held_by(case, rollout)
    says = f"On tier {case.state.tier} {_where(case, rollout)}: {_waits(case, rollout, reason)}"
    step = case.command("approve") if reason == APPROVAL else case.advice(reason)
    since = rollout.since or case.state.candidate_since
    return [Link(object=case.thing, reason=reason, since=since, says=says, next=step, fine=goes_on)]


def _brought_back(case: MoveCase) -> str:
    """Which earlier digest serves, or will."""
    if not case.state.stable or case.state.serving in ("", "Stable"):
        return ""
    good = short(case.state.stable)
    return f" ({good})" if case.state.serving == "LastGood" else f", until the earlier {good} is proven on every pod"


def _decided(case: MoveCase) -> str:
    """When the newest decision about this tier fell."""
    return case.state.history[0].time if case.state.history else ""


def _is_wanted(case: MoveCase, found: Rejection) -> bool:
    """Whether the spec still names what was taken back: afterwards it is history."""
    return any(one.tier == case.state.tier and one.digest == found.digest for one in case.adapter.variants)


def _where(case: MoveCase, rollout: Progress) -> str:
    candidate, steps = short(case.state.candidate), case.adapter.steps
    if not rollout.below and not rollout.percent and rollout.since:
        return f"candidate {candidate} speaks for the pinned NPCs alone"
    if not rollout.below and not rollout.percent:
        return f"candidate {candidate} is loaded and has no traffic yet"
    raised = f", raised to {rollout.share:g}%" if rollout.below > rollout.percent * 100 else ""
    of = f" of {len(steps)}" if steps else ""
    return f"candidate {candidate} has {rollout.percent}% of the NPCs{raised} (step {rollout.step}{of})"


def _waits(case: MoveCase, rollout: Progress, reason: str) -> str:
    if case.state.reason == reason and reason in QUOTED and case.state.message:
        return sentence(case.state.message.removeprefix(f"tier {case.state.tier}: "))
    return _WAITS[reason](case, rollout)


def _turn(case: MoveCase, _: Progress) -> str:
    region = case.world.region()
    limit = f" (at most {region.max_concurrent} archetypes at once)" if region is not None else ""
    return f"it waits for its turn among the region's rollouts{limit}."


def _approval(case: MoveCase, _: Progress) -> str:
    percent, field = case.ceiling()
    return f"it holds for a person's approval, because {field} is {percent} percent."


def _judged(case: MoveCase, rollout: Progress) -> str:
    # The operator writes no status for a count alone.
    seen = f"{rollout.requests} of its answers had been judged when its status last changed"
    return f"{seen}; before it may move on there must be {case.adapter.min_requests}."


_WAITS: dict[str, Callable[[MoveCase, Progress], str]] = {
    "WaitingForTurn": _turn,
    "Gating": lambda *_: "your gate's Job runs.",
    "CheckingIdentity": lambda *_: "every pod proves once more that it serves these bytes, before the next step.",
    "Watching": _judged,
    "Probing": lambda case, rollout: f"too few players speak, so the gateways ask. {_judged(case, rollout)}",
    PLAYERS: lambda case, rollout: f"too few players speak for a verdict. {_judged(case, rollout)}",
    APPROVAL: _approval,
}


def _held_by(case: MoveCase, rollout: Progress) -> str:
    """Why it holds: the operator's own word, else what the spec's numbers say."""
    if case.state.reason in (PLAYERS, APPROVAL):
        return case.state.reason
    percent, _ = case.ceiling()
    steps = case.adapter.steps
    beyond = rollout.step < len(steps) and steps[rollout.step] > percent
    return APPROVAL if beyond and case.adapter.approved != case.state.candidate else PLAYERS


RULES = (find_stand_in, find_rejection, find_progress)


def explain_moves(adapter: Adapter, state: VariantState, world: World) -> list[Link]:
    """The links of one tier; empty where nothing moves and nothing stands in."""
    case = MoveCase(adapter, state, world)
    return [link for rule in RULES for link in rule(case)]
