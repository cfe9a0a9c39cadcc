"""Looks at identities beside the keeper's steps, and writes down what came of them.

A look holds nothing up: it belongs to no step, is dropped the moment its adapter leaves the order or its engine goes,
and concludes nothing from an engine that does not answer. Only what was seen to differ, twice where it is a number, is
a loss.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from ...wire import DesiredAdapter
from ..acts import Acts
from ..cache import Bytes
from ..errors import AdapterError, Reason, refused, retryable
from ..facts import AtLoad, Facts, Identity
from ..plan import backoff
from ..state import State
from .due import Look, due_looks
from .judge import UNTOLD, mismatch_of, note_of
from .logprobs import FirstToken

WARM_SECONDS = 120.0
"""How long a new engine process may take for its first log-probabilities; a minute was seen on a crowded CPU."""
GONE = "its folder is gone from this pod's disk and is fetched again"

log = logging.getLogger(__name__)


class Looks:
    """The looks of one agent. `lost` is told of an adapter that is not what it should be; `forget_folder` drops a
    digest's folder.
    """

    def __init__(
        self,
        *,
        state: State,
        acts: Acts,
        lost: Callable[[DesiredAdapter, AdapterError, str], None],
        forget_folder: Callable[[str], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self._state = state
        self._acts = acts
        self._lost = lost
        self._forget_folder = forget_folder
        self._changed = changed
        self._running: dict[str, Look] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._warming = asyncio.Lock()
        self._warm = ""  # the engine process that was asked already
        self._bases: dict[tuple[str, str], FirstToken | None] = {}  # by engine process and prompt

    def go_on(self, facts: Facts) -> float | None:
        """Drops looks that have lost their point and begins those that are due; returns when the next one is."""
        wanted = {adapter.served_name for adapter in facts.desired or ()}
        for name, task in self._tasks.items():
            if name not in wanted or facts.identity_of(name) is None:
                task.cancel()
        self._bases = {key: first for key, first in self._bases.items() if key[0] == facts.engine.instance}
        due = due_looks(facts, self._running)
        for look, adapter, identity in due.looks:
            self._begin(look, adapter, identity)
        return due.wake_at

    async def warm(self, adapter: DesiredAdapter, instance: str) -> None:
        """Asks the base model of a new engine process for its first token, before any adapter is proven there.

        vLLM compiles what counts log-probabilities when it is first asked for some, and answers nobody for as long: no
        line may be under way then. An engine that fails at it is not waited for.
        """
        async with self._warming:
            if self._warm == instance:
                return
            try:
                await self._base_at_load(adapter, instance, WARM_SECONDS)
            except AdapterError as error:
                log.warning("first token of the base model is not known yet", extra={"detail": str(error)})
            self._warm = instance

    async def close(self) -> None:
        """Drops all looks and waits for their end."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _begin(self, look: Look, adapter: DesiredAdapter, identity: Identity) -> None:
        name = adapter.served_name
        work = self._keep(adapter, identity) if look is Look.KEEP else self._check(adapter, identity)
        self._running[name] = look
        if look is Look.CHECK:  # nothing is fetched into the folder, or taken away, before what was found is known
            self._state.busy_digests[_key(name)] = adapter.digest
        self._tasks[name] = task = asyncio.create_task(work, name=f"{look} {name}")
        task.add_done_callback(partial(self._over, adapter, identity))

    def _over(self, adapter: DesiredAdapter, identity: Identity, task: asyncio.Task[None]) -> None:
        name = adapter.served_name
        del self._running[name], self._tasks[name]
        self._changed()
        self._note(adapter, identity, task)
        self._state.busy_digests.pop(_key(name), None)

    def _note(self, adapter: DesiredAdapter, identity: Identity, task: asyncio.Task[None]) -> None:
        name = adapter.served_name
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, AdapterError):
            log.error("look failed unexpectedly", exc_info=error, extra={"served_name": name})
            error = retryable(Reason.INTERNAL, "unexpected fault of the agent, see its log")
        if error.reason is Reason.IDENTITY_LOST:
            self._lost(adapter, error, identity.proof.instance)
        else:
            self._put_off(name, identity, error)

    def _put_off(self, name: str, identity: Identity, error: AdapterError) -> None:
        attempts = identity.attempts + 1
        self._state.looked(
            name,
            replace(
                identity,
                attempts=attempts,
                retry_at=time.monotonic() + backoff(attempts, random.random()),  # noqa: S311 - jitter
                trouble=f"identity is not proven yet, {error.reason}: {error.message}",
            ),
        )
        log.warning("identity is not proven yet", extra={"served_name": name, "detail": str(error)})

    async def _keep(self, adapter: DesiredAdapter, identity: Identity) -> None:
        """Keeps the first token as it is right after the proof."""
        prompt, seconds = adapter.probe.prompt, adapter.probe.timeout_seconds
        first = await self._acts.first_token(adapter.served_name, prompt, seconds)
        base = await self._base_at_load(adapter, identity.proof.instance, seconds) if first is not None else None
        note = UNTOLD if first is None or base is None else note_of(first, base)
        at_load = AtLoad(prompt=prompt, first=first, base=base, note=note)
        self._state.looked(adapter.served_name, Identity(identity.proof, at_load))

    async def _base_at_load(self, adapter: DesiredAdapter, instance: str, seconds: float) -> FirstToken | None:
        """The base model's first token, asked once for each prompt of an engine process."""
        key = (instance, adapter.probe.prompt)
        if key not in self._bases:
            served = await self._acts.served(adapter.served_name)
            self._bases[key] = await self._acts.first_token(served.base, adapter.probe.prompt, seconds)
        return self._bases[key]

    async def _check(self, adapter: DesiredAdapter, identity: Identity) -> None:
        """All three proofs; raises AdapterError(IdentityLost) for the first that fails, another where none can be
        had now.
        """
        began = time.monotonic()
        if not await self._folder_is_there(adapter, identity):
            return
        served = await self._acts.served(adapter.served_name)
        if served.root != (path := self._acts.location(adapter.digest)):
            raise refused(
                Reason.IDENTITY_LOST, f"the engine serves this name from {served.root or 'nowhere'}, not from {path}"
            )
        at_load = identity.at_load
        # Batches differ from moment to moment, so one odd answer is asked for again before it is believed.
        if at_load and await self._mismatch(adapter, at_load) and (wrong := await self._mismatch(adapter, at_load)):
            raise refused(Reason.IDENTITY_LOST, wrong)
        held = Identity(identity.proof, at_load, checked=adapter.identity_check)
        self._state.looked(adapter.served_name, held)
        log.info(
            "identity is proven again",
            extra={
                "served_name": adapter.served_name,
                "number": adapter.identity_check,
                "seconds": round(time.monotonic() - began, 3),
            },
        )

    async def _folder_is_there(self, adapter: DesiredAdapter, identity: Identity) -> bool:
        """Whether the folder holds the digest's bytes; where it is gone it is forgotten, and so fetched again."""
        match await self._acts.bytes_of(adapter.digest):
            case Bytes.AS_WANTED:
                return True
            case Bytes.GONE:
                await self._forget_folder(adapter.digest)
                self._state.looked(adapter.served_name, replace(identity, trouble=GONE))
                log.warning("folder of a resident adapter is gone", extra={"digest": adapter.digest})
                return False
            case Bytes.OTHERS:
                # It must never be loaded again, by an engine that starts anew or for another archetype.
                await self._forget_folder(adapter.digest)
                raise refused(Reason.IDENTITY_LOST, "the bytes in its folder are not those of the digest any more")

    async def _mismatch(self, adapter: DesiredAdapter, at_load: AtLoad) -> str:
        """What is wrong with its first token now; empty if nothing is, or nothing can be told on this engine."""
        if at_load.first is None or at_load.base is None:
            return ""
        now = await self._acts.first_token(adapter.served_name, at_load.prompt, adapter.probe.timeout_seconds)
        if now is None:
            raise retryable(Reason.PROBE_FAILED, "the engine tells no log-probabilities any more")
        return mismatch_of(at_load=at_load.first, now=now, base=at_load.base, distinct=not at_load.note)


def _key(name: str) -> str:
    return f"identity of {name}"
