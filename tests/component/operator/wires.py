"""The cluster of the harness with everything under way for a while: writes, watches, orders, routes, and all words.

Reconciles run side by side and stop at each call until its answer is there, as they do in the operator. Time moves from
event to event; how long each takes is a seed's to say. Gateways are the real `Fleet`, agents are timed like the real
ones: what is not wanted any more stays loaded for a grace, and is offered to nobody from the first moment.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from npc_operator.domain.facts import AgentFact, GatewayFact
from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Outcome, Retry, Terminal
from npc_operator.domain.reports import lost_contact, merge_report
from npc_operator.domain.routes import routed_names
from npc_operator.loop.queue import KeyedQueue
from npc_operator.ports import Manifest, ObjectRef, PortError, StaleLeader
from npc_runtime.agent.plan import DRAIN_GRACE_SECONDS
from npc_runtime.gateway.agents_watch import AgentsWatch
from npc_runtime.gateway.fleet import Fleet
from npc_runtime.gateway.table import EndpointKey, compile_table
from npc_runtime.wire import (
    Accepted,
    AdapterPhase,
    AdapterReport,
    AgentReport,
    DesiredSet,
    EngineReport,
    EngineState,
    GatewayReport,
    Routable,
    RouteTable,
)
from tests.component.operator.harness import World
from tests.support.fake_agents import FakeAgent
from tests.support.fake_gateways import FakeGateway

T = TypeVar("T")

GIVEN_UP_SECONDS = 5.0
"""After which the operator hears that a call was not answered."""


class Wires:
    """Calls and words that are under way. Delays are drawn from `dice`: mostly short, now and then very long."""

    def __init__(self, dice: random.Random, clock: Any) -> None:
        self.dice = dice
        self._clock = clock
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._awaited: set[asyncio.Future[Any]] = set()
        self.faulty = True
        """Whether calls and answers get lost."""
        self.held_up: dict[str, float] = {}
        """How much longer some calls are under way, in seconds."""

    @property
    def awaited(self) -> int:
        """Calls that somebody waits for."""
        return len(self._awaited)

    def due(self) -> float | None:
        """When the next event happens."""
        return self._events[0][0] if self._events else None

    def happen(self) -> None:
        """The next event."""
        heapq.heappop(self._events)[2]()

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something so many seconds from now."""
        heapq.heappush(self._events, (self._clock.time + seconds, next(self._order), act))

    def delay(self) -> float:
        """How long something is under way."""
        kind = self.dice.random()
        if kind < 0.7:
            return self.dice.uniform(0.0005, 0.02)
        return self.dice.uniform(0.02, 0.3) if kind < 0.97 else self.dice.uniform(0.3, 2.0)

    async def call(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        """A call that is carried out later, and answered later still; a lost one may be carried out all the same, even
        after its caller has given up, or has ended."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        fate = self.dice.random() if self.faulty else 1.0

        def tell(result: T | None, error: BaseException | None) -> None:
            self._awaited.discard(answer)
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        def arrive() -> None:
            result, error = None, None
            try:
                result = run_now(act())
            except PortError as refused:
                error = refused
            if fate > 0.04:
                self.at(self.delay(), lambda: tell(result, error))

        if fate > 0.02:
            late = self.dice.uniform(0, 2 * GIVEN_UP_SECONDS) if fate < 0.03 else self.held_up.get(what, 0.0)
            self.at(self.delay() + late, arrive)
        self.at(GIVEN_UP_SECONDS, lambda: tell(None, PortError("no answer in time", reason="Unreachable")))
        self._awaited.add(answer)
        try:
            return await answer
        finally:
            self._awaited.discard(answer)


def run_now(awaitable: Awaitable[T]) -> T:
    """What comes of something that is async in name only."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits for something")


class Board:
    """What somebody says at present, and who waits for another word."""

    def __init__(self, word: Any) -> None:
        self.word, self.revision = word, 0
        self.readers: list[Callable[[], None]] = []
        self.dead = False
        """Whoever speaks here is gone without a word: who asks gets no answer."""

    def publish(self, word: Any) -> None:
        if word == self.word:
            return
        self.word = word
        self.revision += 1
        self._wake()

    def die(self) -> None:
        self.dead = True
        self._wake()

    def _wake(self) -> None:
        readers, self.readers = self.readers, []
        for read in readers:
            read()


class Poll:
    """Long polls of one board by one listener: what is said between two of them is heard as one word."""

    def __init__(
        self,
        wires: Wires,
        board: Board,
        hear: Callable[[int, Any], bool],
        lose: Callable[[], None],
        mark: Callable[[], int] = lambda: 0,
    ) -> None:
        """`hear` says whether everything is to be told again; `asked_under` is what `mark` gave when it was asked."""
        self._wires, self._board, self._hear, self._lose, self._mark = wires, board, hear, lose, mark
        self._known = -1
        self.ended = False
        self._ask()

    def _ask(self) -> None:
        self.asked_under = self._mark()
        if self._wires.faulty and self._wires.dice.random() < 0.01:
            self._wires.at(self._wires.delay(), self._break)
        else:
            self._wires.at(self._wires.delay(), self._arrive)

    def _break(self) -> None:
        if not self.ended:
            self._lose()
            self._known = -1
            self._wires.at(1.0 if self._board.dead else 0.1, self._ask)

    def _arrive(self) -> None:
        if self.ended:
            return
        if self._board.dead:
            self._wires.at(self._wires.dice.uniform(0.1, GIVEN_UP_SECONDS), self._break)
            return
        if self._board.revision == self._known:
            self._board.readers.append(self._arrive)
            return
        self._known = self._board.revision
        self._wires.at(self._wires.delay(), partial(self._deliver, self._known, self._board.word))

    def _deliver(self, revision: int, word: Any) -> None:
        if not self.ended:
            if self._hear(revision, word):
                self._known = -1
            self._ask()


class TimedAgent:
    """An agent that loads, proves and lets go in its own time."""

    def __init__(self, wires: Wires, taken_over: FakeAgent) -> None:
        self._wires = wires
        self.address, self.pod_uid, self.boot_id = taken_over.address, taken_over.pod_uid, taken_over.boot_id
        self.stamp, self.state, self.since = taken_over.stamp, taken_over.state, taken_over.since
        self.draining = self.dead = False
        self.wanted = {entry.served_name: entry for entry in taken_over.desired}
        self.loaded = dict(taken_over.resident)
        """In the engine and proven, or on the way out."""
        self._busy: set[str] = set()
        self._leaving: dict[str, object] = {}
        self.status = Board(self.report())
        self.routable = Board(self.offer)

    @property
    def resident(self) -> frozenset[str]:
        """What lines may ask for."""
        if self.dead or self.state is not EngineState.READY:
            return frozenset()
        return frozenset(self.loaded.keys() & self.wanted.keys() - self._busy)

    @property
    def offer(self) -> tuple[bool, frozenset[str]]:
        """What gateways hear: whether lines may come, and for what."""
        return self.state is EngineState.READY and not self.draining, self.resident

    def engine_ready(self, now: float) -> None:
        """The engine has started."""
        if not self.dead:
            self.state, self.since = EngineState.READY, now
            self._round()

    def drain(self) -> None:
        """Its pod is being deleted."""
        if not self.dead:
            self.draining = True
            self._round()

    def die(self) -> None:
        """Its pod, or its machine, is gone, and nobody hears it say so."""
        self.dead = True
        self.status.die()
        self.routable.die()

    def take(self, desired: DesiredSet) -> Accepted:
        """The whole set, as ports.Agents wants it taken; what comes of it is said a moment later."""
        if self.dead:
            raise PortError(f"no agent answers at {self.address}")
        if desired.stamp.order() < self.stamp.order():
            raise StaleLeader("older order", current=self.stamp)
        self.stamp = desired.stamp
        self.wanted = {entry.served_name: entry for entry in desired.adapters}
        self._leaving = {name: token for name, token in self._leaving.items() if name not in self.wanted}
        self._wires.at(self._wires.dice.uniform(0.0, 0.01), self._round)
        return Accepted(boot_id=self.boot_id, stamp=desired.stamp, revision=0)

    def _round(self) -> None:
        """Begin what is to be done, and say what is."""
        if self.dead:
            return
        if self.state is EngineState.READY:
            self._begin()
        self.status.publish(self.report())
        self.routable.publish(self.offer)

    def _begin(self) -> None:
        for name in sorted(self.wanted.keys() - self.loaded.keys() - self._busy):
            entry = self.wanted[name]
            self._do(name, self._wires.dice.uniform(0.05, 1.5), partial(self.loaded.__setitem__, name, entry))
        for name in sorted(self.loaded.keys() - self.wanted.keys() - self._busy - self._leaving.keys()):
            token = self._leaving[name] = object()
            self._wires.at(DRAIN_GRACE_SECONDS, partial(self._let_go, name, token))

    def _let_go(self, name: str, token: object) -> None:
        if self._leaving.get(name) is token:
            del self._leaving[name]
            self._do(name, self._wires.dice.uniform(0.01, 0.3), partial(self.loaded.pop, name))

    def _do(self, name: str, seconds: float, then: Callable[[], object]) -> None:
        self._busy.add(name)

        def end() -> None:
            self._busy.discard(name)
            then()
            self._round()

        self._wires.at(seconds, end)

    def report(self) -> AgentReport:
        """What the operator hears."""
        known = {**self.loaded, **self.wanted}
        return AgentReport(
            boot_id=self.boot_id,
            revision=0,
            stamp=self.stamp,
            full=True,
            ready=self.state is EngineState.READY,
            draining=self.draining,
            engine=EngineReport(state=self.state, instance="1", since_ms=int(self.since * 1000)),
            adapters=tuple(
                AdapterReport(
                    served_name=name,
                    archetype=entry.archetype,
                    digest=entry.digest,
                    phase=self._phase(name),
                    identity_checked=entry.identity_check if name in self.resident else 0,
                )
                for name, entry in sorted(known.items())
            ),
        )

    def _phase(self, name: str) -> AdapterPhase:
        if name in self.resident:
            return AdapterPhase.RESIDENT
        return AdapterPhase.LOADING if name in self.wanted else AdapterPhase.DRAINING


class TimedGateway(FakeGateway):
    """A gateway that sees pods as the real one does, and hears their agents itself."""

    def __init__(self, wires: Wires, agents: Mapping[str, TimedAgent], taken_over: FakeGateway) -> None:
        super().__init__(taken_over.address, taken_over.pod_uid)
        self._wires, self._agents = wires, agents
        self._polls: dict[EndpointKey, Poll] = {}
        self.fleet = Fleet(asyncio.get_running_loop())
        self._watch = AgentsWatch(port=0, mounted_ca=str, hear=self.fleet.hear, lose=self.fleet.lose)
        self.status = Board(None)
        assert taken_over.table is not None
        self.take(taken_over.table)

    def take(self, table: RouteTable) -> None:
        super().take(table)
        compiled = compile_table(table)
        self._watch.expect(compiled)
        self.fleet.apply(compiled)
        wanted = {endpoint.key for endpoint in compiled.endpoints}
        for key in self._polls.keys() - wanted:
            self._polls.pop(key).ended = True
        for key in sorted(wanted - self._polls.keys(), key=str):
            board = self._agents[key.address].routable
            hear, lose = partial(self._hear, key), partial(self.fleet.lose, key)
            self._polls[key] = Poll(self._wires, board, hear, lose, lambda: self._watch._tables)
        self.status.publish(self.report())

    def _hear(self, key: EndpointKey, revision: int, word: tuple[bool, frozenset[str]]) -> bool:
        """As `AgentsWatch` does: what was offered since it was asked may be younger than the answer."""
        accepting, resident = word
        untold = self._watch._offered_after(key, self._polls[key].asked_under) - resident
        said = Routable(boot_id="boot-1", revision=revision, accepting=accepting, resident=tuple(resident | untold))
        self.fleet.hear(key, said)
        return bool(untold)

    def asked(self) -> set[tuple[str, str]]:
        """(tier, served name) of everything that lines may have to be sent to now. That is not a candidate beside a
        stable digest: where no pod has it the stable one speaks in its place (`Descent`)."""
        aliases = () if self.table is None else self.table.aliases
        return {(one.tier, one.targets[0].served_name) for one in aliases if one.targets}

    def named(self) -> set[tuple[str, str]]:
        """The same of everything that is named, candidates too."""
        return set() if self.table is None else set(routed_names(self.table))


class TimedWorld(World):
    """The harness's cluster, whose objects stay as they are from `go_on` on, with everything under way for a while."""

    def __init__(self, seed: int, **options: Any) -> None:
        """`options`: of the world that is beside this one."""
        self.dice = random.Random(seed)
        self._is_timed = False
        super().__init__(**options)
        self.wires = Wires(self.dice, self.clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._polls: list[Poll] = []
        self._news: deque[Callable[[], None]] = deque()
        self._told_at = 0.0
        self.watching: Callable[[], None] = lambda: None
        """Called after every event."""

    # --- leaders ---

    async def go_on(self) -> None:
        """From the state that was settled on."""
        self.timed_agents = {address: TimedAgent(self.wires, one) for address, one in self.agents.by_address.items()}
        self.timed_gateways = {
            address: self._make_gateway(self.wires, self.timed_agents, one)
            for address, one in self.gateways.by_address.items()
        }
        self._is_timed = True
        self.fakes = self.agents
        self.kube, self.agents, self.gateways = self._make_kube(), TimedPods(self), TimedDoors(self)  # type: ignore[assignment]
        await self.change_leaders()

    def _make_gateway(self, *args: Any) -> TimedGateway:
        return TimedGateway(*args)

    def _make_kube(self) -> TimedKube:
        return TimedKube(self)

    async def change_leaders(self) -> None:
        """The leader ends at whatever it waits for, and another one begins with what the API server says and nothing
        else."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for poll in self._polls:
            poll.ended = True
        while self._news:
            self._news.popleft()()
        self.forget()
        self.lead()
        self._begin_polls()

    def forget(self) -> None:
        """What no process knows when it begins."""
        for kind in (AgentFact, GatewayFact):
            for namespace, name, _ in list(self.store.items(kind)):
                self.store.drop(kind, namespace, name)

    def _begin_polls(self) -> None:
        self._polls = [self._poll(pod) for pod in self.peek("Pod")]

    def _poll(self, pod: Mapping[str, Any]) -> Poll:
        meta, address = pod["metadata"], pod["status"]["podIP"]
        agent = self.timed_agents.get(address)
        place, uid = (meta["namespace"], meta["name"]), meta["uid"]
        if agent is not None:
            return Poll(self.wires, agent.status, partial(self._hear_agent, place, uid), partial(self._lose, place))
        board = self.timed_gateways[address].status
        return Poll(self.wires, board, partial(self._hear_gateway, place, uid), partial(self._lose, place))

    def _hear_agent(self, place: tuple[str, str], uid: str, _: int, said: AgentReport) -> bool:
        old = self.store.get(AgentFact, *place)
        self.store.put(AgentFact, *place, merge_report(old, said, pod_uid=uid))
        return False

    def _hear_gateway(self, place: tuple[str, str], uid: str, _: int, said: GatewayReport) -> bool:
        fact = GatewayFact(
            uid,
            said.boot_id,
            said.stamp,
            rollouts=said.rollouts,
            degraded=said.degraded,
            counted=said.counted,
            departures=said.departures,
            lines=said.lines,
        )
        self.store.put(GatewayFact, *place, fact)
        return False

    def _lose(self, place: tuple[str, str]) -> None:
        agent, gateway = self.store.get(AgentFact, *place), self.store.get(GatewayFact, *place)
        if agent is not None:
            self.store.put(AgentFact, *place, lost_contact(agent))
        if gateway is not None:
            self.store.put(GatewayFact, *place, replace(gateway, reachable=False))

    # --- watches ---

    def _on_object(self, event: str, manifest: dict[str, Any]) -> None:
        if not self._is_timed:
            super()._on_object(event, manifest)
            return
        self._news.append(partial(super()._on_object, event, manifest))
        # One after the other, as on a connection.
        self._told_at = max(self._told_at, self.clock.time + self.wires.delay())
        self.wires.at(self._told_at - self.clock.time, self._bring)

    def _bring(self) -> None:
        if self._news:
            self._news.popleft()()

    # --- time ---

    async def run(self, seconds: float) -> None:
        """What happens within so many seconds."""
        end = self.clock.time + seconds
        while True:
            await self._work()
            self.watching()
            due = min(filter(None, (self.wires.due(), self._next_due())), default=end + 1)
            if due > end:
                self.clock.time = end
                return
            self.clock.time = max(self.clock.time, due)
            if (self.wires.due() or end + 1) <= self.clock.time:
                self.wires.happen()

    async def _work(self) -> None:
        """Reconcile until everybody waits for something that is under way."""
        while True:
            while (key := self.queue.take()) is not None:
                task = asyncio.create_task(self._reconcile(key, self.queue))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if len(self._tasks) <= self.wires.awaited:
                return
            await asyncio.sleep(0)

    async def close(self) -> None:
        """End whatever is still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reconcile(self, key: Key, queue: KeyedQueue[Key]) -> None:
        self.runs += 1
        try:
            outcome: Outcome = await self.reconcilers.reconcile(key)
        except PortError as error:
            outcome = Retry(str(error)) if error.retryable else Terminal(str(error))
        if queue is self.queue:
            self._settle(key, outcome)


class TimedKube:
    """ports.Kube with calls that are under way."""

    def __init__(self, world: TimedWorld) -> None:
        self._kube, self._wires = world.api, world.wires

    async def get(self, ref: ObjectRef) -> Manifest | None:
        return await self._wires.call(f"get {ref.kind}", lambda: self._kube.get(ref))

    def list(self, *args: Any, **options: Any) -> Any:
        return self._kube.list(*args, **options)

    async def apply(self, manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        what = f"apply {manifest['kind']}"
        return await self._wires.call(
            what, lambda: self._kube.apply(manifest, manager=manager, subresource=subresource)
        )

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        return await self._wires.call("create", lambda: self._kube.create(manifest, manager=manager))

    async def delete(self, ref: ObjectRef, *, resource_version: str) -> None:
        return await self._wires.call("delete", lambda: self._kube.delete(ref, resource_version=resource_version))

    async def evict(self, ref: ObjectRef, *, resource_version: str) -> None:
        return await self._wires.call("evict", lambda: self._kube.evict(ref, resource_version=resource_version))


class TimedPods:
    """ports.Agents with calls that are under way."""

    def __init__(self, world: TimedWorld) -> None:
        self._agents, self._wires = world.timed_agents, world.wires

    async def push(self, namespace: str, address: str, desired: DesiredSet, *, pod_uid: str) -> Accepted:
        async def take() -> Accepted:
            return self._agents[address].take(desired)

        return await self._wires.call(f"order to {address}", take)


class TimedDoors:
    """ports.Gateways with calls that are under way."""

    def __init__(self, world: TimedWorld) -> None:
        self._gateways, self._wires = world.timed_gateways, world.wires

    async def push(self, namespace: str, address: str, table: RouteTable, *, pod_uid: str) -> Accepted:
        async def take() -> Accepted:
            gateway = self._gateways[address]
            gateway.take(table)
            return Accepted(boot_id=gateway.boot_id, stamp=table.stamp, revision=0)

        return await self._wires.call(f"routes to {address}", take)
