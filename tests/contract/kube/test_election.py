"""The election on a real API server: two candidates, sudden and graceful ends, and an API server that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from npc_operator.clients.connection import connect
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.kube_lease import KubeLease
from npc_operator.clients.lease import Elector, Term, Timings
from npc_operator.clients.metrics import Metrics
from npc_operator.ports import ObjectRef
from npc_operator.wiring.process import SystemClock
from tests.support.kube_env import KubeEnv

TIMINGS = Timings()


@dataclass
class Candidate:
    kube: KubeClient
    elector: Elector
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    leads: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def lead(self, term: Term) -> None:
        self.began.append(time.monotonic())
        self.epochs.append(term.epoch)
        self.leads.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(time.monotonic())
            self.leads.clear()
            self.lost.set()

    def start(self) -> None:
        self.task = asyncio.create_task(self.elector.run(self.lead))

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def kill(self) -> None:
        """As SIGKILL would: its requests end with it, so that nothing is given back."""
        await self.kube.close()
        self.elector._seen = None
        await self.stop()


@pytest.fixture
async def candidates(env: KubeEnv, namespace: str) -> AsyncIterator[tuple[Candidate, Candidate]]:
    made = []
    for name in ("one", "two"):
        kube = KubeClient(await connect(kubeconfig=str(env.kubeconfig)), metrics=Metrics())
        elector = Elector(
            leases=KubeLease(kube, namespace=namespace, name="npc-operator"),
            namespace=namespace,
            name="npc-operator",
            identity=name,
            clock=SystemClock(),
        )
        made.append(Candidate(kube, elector))
    one, two = made
    one.start()
    async with asyncio.timeout(60):
        await one.leads.wait()
    two.start()
    yield one, two
    for candidate in made:
        await candidate.stop()
        await candidate.kube.close()


async def lease_of(candidate: Candidate, namespace: str) -> dict[str, object]:
    live = await candidate.kube.get(ObjectRef("coordination.k8s.io/v1", "Lease", namespace, "npc-operator"))
    assert live is not None
    return dict(live["spec"])


async def test_a_leader_that_goes_is_followed_at_once(candidates: tuple[Candidate, Candidate], namespace: str) -> None:
    one, two = candidates
    await asyncio.sleep(1.5)
    assert two.began == []
    asked = time.monotonic()
    await one.stop()
    async with asyncio.timeout(60):
        await two.leads.wait()
    # The bar is 2 s (make bench); here others may use the machine, too, and it must only not have waited until the
    # lease ran out.
    assert two.began[0] - asked < TIMINGS.lease - TIMINGS.renew_every
    assert two.epochs[0] > one.epochs[0]
    spec = await lease_of(two, namespace)
    assert spec["holderIdentity"] == "two"
    assert spec["leaseTransitions"] == 1


async def test_a_leader_that_dies_is_followed_when_its_lease_has_run_out(
    candidates: tuple[Candidate, Candidate],
) -> None:
    one, two = candidates
    await asyncio.sleep(1.5)
    died = time.monotonic()
    await one.kill()
    async with asyncio.timeout(60):
        await two.leads.wait()
    # At most lease + retry after the last renewal (on a clock of its own in the unit tests); here others may use the
    # machine, too.
    assert two.began[0] - died <= 2 * TIMINGS.lease


async def test_a_hanging_api_server_ends_the_leadership_and_its_return_makes_one_leader(
    candidates: tuple[Candidate, Candidate], env: KubeEnv
) -> None:
    one, two = candidates
    await asyncio.sleep(0.5)
    with env.frozen():
        frozen = time.monotonic()
        async with asyncio.timeout(60):
            await one.lost.wait()
        # Before the lease runs out, which the other would wait for.
        assert one.ended[0] - frozen < TIMINGS.lease
        assert two.began == []
        await asyncio.sleep(1)
    async with asyncio.timeout(60):
        await asyncio.wait(
            [asyncio.create_task(one.leads.wait()), asyncio.create_task(two.leads.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
    await asyncio.sleep(2)
    assert one.leads.is_set() != two.leads.is_set(), "exactly one leads"
    assert max(one.epochs + two.epochs) > one.epochs[0]
