"""Writes down what failed, how often, and when it is tried again: what `plan` and `view` go by."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from ..wire import DesiredAdapter
from .errors import AdapterError, Reason, refused
from .facts import Facts, Stage, failure_of, identity
from .metrics import Metrics
from .plan import ENGINE_TRIES, backoff, current_failure, unload_failure
from .state import State

log = logging.getLogger(__name__)


class Failures:
    """The failures of one agent's steps. `instance` is always the engine process that a step began with."""

    def __init__(self, *, state: State, metrics: Metrics, facts: Callable[[], Facts]) -> None:
        self._state = state
        self._metrics = metrics
        self._facts = facts

    def failed(
        self, stage: Stage, name: str, adapter: DesiredAdapter | None, error: AdapterError, instance: str
    ) -> None:
        """A step failed for an entry (None: for a name that nobody wants)."""
        if stage is Stage.UNLOAD or adapter is None:
            self._unload_failed(name, error, instance)
            return
        if self._state.by_name.get(name) != adapter:
            return  # nobody wants this any more, or wants something else under the name
        known = current_failure(self._facts(), adapter)
        attempts = known.attempts + 1 if known is not None and known.stage is stage else 1
        if error.reason is Reason.LOAD_FAILED and attempts >= ENGINE_TRIES:
            error = refused(Reason.ENGINE_REFUSED, error.message)
        self._state.failures[name] = failure_of(
            error,
            stage=stage,
            attempts=attempts,
            retry_at=time.monotonic() + backoff(attempts, random.random()),  # noqa: S311 - jitter
            wanted=identity(adapter),
            instance=instance,
        )
        self._metrics.failure(adapter.archetype, error.reason)
        log.warning(
            "adapter is refused" if error.permanent else "adapter failed for now",
            extra={
                "served_name": name,
                "stage": stage,
                "reason": error.reason,
                "detail": error.message,
                "attempts": attempts,
            },
        )

    def identity_lost(self, adapter: DesiredAdapter, error: AdapterError, instance: str) -> None:
        """What serves under the entry's name is not what was loaded."""
        self.failed(Stage.IDENTITY, adapter.served_name, adapter, error, instance)

    def _unload_failed(self, name: str, error: AdapterError, instance: str) -> None:
        known = unload_failure(self._facts(), name)
        attempts = known.attempts + 1 if known is not None else 1
        self._state.unload_failures[name] = failure_of(
            error,
            stage=Stage.UNLOAD,
            attempts=attempts,
            retry_at=time.monotonic() + backoff(attempts, random.random()),  # noqa: S311 - jitter
            wanted="",
            instance=instance,
        )
        log.warning(
            "unload failed",
            extra={"served_name": name, "reason": error.reason, "detail": error.message, "attempts": attempts},
        )
