"""What a queue says, until it is written at the pods it concerns; and what a tier says of its queue."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from prometheus_client import CollectorRegistry

from npc_operator.api import names
from npc_operator.clients.interruption_queue import SqsQueue
from npc_operator.clients.interruption_queues import InterruptionQueues
from npc_operator.clients.queue_metrics import QueueMetrics
from npc_operator.domain.facts import NodeFact
from npc_operator.domain.interruption.notices import Kind, Notice, Source
from npc_operator.domain.interruption.queues import OWN, QueueFact, QueueRef
from npc_operator.domain.interruption.visibility import NODES, NodesFact
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.loop.store import Change
from npc_operator.ports import PortError
from npc_operator.reconcilers import triggers
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, region, tier

REGION = "eu-west-1"
INSTANCE = "i-0123456789abcdef0"
URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/npc"
QUEUE = QueueRef(url=URL, region=REGION)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def of_queue(world: World, name: str) -> dict[str, Any] | None:
    """The tier's condition about its queue."""
    conditions = world.status(names.KIND_TIER, name)["conditions"]
    return next((one for one in conditions if one["type"] == "InterruptionQueueReady"), None)


async def on_machines() -> World:
    """A tier whose pods are on two machines of EC2."""
    world = World()
    world.put(region(tiers={"gold": 200}), tier("gold", spec={"capacity": {"onDemandBase": 0}}))
    await world.settle()
    for number, pod in enumerate(sorted(engines(world))):
        node = f"node-{number % 2}"
        world.api.edit("Pod", NAMESPACE, pod, lambda live, node=node: live["spec"].update(nodeName=node))  # type: ignore[misc]
    for number in range(2):
        instance = INSTANCE if number == 0 else "i-0fedcba9876543210"
        world.store.put(NodeFact, "", f"node-{number}", NodeFact(name=f"node-{number}", instance=instance))
    await world.settle()
    return world


def engines(world: World) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in world.peek("Pod")
        if pod["metadata"]["labels"].get(names.LABEL_COMPONENT) == names.COMPONENT_ENGINE
    ]


def noted(world: World) -> set[str]:
    """Nodes of the pods at which an interruption is written."""
    return {
        pod["spec"]["nodeName"]
        for pod in world.peek("Pod")
        if names.ANNOTATION_INTERRUPTION in (pod["metadata"].get("annotations") or {})
    }


class _Scoped:
    """Hears as from the queue of a tier in those namespaces."""

    def __init__(self, world: World, scope: frozenset[str] | None) -> None:
        self._world = world
        self._scope = scope

    async def hear(self, notice: Notice, *, namespaces: frozenset[str] | None = None) -> None:
        assert namespaces is None
        await self._world.reconcilers.interruptions.hear(notice, namespaces=self._scope)


def left(sqs: Any, url: str) -> int:
    kinds = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=kinds)["Attributes"]
    return sum(int(found[kind]) for kind in kinds)


@pytest.mark.parametrize(
    ("namespaces", "concerned"), [(None, {"node-0"}), (frozenset({NAMESPACE}), {"node-0"}), (frozenset({"us"}), set())]
)
async def test_a_message_is_deleted_once_it_is_written_at_the_pods_of_its_machine_and_at_no_others(
    endpoint: str, namespaces: frozenset[str] | None, concerned: set[str]
) -> None:
    world = await on_machines()
    sqs: Any = boto3.client("sqs", region_name=REGION, endpoint_url=endpoint)
    # A poll that a test left behind would take messages from a queue of the same name.
    url = sqs.create_queue(QueueName=f"npc-{uuid.uuid4().hex}")["QueueUrl"]
    event = {
        "source": "aws.ec2",
        "detail-type": "EC2 Spot Instance Interruption Warning",
        "time": "2026-09-21T14:13:20Z",
        "detail": {"instance-id": INSTANCE, "instance-action": "terminate"},
    }
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))
    deleted_before_noted = []

    class Watched(SqsQueue):
        async def delete(self, handles: tuple[str, ...]) -> tuple[str, ...]:
            deleted_before_noted.append(noted(world) != concerned)
            return await super().delete(handles)

    async def open_queue(_: QueueRef) -> SqsQueue:
        return await asyncio.to_thread(lambda: Watched(url, REGION, endpoint=endpoint))

    queues = InterruptionQueues(
        store=world.store,
        clock=world.clock,
        listener=_Scoped(world, namespaces),
        meter=QueueMetrics(CollectorRegistry()),
        own=QueueRef(url=url, region=REGION),
        open_queue=open_queue,
    )
    reading = asyncio.create_task(queues.run())
    async with asyncio.timeout(30):
        while await asyncio.to_thread(left, sqs, url):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert deleted_before_noted == [False]
    assert noted(world) == concerned
    sqs.close()


async def test_a_tier_says_whether_its_queue_is_read_and_writes_nothing_more_when_nothing_changes() -> None:
    world = World()
    named = tier("gold", spec={"interruption": {"queue": {"url": URL, "region": REGION}}})
    world.put(region(tiers={"gold": 100, "silver": 100}), named, tier("silver"))
    await world.settle()
    assert of_queue(world, "gold") is None
    world.store.put(QueueFact, "", QUEUE.key, QueueFact(QUEUE, "QueueForbidden"))
    await world.settle()
    found = of_queue(world, "gold")
    assert found is not None
    assert (found["status"], found["reason"]) == ("False", "QueueForbidden")
    assert of_queue(world, "silver") is None
    assert next(one for one in world.status(names.KIND_TIER, "gold")["conditions"] if one["type"] == "Ready")
    world.store.put(QueueFact, "", QUEUE.key, QueueFact(QUEUE, ""))
    await world.settle()
    found = of_queue(world, "gold")
    assert found is not None
    assert (found["status"], found["reason"]) == ("True", "QueueRead")
    world.api.forget_calls()
    world.resync()
    await world.settle()
    assert world.api.calls == []
    # A leader that has not read yet takes nothing back.
    world.store.drop(QueueFact, "", QUEUE.key)
    await world.settle()
    assert of_queue(world, "gold") == found


async def test_the_operators_queue_is_every_tiers_that_names_none() -> None:
    world = World()
    named = tier("gold", spec={"interruption": {"queue": {"url": URL, "region": REGION}}})
    world.put(region(tiers={"gold": 100, "silver": 100}), named, tier("silver"))
    await world.settle()
    own = QueueFact(QueueRef(url=f"{URL}-own", region=REGION), "QueueMissing")
    found = set(triggers(world.store, Change(QueueFact, "", OWN, None, own)))
    assert found == {Key(KeyKind.TIER, NAMESPACE, "silver")}
    world.store.put(QueueFact, "", OWN, own)
    await world.settle()
    said = of_queue(world, "silver")
    assert said is not None
    assert "queue npc-own in eu-west-1" in said["message"]
    assert of_queue(world, "gold") is None


async def test_where_nodes_may_not_be_seen_no_message_is_taken_for_done() -> None:
    """Nobody knows then which pods are on the machine that it names."""
    world = await on_machines()
    heard = Notice(
        source=Source.EVENT_BRIDGE,
        kind=Kind.INTERRUPTION,
        node=None,
        instance=INSTANCE,
        pod_uid=None,
        seen=world.clock.now(),
        deadline=None,
    )
    world.store.put(NodesFact, "", NODES, NodesFact(hidden=True))
    with pytest.raises(PortError):
        await world.reconcilers.interruptions.hear(heard)
    assert noted(world) == set()
    world.store.put(NodesFact, "", NODES, NodesFact(hidden=False))
    await world.reconcilers.interruptions.hear(heard)
    assert noted(world) == {"node-0"}
