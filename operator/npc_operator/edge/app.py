"""kopf, and nothing else of kopf: its watch streams, embedded, stateless.

Only `on.event` handlers, which never write to a user's object: no finalizers, no annotations, no progress in status.
kopf runs on a thread with an event loop of its own, because it considers every later task of its loop its own to
cancel, and so that a crashed watcher can be started again without losing a leadership. Facts are parsed there and
handed over to the operator's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import aiohttp
import kopf

from npc_operator.edge.kinds import WATCHED, Watched
from npc_operator.edge.parse import Parsed, identify, parse

logger = logging.getLogger(__name__)

RESTART_SECONDS = (1.0, 2.0, 5.0, 10.0)
BEAT_SECONDS = 1.0
STALE_BEAT_SECONDS = 15.0

Login = Callable[[], Awaitable[tuple[str, aiohttp.ClientSession]]]
"""Gives the API server's address and a new session that carries the operator's identity."""


class Backoffs:
    """Pauses between tries of one request, without end: a watcher that gives up would take its kind's news with it."""

    STEPS = (0.2, 0.5, 1.0, 2.0)

    def __iter__(self) -> Iterator[float]:
        for step in self.STEPS:
            yield step * random.uniform(0.8, 1.2)  # noqa: S311
        while True:
            yield random.uniform(2.0, 4.0)  # noqa: S311


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing about objects: what changed is the store's to know, and kopf's own way costs a deep copy per
    event."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: kopf.Body) -> None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: Any) -> None:
        return None


class Watchers:
    """The thread with the watch streams. Callbacks are called on the loop that called `start`."""

    def __init__(
        self,
        *,
        login: Login,
        namespaces: Sequence[str],
        on_object: Callable[[Parsed], None],
        on_gone: Callable[[Parsed], None],
        on_gap: Callable[[], None],
        kinds: Sequence[Watched] = WATCHED,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._login = login
        self._namespaces = tuple(namespaces)
        self._on_object = on_object
        self._on_gone = on_gone
        self._on_gap = on_gap
        self._on_restart = on_restart
        self._kinds = tuple(kinds)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat = 0.0
        self._heard: dict[str, float] = {}
        self._started = 0.0

    def start(self) -> None:
        """Begin to watch; must be called on a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._beat = self._started = time.monotonic()
        self._heard = {watched.kind: self._started for watched in self._kinds}
        self._thread = threading.Thread(target=self._run, name="watchers", daemon=True)
        self._thread.start()

    async def stop(self, *, seconds: float = 1.0) -> None:
        """Ask it to end and wait a little; what is left ends with the process."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, seconds)

    def alive(self) -> bool:
        """Whether the watch streams' event loop turns."""
        thread = self._thread
        return thread is not None and thread.is_alive() and time.monotonic() - self._beat < STALE_BEAT_SECONDS

    def heard(self, kind: str) -> None:
        """A kind was heard of by other means (a list)."""
        self._heard[kind] = time.monotonic()

    def ages(self) -> Mapping[str, float]:
        """Seconds since each kind was last heard of."""
        now = time.monotonic()
        return {kind: now - when for kind, when in self._heard.items()}

    # --- on the thread ---

    def _run(self) -> None:
        crashes = 0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                asyncio.run(self._watch())
            except (Exception, asyncio.CancelledError):
                logger.exception("the watchers crashed, starting them again")
            if self._stop.is_set():
                return
            crashes = 0 if time.monotonic() - began > 60 else crashes + 1
            self._tell(self._on_restart)
            self._stop.wait(RESTART_SECONDS[min(max(crashes, 1), len(RESTART_SECONDS)) - 1])

    async def _watch(self) -> None:
        beating = asyncio.create_task(self._keep_beating())
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=make_settings(self._kinds),
                memo=kopf.Memo(),
                stop_flag=self._stop,
                clusterwide=not self._namespaces,
                namespaces=list(self._namespaces),
                standalone=True,
                # kopf would else ask who the user is, and a pod's uid has no name; without peering it only names logs.
                identity=cast(Any, "npc-operator"),
            )
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating
            # kopf has closed its session; TLS connections need the loop a moment longer to end.
            await asyncio.sleep(0.05)

    async def _keep_beating(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        async def login(**_: Any) -> kopf.AiohttpSession:
            server, session = await self._login()
            return kopf.AiohttpSession(server=server, aiohttp_session=session)

        kopf.on.login(registry=registry, id="login")(login)
        for watched in self._kinds:
            handler = self._handler(watched)
            kopf.on.event(watched.group, watched.version, watched.plural, registry=registry, id="event")(handler)
        return registry

    def _handler(self, watched: Watched) -> Callable[..., Awaitable[None]]:
        seen: set[str] = set()

        async def handle(*, event: Mapping[str, Any], **_: Any) -> None:
            manifest = event["object"]
            uid = manifest["metadata"]["uid"]
            self._heard[watched.kind] = time.monotonic()
            if event["type"] == "DELETED":
                seen.discard(uid)
                self._tell(self._on_gone, identify(watched.kind, manifest))
                return
            if event["type"] is None and uid in seen:
                # kopf lists at its start, and again after every gap, in which deletions go unnoticed.
                seen.clear()
                self._tell(self._on_gap)
            seen.add(uid)
            self._tell(self._on_object, parse(watched.api_version, watched.kind, manifest))

        return handle

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the loop was closed in between: the process is ending
                # In a context of its own: tasks that the callback starts keep theirs as long as they live, and kopf's
                # holds the whole object, its patch and its logger.
                self._loop.call_soon_threadsafe(callback, *arguments, context=contextvars.Context())


def make_settings(kinds: Sequence[Watched]) -> kopf.OperatorSettings:
    """kopf without everything this operator does itself."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 5
    # A first list in one piece would set the memory for good: what was parsed at once is never all given back.
    settings.watching.chunk_size = 100
    # Bookmarks come about once a minute; a stream without a word for longer is dead.
    settings.watching.inactivity_timeout = 75
    for watched in kinds:
        if watched.selector:
            settings.watching.label_selectors[watched.group, watched.version, watched.plural] = watched.selector
    settings.queueing.idle_timeout = 0.05
    settings.queueing.exit_timeout = 0.2
    settings.queueing.worker_limit = None
    settings.queueing.error_delays = (1, 2, 5, 10, 30)
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Backoffs()
    settings.persistence.diffbase_storage = NoDiffBase()
    return settings
