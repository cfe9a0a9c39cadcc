"""Field managers as the real API server keeps them: who named a digest is found in them."""

from __future__ import annotations

from npc_operator.clients.kube import KubeClient
from npc_operator.domain.facts import Adapter
from npc_operator.edge.parse import parse
from npc_operator.ports import ObjectRef
from tests.support.builders import adapter, digest


async def test_whoever_named_the_digest_last_is_found(client: KubeClient, namespace: str) -> None:
    manifest = adapter("vampire", digests={"gold": digest("g1"), "silver": digest("s1")})
    manifest["metadata"] = {"name": "vampire", "namespace": namespace}
    await client.apply(manifest, manager="flux")
    change = {
        **manifest,
        "spec": {
            "archetype": "vampire",
            "variants": [{"tier": "gold", "source": {"uri": "s3://adapters/v/2", "digest": digest("g2")}}],
            "rollout": {"approvedDigest": digest("g2")},
        },
    }
    await client.apply(change, manager="release-bot")
    ref = ObjectRef(manifest["apiVersion"], manifest["kind"], namespace, "vampire")
    live = await client.get(ref)
    assert live is not None
    fact = parse(manifest["apiVersion"], manifest["kind"], live).fact
    assert isinstance(fact, Adapter)
    assert fact.changed_by.digest("gold") == "release-bot"
    assert fact.changed_by.digest("silver") == "flux"
    assert fact.changed_by.approval == "release-bot"
