"""The whole product on the local cluster with real vLLM: a voice applied, changed under load, and an engine killed.

Two engine pods, adapters from a mounted folder. What a user sees counts: each clock ends when the object's status says
so, so every figure holds the API server, the operator, the agent's digest, inspection, load and probe, and the status.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from hack.bench import live_region
from hack.bench.figures import Bar, Figure
from hack.bench.kube import Kube, collection, core
from hack.bench.live_region import NAMESPACE, PODS, Sources
from hack.bench.objects import is_ready
from hack.bench.plan import Options
from hack.bench.waiting import BenchFault
from hack.stack import engines, install, regions
from hack.stack.faults import kill_container
from hack.stack.load import Ask, Load, Tally
from hack.stack.references import References, references
from hack.stack.region import namespace, volume, volume_name
from hack.stack.regions import Region
from hack.stack.watching import until_all_ready

PROMPT, TOKENS = "Who are you?", 16
RATE = 8.0
STEADY_LINES = 24
ENGINE_PORT = 8000
VOICES = "archetypeadapters"
_TURN = ("vampire-v2", "vampire-v3", "vampire-v1")


@dataclass(slots=True)
class Live:
    """The region and everything to measure it with."""

    region: Region
    kube: Kube
    sources: Sources
    answers: References


async def measure_live(options: Options) -> list[Figure]:
    """Applied, changed, killed; `runs` times each, on one region."""
    applied: list[float] = []
    swaps: list[Swap] = []
    lost: list[float] = []
    proven: list[float] = []
    async with _region(options) as live:
        for run in range(options.runs):
            options.say(f"run {run + 1}: a new voice is applied")
            applied.append(await _apply(live, run))
            options.say(f"run {run + 1}: the vampire changes under load")
            swaps.append(await _swap(live, run))
            options.say(f"run {run + 1}: an engine is killed")
            noticed, repaired = await _kill(live)
            lost.append(noticed)
            proven.append(repaired)

    def figure(what: str, runs: list[float], unit: str = "s", bar: Bar | None = None, **more: str) -> Figure:
        return Figure(row="live", what=what, unit=unit, runs=tuple(runs), bar=bar, **more)

    shape = f"{PODS} real vLLM pods, small adapters from a mounted folder; clocks end at the status"
    lines = sum(len(swap.tally.lines) for swap in swaps)
    return [
        figure("adapter applied -> proven on every pod", applied, bar=Bar(0.5), peer="0.47-0.66 s, AIBrix", note=shape),
        figure("hot swap: change -> 100%", [swap.seconds for swap in swaps], bar=Bar(2.0), peer="never, AIBrix"),
        figure("hot swap: change -> first line of the new voice", [swap.first for swap in swaps]),
        figure("hot swap: change -> last line of the old voice", [swap.last for swap in swaps]),
        figure(
            "hot swap: failed requests",
            [float(len(swap.tally.failures)) for swap in swaps],
            unit="",
            bar=Bar(0),
            peer="3-7 get 404, delete and create",
            note=f"{lines} streaming requests in all, {RATE:g} a second",
        ),
        figure("hot swap: answers mixing versions", [float(swap.mixed) for swap in swaps], unit="", bar=Bar(0)),
        figure("engine killed -> status says not resident", lost, bar=Bar(2.0), peer="never, AIBrix"),
        figure("engine ready again -> all proven", proven, bar=Bar(0.5), peer="0.38-1.24 s, AIBrix"),
    ]


# --- the measurements ---


async def _apply(live: Live, run: int) -> float:
    """Seconds from the apply of a new voice to its Ready, which means proven on every pod."""
    name = f"fresh-{run}"
    manifest = {
        "apiVersion": "npcfleet.dev/v1alpha1",
        "kind": "ArchetypeAdapter",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": live_region.build_voice(name, live.sources.fresh("merchant-v1")),
    }
    path = collection(VOICES, NAMESPACE)
    began = time.monotonic()
    created = await live.kube.call("POST", path, manifest)
    ended = await _until(live.kube, name, created["metadata"]["resourceVersion"], _proven_everywhere)
    await live.kube.call("DELETE", f"{path}/{name}")
    return ended - began


@dataclass(frozen=True, slots=True)
class Swap:
    """One change under load; seconds after the change."""

    seconds: float
    first: float
    last: float
    mixed: int
    tally: Tally


async def _swap(live: Live, run: int) -> Swap:
    source = live.sources.fresh(_TURN[run % len(_TURN)])
    asks = [
        Ask(archetype=archetype, prompt=PROMPT, max_tokens=TOKENS) for archetype in ("vampire", "zombie", "vampire")
    ]
    async with Load(live.region.url, live.region.api_key, asks, rate=RATE) as load:
        await load.until(STEADY_LINES)
        began = time.monotonic()
        patch = {"spec": {"variants": live_region.build_variants(source)}}
        changed = await live.kube.merge(f"{collection(VOICES, NAMESPACE)}/vampire", patch)

        def moved(seen: dict[str, Any]) -> bool:
            return _proven_everywhere(seen) and live_region.stable_digest(seen) == source["digest"]

        ended = await _until(live.kube, "vampire", changed["metadata"]["resourceVersion"], moved)
        await load.until(STEADY_LINES)
    tally = load.tally
    first, last = tally.first_with(source["digest"]), tally.last_without(source["digest"], "vampire")
    if first is None or last is None:
        raise BenchFault("the change was not seen by the load: no line of the new voice, or none of the old one")
    return Swap(ended - began, first.started - began, last.started - began, len(tally.mixed(_expected(live))), tally)


async def _kill(live: Live) -> tuple[float, float]:
    """(seconds from the kill to a status that does not call the pod resident, from its engine's health to proven)."""
    pod = (await live.region.engine_pods(live_region.TIER))[0]
    listed = await live.kube.call("GET", f"{collection(VOICES, NAMESPACE)}/vampire")
    version = listed["metadata"]["resourceVersion"]
    noticing = asyncio.create_task(
        _until(live.kube, "vampire", version, lambda seen: live_region.residents(seen)[0] < PODS or not is_ready(seen))
    )
    await asyncio.sleep(0.5)  # so that the watch is really there
    await kill_container(live.region.kubectl, NAMESPACE, pod["metadata"]["name"], "engine")
    killed = time.monotonic()
    noticed = await noticing
    healthy = await _until_healthy(pod["status"]["podIP"])
    listed = await live.kube.call("GET", f"{collection(VOICES, NAMESPACE)}/vampire")
    proven = time.monotonic()
    if not _proven_everywhere(listed):
        proven = await _until(live.kube, "vampire", listed["metadata"]["resourceVersion"], _proven_everywhere)
    await until_all_ready(live.region.kubectl, NAMESPACE, expected=4, timeout=300)
    return noticed - killed, proven - healthy


def _proven_everywhere(seen: dict[str, Any]) -> bool:
    return is_ready(seen) and live_region.residents(seen) == (PODS, PODS)


def _expected(live: Live) -> dict[tuple[str, str], str]:
    """(archetype, digest) -> what a lone vLLM says with those weights."""
    return {
        (original.partition("-")[0], digest): live.answers.text(original, PROMPT, TOKENS)
        for digest, original in live.sources.originals.items()
    }


async def _until(
    kube: Kube, name: str, version: str, holds: Callable[[dict[str, Any]], bool], *, seconds: float = 300.0
) -> float:
    """The moment (time.monotonic()) at which a voice was first seen as wanted, after `version`. Raises BenchFault."""
    async with asyncio.timeout(seconds):
        async for seen in kube.watch(collection(VOICES, NAMESPACE), version=version):
            if seen["metadata"]["name"] == name and holds(seen):
                return time.monotonic()
    raise BenchFault(f"the watch on {name} ended")


async def _until_healthy(address: str) -> float:
    """The moment at which a new engine's /health is 200; the dead one's port answers nobody."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session, asyncio.timeout(300):
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"http://{address}:{ENGINE_PORT}/health") as answer:
                    if answer.status == 200:
                        return time.monotonic()
            await asyncio.sleep(0.02)


# --- the region ---


def _shared_folder() -> Path:
    """A folder that engine pods may read, too."""
    folder = Path(tempfile.mkdtemp(prefix="npc-bench-adapters-"))
    folder.chmod(0o755)
    return folder


@contextlib.asynccontextmanager
async def _region(options: Options) -> AsyncIterator[Live]:
    """The region Ready; taken away afterwards. Cluster and operator stay."""
    stack = await install.bring_up(options.say)
    await install.install_operator(stack)
    answers = await references(stack.catalog)
    folder = _shared_folder()
    sources = Sources(folder, stack.catalog)
    plan = live_region.build_plan(
        engines.vllm_plan(stack.images.engine_base),
        model_uri=stack.model_uri,
        voices={"vampire": sources.fresh("vampire-v1"), "zombie": sources.fresh("zombie-v1")},
    )
    try:
        await stack.kubectl.apply(namespace(NAMESPACE))
        await stack.kubectl.apply(*volume(NAMESPACE, host_path=str(folder), claim=live_region.CLAIM))
        region = await regions.install(stack, plan)
        await until_all_ready(stack.kubectl, NAMESPACE, expected=4, say=options.say, timeout=600)
        async with Kube.of_kubeconfig(stack.cluster.kubeconfig) as kube:
            await kube.call("GET", core("pods", NAMESPACE))
            yield Live(region, kube, sources, answers)
    finally:
        await regions.uninstall(stack.kubectl, stack.helm, NAMESPACE, NAMESPACE)
        await stack.kubectl.delete("persistentvolume", volume_name(NAMESPACE, live_region.CLAIM), "")
        shutil.rmtree(folder, ignore_errors=True)
