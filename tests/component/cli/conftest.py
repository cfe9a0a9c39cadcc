"""The tool as its users run it, against an API server over HTTP that holds a healthy region."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from npc_runtime.cli.__main__ import main
from tests.component.cli.fake_api import NAMESPACE, FakeApi, serving
from tests.unit.cli import objects as o

OWN = f"/apis/npcfleet.dev/v1alpha1/namespaces/{NAMESPACE}"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/npc-system/leases"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
OPERATOR_PODS = "/api/v1/namespaces/npc-system/pods"
POD = "gold-on-demand-5d9c7-x2x4q"


@dataclass(frozen=True)
class Ran:
    """What came of one run."""

    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Ran]]


def ours(raw: dict[str, object]) -> dict[str, object]:
    """With the label that every child of a region has."""
    meta = raw["metadata"]
    assert isinstance(meta, dict)
    meta["labels"] = {**meta.get("labels", {}), "app.kubernetes.io/part-of": "npc-fleet"}
    return raw


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    made = FakeApi()
    made.put(f"{OWN}/npcregions", o.region())
    made.put(f"{OWN}/gputiers", o.tier())
    made.put(f"{OWN}/archetypeadapters", o.adapter())
    made.put(f"{CORE}/pods", ours(o.pod(POD)), ours(o.gateway()))
    made.put("/api/v1/nodes", o.node())
    for empty in (f"{CORE}/events", f"{CORE}/services", f"{CORE}/secrets", DEPLOYMENTS, OPERATOR_PODS):
        made.put(empty)
    for kind in ("npcregions", "gputiers", "archetypeadapters"):
        made.put(f"/apis/npcfleet.dev/v1alpha1/namespaces/us-east/{kind}")
    made.put("/api/v1/namespaces/us-east/pods")
    made.put("/api/v1/namespaces/us-east/events")
    made.put("/apis/apps/v1/namespaces/us-east/deployments")
    made.put(LEASES, o.lease(renewed="2999-01-01T00:00:00Z"))
    async with serving(made):
        yield made


@pytest.fixture
def run(api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the tool; in a thread, because it blocks and the server lives in this loop."""
    kubeconfig = api.kubeconfig(tmp_path)

    async def once(*words: str) -> Ran:
        code = await asyncio.to_thread(main, [*words, "--kubeconfig", kubeconfig])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return once
