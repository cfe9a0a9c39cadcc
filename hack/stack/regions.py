"""Regions on the local cluster: made from a plan by the npc-region chart, asked by their gateway, taken away again."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.stack import reach, region
from hack.stack.helm import Helm
from hack.stack.install import Stack, is_rolled_out
from hack.stack.kubectl import Kubectl, Object
from hack.stack.region import RegionPlan

KEY_NAME = "demo"
"""Entry of the Secret with the game servers' keys."""


@dataclass(frozen=True, slots=True)
class Region:
    """An installed region and how to get in."""

    stack: Stack
    plan: RegionPlan
    url: str
    """The gateway, as this host reaches it."""
    api_key: str = field(repr=False)

    @property
    def namespace(self) -> str:
        return self.plan.name

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def kubectl(self) -> Kubectl:
        return self.stack.kubectl

    def publish(self, folder: Path, name: str) -> tuple[str, str]:
        """Upload an adapter's folder under `name` and return (uri, digest) for a variant's source. Blocks."""
        return self.stack.publish(folder, name)

    async def set_source(self, adapter: str, uri: str, digest: str, *, tiers: tuple[str, ...] = ()) -> float:
        """Change the bytes of an ArchetypeAdapter on the given tiers (all by default), as an apply of a user would.

        Returns time.monotonic() from just before the change was sent.
        """
        seen = await self.kubectl.get("archetypeadapter", adapter, self.namespace)
        variants = [
            {**variant, "source": {**variant["source"], "uri": uri, "digest": digest}}
            if not tiers or variant["tier"] in tiers
            else variant
            for variant in seen["spec"]["variants"]
        ]
        applied = time.monotonic()
        await self.kubectl.patch("archetypeadapter", adapter, self.namespace, {"spec": {"variants": variants}})
        return applied

    async def objects(self) -> list[Object]:
        """Every object of our kinds in the namespace."""
        return await self.kubectl.list("npcregions,gputiers,archetypeadapters", self.namespace)

    async def engine_pods(self, tier: str) -> list[Object]:
        """The engine pods of a tier."""
        return await self.kubectl.list("pods", self.namespace, f"npcfleet.dev/tier={tier}")


async def install(stack: Stack, plan: RegionPlan, *, fake_engine: str = "") -> Region:
    """`helm upgrade --install` of the region, after what its values refer to: credentials, API keys, volumes.

    Does not wait for Ready. `fake_engine` is the source of the fake engine, for plans that use it.
    """
    namespace = plan.name
    await stack.kubectl.apply(region.namespace(namespace))
    key = await _existing_key(stack.kubectl, namespace) or f"npc-{secrets.token_urlsafe(24)}"
    manifests = [
        region.secret(namespace, region.SECRET_STORAGE, stack.storage.credentials()),
        region.secret(namespace, region.SECRET_API_KEYS, {KEY_NAME: key}),
    ]
    if plan.uses_vllm:
        if stack.vllm_packages is None:
            raise ValueError(f"region {plan.name} wants a real vLLM, but the stack was brought up without")
        manifests += region.volume(namespace, host_path=str(stack.vllm_packages))
    if fake_engine:
        manifests.append(region.config_map(namespace, region.FAKE_CONFIG_MAP, {region.FAKE_FILE: fake_engine}))
    await stack.kubectl.apply(*manifests)
    if plan.uses_vllm:
        # A pod that finds its claim unbound is not looked at again for a while.
        await stack.kubectl.until(
            "persistentvolumeclaim",
            region.CLAIM_VLLM,
            namespace,
            lambda seen: seen.get("status", {}).get("phase") == "Bound",
            timeout=240,
            what="bound",
        )
    await stack.helm.upgrade(plan.name, "npc-region", namespace, plan.values())
    return await _reach(stack, plan, key)


async def find(stack: Stack, plan: RegionPlan) -> Region | None:
    """The region of a plan as it is there, whatever was changed since it was installed; None if it is not."""
    key = await _existing_key(stack.kubectl, plan.name)
    if not key or plan.name not in await stack.helm.releases("npc-region"):
        return None
    return await _reach(stack, plan, key)


async def _reach(stack: Stack, plan: RegionPlan, key: str) -> Region:
    namespace = plan.name
    if stack.cluster.driver not in reach.ON_THE_NETWORK:
        # A port is forwarded to a pod that runs; a ClusterIP is there before any.
        await stack.kubectl.until("deployment", f"{plan.name}-gateway", namespace, is_rolled_out, timeout=400)
    url = await reach.host_url(stack.kubectl, stack.cluster.driver, namespace, f"{plan.name}-gateway")
    return Region(stack, plan, url, key)


async def uninstall(kubectl: Kubectl, helm: Helm, release: str, namespace: str) -> None:
    """Take a region away: its release, its namespace, the volume behind its claim."""
    await helm.uninstall(release, namespace, "--wait")
    await kubectl.delete("namespace", namespace, "")
    await kubectl.delete("persistentvolume", region.volume_name(namespace), "")


async def _existing_key(kubectl: Kubectl, namespace: str) -> str:
    seen = await kubectl.find("secret", region.SECRET_API_KEYS, namespace)
    data: Mapping[str, Any] = (seen or {}).get("data") or {}
    return base64.b64decode(data[KEY_NAME]).decode() if KEY_NAME in data else ""
