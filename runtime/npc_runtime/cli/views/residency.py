"""What pods say they hold, and how that differs from what specs want.

An agent's word is the truth about its pod; a pod whose agent was not heard is shown as not heard, never as empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from ...wire import AdapterPhase, AdapterReport, AgentReport
from ..answers import Answer, Block, Cell, Code, Table, Tone, text
from ..explain.chain import clip, how_long
from ..facts import Adapter, Degradation, Pod, Tier, VariantState, World
from ..rollouts import short

_TONES = {AdapterPhase.RESIDENT: Tone.GOOD, AdapterPhase.REFUSED: Tone.BAD, AdapterPhase.RETRYING: Tone.BAD}


@dataclass(frozen=True, slots=True)
class Heard:
    """One engine pod and what its agent said; `why` it was not heard where there is no report."""

    pod: Pod
    report: AgentReport | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the spec wants it."""

    archetype: str
    tier: str
    pod: str
    wanted: str
    serves: str
    says: str


def view_matrix(world: World, heard: Iterable[Heard], *, archetype: str = "", tier: str = "", now: float) -> Answer:
    """Archetype x tier x pod: digest, its share of the tier's NPCs, and since when it is proven there."""
    rows: list[tuple[Cell, ...]] = []
    data: list[dict[str, object]] = []
    silent = []
    for one in sorted(heard, key=lambda each: (each.pod.tier, each.pod.meta.name)):
        if tier and one.pod.tier != tier:
            continue
        if one.report is None:
            silent.append(one)
            continue
        for report in sorted(one.report.adapters, key=lambda each: (each.archetype, each.served_name)):
            if archetype and report.archetype != archetype:
                continue
            since = since_of(report)
            role = _role(world, one.pod.tier, report)
            weight = _weight(world, one.pod.tier, report)
            rows.append(
                (
                    Cell(report.archetype),
                    Cell(one.pod.tier),
                    Cell(one.pod.meta.name),
                    Cell(short(report.digest)),
                    Cell(role),
                    Cell(f"{weight:g}%" if weight is not None else "-"),
                    Cell(report.phase.value, _TONES.get(report.phase, Tone.BUSY)),
                    Cell(f"{since} ({how_long(since, now)})" if since else ""),
                    Cell(clip(f"{report.reason}: {report.message}") if report.reason else ""),
                )
            )
            data.append(
                {
                    "archetype": report.archetype,
                    "tier": one.pod.tier,
                    "pod": one.pod.meta.name,
                    "digest": report.digest,
                    "role": role,
                    "weightPercent": weight,
                    "phase": report.phase.value,
                    "residentSince": since,
                    "reason": report.reason,
                    "message": report.message,
                }
            )
    rows.sort(key=lambda row: tuple(cell.text for cell in row[:4]))
    data.sort(key=lambda row: (str(row["archetype"]), str(row["tier"]), str(row["pod"]), str(row["digest"])))
    columns = ("ARCHETYPE", "TIER", "POD", "DIGEST", "ROLE", "WEIGHT", "PHASE", "RESIDENT SINCE", "MESSAGE")
    blocks: list[Block] = [Table("", columns, tuple(rows), empty="no pod holds an adapter")]
    if silent:
        blocks.append(text(*(f"not heard: pod {one.pod.meta.name} ({one.pod.tier}): {one.why}" for one in silent)))
    degraded = [
        (adapter.archetype, less)
        for adapter in world.adapters
        for less in adapter.degraded
        if archetype in ("", adapter.archetype) and tier in ("", less.tier)
    ]
    if degraded:
        blocks.append(text(*(_degraded_line(name, less, now) for name, less in degraded)))
    found = {
        "rows": data,
        "degraded": [{"archetype": name} | asdict(less) for name, less in degraded],
        "notHeard": [{"pod": one.pod.meta.name, "tier": one.pod.tier, "why": one.why} for one in silent],
    }
    return Answer(found, tuple(blocks), Code.NOT_REACHED if silent else Code.FINE)


def find_differences(world: World, heard: Iterable[Heard]) -> tuple[Difference, ...]:
    """Wanted by spec against what pods hold: what is missing, and what is there that nobody wants."""
    answered = [one for one in heard if one.report is not None]
    found: list[Difference] = []
    for adapter in sorted(world.adapters, key=lambda one: one.meta.name):
        for variant in adapter.variants:
            tier = world.tier(variant.tier)
            if tier is None:
                says = f"there is no GpuTier {variant.tier}"
                found.append(_difference(adapter, variant.tier, "", variant.digest, "", says))
                continue
            pods = [one for one in answered if one.pod.tier == variant.tier]
            found += [gap for one in pods if (gap := _gap(adapter, variant.tier, variant.digest, one)) is not None]
            state = adapter.state(variant.tier)
            if pods and state is not None and state.stable != variant.digest:
                said = state.reason or "moving"
                stable = short(state.stable) or "nothing"
                says = f"traffic goes to {stable}, the spec names {short(variant.digest)} ({said})"
                found.append(_difference(adapter, variant.tier, "", variant.digest, state.stable, says))
    found += _strays(world, answered)
    return tuple(found)


def view_diff(world: World, heard: Iterable[Heard], *, archetype: str = "", tier: str = "") -> Answer:
    """The differences, and the pods of which nothing is known."""
    every = tuple(heard)
    found = tuple(
        one for one in find_differences(world, every) if archetype in ("", one.archetype) and tier in ("", one.tier)
    )
    silent = [one for one in every if one.report is None]
    rows = tuple(
        (
            Cell(one.archetype),
            Cell(one.tier),
            Cell(one.pod),
            Cell(short(one.wanted)),
            Cell(short(one.serves)),
            Cell(clip(one.says), Tone.BAD),
        )
        for one in found
    )
    columns = ("ARCHETYPE", "TIER", "POD", "WANTED", "HOLDS", "WHAT DIFFERS")
    heard_count = len(every) - len(silent)
    none = f"nothing differs on the {heard_count} pods that were heard"
    blocks: list[Block] = [Table("", columns, rows, empty=none)]
    if silent:
        blocks.append(text(*(f"not heard: pod {one.pod.meta.name} ({one.pod.tier}): {one.why}" for one in silent)))
    data = {
        "differences": [
            {
                "archetype": one.archetype,
                "tier": one.tier,
                "pod": one.pod,
                "wanted": one.wanted,
                "holds": one.serves,
                "says": one.says,
            }
            for one in found
        ],
        "podsHeard": heard_count,
        "notHeard": [{"pod": one.pod.meta.name, "tier": one.pod.tier, "why": one.why} for one in silent],
    }
    code = Code.NOT_AS_WANTED if found else Code.NOT_REACHED if silent else Code.FINE
    return Answer(data, tuple(blocks), code)


def since_of(report: AdapterReport) -> str:
    """When an adapter was proven on its pod (RFC 3339, UTC), empty if it is not."""
    if report.resident_since_ms is None:
        return ""
    return datetime.fromtimestamp(report.resident_since_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _degraded_line(archetype: str, less: Degradation, now: float) -> str:
    """What players hear, whatever pods hold: weights say nothing of lines that went down a level."""
    passed = how_long(less.since, now)
    since = f" for {passed}" if passed else ""
    return f"degraded: {archetype} on tier {less.tier}: {less.level}{since}: {clip(less.message)}"


def _state(world: World, tier: str, report: AdapterReport) -> VariantState | None:
    """What the adapter's status says of this tier."""
    adapters = [one for one in world.adapters if one.archetype == report.archetype]
    return next((found for one in adapters if (found := one.state(tier)) is not None), None)


def _role(world: World, tier: str, report: AdapterReport) -> str:
    state = _state(world, tier, report)
    if state is None:
        return "-"
    return {state.stable: "stable", state.candidate: "candidate"}.get(report.digest, "-")


def _weight(world: World, tier: str, report: AdapterReport) -> float | None:
    """Percent of the tier's NPCs that get this digest, by the status; None if it is neither stable nor candidate.
    It is the alias's: pods share its lines among themselves.
    """
    state = _state(world, tier, report)
    if state is None or report.digest not in (state.stable, state.candidate):
        return None
    share = state.rollout.share if state.rollout is not None and state.candidate else 0.0
    if report.digest == state.candidate:
        return share
    # Where something stands in that is no adapter, status still says what stable was.
    return 0.0 if state.serving in ("BaseModel", "Scripted", "Nothing") else 100.0 - share


def _gap(adapter: Adapter, tier: str, wanted: str, one: Heard) -> Difference | None:
    pod = one.pod.meta.name
    reports = one.report.adapters if one.report is not None else ()
    own = [report for report in reports if report.archetype == adapter.archetype]
    proven = [report for report in own if report.phase is AdapterPhase.RESIDENT]
    if any(report.digest == wanted for report in proven):
        return None
    holds = proven[0].digest if proven else ""
    coming = next((report for report in own if report.digest == wanted), None)
    if coming is None:
        says = "its agent has not begun with it"
    elif coming.reason:
        says = f"{coming.phase.value}: {coming.reason}: {coming.message}"
    else:
        says = f"still {coming.phase.value}"
    return _difference(adapter, tier, pod, wanted, holds, says)


def _strays(world: World, answered: Iterable[Heard]) -> list[Difference]:
    """Adapters that are resident and that no spec and no status knows of."""
    known: set[tuple[str, str, str]] = set()
    for adapter in world.adapters:
        known |= {(adapter.archetype, one.tier, one.digest) for one in adapter.variants}
        for state in adapter.states:
            known |= {(adapter.archetype, state.tier, digest) for digest in (state.stable, state.candidate)}
    found = []
    for one in answered:
        for report in one.report.adapters if one.report is not None else ():
            if report.phase is AdapterPhase.RESIDENT and (report.archetype, one.pod.tier, report.digest) not in known:
                pod, says = one.pod.meta.name, "resident, and neither spec nor status wants it"
                found.append(Difference(report.archetype, one.pod.tier, pod, "", report.digest, says))
    return found


def _difference(adapter: Adapter, tier: str, pod: str, wanted: str, serves: str, says: str) -> Difference:
    return Difference(adapter.archetype, tier, pod, wanted, serves, says)


def engine_pods(world: World, tiers: Iterable[Tier]) -> tuple[Pod, ...]:
    """The pods whose agents can be asked: running ones of these tiers that are not going away."""
    names = {one.meta.name for one in tiers}
    return tuple(
        pod
        for pod in world.pods
        if pod.component == "engine" and pod.tier in names and pod.phase == "Running" and not pod.meta.deleted
    )
