"""Three acts on a region that is ready: every voice speaks, one changes under load, an engine dies and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Sequence

from hack.demo import summary
from hack.demo.console import Console
from hack.stack.faults import kill_container
from hack.stack.kubectl import Kubectl, Object, condition, is_ready
from hack.stack.load import TAKEN_SECONDS, Ask, Line, Load, ask_once, new_session
from hack.stack.references import References
from hack.stack.regions import Region

PROMPT = "Who are you?"
ANSWER_TOKENS = 16
# Lines a second over all voices and tiers: what two cores answer easily beside everything else that runs on them.
RATE = 8.0
STEADY_LINES = 40
# An engine starts in a quarter of a minute on an idle machine.
REPAIR_SECONDS = 300.0


class DemoFault(Exception):
    """Something is not as it should be; the message says what."""


def every_ask(archetypes: Sequence[str], tiers: Sequence[str]) -> list[Ask]:
    """Each archetype on each tier, once."""
    return [
        Ask(archetype=archetype, tier=tier, npc=f"{archetype}-of-{tier}", prompt=PROMPT, max_tokens=ANSWER_TOKENS)
        for tier in tiers
        for archetype in archetypes
    ]


def mostly(archetype: str, asks: Sequence[Ask]) -> list[Ask]:
    """The asks with one of `archetype` before each of another: every second line is about whom it is about."""
    own = itertools.cycle([ask for ask in asks if ask.archetype == archetype])
    return [ask for other in asks if other.archetype != archetype for ask in (next(own), other)]


async def let_them_speak(console: Console, region: Region, references: References, tiers: Sequence[str]) -> None:
    """Ask each archetype on each of the tiers and print the answers. Raises DemoFault for one that is not its own."""
    expected = references.expected(PROMPT, ANSWER_TOKENS)
    async with new_session() as session:
        lines = [
            await ask_once(session, region.url, region.api_key, ask)
            for ask in every_ask(tuple(region.plan.adapters), tiers)
        ]
    console.table(
        ("archetype", "tier", "answered by", f"answer to {PROMPT!r}"),
        [
            (line.ask.archetype, line.tier, references.version(line.digest), line.failure or line.text.strip())
            for line in lines
        ],
    )
    wrong = [line for line in lines if line.failure or expected.get((line.ask.archetype, line.digest)) != line.text]
    if wrong:
        raise DemoFault("; ".join(f"{line.ask.archetype} on {line.ask.tier}: {_complaint(line)}" for line in wrong))


async def swap_under_load(console: Console, region: Region, references: References, archetype: str, new: str) -> None:
    """Change a voice to the bytes of `new` while lines run, and print what came of it. Raises DemoFault."""
    uri, digest = region.stack.adapter(new)
    old = str(
        (await region.kubectl.get("archetypeadapter", archetype, region.namespace))["status"]["variants"][0]["stable"][
            "digest"
        ]
    )
    asks = mostly(archetype, every_ask(tuple(region.plan.adapters), tuple(region.plan.tiers)))
    async with Load(region.url, region.api_key, asks, rate=RATE) as load:
        await load.until(STEADY_LINES)
        console.say(
            f"{len(load.tally.lines)} lines answered; now {archetype} gets {new}: another uri and digest in its spec"
        )
        moved = asyncio.create_task(_until_moved(region.kubectl, region.namespace, archetype, digest))
        try:
            applied = await region.set_source(archetype, uri, digest)
            done = await moved
        finally:
            moved.cancel()
        swap = summary.Swap(archetype=archetype, old=old, new=digest, applied=applied, status_seconds=done - applied)
        console.say(f"proven on every pod and 100% of traffic after {swap.status_seconds:.2f} s; the load goes on")
        # Past the moment from which on a line of the old voice is a fault, or there would be none to judge.
        await load.until_started_after(done + TAKEN_SECONDS, STEADY_LINES)
    rows = summary.rows(load.tally, swap, references.version)
    console.text("\n".join(f"{row.what:<46} {row.figure}" for row in rows))
    faults = summary.faults(load.tally, references.expected(PROMPT, ANSWER_TOKENS), swap)
    if faults:
        raise DemoFault(f"{len(faults)} faults under load, first ones: " + "; ".join(faults[:5]))


async def _until_moved(kubectl: Kubectl, namespace: str, name: str, digest: str) -> float:
    """time.monotonic() at which the status says that `digest` is what every tier serves, proven on all its pods."""

    def holds(seen: Object) -> bool:
        variants = seen.get("status", {}).get("variants", ())
        return is_ready(seen) and all((entry.get("stable") or {}).get("digest") == digest for entry in variants)

    await kubectl.until("archetypeadapter", name, namespace, holds, timeout=120, what=f"{digest[:19]} on every tier")
    return time.monotonic()


async def kill_an_engine(console: Console, region: Region, tier: str) -> None:
    """Kill a tier's engine, show what the status says of it until it is proven again. Raises DemoFault, NotYet.

    The other tiers are under load meanwhile: theirs is none of this.
    """
    pod = (await region.engine_pods(tier))[0]["metadata"]["name"]
    others = every_ask(tuple(region.plan.adapters), [name for name in region.plan.tiers if name != tier])
    async with Load(region.url, region.api_key, others, rate=RATE / 2) as load:
        console.command(f"kill -9 {{process 1 of container engine in pod {pod}}}")
        seen = asyncio.create_task(_watch_repair(console, region, tier))
        try:
            killed = time.monotonic()
            await kill_container(region.kubectl, region.namespace, pod, "engine")
            noticed, repaired = await asyncio.wait_for(seen, REPAIR_SECONDS)
        except TimeoutError:
            raise DemoFault(f"tier {tier} is not ready {REPAIR_SECONDS:.0f} s after its engine was killed") from None
        finally:
            seen.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(seen, return_exceptions=True)
        console.say(
            f"the status said so {noticed - killed:.1f} s after the kill, and {repaired - killed:.1f} s after it"
        )
        console.say("the same pod had a new engine, with every adapter loaded and proven anew")
        await load.until(len(others))
    console.say(f"on the other tiers meanwhile: {len(load.tally.lines)} lines, {len(load.tally.failures)} failures")
    if load.tally.failures:
        first = load.tally.failures[0]
        raise DemoFault(f"{first.ask.archetype} on {first.ask.tier} failed while only {tier} was hurt: {first.failure}")


async def _watch_repair(console: Console, region: Region, tier: str) -> tuple[float, float]:
    """Say each change of the tier's Ready condition; return time.monotonic() of when it was lost, and was back."""
    lost, last = 0.0, ""
    watch = region.kubectl.watch("gputier", region.namespace, "--field-selector", f"metadata.name={tier}")
    async with contextlib.aclosing(watch) as events:
        async for _, seen in events:
            ready = condition(seen, "Ready")
            words = f"Ready={ready.get('status')} {ready.get('reason', '')}: {ready.get('message', '')}"
            if last and words != last:
                console.say(f"tier {tier}: {words}")
            last = words
            if not is_ready(seen):
                lost = lost or time.monotonic()
            elif lost:
                return lost, time.monotonic()
    raise DemoFault("the watch on the tier ended before it was ready again")


def _complaint(line: Line) -> str:
    return line.failure or f"{line.text!r} is not what {line.digest or 'no digest'} says"
