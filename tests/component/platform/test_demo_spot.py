"""The chapter on spot, against a cluster that behaves, and against some that do not."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from hack.cluster import api
from hack.demo import spot
from hack.demo.acts import ANSWER_TOKENS, PROMPT, DemoFault
from hack.demo.console import Console
from hack.demo.spot import FALLBACK, TIER
from hack.stack import commands
from hack.stack.references import References
from hack.stack.regions import Region
from npc_operator.api import names
from npc_operator.domain.interruption.notices import Kind
from npc_operator.domain.interruption.record import Record

NODE, OTHER = "spot-1", "ondemand-1"
DIGESTS = {"vampire-v1": "sha256:vampire", "merchant-v1": "sha256:merchant"}
TEXTS = {"vampire-v1": "blood and velvet", "merchant-v1": "salt trade"}
KNOWN = References(DIGESTS, {(name, PROMPT, ANSWER_TOKENS): text for name, text in TEXTS.items()})


class Cloud:
    """Nodes, the operator, an engine for each pod, and the gateway, in one."""

    def __init__(self) -> None:
        self.fallbacks: dict[str, str | None] = {"gold": "silver", "silver": "bronze", "bronze": None}
        self.fallbacks_seen: list[dict[str, str | None]] = []
        self.node: dict[str, Any] = {"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        self.pods: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.changed = asyncio.Event()
        self.driver = "local"
        self.count = 0
        self.served = 0
        self.did: list[str] = []
        self.killed = False
        self.deaf = False
        """Nobody hears of notices."""
        self.breaks = False
        """A line breaks while the machine ends."""
        self.busy: threading.Event | None = None
        """The API server takes its time for a notice until this is set."""
        self.asked = threading.Event()
        """A notice is being written."""
        self.url = ""
        self.port = 0

    # --- pods ---

    def add(self, node: str) -> dict[str, Any]:
        self.count += 1
        pod: dict[str, Any] = {
            "metadata": {
                "uid": f"u{self.count}",
                "name": f"bronze-{self.count}",
                "labels": {names.LABEL_SLICE: "spot" if node == NODE else "on-demand"},
                "annotations": {},
            },
            "spec": {"nodeName": node},
            "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        }
        self.pods[pod["metadata"]["uid"]] = pod
        self.tell("ADDED", pod)
        return pod

    def tell(self, type_: str, pod: dict[str, Any]) -> None:
        self.events.append((type_, json.loads(json.dumps(pod))))
        self.changed.set()
        self.changed = asyncio.Event()

    async def choreography(self) -> None:
        """What the operator does about a notice."""
        (old,) = [pod for pod in self.pods.values() if pod["spec"]["nodeName"] == NODE]
        now = time.time()
        record = Record(
            kind=Kind.INTERRUPTION, since=now, replaced=now, unrouted=now, covered=now, drained=now, evicted=now
        )
        if len(self.pods) == 1:
            self.add(OTHER)
        old["metadata"]["annotations"] = {names.ANNOTATION_INTERRUPTION: record.write()}
        self.tell("MODIFIED", old)
        await asyncio.sleep(0)
        del self.pods[old["metadata"]["uid"]]
        self.tell("DELETED", old)

    # --- what the chapter does to nodes, in threads ---

    def give_notice(self, name: str, *, seconds: float, source: str) -> None:
        assert (name, seconds, source) == (NODE, 120, "nth")
        self.did.append("notice")
        self.asked.set()
        if self.busy is not None:
            assert self.busy.wait(60)
        self.node["spec"] = {"unschedulable": True, "taints": [{"key": "x", "effect": "NoSchedule"}]}
        if not self.deaf:
            asyncio.run_coroutine_threadsafe(self.choreography(), self.loop)

    def give_node_up(self) -> None:
        """As a run that was killed leaves it."""
        self.node["spec"], self.killed = {"unschedulable": True}, True

    def kill_node(self, name: str) -> None:
        assert name == NODE
        self.did.append("kill")
        self.killed = True

    async def run_tool(self, module: str, *arguments: str) -> str:
        assert (module, *arguments) == ("hack.cluster", "node", "revive", NODE)
        self.did.append("revive")
        self.node["spec"], self.killed = {}, False
        if not any(pod["spec"]["nodeName"] == NODE for pod in self.pods.values()):
            asyncio.get_running_loop().call_later(0.05, self.add, NODE)
        return ""

    # --- what it asks of kubectl ---

    async def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        if kind == "node":
            return self.node if name == NODE else {"spec": {}, "status": self.node["status"]}
        assert kind == "gputier"
        return {"spec": {"fallbackTier": self.fallbacks[name]}, "status": {"interruptions": {"lostLines": 0}}}

    async def patch(self, kind: str, name: str, namespace: str, patch: dict[str, Any]) -> None:
        assert (kind, list(patch["spec"])) == ("gputier", ["fallbackTier"])
        self.fallbacks[name] = patch["spec"]["fallbackTier"]
        self.fallbacks_seen.append(dict(self.fallbacks))

    async def run(self, *arguments: str) -> str:
        assert arguments[:2] == ("drain", NODE)
        self.did.append("drain")
        return ""

    async def watch(self, kind: str, namespace: str, *arguments: str) -> AsyncGenerator[tuple[str, Any], None]:
        if kind != "pods":
            yield "ADDED", await self.get(kind, TIER, namespace)
            await asyncio.Event().wait()
        spot_alone = any(f"{names.LABEL_SLICE}={names.SLICE_SPOT}" in one for one in arguments)
        for pod in list(self.pods.values()):
            if not spot_alone or pod["metadata"]["labels"][names.LABEL_SLICE] == names.SLICE_SPOT:
                yield "ADDED", pod
        at = len(self.events)
        while True:
            changed = self.changed
            for event in self.events[at:]:
                at += 1
                yield event
            if at == len(self.events):
                await changed.wait()

    async def engine_pods(self, tier: str) -> list[dict[str, Any]]:
        return list(self.pods.values())

    # --- what game servers and Prometheus ask ---

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.breaks and self.killed:
            return web.Response(status=502, text="the engine is gone")
        asked = await request.json()
        tier = request.headers["X-NPC-Tier"]
        if any(pod["spec"]["nodeName"] == NODE for pod in self.pods.values()):
            self.served += 1
        name = f"{asked['model']}-v1"
        response = web.StreamResponse(headers={"X-NPC-Served-By": DIGESTS[name], "X-NPC-Served-Tier": tier})
        await response.prepare(request)
        event = json.dumps({"choices": [{"delta": {"content": TEXTS[name]}}]})
        await response.write(f"data: {event}\n\ndata: [DONE]\n\n".encode())
        await response.write_eof()
        return response

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=f"vllm:request_success_total {self.served}.0\n")

    def region(self) -> Region:
        self.loop = asyncio.get_running_loop()
        kubectl = SimpleNamespace(get=self.get, find=self.get, patch=self.patch, run=self.run, watch=self.watch)
        made = SimpleNamespace(
            kubectl=kubectl,
            namespace="eu-west",
            url=self.url,
            api_key="key",
            plan=SimpleNamespace(
                adapters={"vampire": {}, "merchant": {}}, tiers={"gold": {}, "silver": {}, "bronze": {}}
            ),
            stack=SimpleNamespace(kubectl=kubectl, cluster=SimpleNamespace(driver=self.driver, nodes=(OTHER, NODE))),
            engine_pods=self.engine_pods,
        )
        return cast("Region", made)


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    cloud = Cloud()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", cloud.answer)
    app.router.add_get("/metrics", cloud.metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    cloud.url = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(spot, "ENGINE_PORT", port)
    monkeypatch.setattr(spot, "RATE", 25.0)
    monkeypatch.setattr(spot, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(api, "give_notice", cloud.give_notice)
    monkeypatch.setattr(api, "kill_node", cloud.kill_node)
    monkeypatch.setattr(commands, "run_tool", cloud.run_tool)
    cloud.add(NODE)
    yield cloud
    await runner.cleanup()


@pytest.fixture
def before(cloud: Cloud) -> Iterator[None]:
    """Whatever happens in the chapter, node and tiers are afterwards as they were."""
    was = dict(cloud.fallbacks)
    yield
    assert cloud.fallbacks == was
    assert (cloud.node["spec"], cloud.killed) == ({}, False)


async def show(cloud: Cloud) -> str:
    out = io.StringIO()
    await spot.take_away(Console(out), cloud.region(), KNOWN)
    return out.getvalue()


@pytest.mark.usefixtures("before")
async def test_a_node_goes_with_its_steps_in_words_and_comes_back_with_lines(cloud: Cloud) -> None:
    told = await show(cloud)
    assert cloud.did == ["notice", "drain", "kill", "revive"]
    for words in (
        "bronze-1: one more pod is asked for in its place",
        "bronze-2: ready on ondemand-1, with every adapter proven",
        "bronze-1: no new line goes there any more",
        "bronze-1: gone",
        "bronze-3: ready on spot-1, with every adapter proven",
        "every line was whole, and none began on a pod that was on its way out",
        "0 lines lost",
    ):
        assert words in told
    figures = dict(line.strip().rsplit(maxsplit=1) for line in told.splitlines() if "failed lines" in line)
    assert figures == {"failed lines": "0"}
    assert {"gold": "silver", "silver": None, "bronze": FALLBACK} in cloud.fallbacks_seen


@pytest.mark.usefixtures("before")
async def test_a_notice_that_nobody_hears_is_a_fault_and_everything_is_put_back(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.deaf = True
    monkeypatch.setattr(spot, "LEFT_SECONDS", 0.3)
    with pytest.raises(DemoFault, match="the pods of bronze on spot-1 gone"):
        await show(cloud)
    assert cloud.did == ["notice", "revive"]


@pytest.mark.usefixtures("before")
async def test_one_line_that_breaks_is_a_fault_and_everything_is_put_back(cloud: Cloud) -> None:
    cloud.breaks = True
    with pytest.raises(DemoFault, match="HTTP 502"):
        await show(cloud)


@pytest.mark.usefixtures("before")
async def test_an_interrupted_chapter_puts_everything_back(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    def kill_node(name: str) -> None:
        cloud.kill_node(name)
        cloud.loop.call_soon_threadsafe(ended.set)

    monkeypatch.setattr(api, "kill_node", kill_node)
    running = asyncio.create_task(show(cloud))
    await asyncio.wait_for(ended.wait(), 50)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert running.cancelled()
    assert cloud.did[-1] == "revive"


@pytest.mark.usefixtures("before")
async def test_a_notice_that_is_being_written_when_it_is_interrupted_is_put_back_too(cloud: Cloud) -> None:
    cloud.busy, cloud.deaf = threading.Event(), True
    running = asyncio.create_task(show(cloud))
    try:
        assert await asyncio.to_thread(cloud.asked.wait, 60)
        running.cancel()
        # As far as it comes while the notice is not there yet.
        await asyncio.wait({running}, timeout=0.3)
    finally:
        cloud.busy.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cloud.did == ["notice", "revive"]


async def test_what_a_run_that_was_killed_left_is_put_back_and_nothing_twice(cloud: Cloud) -> None:
    cloud.fallbacks |= {"silver": None, "bronze": FALLBACK}
    cloud.give_node_up()
    out, stack = io.StringIO(), cloud.region().stack
    assert await spot.put_back(Console(out), stack, "eu-west")
    assert cloud.did == ["revive"]
    assert cloud.fallbacks == {"gold": "silver", "silver": "bronze", "bronze": None}
    assert "spot-1 is made well again" in out.getvalue()
    assert not await spot.put_back(Console(again := io.StringIO()), stack, "eu-west")
    assert (cloud.did, again.getvalue()) == (["revive"], ""), "nothing is done where all is well"


async def test_nodes_that_are_not_ours_to_end_are_left_as_they_are(cloud: Cloud) -> None:
    cloud.driver = "context"
    cloud.give_node_up()
    assert not await spot.put_back(Console(out := io.StringIO()), cloud.region().stack, "eu-west")
    assert (cloud.did, out.getvalue()) == ([], "")


async def test_without_a_spot_pod_that_serves_it_says_so(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.pods.clear()
    cloud.add(OTHER)
    monkeypatch.setattr(spot, "BACK_SECONDS", 0.2)
    with pytest.raises(DemoFault, match="kubectl npc why bronze"):
        await show(cloud)
    assert cloud.did == []
