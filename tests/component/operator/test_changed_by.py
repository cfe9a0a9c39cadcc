"""The history of a voice names the hands: from the API server's field managers to the entry."""

from __future__ import annotations

from npc_operator.api import names
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, adapter, digest, region, tier


async def test_whoever_put_a_digest_into_quarantine_is_in_the_history() -> None:
    world = World()
    voice = adapter("vampire")
    world.put(region(), tier(), voice)
    await world.settle()
    spec = {"archetype": "vampire", "quarantinedDigests": [digest("vampire-1")]}
    metadata = {"name": "vampire", "namespace": NAMESPACE}
    change = {"apiVersion": names.API_VERSION, "kind": names.KIND_ADAPTER, "metadata": metadata, "spec": spec}
    world.api.put(change, manager="kubectl-npc")
    await world.settle(seconds=5)
    (entry, *_) = [one for one in world.variant("vampire")["history"] if one["reason"] == "Quarantined"]
    assert entry["by"] == "kubectl-npc"
    assert entry["digest"] == digest("vampire-1")


async def test_a_quarantine_of_the_region_is_nobodys_of_the_voice() -> None:
    world = World()
    world.put(region(), tier(), adapter("vampire"))
    await world.settle()
    banned = [digest("vampire-1")]
    world.edit(names.KIND_REGION, "eu-west", lambda live: live["spec"].update(quarantinedDigests=banned))
    await world.settle(seconds=5)
    (entry, *_) = [one for one in world.variant("vampire")["history"] if one["reason"] == "Quarantined"]
    assert entry["by"] not in ("", "kubectl")
    assert world.said(names.KIND_REGION, "eu-west", "Quarantined")[2] == (
        "1 digest is used nowhere; affected: vampire on gold"
    )
