"""Trying candidates on fake engines: who speaks there, what may be bad about a candidate, and when it was judged.

A fake engine takes its behaviour from a file in an adapter's own folder, so a bad candidate is bad wherever it is
served, and passes its probe all the same: as the bad ones do that matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from hack.stack.install import OPERATOR_NAMESPACE
from hack.stack.kubectl import Object
from hack.stack.load import TAKEN_SECONDS, Ask, Line, Load, ask_once, new_session
from npc_runtime.gateway.hashing import bucket
from npc_runtime.wire import GATEWAY_HEALTH_PORT, GATEWAY_PORT
from tests.e2e.plans import MAX_TOKENS, PERSONA, PROBE, PROMPT, STEPS
from tests.e2e.world import World
from tests.support.fake_engine import ADAPTER_BEHAVIOUR, BASE_VOICE, answer_of

OFF_SECONDS = 2.0
"""After a verdict, every gateway has the candidate off."""
QUICK = {"strategy": "Canary", "steps": list(STEPS), "stepSeconds": 2, "analysis": {"minRequests": 5}}
"""Steps as short as they can be judged in."""
RATE = 8.0
"""Lines a second for each voice."""

Stories = dict[str, "asyncio.Task[None]"]


def npcs(archetype: str, percents: tuple[int, int], count: int) -> list[str]:
    """Ids whose hash lies between two percents of all: who hears a candidate at the second, but not at the first."""
    low, high = (percent * 100 for percent in percents)
    found: list[str] = []
    number = 0
    while len(found) < count:
        name = f"{archetype}-{number:05}"
        if low <= bucket(archetype.encode(), name.encode()) < high:
            found.append(name)
        number += 1
    return found


def crowd(archetype: str) -> list[str]:
    """Ids of each step; many of the first, and of those right above that it is compared with, to be judged soon."""
    first = STEPS[0]
    counts = {(0, first): 8, (first, 2 * first): 8, (2 * first, 25): 4, (25, 50): 4, (50, 100): 4}
    return [name for percents, count in counts.items() for name in npcs(archetype, percents, count)]


def asks(archetype: str, names: Iterable[str], *tiers: str) -> list[Ask]:
    """One question of each NPC on each tier, so that each step's NPCs are heard in turn."""
    return [
        Ask(archetype=archetype, prompt=PROMPT, tier=tier, npc=npc, max_tokens=MAX_TOKENS)
        for npc in shuffled(list(names))
        for tier in tiers or ("bronze",)
    ]


def shuffled(names: Sequence[str]) -> list[str]:
    """In an order that mixes the steps, the same every time."""
    return sorted(names, key=lambda name: hashlib.sha256(f"order of {name}".encode()).digest())


def load(world: World, archetype: str, *tiers: str, rate: float = RATE) -> Load:
    """All NPCs of a voice, one after the other, on whatever gateway each line comes to."""
    return Load(world.url, world.key, asks(archetype, crowd(archetype), *tiers), rate=rate, spread=True)


def taken_from_now() -> float:
    """time.monotonic() from when on every gateway surely has the routes that the last status speaks of."""
    return time.monotonic() + TAKEN_SECONDS


def off_from_now() -> float:
    """time.monotonic() from when on nothing may begin that was forbidden now."""
    return time.monotonic() + OFF_SECONDS


def is_bucket_below(line: Line, percent: int) -> bool:
    """Whether the line's NPC hears a candidate that this share of all hears."""
    return bucket(line.ask.archetype.encode(), line.ask.npc.encode()) < percent * 100


def wall(line: Line) -> tuple[float, float]:
    """Unix seconds at which a line of this process started and ended."""
    offset = time.time() - time.monotonic()
    return line.started + offset, line.ended + offset


async def let_first_speak(world: World, archetype: str, *tiers: str) -> None:
    """An NPC of the first step asks every gateway on each tier. A step that nobody heard of belongs to would be raised
    to the lowest that was heard, and then the shares are others than the percents say.
    """
    npc = npcs(archetype, (0, STEPS[0]), 1)
    async with new_session() as session:
        for url in await gateways(world):
            for ask in asks(archetype, npc, *tiers):
                line = await ask_once(session, url, world.key, ask)
                assert not line.failure, line


async def gateways(world: World) -> list[str]:
    """Each gateway by itself, where the Service would choose one."""
    pods = await world.kubectl.list("pods", world.namespace, "app.kubernetes.io/component=gateway")
    return [f"http://{pod['status']['podIP']}:{GATEWAY_PORT}" for pod in pods]


@contextlib.asynccontextmanager
async def at_once(stories: Mapping[str, Coroutine[Any, Any, None]]) -> AsyncIterator[Stories]:
    """Stories that have nothing to do with each other, all under way while the block runs; each test awaits its own."""
    told = {name: asyncio.create_task(story) for name, story in stories.items()}
    try:
        yield told
    finally:
        for task in told.values():
            task.cancel()
        await asyncio.gather(*told.values(), return_exceptions=True)


# --- what is served ---


Source = tuple[str, str]
"""(uri, digest)"""


async def publish(world: World, archetype: str, folder: Path, name: str = "vampire-v2", **behaviour: Any) -> Source:
    """Upload an adapter that no pod ever had and that behaves like this on fake engines; what it says is known."""
    made = folder / f"{archetype}-{secrets.token_hex(4)}"
    shutil.copytree(world.stack.catalog.adapter(name), made)
    (made / "README.md").write_text(secrets.token_hex(8))
    if behaviour:
        (made / ADAPTER_BEHAVIOUR).write_text(json.dumps({"spares": PROBE, **behaviour}))
    uri, digest = await asyncio.to_thread(world.stack.publish, made, made.name)
    # An engine's words begin with the space before them.
    world.references[archetype, digest] = " " + behaviour["answer"] if "answer" in behaviour else said_by(made)
    return uri, digest


def said_by(folder: Path) -> str:
    """What a fake engine answers with these weights."""
    voice = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    return answer_of(voice, [{"role": "user", "content": PROMPT}], MAX_TOKENS)


def said_by_base() -> str:
    """What a fake engine answers without any adapter, told who it should be."""
    prompt: str = PERSONA["systemPrompt"]
    messages = [{"role": "system", "content": prompt}, {"role": "user", "content": PROMPT}]
    return answer_of(BASE_VOICE, messages, MAX_TOKENS)


async def begin(world: World, archetype: str, source: Source, rollout: dict[str, Any]) -> None:
    """A user names another digest for the Bronze tier, and how it is to take over. One apply, as one would do it."""
    seen = await world.kubectl.get("archetypeadapter", archetype, world.namespace)
    uri, digest = source
    variants = [
        {**variant, "source": {**variant["source"], "uri": uri, "digest": digest}}
        if variant["tier"] == "bronze"
        else variant
        for variant in seen["spec"]["variants"]
    ]
    await patch(world, archetype, {"variants": variants, "rollout": rollout})


async def patch(world: World, archetype: str, spec: dict[str, Any]) -> None:
    await world.kubectl.patch("archetypeadapter", archetype, world.namespace, {"spec": spec})


async def end(world: World, archetype: str) -> None:
    """Back to what the region was installed with, at once."""
    rollout = dict.fromkeys(("steps", "stepSeconds", "analysis", "ceilingPercent", "approvedDigest"))
    before = world.region.plan.adapters[archetype]
    restored = {
        "variants": before["variants"],
        "persona": before.get("persona"),
        "quarantinedDigests": None,
        "rollout": {**rollout, "strategy": "Immediate"},
    }
    await patch(world, archetype, restored)


# --- what was decided ---


def variant(seen: Object, tier: str = "bronze") -> Object:
    """One tier's view of a voice; empty before there is one."""
    found: list[Object] = seen.get("status", {}).get("variants", [])
    return next((one for one in found if one["tier"] == tier), {})


def percent(seen: Object, digest: str, tier: str = "bronze") -> int:
    """Which share of the NPCs the candidate has by the status."""
    told = variant(seen, tier)
    if (told.get("candidate") or {}).get("digest") != digest:
        return 0
    return int((told.get("rollout") or {}).get("percent", 0))


def has_moved(seen: Object, digest: str, tier: str = "bronze") -> bool:
    """Whether all traffic is the digest's, and nothing else is tried."""
    told = variant(seen, tier)
    return bool((told.get("stable") or {}).get("digest") == digest and not told.get("candidate"))


def is_taken_back(seen: Object, digest: str, tier: str = "bronze") -> bool:
    return bool((variant(seen, tier).get("rejected") or {}).get("digest") == digest)


def steps_of(seen: Object, digest: str, tier: str = "bronze") -> list[tuple[int, float]]:
    """(percent, unix seconds: not later than it was) of each step of a candidate by the history, oldest first."""
    history = reversed(variant(seen, tier).get("history", []))
    return [
        (one.get("toPercent", 0), datetime.fromisoformat(one["time"]).timestamp())
        for one in history
        if one["digest"] == digest and one["reason"] in ("Stepped", "Moved")
    ]


async def decided_at(world: World, decision: str, archetype: str, digest: str) -> float:
    """Unix seconds, to the millisecond, at which the operator wrote a decision into its audit log."""
    pods = await world.kubectl.list("pods", OPERATOR_NAMESPACE, "app.kubernetes.io/name=npc-operator")
    for pod in pods:
        for line in (await world.kubectl.run("logs", "-n", OPERATOR_NAMESPACE, pod["metadata"]["name"])).splitlines():
            told = json.loads(line) if line.startswith("{") else {}
            made = told.get("audit", {})
            if (made.get("namespace"), made.get("adapter"), made.get("decision"), made.get("digest")) == (
                world.namespace,
                archetype,
                decision,
                digest,
            ):
                return datetime.fromisoformat(told["time"]).timestamp()
    raise AssertionError(f"no operator's log has {decision} of {archetype}'s {digest}")


def assert_shares(lines: Iterable[Line], digest: str, taken: Sequence[tuple[int, float]]) -> None:
    """No NPC heard the candidate that was not of a share which it had by then."""
    for line in lines:
        ended = wall(line)[1]
        share = max((percent for percent, at in taken if at <= ended), default=0)
        assert line.digest != digest or is_bucket_below(line, share), (share, line)


# --- what the parts say of themselves ---


async def degraded_lines(world: World, archetype: str, tier: str) -> dict[str, int]:
    """Level -> lines that the gateways counted as answered on it."""
    counted: dict[str, int] = {}
    pods = await world.kubectl.list("pods", world.namespace, "app.kubernetes.io/component=gateway")
    async with aiohttp.ClientSession() as session:
        for pod in pods:
            url = f"http://{pod['status']['podIP']}:{GATEWAY_HEALTH_PORT}/metrics"
            async with session.get(url) as response:
                text = await response.text()
            for line in text.splitlines():
                if not line.startswith("npc_gateway_degraded_lines_total{"):
                    continue
                labels, value = line.removeprefix("npc_gateway_degraded_lines_total{").rsplit("} ", 1)
                named = dict(part.split("=", 1) for part in labels.replace('"', "").split(","))
                if (named["archetype"], named["tier"]) == (archetype, tier):
                    counted[named["level"]] = counted.get(named["level"], 0) + int(float(value))
    return counted
