"""What tests see of a pod whose node goes away: how far the operator had come by the record it keeps at the pod, when
the pod was gone, and whether its engine was asked anything meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp

from hack.demo.departure import begun
from hack.stack.kubectl import Object
from hack.stack.load import Line
from npc_operator.api import names
from npc_operator.domain.interruption.record import Record, read_record
from npc_runtime.wire import AGENT_HEALTH_PORT
from tests.e2e.world import World

LOOK_SECONDS = 0.1


@dataclass(slots=True)
class Leaving:
    """One engine pod from now on. Times are Unix seconds: the cluster's processes have this host's clock."""

    pod: Object
    record: Record | None = None
    """The last that was seen."""
    begun: list[tuple[float, float]] = field(default_factory=list)
    """(when it was asked, lines it had ever begun) as its engine counts them, as long as it answered."""
    draining: float = 0.0
    """Its agent was first heard to take no line any more. How soon kubelet runs the hook that makes it so is kubelet's
    affair, and takes seconds on a busy node."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    def begun_after(self, moment: float) -> float:
        """Lines that its engine began later than `moment`."""
        later = [count for at, count in self.begun if at > moment]
        return max(later) - later[0] if later else 0.0

    async def until_gone(self, *, timeout: float) -> Record:
        """The last record, as soon as the pod is gone."""
        await asyncio.wait_for(self.gone.wait(), timeout)
        assert self.record is not None, "the pod went without a word of the operator"
        return self.record


@contextlib.asynccontextmanager
async def watched(world: World, pod: Object) -> AsyncIterator[Leaving]:
    """The pod under watch while the block runs."""
    seen = Leaving(pod)
    tasks = [
        asyncio.create_task(_follow(world, seen)),
        asyncio.create_task(_count(seen)),
        asyncio.create_task(_hear(seen)),
    ]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


async def _follow(world: World, seen: Leaving) -> None:
    chosen = ("--field-selector", f"metadata.name={seen.pod['metadata']['name']}")
    while not seen.gone.is_set():
        # A watch that ends by itself proves nothing: then another begins.
        async with contextlib.aclosing(world.kubectl.watch("pods", world.namespace, *chosen)) as events:
            async for type_, pod in events:
                meta = pod["metadata"]
                if meta["uid"] != seen.uid:
                    continue
                seen.record = read_record(meta.get("annotations", {}).get(names.ANNOTATION_INTERRUPTION))
                if type_ == "DELETED":
                    seen.gone.set()
                    return
        if await world.kubectl.find("pod", seen.pod["metadata"]["name"], world.namespace) is None:
            seen.gone.set()


async def _count(seen: Leaving) -> None:
    url = f"http://{seen.pod['status']['podIP']}:8000/metrics"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
        while not seen.gone.is_set():
            asked = time.time()
            # An engine that has ended, or is cut off, is asked nothing any more: no word of it is no line either.
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                async with session.get(url) as response:
                    text = await response.text()
                seen.begun.append((asked, begun(text)))
            # An engine tells nobody that it was asked something.
            await asyncio.sleep(LOOK_SECONDS)


async def _hear(seen: Leaving) -> None:
    url = f"http://{seen.pod['status']['podIP']}:{AGENT_HEALTH_PORT}/readyz"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
        while not seen.gone.is_set() and not seen.draining:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                async with session.get(url) as response:
                    if "draining" in await response.text():
                        seen.draining = time.time()
            await asyncio.sleep(LOOK_SECONDS)


def is_explicit(line: Line) -> bool:
    """Whether a line that failed was told so, by the gateway: neither cut off nor left to the client's patience."""
    return line.failure.startswith(("error event: ", "HTTP 5"))
