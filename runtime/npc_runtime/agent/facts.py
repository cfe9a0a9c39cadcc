"""What the agent knows at one moment, frozen, for the pure decisions in `plan` and `view`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ..wire import DesiredAdapter, EngineState, Stamp
from .cache import Folder
from .errors import AdapterError, Reason
from .identity.logprobs import FirstToken


class Stage(StrEnum):
    """What is being done for one adapter right now."""

    FETCH = "Fetch"
    INSPECT = "Inspect"
    LOAD = "Load"
    PROBE = "Probe"
    UNLOAD = "Unload"
    IDENTITY = "Identity"  # beside the others, never instead of one


ENGINE_STAGES = frozenset({Stage.LOAD, Stage.PROBE, Stage.UNLOAD, Stage.IDENTITY})
"""Stages whose outcome belongs to one engine process only."""


class Base(StrEnum):
    """Whether adapters can be compared with the base model."""

    PENDING = "Pending"  # it is on its way: inspection waits
    KNOWN = "Known"
    UNSEEN = "Unseen"  # it cannot be seen from here: inspected without, and said


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """The engine as last seen; `listed` maps names to paths and is empty while it is not ready."""

    state: EngineState = EngineState.STARTING
    instance: str = ""
    since_ms: int = 0
    listed: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    done_bytes: int = 0
    total_bytes: int = 0

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return self.state is EngineState.READY


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last try failed. `wanted` is the entry it failed for: another one deserves a fresh start."""

    stage: Stage
    reason: Reason
    message: str
    permanent: bool
    attempts: int
    retry_at: float
    wanted: str
    instance: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """An answer to a probe, by one engine process."""

    instance: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class AtLoad:
    """An adapter's first token right after its proof, and the base model's; None where the engine tells none. `note`
    says what they do not prove; empty if they tell the adapter from the base model.
    """

    prompt: str
    first: FirstToken | None
    base: FirstToken | None
    note: str


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of the identity that one proof began. `checked` is the number of the last order to prove it again
    that held; `attempts` and `trouble` speak of looks since then that came to nothing.
    """

    proof: Proof
    at_load: AtLoad | None = None
    checked: int = 0
    attempts: int = 0
    retry_at: float = 0.0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of an adapter that are here, of all (0 = unknown)."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a decision may look at. Times are monotonic seconds but where `_ms` says Unix milliseconds."""

    now: float
    stamp: Stamp
    desired: tuple[DesiredAdapter, ...] | None
    """None until an order was seen, ever: then nothing is known to be unwanted and nothing is unloaded."""
    credentials_lost: frozenset[str]
    """Names that were ordered with credentials which a restart of the agent has forgotten."""
    engine: EngineFacts
    base: Base
    owned: str
    """Beginning of every path of ours in the engine's list."""
    disk: Mapping[str, Folder]
    """Verified folders by digest."""
    staged: frozenset[str]
    """Digests fetched and hashed, waiting for inspection."""
    proofs: Mapping[str, Proof]
    identities: Mapping[str, Identity]
    failures: Mapping[str, Failure]
    busy: Mapping[str, Stage]
    busy_digests: frozenset[str]
    progress: Mapping[str, Progress]
    draining_since: Mapping[str, float]
    unload_failures: Mapping[str, Failure]
    """Why the last unload of a name failed; of a name, not of an entry: what is to leave is wanted by nobody."""
    busy_names: frozenset[str] | None
    """Names with running or waiting lines as the engine last told while something drains; None when it cannot be known.
    """
    drain_seconds: float
    max_rank: int
    slots: int
    """Adapters that the engine keeps in memory (--max-cpu-loras)."""

    def frozen(self) -> Facts:
        """The same, with mappings of its own."""
        return replace(
            self,
            disk=dict(self.disk),
            proofs=dict(self.proofs),
            identities=dict(self.identities),
            failures=dict(self.failures),
            busy=dict(self.busy),
            progress=dict(self.progress),
            draining_since=dict(self.draining_since),
            unload_failures=dict(self.unload_failures),
        )

    def proven(self, name: str) -> bool:
        """Whether the present engine process has answered a probe under this name and still lists it."""
        proof = self.proofs.get(name)
        return (
            proof is not None
            and self.engine.ready
            and proof.instance == self.engine.instance
            and name in self.engine.listed
        )

    def identity_of(self, name: str) -> Identity | None:
        """What is known of the identity of what is proven; None where nothing is."""
        known = self.identities.get(name)
        return known if known is not None and self.proven(name) and known.proof == self.proofs[name] else None


def identity(adapter: DesiredAdapter) -> str:
    """What a failure depends on: digest, uri, credentials, probe and rank. For comparison in memory only; secrets enter
    as a hash of this process.
    """
    secrets = hash(tuple(sorted((key, value.get_secret_value()) for key, value in adapter.credentials.items())))
    return f"{adapter.digest} {adapter.uri} {adapter.rank} {adapter.probe.model_dump_json()} {secrets}"


def failure_of(
    error: AdapterError, *, stage: Stage, attempts: int, retry_at: float, wanted: str, instance: str
) -> Failure:
    """A failure as it is remembered; only engine stages are tied to an engine process."""
    return Failure(
        stage=stage,
        reason=error.reason,
        message=error.message,
        permanent=error.permanent,
        attempts=attempts,
        retry_at=retry_at,
        wanted=wanted,
        instance=instance if stage in ENGINE_STAGES else "",
    )
