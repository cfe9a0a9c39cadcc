"""Hears from each pod's own agent what may be asked of the pod, so that an interruption is off the routes at once,
operator or not.

One long poll per pod of the table, always open. Failing to reach an agent withdraws nothing: it is only remembered
that nobody speaks for the pod.

An answer may be older than the table that it is heard under: an adapter that is let go and wanted back at once is off
the agent's list for a moment, and of that moment a gateway may hear after the table that offers the adapter again. So
what a table offers anew is withdrawn only by an answer to a question that was asked since, and it is asked at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable
from functools import partial

import aiohttp
from pydantic import ValidationError

from npc_runtime import wire
from npc_runtime.gateway.supervise import supervise
from npc_runtime.gateway.table import CompiledTable, EndpointKey

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 2.0
_GRACE_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_IDLE_PAUSE_SECONDS = 0.2

Hear = Callable[[EndpointKey, wire.Routable], None]
Lose = Callable[[EndpointKey], None]


class _NoAnswer(Exception):
    """The agent answered, but not what was asked."""


class AgentsWatch:
    """The long polls of one gateway."""

    def __init__(self, *, port: int, mounted_ca: Callable[[], str], hear: Hear, lose: Lose) -> None:
        self._port = port
        self._mounted_ca = mounted_ca
        self._hear = hear
        self._lose = lose
        self._tasks: dict[EndpointKey, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._ca = ""
        self._tls: ssl.SSLContext | None = None
        self._tokens: tuple[str, ...] = ()
        self._server_name = ""
        self._answered: set[EndpointKey] = set()
        self._asked: set[EndpointKey] = set()
        self._tables = 0
        """Tables seen so far."""
        self._offered: dict[EndpointKey, dict[str, int]] = {}
        """What the last one offers on each pod, and since which table without a break."""

    @property
    def in_contact(self) -> int:
        """Agents whose last poll was answered."""
        return len(self._answered)

    @property
    def asked_everyone(self) -> bool:
        """Whether each agent of the table was asked at least once, answered or not."""
        return self._asked >= self._tasks.keys()

    def expect(self, table: CompiledTable) -> None:
        """This table is about to be applied: questions asked before know nothing of what it offers anew."""
        self._tables += 1
        known, self._offered = self._offered, {}
        for facts in table.endpoints:
            since = known.get(facts.key, {})
            self._offered[facts.key] = {name: since.get(name, self._tables) for name in facts.resident or ()}

    def follow(self, table: CompiledTable) -> None:
        """Poll the agents of this table's pods, with its tokens and CA, and no others."""
        self._tokens = tuple(token.get_secret_value() for token in table.source.agent_tokens)
        self._server_name = wire.server_name(table.source.namespace)
        self._trust(table.source.agent_ca or self._mounted_ca())
        wanted = {endpoint.key for endpoint in table.endpoints}
        for key in self._tasks.keys() - wanted:
            self._tasks.pop(key).cancel()
            self._answered.discard(key)
            self._asked.discard(key)
        for key in wanted - self._tasks.keys():
            watching = supervise(
                f"watching the agent at {key.address}", partial(self._watch, key), on_fault=partial(self._lost, key)
            )
            self._tasks[key] = asyncio.create_task(watching, name=f"agent {key.address}")

    async def close(self) -> None:
        """Stop all polls."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _trust(self, ca: str) -> None:
        if ca == self._ca and self._tls is not None:
            return
        try:
            self._tls = ssl.create_default_context(cadata=ca) if ca else None
            self._ca = ca
        except (ssl.SSLError, ValueError):
            log.exception("the agents' CA bundle cannot be read; the one before stays in force")
        if self._tls is None:
            log.warning("no CA bundle for the agents: their word cannot be heard")

    async def _watch(self, key: EndpointKey) -> None:
        boot_id, revision = "", -1
        pause = _FIRST_PAUSE_SECONDS
        while True:
            began, asked_under = asyncio.get_running_loop().time(), self._tables
            try:
                said = await self._ask(key, boot_id, revision)
            except (aiohttp.ClientError, OSError, ValidationError, _NoAnswer) as error:
                if key in self._answered or key not in self._asked:
                    log.warning(
                        "no contact with an agent; what its pod may be asked stays as it was",
                        extra={"address": key.address, "error": f"{type(error).__name__}: {_first_line(error)}"},
                    )
                self._lost(key)
                # What it said last may have been forgotten by then, and who has nothing new to say answers late.
                boot_id, revision = "", -1
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (spreads retries, guards nothing)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                continue
            self._asked.add(key)
            self._answered.add(key)
            pause = _FIRST_PAUSE_SECONDS
            repeated = (said.boot_id, said.revision) == (boot_id, revision)
            boot_id, revision = said.boot_id, said.revision
            if untold := self._offered_after(key, asked_under).difference(said.resident):
                said = said.model_copy(update={"resident": (*said.resident, *sorted(untold))})
                boot_id, revision = "", -1  # answered at once, whatever is new
            self._hear(key, said)
            if repeated and asyncio.get_running_loop().time() - began < _IDLE_PAUSE_SECONDS:
                # An agent that answers "nothing new" at once is shutting down; it must not make this a busy loop.
                await asyncio.sleep(_IDLE_PAUSE_SECONDS)

    def _offered_after(self, key: EndpointKey, table: int) -> set[str]:
        """What is offered on a pod only since a later table than this one."""
        return {name for name, since in self._offered.get(key, {}).items() if since > table}

    def _lost(self, key: EndpointKey) -> None:
        self._asked.add(key)
        self._answered.discard(key)
        self._lose(key)

    async def _ask(self, key: EndpointKey, boot_id: str, revision: int) -> wire.Routable:
        if self._tls is None:
            raise _NoAnswer("no CA bundle")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(
                    total=wire.LONG_POLL_SECONDS + _GRACE_SECONDS, sock_connect=_CONNECT_SECONDS
                ),
            )
        host = f"[{key.address}]" if ":" in key.address else key.address
        for token in self._tokens:
            async with self._session.get(
                f"https://{host}:{self._port}/v1/routable",
                params={"after": revision, "boot": boot_id, "wait": wire.LONG_POLL_SECONDS},
                # Addresses are used again: an agent of another pod refuses, and so is no contact.
                headers={"Authorization": f"Bearer {token}", wire.POD_HEADER: key.uid},
                ssl=self._tls,
                server_hostname=self._server_name,
                allow_redirects=False,
            ) as answer:
                if answer.status == 401:
                    continue
                if answer.status != 200:
                    raise _NoAnswer(f"status {answer.status}")
                said = wire.Routable.model_validate_json(await answer.read())
                if not wire.OLDEST_PROTOCOL <= said.protocol <= wire.PROTOCOL:
                    raise _NoAnswer(f"protocol {said.protocol}")
                return said
        raise _NoAnswer("no token was accepted")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
