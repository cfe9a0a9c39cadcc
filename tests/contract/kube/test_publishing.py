"""What the publisher takes for written is what the API server tells everybody else of it: otherwise each status would
look changed to whoever wrote it, and be written again."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.api.archetypeadapter import ArchetypeAdapterStatus
from npc_operator.domain.facts import Adapter
from npc_operator.edge.parse import learn, parse
from npc_operator.loop.store import Store
from npc_operator.ports import Conflict, ObjectRef
from npc_operator.reconcilers.publisher import Publisher
from tests.component.operator.harness import FakeRecorder
from tests.contract.kube.conftest import World
from tests.support.fake_clock import FakeClock

DIGEST, OTHER = ("sha256:" + letter * 64 for letter in "ab")
TIME = "2026-11-21T10:00:00Z"


def voice(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND_ADAPTER,
        "metadata": {"name": "vampire", "namespace": namespace, "annotations": {"team": "castle"}},
        "spec": {
            "archetype": "vampire",
            "variants": [{"tier": "gold", "source": {"uri": "s3://bucket/vampire", "digest": DIGEST}}],
        },
    }


def status(percent: int) -> ArchetypeAdapterStatus:
    """One with everything that a rollout leaves in it."""
    entry = {"time": TIME, "digest": DIGEST, "uri": "s3://bucket/vampire", "reason": "Stepped", "toPercent": percent}
    variant = {
        "tier": "gold",
        "serving": "Stable",
        "stable": {"digest": OTHER, "uri": "s3://bucket/old"},
        "candidate": {"digest": DIGEST, "uri": "s3://bucket/vampire", "secretRef": {"name": "keys"}},
        "candidateSince": TIME,
        "rollout": {"phase": "Watching", "step": 1, "percent": percent, "below": 100 * percent, "since": TIME},
        "rejected": {"digest": OTHER, "time": TIME, "reason": "CandidateErrors"},
        "percent": percent,
        "history": [entry],
    }
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "1 of 1 variants serve",
        "lastTransitionTime": TIME,
        "observedGeneration": 1,
    }
    return ArchetypeAdapterStatus.model_validate(
        {"observedGeneration": 1, "digest": "a" * 12, "variants": [variant], "conditions": [ready]}
    )


class Scene:
    """A voice on the server, and a publisher with a store that knows it."""

    def __init__(self, world: World) -> None:
        self.kube, self.namespace = world.kube, world.namespace
        self.store = Store(FakeClock())
        self.publisher = Publisher(world.kube, FakeRecorder(), FakeClock(), self.store)

    async def hear(self) -> None:
        """What the watch would bring."""
        ref = ObjectRef(names.API_VERSION, names.KIND_ADAPTER, self.namespace, "vampire")
        live = await self.kube.get(ref)
        assert live is not None
        learn(self.store, parse(names.API_VERSION, names.KIND_ADAPTER, live))

    @property
    def known(self) -> Adapter:
        found = self.store.get(Adapter, self.namespace, "vampire")
        assert found is not None
        return found


async def test_what_was_written_is_known_as_the_server_has_it(world: World) -> None:
    scene = Scene(world)
    await world.kube.apply(voice(world.namespace), manager="kubectl")
    await scene.hear()
    for percent in (10, 25):
        await scene.publisher.publish(scene.known, status(percent), urgent=True)
        known = scene.known
        assert known.status == status(percent)
        await scene.hear()
        assert scene.known is known, "the watch brought nothing new"


async def test_who_knows_an_older_status_writes_nothing_and_learns_the_present_one(world: World) -> None:
    scene = Scene(world)
    await world.kube.apply(voice(world.namespace), manager="kubectl")
    await scene.hear()
    past = scene.known
    await scene.publisher.publish(past, status(10), urgent=True)
    other = Scene(world)
    other.store.put(Adapter, world.namespace, "vampire", past, version=int(past.meta.resource_version))
    with pytest.raises(Conflict):
        await other.publisher.publish(past, status(25), urgent=True)
    assert other.known == scene.known
    await other.publisher.publish(other.known, status(25), urgent=True)
    await scene.hear()
    assert scene.known.status == status(25)


async def test_an_edit_of_the_rest_holds_no_status_up(world: World) -> None:
    scene = Scene(world)
    made = await world.kube.apply(voice(world.namespace), manager="kubectl")
    await scene.hear()
    labelled = voice(world.namespace)
    labelled["metadata"]["labels"] = {"reviewed": "yes"}
    await world.kube.apply(labelled, manager="kubectl")
    assert scene.known.meta.resource_version == made["metadata"]["resourceVersion"]
    await scene.publisher.publish(scene.known, status(10), urgent=True)
    await scene.hear()
    assert (scene.known.status, scene.known.meta.labels) == (status(10), {"reviewed": "yes"})
