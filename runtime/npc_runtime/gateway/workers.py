"""Several event loops, each in a process of its own, as one data plane.

The main process holds the table, the agents' words and the listening sockets; a worker that dies is started again
with all three, and the others do not notice. An order counts as carried out when every living worker has answered
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import sys
from collections.abc import Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path

from npc_runtime import wire
from npc_runtime.gateway.channel import Channel, Message
from npc_runtime.gateway.degradation import Lines
from npc_runtime.gateway.disturbances import Disturbances, add_up
from npc_runtime.gateway.plane import Counts, listen_socket
from npc_runtime.gateway.rollouts.tally import Seen
from npc_runtime.gateway.rollouts.together import Together
from npc_runtime.gateway.sums import Sums
from npc_runtime.gateway.supervise import supervise
from npc_runtime.gateway.table import CompiledTable, EndpointKey

log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
"""Pause before a dead worker is started again, so that one that cannot live does not eat the machine."""

ANSWER_SECONDS = 10.0
"""A worker that does not answer an order within this is ended and started again."""


class WorkerGone(Exception):
    """The worker ended before it answered."""


class Worker:
    """One worker process and the questions it has not answered yet."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.process = process
        self.channel = channel
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._gone = False

    def tell(self, **message: object) -> asyncio.Future[Message]:
        """Send an order; the future is its answer, or WorkerGone."""
        number = next(self._numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        # An order nobody waits for may fail silently: the worker's end is noticed by itself.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._gone:
            answer.set_exception(WorkerGone())
            return answer
        self._waiting[number] = answer
        self.channel.send({"id": number, **message})
        return answer

    async def listen(self) -> None:
        """Take answers until the worker is gone, or says what is none; whoever waits for one is told either way."""
        try:
            while (message := await self.channel.receive()) is not None:
                answer = self._waiting.pop(message["id"], None)
                if answer is not None and not answer.done():
                    answer.set_result(message)
        finally:
            self._gone = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(WorkerGone())
            self._waiting.clear()

    async def end(self) -> int:
        """Close the channel, which ends the worker, and return its exit status; one that goes on is killed."""
        self.channel.close()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self.process.wait()
        except TimeoutError:
            log.error("a worker does not end and is killed", extra={"pid": self.process.pid})
            self.process.kill()
            return await self.process.wait()


class WorkersPlane:
    """The data plane in worker processes. Implements `plane.DataPlane`."""

    def __init__(
        self,
        *,
        workers: int,
        access_log: bool,
        log_level: str,
        tls_dir: Path | None = None,
        prefix_affinity: bool = True,
    ) -> None:
        self._count = workers
        self._options = (
            *("1" if access_log else "0", log_level),
            *(str(tls_dir or ""), "1" if prefix_affinity else "0"),
        )
        self._sockets: list[socket.socket] = []
        self._workers: dict[int, Worker] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._table: CompiledTable | None = None
        self._words: dict[EndpointKey, wire.Routable] = {}
        self._together = Together()
        self._sums = Sums()
        self._ended = False
        self._leaving = False

    async def start(self, host: str, port: int) -> int:
        """Listen on one shared port with a socket for each worker, and start them all."""
        for _ in range(self._count):
            self._sockets.append(listen_socket(host, port, shared=True))
            port = int(self._sockets[0].getsockname()[1])
        started = [asyncio.Event() for _ in range(self._count)]
        self._keepers = [
            asyncio.create_task(
                supervise(f"keeping worker {index}", partial(self._keep, index, started[index])),
                name=f"worker {index}",
            )
            for index in range(self._count)
        ]
        await asyncio.gather(*(event.wait() for event in started))
        return port

    @property
    def pids(self) -> list[int]:
        """The worker processes that live now."""
        return [worker.process.pid for worker in self._workers.values()]

    async def apply_everywhere(self, table: CompiledTable) -> None:
        """Return once every living worker serves from the table; one that starts later starts with it."""
        self._table = table
        offered = {endpoint.key for endpoint in table.endpoints}
        self._words = {key: said for key, said in self._words.items() if key in offered}
        self._together.apply(table)
        self._sums.keep_only({(archetype, tier) for archetype in table.archetypes for tier in table.tiers})
        await self._tell_all(do="apply", table=table.source.to_bytes().decode())

    def hear(self, key: EndpointKey, said: wire.Routable) -> None:
        """An agent answered."""
        self._words[key] = said
        for worker in self._workers.values():
            worker.tell(do="hear", key=[key.uid, key.address, key.port], said=said.to_bytes().decode())

    def lose(self, key: EndpointKey) -> None:
        """Contact with an agent was lost."""
        for worker in self._workers.values():
            worker.tell(do="lose", key=[key.uid, key.address, key.port])

    async def counts(self) -> Counts:
        """What all workers counted, those that are gone included."""
        said = await self._tell_all(do="counts")
        return self._sums.hear(said, set(self.pids))

    async def degraded(self) -> Lines:
        """Lines that lower levels answered up to now, in the workers that live."""
        total: dict[tuple[str, str, str], int] = {}
        for answer in await self._tell_all(do="degraded"):
            for archetype, tier, level, count in answer["lines"]:
                total[archetype, tier, level] = total.get((archetype, tier, level), 0) + count
        return total

    async def disturbances(self, lines: bool) -> Disturbances:
        """Lines on pods that have left the table; with `lines` also what went wrong up to now, in the workers that
        live."""
        return add_up(await self._tell_all(do="disturbances", lines=lines))

    async def candidates(self) -> Sequence[Seen]:
        """What all workers saw, those that are gone included. Takes a candidate off everywhere as soon as they have
        seen too much together."""
        said = [
            (int(answer["pid"]), [Seen.model_validate(seen) for seen in answer["seen"]])
            for answer in await self._tell_all(do="candidates")
        ]
        for pair, why in self._together.hear(said, set(self.pids)):
            for worker in self._workers.values():
                worker.tell(do="withdraw", pair=astuple(pair), why=why)
        return self._together.seen()

    def leave(self) -> None:
        """Answers ask their clients to connect anew elsewhere."""
        self._leaving = True
        for worker in self._workers.values():
            worker.tell(do="leave")

    async def drain(self, seconds: float) -> int:
        """Accept nothing more and let answers finish."""
        self._ended = True
        for listening in self._sockets:
            listening.close()
        answers = await self._tell_all(do="drain", seconds=seconds, within=seconds + ANSWER_SECONDS)
        return sum(int(answer["running"]) for answer in answers)

    async def close(self) -> None:
        """End every worker."""
        self._ended = True
        for worker in list(self._workers.values()):
            worker.tell(do="close")
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=ANSWER_SECONDS)
            for worker in list(self._workers.values()):  # those that have not ended by themselves
                with contextlib.suppress(ProcessLookupError):
                    worker.process.kill()
            await asyncio.wait(self._keepers, timeout=ANSWER_SECONDS)
            for keeper in self._keepers:
                keeper.cancel()  # it only waits, to start a worker again that is not wanted any more
            await asyncio.gather(*self._keepers, return_exceptions=True)
        for listening in self._sockets:
            listening.close()

    async def _tell_all(self, *, within: float = ANSWER_SECONDS, **message: object) -> list[Message]:
        asked = [(worker, worker.tell(**message)) for worker in self._workers.values()]
        if asked:
            await asyncio.wait([answer for _, answer in asked], timeout=within)
        answers = []
        for worker, answer in asked:
            if not answer.done():
                log.error("a worker does not answer and is ended", extra={"pid": worker.process.pid})
                worker.process.kill()
            elif answer.exception() is None:
                answers.append(answer.result())
        return answers

    async def _keep(self, index: int, started: asyncio.Event) -> None:
        """Keep one worker alive until the plane ends."""
        while not self._ended:
            worker = await self._spawn(index)
            listening = asyncio.create_task(worker.listen())
            try:
                # Everything it must know before it serves its first line, in one row: nothing can come in between.
                if self._table is not None:
                    worker.tell(do="apply", table=self._table.source.to_bytes().decode())
                for key, said in self._words.items():
                    worker.tell(do="hear", key=[key.uid, key.address, key.port], said=said.to_bytes().decode())
                for pair, why in self._together.withdrawn:
                    worker.tell(do="withdraw", pair=astuple(pair), why=why)
                if index == 0:
                    worker.tell(do="lead")
                if self._leaving:
                    worker.tell(do="leave")
                self._workers[index] = worker
                await worker.tell(do="serve")
                started.set()
                await listening
            except WorkerGone:
                pass
            finally:
                self._workers.pop(index, None)
                status = await worker.end()
                await listening
            if not self._ended:
                log.error("a worker ended and is started again", extra={"pid": worker.process.pid, "status": status})
                await asyncio.sleep(RESTART_SECONDS)

    async def _spawn(self, index: int) -> Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        listening = self._sockets[index]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "npc_runtime.gateway.worker", str(theirs.fileno()), str(listening.fileno())),
                *(str(self._count), *self._options),
                pass_fds=(theirs.fileno(), listening.fileno()),
            )
        finally:
            theirs.close()
        return Worker(process, await Channel.open(ours))
