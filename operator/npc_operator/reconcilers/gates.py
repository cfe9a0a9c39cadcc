"""The user's own tests of a voice's candidates: started when a rollout comes to them, listened to, and removed with
their candidate.

A gate is a Job that is created and never changed. One whose spec changed meanwhile, or that lost the engine it asked
before it could say anything, is removed and begun anew: neither says anything about the candidate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from npc_operator.api import names
from npc_operator.api.rollouts import Gate
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import Adapter, Child, GateFact, Pod, Tier, trial_name
from npc_operator.domain.gate import has_verdict, read_gate
from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Done, Outcome, Retry, Wait
from npc_operator.manifests.gate_job import GateInputs, build_gate_job, hash_gate
from npc_operator.ports import Conflict, Manifest, NotFound, ObjectRef, PortError
from npc_operator.reconcilers import events
from npc_operator.reconcilers.children import check_ownership
from npc_operator.reconcilers.context import Context
from npc_runtime.wire import served_name

NO_ENGINE_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate on one tier."""

    tier: str
    digest: str
    gating: bool
    """The rollout waits for it now."""


class GateReconciler:
    """Remembers which verdicts are of which adapter, so that they go with it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: dict[tuple[str, str], set[str]] = {}
        # Of an earlier term: a verdict may only come from a Job that this one has seen.
        for namespace, name, _ in list(context.world.store.items(GateFact)):
            context.world.store.drop(GateFact, namespace, name)

    async def reconcile(self, key: Key) -> Outcome:
        """Bring every Job of one adapter, and what is known of each candidate, in line."""
        world = self._context.world
        if not (world.synced() and world.store.synced(Child)):
            return Wait("the store is being filled", 1.0)
        adapter = world.store.get(Adapter, key.namespace, key.name)
        if adapter is None:
            self._keep_only(key, set())
            return Done()  # its Jobs go with it
        trials = list(find_trials(adapter))
        wanted = {
            trial_name(adapter.spec.archetype, trial.tier, trial.digest): trial
            for trial in trials
            if adapter.spec.rollout.analysis.gate is not None
        }
        self._keep_only(key, set(wanted))
        jobs = {names.gate_job(adapter.spec.archetype, trial.tier, trial.digest) for trial in wanted.values()}
        outcomes = [await self._remove(adapter, job) for job in self._jobs_of(adapter) if job.name not in jobs]
        outcomes += [await self._keep(key, adapter, trial) for trial in wanted.values()]
        return _worst(outcomes)

    def _jobs_of(self, adapter: Adapter) -> list[Child]:
        return [
            child
            for child in self._context.world.store.list(Child, adapter.meta.namespace).values()
            if child.kind == "Job"
            and (child.manifest["metadata"].get("labels") or {}).get(names.LABEL_ADAPTER) == adapter.meta.name
            and any(one.get("uid") == adapter.meta.uid for one in child.manifest["metadata"].get("ownerReferences", ()))
        ]

    async def _remove(self, adapter: Adapter, job: Child) -> Outcome:
        removed = await self._context.children.remove(job, events.object_ref(names.KIND_ADAPTER, adapter.meta))
        return Retry(removed.error) if removed.error else Done()

    async def _keep(self, key: Key, adapter: Adapter, trial: Trial) -> Outcome:
        gate = adapter.spec.rollout.analysis.gate
        if gate is None or self._suspended(adapter, trial.tier):
            return Done()
        name = names.gate_job(adapter.spec.archetype, trial.tier, trial.digest)
        job = self._context.world.child(key.namespace, "Job", name)
        if job is None:
            ended = self._fact(adapter, trial)
            if not trial.gating or (ended is not None and ended.state != "Running"):
                return Done()
            return await self._begin(key, adapter, trial, gate)
        pod = self._pod_of(job)
        if trial.gating and self._void(job, gate, pod, trial):
            self._tell(key, adapter, trial, GateFact("Running", "the gate begins anew"))
            outcome = await self._remove(adapter, job)
            return outcome if outcome != Done() else Wait(f"Job {name} is to go first", NO_ENGINE_LOOK_SECONDS)
        self._tell(key, adapter, trial, read_gate(job.status, pod, timeout_seconds=gate.timeout_seconds))
        return Done()

    def _void(self, job: Child, gate: Gate, pod: Pod | None, trial: Trial) -> bool:
        """Whether a Job cannot say anything about the candidate as its spec wants it looked at now."""
        annotations = job.manifest["metadata"].get("annotations") or {}
        if annotations.get(names.ANNOTATION_GATE) != hash_gate(gate):
            return True
        asked = annotations.get(names.ANNOTATION_GATE_ENGINE, "")
        engines = self._context.world.engines(job.namespace, trial.tier)
        there = any(engine.pod.uid == asked and engine.alive() for engine in engines)
        return not there and not has_verdict(pod)

    async def _begin(self, key: Key, adapter: Adapter, trial: Trial, gate: Gate) -> Outcome:
        context = self._context
        tier = context.world.store.get(Tier, key.namespace, trial.tier)
        engine = self._pick(key.namespace, trial, adapter.spec.archetype)
        if tier is None or engine is None:
            self._tell(key, adapter, trial, GateFact("Running", "no pod has the candidate"))
            return Wait("no pod has the candidate", NO_ENGINE_LOOK_SECONDS)
        manifest = build_gate_job(
            GateInputs(
                meta=adapter.meta,
                gate=gate,
                archetype=adapter.spec.archetype,
                tier=trial.tier,
                digest=trial.digest,
                served_name=served_name(adapter.spec.archetype, trial.digest),
                engine_uid=engine.pod.uid,
                engine_address=engine.pod.ip,
                engine_port=tier.spec.engine.port,
                engine_key_id=engine.pod.engine_key_id,
                pull_secrets=tier.spec.image_pull_secrets,
            )
        )
        return await self._create(key, adapter, trial, manifest)

    async def _create(self, key: Key, adapter: Adapter, trial: Trial, manifest: Manifest) -> Outcome:
        context, owner = self._context, events.object_ref(names.KIND_ADAPTER, adapter.meta)
        name = manifest["metadata"]["name"]
        try:
            live = await context.kube.get(ObjectRef("batch/v1", "Job", key.namespace, name))
            if live is not None:
                hindrance = check_ownership(live, owner)
                if hindrance is not None and hindrance.fault is not None:
                    self._tell(key, adapter, trial, GateFact("Failed", hindrance.fault.message))
                    return Done()
                return Wait(f"Job {name} is there already", NO_ENGINE_LOOK_SECONDS)  # the watch will bring it
            await context.kube.create(manifest, manager=names.MANAGER_CHILDREN)
        except Conflict:
            return Wait(f"Job {name} was made meanwhile", NO_ENGINE_LOOK_SECONDS)
        except NotFound:
            return Done()
        except PortError as error:
            if error.retryable:
                return Retry(f"Job {name}: {error}")
            self._tell(key, adapter, trial, GateFact("Failed", f"the gate's Job was refused: {error}"))
            return Done()
        events.emit(context.recorder, owner, events.created("Job", name))
        self._tell(key, adapter, trial, GateFact("Running"))
        return Done()

    def _pick(self, namespace: str, trial: Trial, archetype: str) -> Engine | None:
        """The engine to ask: the first by name that has proven the candidate."""
        name = served_name(archetype, trial.digest)
        engines = self._context.world.engines(namespace, trial.tier)
        return next((one for one in engines if one.routable() and one.pod.engine_key_id and one.proven(name)), None)

    def _pod_of(self, job: Child) -> Pod | None:
        """The newest of a Job's pods: one may have followed another that lost its node."""
        pods = [pod for pod in self._context.world.store.list(Pod, job.namespace).values() if pod.gate == job.uid]
        return max(pods, key=lambda pod: (pod.created, pod.name), default=None)

    def _suspended(self, adapter: Adapter, tier_name: str) -> bool:
        world, namespace = self._context.world, adapter.meta.namespace
        tier, region = world.store.get(Tier, namespace, tier_name), world.active_region(namespace)
        return any(one is not None and one.spec.suspend for one in (adapter, tier, region))

    def _fact(self, adapter: Adapter, trial: Trial) -> GateFact | None:
        name = trial_name(adapter.spec.archetype, trial.tier, trial.digest)
        return self._context.world.store.get(GateFact, adapter.meta.namespace, name)

    def _tell(self, key: Key, adapter: Adapter, trial: Trial, fact: GateFact) -> None:
        name = trial_name(adapter.spec.archetype, trial.tier, trial.digest)
        self._told.setdefault((key.namespace, key.name), set()).add(name)
        self._context.world.store.put(GateFact, key.namespace, name, fact)

    def _keep_only(self, key: Key, wanted: set[str]) -> None:
        """Forget what is known of candidates that are none any more."""
        place = (key.namespace, key.name)
        told = self._told.get(place, set())
        for name in told - wanted:
            self._context.world.store.drop(GateFact, key.namespace, name)
        if told & wanted:
            self._told[place] = told & wanted
        else:
            self._told.pop(place, None)


def find_trials(adapter: Adapter) -> Iterator[Trial]:
    """The candidates of a voice. One whose spec already names another digest is none any more."""
    wanted = {variant.tier: variant.source.digest for variant in adapter.spec.variants}
    for status in adapter.status.variants:
        candidate = status.candidate
        if candidate is not None and wanted.get(status.tier) == candidate.digest:
            yield Trial(status.tier, candidate.digest, status.rollout is not None and status.rollout.phase == "Gating")


def _worst(outcomes: list[Outcome]) -> Outcome:
    """A failure to try again first, then whoever waits."""
    for kind in (Retry, Wait):
        found = next((outcome for outcome in outcomes if isinstance(outcome, kind)), None)
        if found is not None:
            return found
    return Done()
