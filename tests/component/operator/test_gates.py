"""The user's own tests of candidates: begun once, listened to, begun anew where they could say nothing, and removed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain.facts import Adapter, Child, GateFact, Pod, trial_name
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.outcomes import Done, Outcome, Retry, Wait
from npc_operator.edge.parse import parse
from npc_operator.loop.store import Change
from npc_operator.ports import PortError
from npc_operator.reconcilers import triggers
from npc_runtime.wire import served_name
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, adapter, adapter_fact, digest, region, tier

CANDIDATE = digest("vampire-1")
KEY = Key(KeyKind.GATE, NAMESPACE, "vampire")
GATE = {"image": "registry/gate:1", "timeoutSeconds": 90}
GOOD = json.dumps({"pass": True, "message": "in voice"})


class Scene:
    """A region whose pods have a digest that one voice is about to try."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.uid = world.live(names.KIND_ADAPTER, "vampire")["metadata"]["uid"]
        self.version = 1_000_000

    def rollout(self, phase: str | None = "Gating", *, gate: Mapping[str, Any] | None = GATE, **spec: Any) -> None:
        """What the spec says and where the rollout is; no phase: the candidate is none any more."""
        self.version += 1
        status: dict[str, Any] = {"tier": "gold", "stable": {"digest": digest("before"), "uri": "s3://a/0"}}
        if phase is not None:
            status |= {"candidate": {"digest": CANDIDATE, "uri": "s3://a/1"}, "rollout": {"phase": phase}}
        analysis = {} if gate is None else {"gate": gate}
        fact = adapter_fact(
            "vampire",
            digests={"gold": CANDIDATE},
            spec={"rollout": {"analysis": analysis}, **spec},
            status={"variants": [status]},
            uid=self.uid,
            resourceVersion=str(self.version),
        )
        self.world.store.put(Adapter, NAMESPACE, "vampire", fact, version=self.version)

    async def look(self) -> Outcome:
        return await self.world.reconcilers.reconcile(KEY)

    def job(self) -> dict[str, Any]:
        (found,) = self.world.peek("Job")
        return found

    def said(self) -> GateFact | None:
        return self.world.store.get(GateFact, NAMESPACE, trial_name("vampire", "gold", CANDIDATE))

    def end(self, message: str = GOOD, exit_code: int = 0, *, name: str = "gate-pod") -> None:
        """The gate's container ended, and its Job's controller noticed."""
        job = self.job()
        meta, template = job["metadata"], job["spec"]["template"]
        owner = {"kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        ended = {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error", "message": message}
        self.world.api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [owner],
                },
                "spec": template["spec"],
                "status": {
                    "phase": "Failed" if exit_code else "Succeeded",
                    "containerStatuses": [{"name": "gate", "state": {"terminated": ended}}],
                },
            }
        )


@pytest.fixture
async def scene() -> Scene:
    world = World()
    world.put(region(), tier(), adapter())
    await world.settle()
    world.api.forget_calls()
    return Scene(world)


async def test_a_rollout_that_comes_to_its_gate_gets_one_job_that_asks_a_pod_with_the_candidate(scene: Scene) -> None:
    scene.rollout()
    assert await scene.look() == Done()
    env = {one["name"]: one.get("value") for one in scene.job()["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["NPC_GATE_MODEL"] == served_name("vampire", CANDIDATE)
    assert env["NPC_GATE_URL"] in {
        f"http://{pod['status']['podIP']}:8000" for pod in scene.world.peek("Pod") if "gold" in pod["metadata"]["name"]
    }
    assert scene.said() == GateFact("Running")
    for _ in range(3):
        await scene.look()
    assert [call.verb for call in scene.world.api.calls if call.kind == "Job"] == ["create"]


async def test_its_verdict_is_told_and_outlives_the_job(scene: Scene) -> None:
    scene.rollout()
    await scene.look()
    scene.end()
    await scene.look()
    assert scene.said() == GateFact("Passed", "in voice")
    scene.world.api.remove("Job", NAMESPACE, scene.job()["metadata"]["name"])
    await scene.look()
    assert scene.said() == GateFact("Passed", "in voice")
    assert scene.world.peek("Job") == []


async def test_a_gate_that_fails_says_why(scene: Scene) -> None:
    scene.rollout()
    await scene.look()
    scene.end("", exit_code=3)
    await scene.look()
    assert scene.said() == GateFact(
        "Failed", "the gate ended with exit code 3 (Error): it wrote no verdict to /dev/termination-log"
    )


@pytest.mark.parametrize("phase", ["Loading", "Waiting", "Watching", None])
async def test_without_a_rollout_at_its_gate_no_job_is_begun(scene: Scene, phase: str | None) -> None:
    scene.rollout(phase)
    assert await scene.look() == Done()
    scene.rollout(gate=None)
    assert await scene.look() == Done()
    scene.rollout(suspend=True)
    assert await scene.look() == Done()
    assert scene.world.peek("Job") == []


async def test_the_job_stays_while_the_candidate_does_and_goes_with_it(scene: Scene) -> None:
    scene.rollout()
    await scene.look()
    scene.end()
    await scene.look()
    scene.rollout("Watching")
    await scene.look()
    assert scene.job()
    scene.rollout(None)
    assert await scene.look() == Done()
    assert scene.world.peek("Job") == []
    assert scene.said() is None


async def test_a_deleted_adapter_takes_what_was_said_along(scene: Scene) -> None:
    scene.rollout()
    await scene.look()
    scene.world.store.drop(Adapter, NAMESPACE, "vampire")
    await scene.look()
    assert scene.world.store.count(GateFact) == 0


async def test_another_leader_takes_a_verdict_only_from_a_job_it_sees(scene: Scene) -> None:
    scene.rollout()
    await scene.look()
    scene.end()
    await scene.look()
    scene.world.lead()
    assert scene.said() is None
    await scene.look()
    assert scene.said() == GateFact("Passed", "in voice")


async def test_a_changed_gate_is_begun_anew_and_the_old_ones_verdict_counts_for_nothing(scene: Scene) -> None:
    scene.rollout()
    await scene.look()
    scene.end()
    first = scene.job()["metadata"]["uid"]
    scene.rollout(gate={**GATE, "image": "registry/gate:2"})
    assert isinstance(await scene.look(), Wait)
    assert scene.said() == GateFact("Running", "the gate begins anew")
    assert await scene.look() == Done()
    assert scene.job()["metadata"]["uid"] != first
    await scene.look()
    assert scene.said() == GateFact("Running"), "the first Job's pod is still there"


async def test_a_gate_that_lost_its_engine_before_it_could_speak_is_begun_anew(scene: Scene) -> None:
    scene.rollout()
    await scene.look()
    asked = scene.job()["metadata"]["annotations"][names.ANNOTATION_GATE_ENGINE]
    (engine,) = [pod for pod in scene.world.peek("Pod") if pod["metadata"]["uid"] == asked]
    scene.world.api.remove("Pod", NAMESPACE, engine["metadata"]["name"])
    scene.end("connection refused", exit_code=1)
    assert isinstance(await scene.look(), Wait)
    await scene.look()
    assert scene.job()["metadata"]["annotations"][names.ANNOTATION_GATE_ENGINE] != asked
    scene.end(GOOD, name="second")
    scene.world.api.remove("Pod", NAMESPACE, next(iter(scene.world.pods("gold"))))
    await scene.look()
    said = scene.said()
    assert said is not None
    assert said.state == "Passed", "what was said was said"


async def test_without_a_pod_that_has_the_candidate_it_waits(scene: Scene) -> None:
    for name in scene.world.pods("gold"):
        scene.world.api.remove("Pod", NAMESPACE, name)
    scene.rollout()
    assert isinstance(await scene.look(), Wait)
    assert scene.said() == GateFact("Running", "no pod has the candidate")


async def test_a_job_that_is_refused_has_not_passed_and_one_that_cannot_be_made_now_is_tried_again(
    scene: Scene,
) -> None:
    scene.rollout()
    mend = scene.world.api.fail(PortError("not now"), where=lambda call: call.kind == "Job")
    assert isinstance(await scene.look(), Retry)
    mend()
    refused = PortError("spec: Invalid value", reason="Invalid", retryable=False)
    scene.world.api.fail(refused, where=lambda call: call.kind == "Job")
    assert await scene.look() == Done()
    said = scene.said()
    assert said is not None
    assert said.state == "Failed"
    assert "Invalid value" in said.message


async def test_a_job_of_somebody_else_is_never_touched(scene: Scene) -> None:
    name = names.gate_job("vampire", "gold", CANDIDATE)
    scene.world.api.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": NAMESPACE}})
    scene.world.store.drop(Child, NAMESPACE, f"Job/{name}")
    scene.rollout()
    await scene.look()
    said = scene.said()
    assert said is not None
    assert (said.state, "is not ours" in said.message) == ("Failed", True)


async def test_jobs_and_their_pods_wake_the_gate_and_what_it_says_its_voice(scene: Scene) -> None:
    store, found = scene.world.store, list[Key]()
    scene.rollout()
    store.subscribe(lambda change: found.extend(triggers(store, change)))
    await scene.look()
    assert KEY in found
    assert Key(KeyKind.ADAPTER, NAMESPACE, "vampire") in found
    found.clear()
    scene.end()
    assert set(found) == {KEY}
    child = store.get(Child, NAMESPACE, f"Job/{scene.job()['metadata']['name']}")
    assert list(triggers(store, Change(Child, NAMESPACE, "x", None, child))) == [KEY]


def test_only_a_gates_termination_message_is_kept() -> None:
    ended = {"state": {"terminated": {"exitCode": 1, "message": "secret"}}}
    for name, kept in (("gate", "secret"), ("engine", "")):
        manifest = {
            "metadata": {"name": "p", "namespace": NAMESPACE, "uid": "u"},
            "status": {"containerStatuses": [{"name": name, **ended}]},
        }
        fact = parse("v1", "Pod", manifest).fact
        assert isinstance(fact, Pod)
        assert fact.containers[0].termination_message == kept


@pytest.mark.parametrize("passes", [True, False])
async def test_a_rollout_waits_at_its_gate_and_goes_by_what_it_says(passes: bool) -> None:
    world = World()
    world.put(region(), tier(), adapter(spec={"rollout": {"analysis": {"gate": GATE}}}))
    await world.settle()
    scene = Scene(world)
    world.set_digest("vampire", digest("vampire-2"))
    await world.settle(seconds=5)
    assert world.variant("vampire")["rollout"]["phase"] == "Gating"
    assert len(world.peek("Job")) == 1
    assert set(next(iter(world.doors().values())).routes("gold").values()) == {served_name("vampire", CANDIDATE)}
    scene.end(GOOD if passes else '{"pass": false, "message": "speaks of tulips"}')
    await world.settle(seconds=2)
    variant = world.variant("vampire")
    if passes:
        assert variant["rollout"]["phase"] != "Gating"
        assert len(world.peek("Job")) == 1
    else:
        assert (variant["rejected"]["reason"], variant["rejected"]["message"]) == ("GateFailed", "speaks of tulips")
        assert world.peek("Job") == []
        assert world.store.count(GateFact) == 0
