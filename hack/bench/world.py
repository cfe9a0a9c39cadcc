"""A whole world for the operator on one host: a real API server, real operators, and pods whose agents answer.

The order is that of real life: a user's tier and region first, then the operator makes the namespace's Secrets and its
Deployments, then pods come up with those Secrets, and only then voices arrive.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from hack.bench import objects
from hack.bench.control_plane import ControlPlane, install_crds
from hack.bench.kube import Kube, collection, core, deployment_path
from hack.bench.light import LightAgent, LightGateway
from hack.bench.objects import NAMESPACE
from hack.bench.operators import SYSTEM_NAMESPACE, Operator, find_leader, start_operator
from hack.bench.pods import make_pods, pick_addresses
from hack.bench.waiting import BenchFault, until

ROOT = Path(__file__).resolve().parents[2]
SECRET_INTERNAL, SECRET_ENGINE_KEY = "npc-fleet-internal", "npc-fleet-engine-key"
WRITERS = 16
"""Requests with which objects are created side by side."""


class AgentLike(Protocol):
    """What stands at a pod's address."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


AgentMaker = Callable[[str, Path, str], AgentLike]
"""(address, folder with the internal Secret's files, engine key) -> agent."""


class World:
    """`async with World(pods=10) as world`. Everything is gone afterwards. `pace`: proofs a second of each light agent,
    0 for all at once."""

    def __init__(
        self,
        *,
        pods: int,
        gateways: int = 2,
        slots: int = 1100,
        resync_seconds: float = 300.0,
        pace: float = 0.0,
        make_agent: AgentMaker | None = None,
    ) -> None:
        self.pods, self.gateways, self.slots = pods, gateways, slots
        self.resync_seconds = resync_seconds
        self.pace = pace
        self.folder = Path(tempfile.mkdtemp(prefix="npc-bench-"))
        self.plane = ControlPlane(self.folder)
        self.kube: Kube
        self.operators: list[Operator] = []
        self.agents: list[AgentLike] = []
        self.light: list[LightAgent] = []
        self.doors: list[LightGateway] = []
        self._make_agent = make_agent or self._light_agent
        self._started = 0

    async def __aenter__(self) -> World:
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for operator in self.operators:
                error.add_note(f"--- the log of {operator.name} ends with:\n{operator.child.log_tail()}")
        await self._close()

    # --- what a measurement does ---

    def add_operator(self) -> Operator:
        """One more replica."""
        self._started += 1
        operator = start_operator(self.plane, f"operator-{self._started}", resync_seconds=self.resync_seconds)
        self.operators.append(operator)
        return operator

    async def leader(self, seconds: float = 60.0) -> Operator:
        """The replica that holds the Lease, once one does. Raises BenchFault."""
        found: list[Operator] = []

        async def look() -> bool:
            leader = await find_leader(self.kube, self.operators)
            found[:] = [] if leader is None else [leader]
            return bool(found)

        await until(look, "a leader", seconds=seconds)
        return found[0]

    async def create_adapters(self, sources: Sequence[tuple[str, str, str]]) -> None:
        """ArchetypeAdapters from (name, uri, digest), several at a time as `kubectl apply` of many files would not."""
        path = collection("archetypeadapters", NAMESPACE)
        turns = asyncio.Semaphore(WRITERS)

        async def create(name: str, uri: str, digest: str) -> None:
            async with turns:
                await self.kube.call("POST", path, objects.build_adapter(name, uri=uri, digest=digest))

        await asyncio.gather(*(create(*source) for source in sources))

    async def create_made_up(self, count: int) -> None:
        """So many voices of bytes that nobody fetches (light agents prove anything)."""
        await self.create_adapters([made_up(number, 0) for number in range(count)])

    async def change(self, name: str, *, uri: str, digest: str) -> float:
        """A user's change of a voice's bytes; returns time.monotonic() from just before it was sent."""
        at = time.monotonic()
        path = f"{collection('archetypeadapters', NAMESPACE)}/{name}"
        await self.kube.merge(path, {"spec": {"variants": objects.build_variants(uri=uri, digest=digest)}})
        return at

    async def until_ready(self, count: int, *, seconds: float) -> float:
        """Waits until so many adapters are Ready; returns the moment (time.monotonic()). Raises BenchFault."""
        path, end = collection("archetypeadapters", NAMESPACE), time.monotonic() + seconds
        listed = await self.kube.call("GET", path)
        ready = {item["metadata"]["name"] for item in listed["items"] if objects.is_ready(item)}
        following = asyncio.create_task(self._follow(path, listed["metadata"]["resourceVersion"], ready, count))
        try:
            # A dead operator would let this wait for nothing.
            while not following.done():
                await asyncio.wait({following}, timeout=1.0)
                self._check_operators()
                if time.monotonic() > end:
                    raise BenchFault(f"{len(ready)} of {count} adapters were Ready after {seconds:g} s")
            return following.result()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self, path: str, version: str, ready: set[str], count: int) -> float:
        if len(ready) >= count:
            return time.monotonic()
        async for seen in self.kube.watch(path, version=version):
            name = seen["metadata"]["name"]
            (ready.add if objects.is_ready(seen) else ready.discard)(name)
            if len(ready) >= count:
                return time.monotonic()
        raise BenchFault(f"the watch ended with {len(ready)} of {count} adapters Ready")

    def _check_operators(self) -> None:
        for operator in self.operators:
            if operator.child.ended():
                raise BenchFault(f"{operator.name} ended:\n{operator.child.log_tail()}")

    async def until_quiet(self, *, seconds: float = 2.0, limit: float = 120.0) -> None:
        """Waits until no status moved for so many seconds. Raises BenchFault."""
        last, since = "", time.monotonic()

        async def look() -> bool:
            nonlocal last, since
            # The Lease is in another namespace, so the newest version here stands still when nothing is written.
            newest = await self._newest()
            if newest != last:
                last, since = newest, time.monotonic()
            return time.monotonic() - since >= seconds

        await until(look, "quiet", seconds=limit, pause=0.5)

    async def _newest(self) -> str:
        listed = [
            await self.kube.call("GET", collection(plural, NAMESPACE))
            for plural in ("archetypeadapters", "gputiers", "npcregions")
        ]
        return str(max(int(item["metadata"]["resourceVersion"]) for one in listed for item in one["items"]))

    # --- from nothing to a region without voices ---

    async def _open(self) -> None:
        await self.plane.start()
        await asyncio.to_thread(install_crds, self.plane, ROOT / "crds")
        self.kube = await Kube(self.plane.server, self.plane.tls()).__aenter__()
        for namespace in (NAMESPACE, SYSTEM_NAMESPACE):
            await self.kube.call("POST", "/api/v1/namespaces", objects.build_namespace(namespace))
        tier = objects.build_tier(replicas=self.pods, slots=self.slots)
        await self.kube.call("POST", collection("gputiers", NAMESPACE), tier)
        region = objects.build_region(gateways=self.gateways)
        await self.kube.call("POST", collection("npcregions", NAMESPACE), region)
        self.add_operator()
        internal, key = await self._secrets()
        addresses = pick_addresses(self.pods + self.gateways)
        engines, doors = addresses[: self.pods], addresses[self.pods :]
        self.agents = [self._make_agent(address, internal, key) for address in engines]
        self.doors = [LightGateway(address, internal) for address in doors]
        await asyncio.gather(*(one.start() for one in (*self.agents, *self.doors)))
        for deployment, on in ((objects.ENGINE_DEPLOYMENT, engines), (objects.GATEWAY_DEPLOYMENT, doors)):
            await until(lambda d=deployment: self._there(deployment_path(NAMESPACE, d)), f"Deployment {deployment}")  # type: ignore[misc]
            await make_pods(self.kube, NAMESPACE, deployment, on)
        await until(self._region_ready, "a Ready region without voices", seconds=120)

    async def _secrets(self) -> tuple[Path, str]:
        """What kubelet would mount: the internal Secret's files, and the engine key."""
        for name in (SECRET_INTERNAL, SECRET_ENGINE_KEY):
            await until(lambda n=name: self._there(core("secrets", NAMESPACE, n)), f"Secret {name}")  # type: ignore[misc]
        internal = self.folder / "internal"
        internal.mkdir()
        for entry, value in (await self._secret(SECRET_INTERNAL)).items():
            (internal / entry).write_text(value)
        keys = await self._secret(SECRET_ENGINE_KEY)
        return internal, keys[keys["current"]]

    async def _secret(self, name: str) -> dict[str, str]:
        data = (await self.kube.call("GET", core("secrets", NAMESPACE, name)))["data"]
        return {entry: base64.b64decode(value).decode() for entry, value in data.items()}

    async def _there(self, path: str) -> bool:
        return await self.kube.find(path) is not None

    async def _region_ready(self) -> bool:
        path = f"{collection('npcregions', NAMESPACE)}/{objects.REGION}"
        return objects.is_ready(await self.kube.call("GET", path))

    def _light_agent(self, address: str, internal: Path, _key: str) -> AgentLike:
        agent = LightAgent(address, internal, slots=self.slots, pace=self.pace)
        self.light.append(agent)
        return agent

    async def _close(self) -> None:
        for operator in self.operators:
            if not operator.child.ended():
                operator.child.kill()
        await asyncio.gather(*(one.stop() for one in (*self.agents, *self.doors)), return_exceptions=True)
        if hasattr(self, "kube"):
            await self.kube.__aexit__()
        self.plane.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def made_up(number: int, version: int) -> tuple[str, str, str]:
    """(name, uri, digest) of the n-th voice's made-up bytes."""
    name = objects.adapter_name(number)
    return name, f"s3://bench/{name}/{version}", objects.made_up_digest(name, version)
