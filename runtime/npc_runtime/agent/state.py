"""The keeper's mutable state and the few ways it may change; `Keeper.facts` freezes it for decisions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from ..wire import NO_STAMP, DesiredAdapter, DesiredSet, Stamp
from .cache import Folder
from .facts import ENGINE_STAGES, Base, EngineFacts, Facts, Failure, Identity, Progress, Proof, Stage
from .fetch.download import Downloaded
from .plan import in_order


@dataclass(frozen=True, slots=True)
class KeeperLimits:
    """What bounds an agent: bytes, ranks, adapters that the engine keeps in memory, seconds."""

    cache_size: int
    max_rank: int
    slots: int
    drain_seconds: float


@dataclass(slots=True)
class State:
    """What is known. Keys are served names where nothing else is said."""

    stamp: Stamp = NO_STAMP
    desired: tuple[DesiredAdapter, ...] | None = None
    by_name: dict[str, DesiredAdapter] = field(default_factory=dict)  # the desired ones
    ranks: dict[str, int] = field(default_factory=dict)  # who comes first, of the desired ones
    credentials_lost: frozenset[str] = frozenset()
    engine: EngineFacts = field(default_factory=EngineFacts)
    base: Base = Base.PENDING
    folders: dict[str, Folder] = field(default_factory=dict)  # by digest
    staged: dict[str, Downloaded] = field(default_factory=dict)  # by digest
    reserved: dict[str, int] = field(default_factory=dict)  # bytes by digest, until it is a folder
    proofs: dict[str, Proof] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)  # each as good as its proof
    failures: dict[str, Failure] = field(default_factory=dict)
    busy: dict[str, Stage] = field(default_factory=dict)
    busy_digests: dict[str, str] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)  # written by fetching threads: never replaced
    shown_progress: dict[str, Progress] = field(default_factory=dict)
    draining_since: dict[str, float] = field(default_factory=dict)
    unload_failures: dict[str, Failure] = field(default_factory=dict)
    busy_names: frozenset[str] | None = None
    listing_mark: int = 0

    def facts(self, *, now: float, owned: str, limits: KeeperLimits) -> Facts:
        """What is known, without copies: true until the next change."""
        return Facts(
            now=now,
            stamp=self.stamp,
            desired=self.desired,
            credentials_lost=self.credentials_lost,
            engine=self.engine,
            base=self.base,
            owned=owned,
            disk=self.folders,
            staged=frozenset(self.staged),
            proofs=self.proofs,
            identities=self.identities,
            failures=self.failures,
            busy=self.busy,
            busy_digests=frozenset(self.busy_digests.values()),
            progress=self.progress,
            draining_since=self.draining_since,
            unload_failures=self.unload_failures,
            busy_names=self.busy_names,
            drain_seconds=limits.drain_seconds,
            max_rank=limits.max_rank,
            slots=limits.slots,
        )

    def ordered(self, order: DesiredSet, credentials_lost: frozenset[str]) -> None:
        """A new desired set replaces the old one."""
        self.stamp = order.stamp
        self.desired = order.adapters
        self.credentials_lost = credentials_lost
        self.by_name = {adapter.served_name: adapter for adapter in order.adapters}
        self.ranks = {adapter.served_name: rank for rank, adapter in enumerate(in_order(order.adapters))}
        names = self.by_name.keys()
        digests = {adapter.digest for adapter in order.adapters}
        for name in [name for name in list(self.progress) if name not in names]:
            del self.progress[name]
        self.failures = {name: failure for name, failure in self.failures.items() if name in names}
        self.draining_since = {name: since for name, since in self.draining_since.items() if name not in names}
        self._begin_checks_anew()
        for digest in [
            digest for digest in self.staged if digest not in digests and digest not in self.busy_digests.values()
        ]:
            del self.staged[digest]
            self.reserved.pop(digest, None)

    def _begin_checks_anew(self) -> None:
        """Where an order asks for a lower number than what was checked, or for none, another rollout will ask from the
        start; its first step must not rest on a check for the last one.
        """
        for name, known in self.identities.items():
            adapter = self.by_name.get(name)
            if known.checked > (adapter.identity_check if adapter is not None else 0):
                self.identities[name] = replace(known, checked=0, attempts=0, retry_at=0.0, trouble="")

    def engine_seen(self, engine: EngineFacts) -> None:
        """What the engine says now. A proof outlives a hiccup of its process, never the loss of its adapter."""
        self.engine = engine
        if engine.ready:
            self.proofs = {
                name: proof
                for name, proof in self.proofs.items()
                if proof.instance == engine.instance and name in engine.listed
            }
            self.identities = {name: known for name, known in self.identities.items() if name in self.proofs}
            self.draining_since = {name: since for name, since in self.draining_since.items() if name in engine.listed}
            self.unload_failures = {
                name: failure for name, failure in self.unload_failures.items() if name in engine.listed
            }

    def begin_draining(self, names: Collection[str], *, now: float) -> None:
        """These leave the routes now."""
        for name in names:
            self.draining_since[name] = now
        if names:
            self.busy_names = None  # what was seen before they left the routes says nothing

    def started(self, stage: Stage, name: str, adapter: DesiredAdapter | None) -> None:
        """A step begins. What is being unloaded may be gone at any moment, so from now on it is not proven, whoever
        wants it meanwhile and whatever comes of the unload.
        """
        self.busy[name] = stage
        if stage is Stage.UNLOAD:
            self.proofs.pop(name, None)
        if adapter is not None and stage in {Stage.FETCH, Stage.INSPECT}:
            self.busy_digests[name] = adapter.digest
        if stage in ENGINE_STAGES:
            self.listing_mark += 1

    def ended(self, stage: Stage, name: str) -> None:
        """A step is over, whatever came of it."""
        self.busy.pop(name, None)
        self.busy_digests.pop(name, None)
        if stage in ENGINE_STAGES:
            self.listing_mark += 1

    def succeeded(self, stage: Stage, name: str) -> None:
        """Forgets the failure this makes up for. An unload makes up for nothing: what is refused stays refused."""
        failure = self.failures.get(name)
        if failure is not None and stage is not Stage.UNLOAD and (failure.stage is stage or stage is Stage.PROBE):
            del self.failures[name]

    def loaded(self, name: str, path: str, instance: str) -> None:
        """The engine has it now; nothing is proven by that. The list is asked again anyway, once a second."""
        if self.engine.ready and self.engine.instance == instance:
            self.proofs.pop(name, None)
            self.engine = replace(self.engine, listed={**self.engine.listed, name: path})

    def unloaded(self, name: str) -> None:
        """The engine has it no more."""
        listed = {other: path for other, path in self.engine.listed.items() if other != name}
        self.engine = replace(self.engine, listed=listed)
        self.proofs.pop(name, None)
        self.identities.pop(name, None)
        self.draining_since.pop(name, None)
        self.unload_failures.pop(name, None)

    def proven(self, name: str, proof: Proof) -> None:
        """It answered, if the process that answered is still the one that runs."""
        if self.engine.ready and self.engine.instance == proof.instance and name in self.engine.listed:
            self.proofs[name] = proof
            self.identities[name] = Identity(proof)

    def looked(self, name: str, identity: Identity) -> None:
        """What a look at an identity found, if the proof it belongs to still stands."""
        if self.proofs.get(name) == identity.proof:
            self.identities[name] = identity
