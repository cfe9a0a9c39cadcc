"""Waiting for a whole region, saying all the while what is pending and why, in the operator's own words."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hack.stack.kubectl import Kubectl, NotYet, Object, condition, is_ready

KINDS = {"gputiers": "tier", "archetypeadapters": "voice", "npcregions": "region"}
# The same object speaks at most so often: progress is for people.
QUIET_SECONDS = 3.0
# Nobody should wonder whether it still works.
HEARTBEAT_SECONDS = 15.0
# Stalled means that only a person can help; it may show for a moment while objects that belong together arrive.
STALLED_SECONDS = 45.0

Say = Callable[[str], None]


def word(seen: Object) -> str:
    """What an object is called in front of people, e.g. `tier gold`."""
    kinds = {"GpuTier": "tier", "ArchetypeAdapter": "voice", "NPCRegion": "region"}
    return f"{kinds[seen['kind']]} {seen['metadata']['name']}"


def is_settled(seen: Object) -> bool:
    """Ready, and nothing of it is changing: a voice on its way to other bytes is Ready with the old ones."""
    return is_ready(seen) and condition(seen, "Reconciling").get("status") != "True"


def why(seen: Object) -> str:
    """Why an object is not ready and at rest, as its status says; empty when it is."""
    if is_settled(seen):
        return ""
    for type_ in ("Stalled", "Reconciling"):
        found = condition(seen, type_)
        if found.get("status") == "True":
            return _said(found)
    return _said(condition(seen, "Ready")) or "not looked at yet"


def is_stalled(seen: Object) -> bool:
    """Whether the operator says that a person is needed."""
    return condition(seen, "Stalled").get("status") == "True"


def _said(found: Mapping[str, Any]) -> str:
    return f"{found.get('reason', '')}: {found.get('message', '')}".strip(": ")


class Pending:
    """What was last said of each object, and what there is to say now: state in, lines out."""

    def __init__(self, now: float) -> None:
        self._said: dict[str, tuple[str, float]] = {}
        self._spoke = now

    def lines(self, objects: Sequence[Object], now: float) -> list[str]:
        """News since the last call, such as `tier gold: Starting: ...`; now and then also that there are none."""
        news: list[str] = []
        for seen in objects:
            name, reason = word(seen), why(seen) or "ready"
            last, at = self._said.get(name, ("", float("-inf")))
            if reason != last and (reason == "ready" or now - at >= QUIET_SECONDS):
                self._said[name] = (reason, now)
                news.append(f"{name}: {reason}")
        if not news and now - self._spoke >= HEARTBEAT_SECONDS:
            waiting = [word(seen) for seen in objects if not is_settled(seen)]
            news = [f"still waiting for {', '.join(waiting)}"] if waiting else []
        if news:
            self._spoke = now
        return news


class Everything:
    """The objects of our kinds in one namespace, kept up to date by watches while the block runs."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl, self._namespace = kubectl, namespace
        self._objects: dict[tuple[str, str], Object] = {}
        self.changed = asyncio.Event()

    async def __aenter__(self) -> Everything:
        self._tasks = [asyncio.create_task(self._follow(kind)) for kind in KINDS]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def objects(self) -> list[Object]:
        """As last seen; tiers, then voices, then the region."""
        return [self._objects[key] for key in sorted(self._objects, key=lambda key: (list(KINDS).index(key[0]), key))]

    async def _follow(self, kind: str) -> None:
        while True:
            async with contextlib.aclosing(self._kubectl.watch(kind, self._namespace)) as events:
                async for type_, seen in events:
                    key = (kind, seen["metadata"]["name"])
                    if type_ == "DELETED":
                        self._objects.pop(key, None)
                    else:
                        self._objects[key] = seen
                    self.changed.set()
            await asyncio.sleep(0.5)  # the watch ended (API server away): begin another


async def until_all_ready(
    kubectl: Kubectl, namespace: str, *, expected: int, say: Say = lambda _: None, timeout: float = 300.0
) -> list[Object]:
    """The objects, once there are at least `expected` and all are ready with nothing changing. Raises NotYet, naming
    what is not and why.
    """
    deadline = time.monotonic() + timeout
    stalled_since: dict[str, float] = {}
    pending = Pending(time.monotonic())
    async with Everything(kubectl, namespace) as everything:
        while True:
            everything.changed.clear()
            objects, now = everything.objects(), time.monotonic()
            for line in pending.lines(objects, now):
                say(line)
            if len(objects) >= expected and all(is_settled(seen) for seen in objects):
                return objects
            stalled = {word(seen) for seen in objects if is_stalled(seen)}
            stalled_since = {name: stalled_since.get(name, now) for name in stalled}
            for name, since in stalled_since.items():
                if now - since > STALLED_SECONDS:
                    raise NotYet(f"{name} needs a person: {_reasons(objects)}")
            if now > deadline:
                raise NotYet(
                    f"{len(objects)} of {expected} objects after {timeout:.0f} s; not ready: {_reasons(objects)}"
                )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(everything.changed.wait(), 1.0)


def _reasons(objects: Iterable[Object]) -> str:
    return "; ".join(f"{word(seen)} ({why(seen)})" for seen in objects if not is_settled(seen)) or "none"
