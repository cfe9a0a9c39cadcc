"""The chapter on spot: the machine that bronze runs on is taken away by its cloud, while its characters speak.

The notice is written as AWS's handler writes it, the operator does what it does, what else of ours is on the node is
evicted as the handler would, and then the machine ends: kill -9 of its kubelet, runtime and containers. It comes back,
and lines with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import aiohttp

from hack.cluster import api
from hack.demo import departure as departures
from hack.demo.acts import ANSWER_TOKENS, PROMPT, DemoFault, every_ask
from hack.demo.console import Console
from hack.demo.departure import Departure
from hack.stack import commands
from hack.stack.install import Stack
from hack.stack.kubectl import Kubectl, Object
from hack.stack.load import Ask, Load
from hack.stack.references import References
from hack.stack.regions import Region
from npc_operator.api import names

TIER, FALLBACK = "bronze", "silver"
"""What runs on spot alone, and what speaks for it should its new pod come too late."""
ENDS_MACHINES = frozenset({"local"})
"""Drivers of the cluster whose nodes are ours to end."""
FALLBACKS: Mapping[str, str | None] = {"silver": None, "bronze": FALLBACK}
"""`fallbackTier` of tiers in this chapter, in the order in which no circle comes about..."""
FALLBACKS_BEFORE: Mapping[str, str | None] = {"bronze": None, "silver": "bronze"}
"""...and as the npc-region chart has them, in that order back."""
NOTICE_SECONDS = 120
"""What AWS gives."""
RATE = 4.0
"""Lines a second: half of what two cores bear beside everything else, because an engine starts meanwhile."""
PLAYERS = 8
"""Conversations with each voice. Each stays with one pod, so that a new pod gets some of them."""
STEADY_LINES = 12
DRAIN_SECONDS = 60
LEFT_SECONDS = 240.0
"""The notice, what a pod may take to end, and a machine with other work."""
BACK_SECONDS = 300.0
"""An engine starts in half a minute on an idle machine."""
LOOK_SECONDS = 0.5
ENGINE_PORT = 8000
"""Default of engine.port, which the demo's tiers have."""


def asks(archetypes: Sequence[str], tiers: Sequence[str]) -> list[Ask]:
    """Every conversation on the tier that is hurt, and after two of them somebody on another tier."""
    others = every_ask(archetypes, [tier for tier in tiers if tier != TIER])
    found: list[Ask] = []
    for count, (player, archetype) in enumerate((player, voice) for player in range(PLAYERS) for voice in archetypes):
        found.append(
            Ask(
                archetype=archetype,
                tier=TIER,
                npc=f"{archetype}-{player + 1}",
                player=f"player-{player + 1}",
                prompt=PROMPT,
                max_tokens=ANSWER_TOKENS,
            )
        )
        if count % 2 and others:
            found.append(others[count // 2 % len(others)])
    return found


async def take_away(console: Console, region: Region, references: References) -> None:
    """The whole chapter; the node and the tiers are afterwards as they were. Raises DemoFault."""
    console.say(f"for this chapter {FALLBACK} speaks where {TIER} cannot:")
    try:
        await _fall_back(console, region.kubectl, region.namespace, FALLBACKS)
        node, leaving = await _on_spot(console, region)
        departure = Departure(TIER, node, leaving)
        await _run(console, region, references, departure)
    finally:
        await put_back(console, region.stack, region.namespace)
    tier = await region.kubectl.get("gputier", TIER, region.namespace)
    console.say(f"by the operator's own account: {departures.bill(tier)}")
    until = departures.stays_until(tier)
    if until is not None:
        console.say(
            f"the on-demand pod stays until {until:%H:%M:%S} UTC at least, and goes by itself: "
            "ten minutes pass between two changes of direction"
        )


async def put_back(console: Console, stack: Stack, namespace: str) -> bool:
    """Every node well, and the tiers' fallbacks as the demo's region has them; silent where nothing is to be done.
    Whether anything was.
    """
    mended = await mend_nodes(console, stack)
    return await _fall_back(console, stack.kubectl, namespace, FALLBACKS_BEFORE) or mended


async def mend_nodes(console: Console, stack: Stack) -> bool:
    """Every node running, without notices, open; whether one was not. Those of a cluster whose machines are not ours
    to end are left alone.
    """
    mended = False
    for node in stack.cluster.nodes if stack.cluster.driver in ENDS_MACHINES else ():
        seen = await stack.kubectl.find("node", node, "")
        if seen is None or not departures.is_well(seen):
            console.say(f"{node} is made well again: running, without notices, open")
            await commands.run_tool("hack.cluster", "node", "revive", node)
            mended = True
    return mended


async def _run(console: Console, region: Region, references: References, departure: Departure) -> None:
    node = departure.node
    all_asks = asks(tuple(region.plan.adapters), tuple(region.plan.tiers))
    async with (
        Load(region.url, region.api_key, all_asks, rate=RATE, spread=True) as load,
        _watched(console, region, departure) as until,
    ):
        await load.until(STEADY_LINES)
        console.say(f"{len(load.tally.lines)} lines answered; now {node} gets its notice: {NOTICE_SECONDS} s")
        console.command(f"python -m hack.cluster node notice {node} --seconds {NOTICE_SECONDS} --as nth")
        departure.noticed = time.time()
        await commands.in_thread(lambda: api.give_notice(node, seconds=NOTICE_SECONDS, source="nth"))
        await until(lambda: departure.all_gone, LEFT_SECONDS, f"the pods of {TIER} on {node} gone")

        console.say("what else of ours is there is evicted, as the handler would:")
        await _drain(console, region, node)
        await commands.in_thread(lambda: api.kill_node(node))
        departure.off = time.time()
        console.say(f"kill -9: the machine of {node} has ended; the lines go on")
        await load.until_started_after(time.monotonic(), STEADY_LINES)

        console.command(f"python -m hack.cluster node revive {node}")
        await commands.run_tool("hack.cluster", "node", "revive", node)
        departure.back = time.time()
        console.say(f"spot is to be had again: {node} is back")
        await until(lambda: departure.spoke_at is not None, BACK_SECONDS, f"lines answered on {node} again")
        console.say(f"{node} answers lines again")
    figures = departures.rows(load.tally, departure, falls_back_to=FALLBACK)
    console.text("\n".join(f"{row.what:<46} {row.figure}" for row in figures))
    found = departures.faults(load.tally, references.expected(PROMPT, ANSWER_TOKENS), departure, falls_back_to=FALLBACK)
    if found:
        raise DemoFault(f"{len(found)} faults, first ones: " + "; ".join(found[:5]))
    console.say("every line was whole, and none began on a pod that was on its way out")


async def _on_spot(console: Console, region: Region) -> tuple[str, dict[str, str]]:
    """The node that the tier's spot pods are on, and those of its pods that are there: uid to name. Waits for one."""
    chosen = f"{names.LABEL_TIER}={TIER},{names.LABEL_SLICE}={names.SLICE_SPOT}"

    async def find() -> str:
        while True:
            watch = region.kubectl.watch("pods", region.namespace, "-l", chosen)
            async with contextlib.aclosing(watch) as events:
                async for type_, pod in events:
                    node = str(pod["spec"].get("nodeName", ""))
                    if type_ != "DELETED" and node and departures.is_on(pod, node):
                        return node
            await asyncio.sleep(LOOK_SECONDS)  # the watch ended (API server away): begin another

    try:
        node = await asyncio.wait_for(find(), BACK_SECONDS)
    except TimeoutError:
        raise DemoFault(f"no spot pod of {TIER} serves: kubectl npc why {TIER} -n {region.namespace}") from None
    there = [pod for pod in await region.engine_pods(TIER) if pod["spec"].get("nodeName") == node]
    console.say(f"{TIER} runs on {node}: {', '.join(pod['metadata']['name'] for pod in there)}")
    return node, {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in there}


async def _drain(console: Console, region: Region, node: str) -> None:
    """Gateways and operators; not the S3 server, which no fleet runs on spot nodes."""
    words = (
        *("drain", node, "--ignore-daemonsets", "--delete-emptydir-data"),
        *(f"--pod-selector={names.LABEL_PART_OF}={names.PART_OF}", f"--timeout={DRAIN_SECONDS}s"),
    )
    console.command(f"kubectl {' '.join(words)}")
    await region.kubectl.run(*words)


async def _fall_back(console: Console, kubectl: Kubectl, namespace: str, wanted: Mapping[str, str | None]) -> bool:
    """Whether a tier had another one to fall back to."""
    changed = False
    for tier, fallback in wanted.items():
        seen = await kubectl.find("gputier", tier, namespace)
        if seen is None or seen["spec"].get("fallbackTier") == fallback:
            continue  # none: an earlier run ended before it was installed
        word = "null" if fallback is None else f'"{fallback}"'
        patch = '{"spec": {"fallbackTier": ' + word + "}}"
        console.command(f"kubectl patch gput {tier} -n {namespace} --type merge -p '{patch}'")
        await kubectl.patch("gputier", tier, namespace, {"spec": {"fallbackTier": fallback}})
        changed = True
    return changed


Until = Callable[[Callable[[], bool], float, str], Any]


@contextlib.asynccontextmanager
async def _watched(console: Console, region: Region, departure: Departure) -> AsyncIterator[Until]:
    """Pods, status and engines of the tier are watched and told of while the block runs. Gives `until(holds, seconds,
    what)`, which raises DemoFault."""
    changed = asyncio.Event()
    engines: dict[str, str] = {}

    def tell(news: Sequence[str]) -> None:
        for line in news:
            console.say(line)
        changed.set()

    async def follow(kind: str, note: Callable[[str, Object], list[str]], *arguments: str) -> None:
        while True:
            async with contextlib.aclosing(region.kubectl.watch(kind, region.namespace, *arguments)) as events:
                async for type_, seen in events:
                    tell(note(type_, seen))
            await asyncio.sleep(LOOK_SECONDS)  # the watch ended (API server away): begin another

    def note_pod(type_: str, pod: Object) -> list[str]:
        uid, address = pod["metadata"]["uid"], pod.get("status", {}).get("podIP")
        if type_ == "DELETED" or not address:
            engines.pop(uid, None)
        else:
            engines[uid] = str(address)
        return departure.note_pod(type_, pod, time.time())

    async def ask() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
            while True:
                for uid, address in list(engines.items()):
                    await _count(session, departure, uid, address)
                changed.set()
                await asyncio.sleep(LOOK_SECONDS)  # an engine tells nobody that it was asked something

    tasks = [
        asyncio.create_task(follow("pods", note_pod, "-l", f"{names.LABEL_TIER}={TIER}")),
        asyncio.create_task(
            follow(
                "gputier",
                lambda _, tier: departure.note_tier(tier, time.time()),
                *("--field-selector", f"metadata.name={TIER}"),
            )
        ),
        asyncio.create_task(ask()),
    ]

    async def until(holds: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            for task in tasks:
                if task.done():
                    await task  # raises what ended it
            left = deadline - time.monotonic()
            if left <= 0:
                raise DemoFault(f"after {seconds:.0f} s still not: {what}")
            changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left, 5.0))

    try:
        yield until
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _count(session: aiohttp.ClientSession, departure: Departure, uid: str, address: str) -> None:
    asked = time.time()
    # An engine that starts, or has ended, answers nothing: no word of it is no line either.
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
        async with session.get(f"http://{address}:{ENGINE_PORT}/metrics") as response:
            text = await response.text()
        departure.count(uid, asked, departures.begun(text))
