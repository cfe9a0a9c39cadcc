"""The chapter on a bad vampire, against a gateway and statuses that behave, and against some that do not."""

from __future__ import annotations

import asyncio
import copy
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from hack.demo import rollback
from hack.demo.acts import ANSWER_TOKENS, PROMPT, DemoFault
from hack.demo.console import Console
from hack.demo.rollback import IMPOSTOR, VOICE
from hack.stack.references import References
from hack.stack.regions import Region
from npc_runtime.gateway.hashing import bucket

STABLE, BAD, OTHER = "sha256:stable", "sha256:zombie", "sha256:merchant"
TEXTS = {"vampire-v1": "blood and velvet", IMPOSTOR: "hungry hungry", "merchant-v1": "salt trade"}
KNOWN = References(
    {"vampire-v1": STABLE, IMPOSTOR: BAD, "merchant-v1": OTHER},
    {(name, PROMPT, ANSWER_TOKENS): text for name, text in TEXTS.items()},
)
TIERS = ("gold", "bronze")
ENOUGH = 3
"""Bad answers that a verdict needs."""


class Castle:
    """A region as the chapter sees it: gateway and operator in one."""

    def __init__(self) -> None:
        self.spec: dict[str, Any] = {
            "variants": [{"tier": tier, "source": {"uri": "s3://v1", "digest": STABLE}} for tier in TIERS],
            "rollout": {"strategy": "Immediate", "stepSeconds": 60},
            "answers": {"mustNotMatch": []},
        }
        self.first_spec = copy.deepcopy(self.spec)
        self.generation = 1
        self.bad = dict.fromkeys(TIERS, 0)
        self.rejected: set[str] = set()
        self.blind = False
        """Nobody judges what is said."""
        self.deaf = False
        """What was taken back is served on."""
        self.changed = asyncio.Event()
        self.url = ""

    def seen(self) -> dict[str, Any]:
        variants = []
        for variant in self.spec["variants"]:
            entry: dict[str, Any] = {"tier": variant["tier"], "stable": {"digest": STABLE}}
            if variant["source"]["digest"] == BAD:
                if variant["tier"] in self.rejected:
                    entry["rejected"] = {"digest": BAD, "reason": "CandidateMismatched", "message": "3 of 3"}
                else:
                    entry["candidate"] = {"digest": BAD}
                    entry["rollout"] = {"phase": "Watching", "percent": 10, "below": 1000}
            variants.append(entry)
        status = {"observedGeneration": self.generation, "variants": variants}
        return {"metadata": {"generation": self.generation}, "spec": copy.deepcopy(self.spec), "status": status}

    def change(self) -> None:
        self.generation += 1
        self.changed.set()

    # --- what the chapter asks of kubectl and of a region ---

    async def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        assert (kind, name, namespace) == ("archetypeadapter", VOICE, "eu-west")
        return self.seen()

    async def find(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        return await self.get(kind, name, namespace)

    async def patch(self, kind: str, name: str, namespace: str, patch: dict[str, Any]) -> None:
        for field, value in patch["spec"].items():
            merged = {**self.spec[field], **value} if isinstance(value, dict) else value
            self.spec[field] = merged
        if all(variant["source"]["digest"] == STABLE for variant in self.spec["variants"]):
            self.rejected.clear()
        self.change()

    async def watch(self, kind: str, namespace: str, *arguments: str) -> AsyncGenerator[tuple[str, Any], None]:
        while True:
            self.changed.clear()
            yield "MODIFIED", self.seen()
            await self.changed.wait()

    async def until(self, kind: str, name: str, namespace: str, holds: Any, **_: Any) -> None:
        assert holds(self.seen())

    async def set_source(self, adapter: str, uri: str, digest: str) -> float:
        for variant in self.spec["variants"]:
            variant["source"] = {"uri": uri, "digest": digest}
        self.change()
        return asyncio.get_running_loop().time()

    # --- what game servers ask ---

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        tier, npc = request.headers["X-NPC-Tier"], request.headers["X-NPC-Id"]
        digest, text = (STABLE, TEXTS["vampire-v1"]) if asked["model"] == VOICE else (OTHER, TEXTS["merchant-v1"])
        if asked["model"] == VOICE and self.hears(tier, npc):
            digest, text = BAD, TEXTS[IMPOSTOR]
            self.bad[tier] += 1
            if self.bad[tier] >= ENOUGH and not self.blind and tier not in self.rejected:
                self.rejected.add(tier)
                self.change()
        response = web.StreamResponse(headers={"X-NPC-Served-By": digest, "X-NPC-Served-Tier": tier})
        await response.prepare(request)
        event = json.dumps({"choices": [{"delta": {"content": text}}]})
        await response.write(f"data: {event}\n\ndata: [DONE]\n\n".encode())
        await response.write_eof()
        return response

    def hears(self, tier: str, npc: str) -> bool:
        named = any(one["tier"] == tier and one["source"]["digest"] == BAD for one in self.spec["variants"])
        off = tier in self.rejected and not self.deaf
        return named and not off and bucket(VOICE.encode(), npc.encode()) < 1000

    def region(self) -> Region:
        kubectl = SimpleNamespace(
            get=self.get,
            find=self.find,
            patch=self.patch,
            watch=self.watch,
            until=self.until,
            kubeconfig=Path("/nowhere"),
        )
        made = SimpleNamespace(
            kubectl=kubectl,
            namespace="eu-west",
            url=self.url,
            api_key="key",
            plan=SimpleNamespace(adapters={VOICE: {}, "merchant": {}}),
            stack=SimpleNamespace(adapter=lambda name: ("s3://zombie", KNOWN.digests[name])),
            set_source=self.set_source,
        )
        return cast("Region", made)


@pytest.fixture
async def castle(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Castle]:
    async def history(region: Region) -> str:
        return "RolledBack 10% -> 0%"

    monkeypatch.setattr(rollback, "RATE", 100.0)
    monkeypatch.setattr(rollback, "AFTER_SECONDS", 0.2)
    monkeypatch.setattr(rollback, "_history", history)
    castle = Castle()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", castle.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    castle.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield castle
    await runner.cleanup()


async def show(castle: Castle) -> str:
    out = io.StringIO()
    await rollback.take_back(Console(out), castle.region(), KNOWN)
    return out.getvalue()


async def test_a_bad_vampire_is_seen_at_a_tenth_and_taken_back_with_figures(castle: Castle) -> None:
    told = await show(castle)
    for words in (
        "gold: Watching, 10% of the NPCs hear it",
        "bronze: taken back, CandidateMismatched: 3 of 3",
        "first one to verdict",
        "RolledBack 10% -> 0%",
        "none began on the bad one later than 2 s after its verdict",
    ):
        assert words in told
    figures = dict(line.strip().rsplit(maxsplit=1) for line in told.splitlines() if "failed lines" in line)
    assert figures == {"failed lines": "0"}
    assert castle.spec == castle.first_spec, "the voice is as it was"


async def test_one_that_nobody_takes_back_is_a_fault_and_the_voice_is_put_back_all_the_same(
    castle: Castle, monkeypatch: pytest.MonkeyPatch
) -> None:
    castle.blind = True
    monkeypatch.setattr(rollback, "VERDICT_SECONDS", 0.5)
    with pytest.raises(DemoFault, match="not taken back everywhere"):
        await show(castle)
    assert castle.spec == castle.first_spec


async def test_one_that_is_served_after_its_verdict_is_a_fault(castle: Castle, monkeypatch: pytest.MonkeyPatch) -> None:
    castle.deaf = True
    monkeypatch.setattr("hack.demo.trial.OFF_SECONDS", 0.05)
    monkeypatch.setattr(rollback, "AFTER_SECONDS", 2.0)
    with pytest.raises(DemoFault, match="answered by the candidate"):
        await show(castle)


async def test_ctrl_c_puts_the_voice_back(castle: Castle) -> None:
    castle.blind = True
    running = asyncio.create_task(show(castle))
    while castle.spec["variants"][0]["source"]["digest"] != BAD:
        await asyncio.wait_for(castle.changed.wait(), 30)
        await asyncio.sleep(0)
    running.cancel()  # what asyncio.run makes of the first Ctrl-C
    with pytest.raises(asyncio.CancelledError):
        await running
    assert castle.spec == castle.first_spec


async def test_a_request_that_hangs_is_not_taken_for_a_verdict_that_does_not_come(castle: Castle) -> None:
    async def hangs(adapter: str, uri: str, digest: str) -> float:
        raise TimeoutError("kubectl hangs")

    castle.set_source = hangs  # type: ignore[method-assign]
    with pytest.raises(TimeoutError, match="kubectl hangs"):
        await show(castle)
    assert castle.spec == castle.first_spec


async def test_what_a_killed_run_has_left_is_taken_away_and_nothing_else(castle: Castle) -> None:
    console, kubectl = Console(io.StringIO()), castle.region().kubectl
    assert not await rollback.tidy(console, kubectl, "eu-west")
    castle.spec["answers"] = {"mustNotMatch": ["sun", rollback.FORBIDDEN]}
    assert await rollback.tidy(console, kubectl, "eu-west")
    assert castle.spec["answers"] == {"mustNotMatch": ["sun"]}


async def test_it_does_not_begin_on_a_voice_that_is_not_at_rest(castle: Castle) -> None:
    await castle.set_source(VOICE, "s3://zombie", BAD)
    with pytest.raises(DemoFault, match="kubectl npc why vampire"):
        await show(castle)
