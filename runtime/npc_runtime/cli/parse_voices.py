"""From an ArchetypeAdapter's JSON to facts: spec, and what its status says of each tier and its rollouts."""

from __future__ import annotations

from .facts import Adapter, Degradation, Variant, VariantState
from .parse import own_conditions, parse_meta
from .plain import Json, entries, mapping, number, text, texts
from .rollouts import Decision, Progress, Rejection, Revision


def parse_adapter(raw: Json) -> Adapter:
    spec, status = mapping(raw.get("spec")), mapping(raw.get("status"))
    rollout = mapping(spec.get("rollout"))
    analysis = mapping(rollout.get("analysis"))
    return Adapter(
        meta=parse_meta(raw),
        conditions=own_conditions(status),
        archetype=text(spec.get("archetype")),
        importance=text(spec.get("importance")) or "Normal",
        suspend=spec.get("suspend") is True,
        quarantined=texts(spec.get("quarantinedDigests")),
        approved=text(rollout.get("approvedDigest")),
        ceiling=number(rollout.get("ceilingPercent"), 100),
        steps=tuple(one for one in rollout.get("steps") or () if isinstance(one, int)),
        min_requests=number(analysis.get("minRequests"), 50),
        digest=text(status.get("digest")),
        ready_variants=text(status.get("readyVariants")),
        variants=tuple(_variant(one) for one in entries(spec.get("variants"))),
        states=tuple(_state(one) for one in entries(status.get("variants"))),
        degraded=tuple(_degradation(one) for one in entries(status.get("degraded"))),
    )


def _variant(raw: Json) -> Variant:
    source = mapping(raw.get("source"))
    return Variant(
        tier=text(raw.get("tier")),
        digest=text(source.get("digest")),
        uri=text(source.get("uri")),
        rank=number(raw.get("rank")),
        secret=text(mapping(source.get("secretRef")).get("name")),
    )


def _state(raw: Json) -> VariantState:
    stable, candidate = _revision(raw.get("stable")), _revision(raw.get("candidate"))
    return VariantState(
        tier=text(raw.get("tier")),
        serving=text(raw.get("serving")),
        stable=stable.digest if stable is not None else "",
        candidate=candidate.digest if candidate is not None else "",
        revisions=tuple(one for one in (stable, candidate) if one is not None),
        candidate_since=text(raw.get("candidateSince")),
        rollout=_progress(mapping(raw.get("rollout"))),
        rejected=_rejection(mapping(raw.get("rejected"))),
        percent=number(raw.get("percent")),
        resident=number(raw.get("residentReplicas")),
        wanted=number(raw.get("wantedReplicas")),
        reason=text(raw.get("reason")),
        message=text(raw.get("message")),
        history=tuple(_decision(one) for one in entries(raw.get("history"))),
    )


def _degradation(raw: Json) -> Degradation:
    return Degradation(
        tier=text(raw.get("tier")),
        level=text(raw.get("level")),
        since=text(raw.get("since")),
        message=text(raw.get("message")),
    )


def _revision(raw: object) -> Revision | None:
    found = mapping(raw)
    if not text(found.get("digest")):
        return None
    return Revision(
        digest=text(found.get("digest")),
        uri=text(found.get("uri")),
        secret=text(mapping(found.get("secretRef")).get("name")),
        rank=number(found.get("rank")),
    )


def _progress(raw: Json) -> Progress | None:
    if not raw:
        return None
    return Progress(
        phase=text(raw.get("phase")),
        step=number(raw.get("step")),
        percent=number(raw.get("percent")),
        below=number(raw.get("below")),
        since=text(raw.get("since")),
        requests=number(raw.get("requests")),
    )


def _rejection(raw: Json) -> Rejection | None:
    if not text(raw.get("digest")):
        return None
    return Rejection(
        digest=text(raw.get("digest")),
        time=text(raw.get("time")),
        reason=text(raw.get("reason")),
        message=text(raw.get("message")),
    )


def _decision(raw: Json) -> Decision:
    return Decision(
        time=text(raw.get("time")),
        digest=text(raw.get("digest")),
        uri=text(raw.get("uri")),
        previous=text(raw.get("previous")),
        reason=text(raw.get("reason")),
        from_percent=number(raw.get("fromPercent")),
        to_percent=number(raw.get("toPercent")),
        verdict=text(raw.get("verdict")),
        by=text(raw.get("by")),
    )
