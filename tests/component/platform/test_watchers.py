"""The watchers' thread: what it hands over, and how it survives kopf's end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import kopf
import pytest

from npc_operator.edge import app
from npc_operator.edge.app import Backoffs, Watchers, make_settings
from npc_operator.edge.kinds import WATCHED
from npc_operator.edge.parse import Parsed
from tests.support import builders

HANDLED: contextvars.ContextVar[str | None] = contextvars.ContextVar("handled", default=None)
Play = Callable[[kopf.OperatorRegistry], Awaitable[None]]


class Heard:
    def __init__(self) -> None:
        self.objects: list[str] = []
        self.gone: list[str] = []
        self.handled: list[str | None] = []
        self.gaps = 0
        self.restarts = 0
        self.news = asyncio.Event()

    def note(self, what: str, parsed: Parsed | None = None) -> None:
        if what == "object" and parsed is not None:
            self.objects.append(parsed.name)
            self.handled.append(HANDLED.get())
        elif what == "gone" and parsed is not None:
            self.gone.append(parsed.name)
        elif what == "gap":
            self.gaps += 1
        else:
            self.restarts += 1
        self.news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                self.news.clear()
                await self.news.wait()


@contextlib.asynccontextmanager
async def watching(monkeypatch: pytest.MonkeyPatch, *plays: Play) -> AsyncIterator[tuple[Watchers, Heard]]:
    """Watchers over a kopf that plays what the test says, one play per start; the last one stays."""
    waiting = list(plays)

    async def operator(*, registry: kopf.OperatorRegistry, stop_flag: Any, **_: Any) -> None:
        if waiting:
            await waiting.pop(0)(registry)
        await asyncio.to_thread(stop_flag.wait)

    async def login() -> tuple[str, aiohttp.ClientSession]:
        raise AssertionError("nobody asks")

    monkeypatch.setattr(kopf, "operator", operator)
    monkeypatch.setattr(app, "RESTART_SECONDS", (0.01,))
    heard = Heard()
    watchers = Watchers(
        login=login,
        namespaces=(),
        on_object=lambda parsed: heard.note("object", parsed),
        on_gone=lambda parsed: heard.note("gone", parsed),
        on_gap=lambda: heard.note("gap"),
        on_restart=lambda: heard.note("restart"),
    )
    watchers.start()
    try:
        yield watchers, heard
    finally:
        await watchers.stop()
        assert not watchers.alive()


async def send(registry: kopf.OperatorRegistry, event: str | None, manifest: dict[str, Any]) -> None:
    """One event for the tiers' handler, as kopf would call it."""
    resource = kopf.Resource("npcfleet.dev", "v1alpha1", "gputiers")
    for handler in registry._watching.get_all_handlers():
        assert handler.selector is not None
        if handler.selector.check(resource):
            function: Any = handler.fn
            assert await function(event={"type": event, "object": manifest}) is None, "what it returns would be written"


async def test_events_arrive_on_the_operators_loop_as_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(registry: kopf.OperatorRegistry) -> None:
        await send(registry, None, builders.tier("gold"))
        await send(registry, "ADDED", builders.tier("silver"))
        await send(registry, "DELETED", builders.tier("gold"))

    began = time.monotonic()
    async with watching(monkeypatch, play) as (watchers, heard):
        await heard.until(lambda: bool(heard.gone))
        assert heard.objects == ["gold", "silver"]
        assert heard.gone == ["gold"]
        assert heard.gaps == 0
        assert watchers.alive()
        assert watchers.ages()["GpuTier"] <= time.monotonic() - began


async def test_what_kopf_remembers_while_it_handles_an_object_is_not_handed_over_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task that is begun there would keep it as long as it lives: the object as it was read, and more."""

    async def play(registry: kopf.OperatorRegistry) -> None:
        HANDLED.set("the whole object")
        await send(registry, None, builders.tier("gold"))

    async with watching(monkeypatch, play) as (_, heard):
        await heard.until(lambda: heard.objects == ["gold"])
        assert heard.handled == [None]


@pytest.mark.parametrize("known_by", [None, "ADDED"])
async def test_a_list_of_what_was_known_already_means_a_gap(
    monkeypatch: pytest.MonkeyPatch, known_by: str | None
) -> None:
    async def play(registry: kopf.OperatorRegistry) -> None:
        for name in ("a", "b", "c"):
            await send(registry, known_by, builders.tier(name))
        for name in ("a", "b", "c"):
            await send(registry, None, builders.tier(name))

    async with watching(monkeypatch, play) as (_, heard):
        await heard.until(lambda: len(heard.objects) == 6)
        assert heard.gaps == 1


async def test_a_crash_is_survived_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(registry: kopf.OperatorRegistry) -> None:
        raise RuntimeError("Event processing has failed with an unrecoverable error")

    async def play(registry: kopf.OperatorRegistry) -> None:
        await send(registry, None, builders.tier("gold"))

    async with watching(monkeypatch, crash, crash, play) as (watchers, heard):
        await heard.until(lambda: heard.objects == ["gold"])
        assert heard.restarts == 2
        assert watchers.alive()


def test_kopf_is_told_to_leave_everything_to_the_operator() -> None:
    settings = make_settings(WATCHED)
    assert settings.scanning.disabled
    assert settings.peering.standalone
    assert not settings.posting.enabled
    assert settings.queueing.worker_limit is None
    assert settings.process.ultimate_exiting_timeout is None
    assert max(settings.queueing.error_delays) <= 30
    pods = kopf.Resource("", "v1", "pods")
    tiers = kopf.Resource("npcfleet.dev", "v1alpha1", "gputiers")
    assert settings.watching.label_selectors.collect(pods) == ["app.kubernetes.io/managed-by=npc-operator"]
    assert settings.watching.label_selectors.collect(tiers) == []


def test_pauses_between_tries_grow_to_a_few_seconds_and_never_end() -> None:
    backoffs = Backoffs()
    for _ in range(2):
        steps = [step for step, _ in zip(backoffs, range(100), strict=False)]
        assert len(steps) == 100
        assert steps[0] < 0.3
        assert all(2.0 <= step <= 4.0 for step in steps[4:])
