"""A region as the tests see it: what a user can do, what a game server gets, and what can be awaited."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import aiohttp

from hack.cluster import api
from hack.models.base import DEFAULT_BASE
from hack.models.hostile import HOSTILE as MAKERS
from hack.stack import faults, install, region, regions, storage
from hack.stack import kubectl as kube
from hack.stack.audit import AuditLog
from hack.stack.install import OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE, Stack, is_rolled_out
from hack.stack.kubectl import Kubectl, Object
from hack.stack.load import Ask, Line, Tally, ask_once, new_session
from hack.stack.references import References
from hack.stack.regions import Region
from npc_runtime.wire import served_name
from tests.e2e.plans import ARCHETYPES, MAX_TOKENS, PROMPT, RESYNC_SECONDS, TIERS, VERSIONS

__all__ = ["ARCHETYPES", "HOSTILE", "MAX_TOKENS", "PROMPT", "TIERS", "World"]

HOSTILE = {name: hostile.reason for name, hostile in MAKERS.items() if hostile.survives_s3}
"""Hostile adapter -> the reason its refusal must carry; those that an object store would change on the way are unit
tests.
"""

Holds = Callable[[Object], bool]


class World:
    """One installed region. Everything that waits does so on events of the API server and says what it saw last."""

    def __init__(self, stack: Stack, installed: Region, references: References) -> None:
        self.stack = stack
        self.region = installed
        self.namespace = installed.namespace
        self.url, self.key = installed.url, installed.api_key
        self.references: dict[tuple[str, str], str] = references.expected(PROMPT, MAX_TOKENS)

    @property
    def kubectl(self) -> Kubectl:
        return self.stack.kubectl

    # --- asking ---

    async def ask(self, ask: Ask) -> Line:
        async with new_session() as session:
            return await ask_once(session, self.url, self.key, ask)

    async def until_answered(self, ask: Ask, *, timeout: float = 240) -> Line:
        """The first line that is answered; asks again five times a second, and says how the last one failed."""
        line = await self.ask(ask)
        try:
            async with asyncio.timeout(timeout):
                while line.failure:
                    await asyncio.sleep(0.2)
                    line = await self.ask(ask)
        except TimeoutError:
            raise kube.NotYet(f"no answer in {timeout:.0f} s; the last line failed with: {line.failure}") from None
        return line

    def assert_clean(self, tally: Tally) -> None:
        """No line failed, none was answered by less than was asked for, and every text is what its digest says."""
        assert not tally.degraded, [(line.degraded, line.ask) for line in tally.degraded[:5]]
        self.assert_answered(tally)

    def assert_answered(self, tally: Tally) -> None:
        """No line failed, and every text is what its digest says, whatever tier spoke it."""
        assert tally.lines, "the load asked nothing"
        assert not tally.failures, [(line.failure, line.ask) for line in tally.failures[:5]]
        mixed = tally.mixed(self.references)
        assert not mixed, [(line.ask, line.digest, line.text) for line in mixed[:5]]

    # --- what is served ---

    async def stable_digest(self, archetype: str, tier: str) -> str:
        seen = await self.kubectl.get("archetypeadapter", archetype, self.namespace)
        return str(_variant(seen, tier)["stable"]["digest"])

    def other_version(self, archetype: str, digest: str) -> str:
        """A digest of the archetype that is not `digest`."""
        return next(known for known in self._digests(archetype) if known != digest)

    def _digests(self, archetype: str) -> Iterable[str]:
        return [self.stack.adapter(name)[1] for name in VERSIONS[archetype]]

    async def set_version(self, archetype: str, digest: str) -> None:
        """Change the archetype to a catalog version on every tier, as an apply would."""
        name = next(one for one in VERSIONS[archetype] if self.stack.adapter(one)[1] == digest)
        await self.region.set_source(archetype, *self.stack.adapter(name))

    async def set_source(self, archetype: str, tier: str, uri: str, digest: str) -> None:
        await self.region.set_source(archetype, uri, digest, tiers=(tier,))

    async def publish_copy(self, archetype: str, digest: str, folder: Path) -> tuple[str, str]:
        """Upload a catalog version under a digest that no pod ever had: the same weights beside another text, hence the
        same voice, which `assert_clean` knows from now on. Returns (uri, digest).
        """
        name = next(one for one in VERSIONS[archetype] if self.stack.adapter(one)[1] == digest)
        made = folder / name
        shutil.copytree(self.stack.catalog.adapter(name), made)
        (made / "README.md").write_text(secrets.token_hex(8))
        uri, copied = await asyncio.to_thread(self.stack.publish, made, f"copy-of-{name}")
        self.references[archetype, copied] = self.references[archetype, digest]
        return uri, copied

    async def publish_changed(self, archetype: str, folder: Path) -> tuple[str, str]:
        """Upload an adapter that no pod ever had, then other bytes over it; returns its URI and its first digest."""
        made, name = folder / archetype, f"changed-{archetype}"
        shutil.copytree(self.stack.catalog.adapter(VERSIONS[archetype][0]), made)
        (made / "README.md").write_text(secrets.token_hex(8))
        uri, digest = await asyncio.to_thread(self.stack.publish, made, name)
        (made / "README.md").write_text("other words")
        await asyncio.to_thread(self.stack.publish, made, name)
        return uri, digest

    async def publish_hostile(self, name: str, folder: Path) -> tuple[str, str]:
        """Make a hostile adapter, upload it, and return what an attacker would put into `source`."""
        hostile = MAKERS[name]
        made = hostile.make(folder / name, DEFAULT_BASE)
        uri = await asyncio.to_thread(self.stack.storage.upload, made, f"hostile/{name}")
        digest = _lenient_digest(made)
        return uri, "sha256:" + "0" * 64 if hostile.wrong_digest else digest

    async def scale(self, tier: str, replicas: int) -> None:
        await self.kubectl.run("scale", f"gputier/{tier}", "-n", self.namespace, f"--replicas={replicas}")

    # --- waiting ---

    condition = staticmethod(kube.condition)

    async def until_adapter(self, archetype: str, holds: Holds, *, timeout: float = 240) -> Object:
        return await self.kubectl.until("archetypeadapter", archetype, self.namespace, holds, timeout=timeout)

    async def until_tier(self, tier: str, holds: Holds, *, timeout: float = 240) -> Object:
        return await self.kubectl.until("gputier", tier, self.namespace, holds, timeout=timeout)

    async def until_adapter_ready(self, archetype: str, digest: str, *, timeout: float = 240) -> Object:
        """Every variant of the archetype has `digest` as its stable one, and the object is Ready."""

        def holds(seen: Object) -> bool:
            return kube.is_ready(seen) and self.digests(seen, "stable") == {digest}

        return await self.until_adapter(archetype, holds, timeout=timeout)

    @staticmethod
    def digests(seen: Object, what: str) -> set[str]:
        """The digests of all variants of an adapter's status: what is `stable`, or what is `candidate`."""
        return {(one.get(what) or {}).get("digest", "") for one in seen.get("status", {}).get("variants", ())}

    async def until_all_ready(self, *, timeout: float = 400) -> None:
        """Region, tiers and adapters are Ready at their present generation, and nothing is in motion."""
        deadline = time.monotonic() + timeout
        for kind in ("gputier", "archetypeadapter", "npcregion"):
            for seen in await self.kubectl.list(kind, self.namespace):
                left = max(1.0, deadline - time.monotonic())
                await self.kubectl.until(
                    kind, seen["metadata"]["name"], self.namespace, _is_settled, timeout=left, what="settled"
                )

    async def events(self, name: str) -> frozenset[tuple[str, str]]:
        """What Events there are of one of our objects: to be given to `until_event`."""
        return frozenset(map(_identity, await self.kubectl.list("events", self.namespace, fields=_about(name))))

    async def until_event(
        self, name: str, reason: str, words: str, *, known: frozenset[tuple[str, str]], timeout: float = 60
    ) -> Object:
        """An Event of one of our objects that is not `known`, or told again since, with these words in it."""

        def holds(seen: Object) -> bool:
            return _identity(seen) not in known and seen["reason"] == reason and words in seen["message"]

        async with asyncio.timeout(timeout):
            while True:
                # A watch that ends by itself proves nothing: then another begins.
                watch = self.kubectl.watch("events", self.namespace, "--field-selector", _about(name))
                async with contextlib.aclosing(watch) as events:
                    async for _, seen in events:
                        if holds(seen):
                            return seen

    async def pods(self, tier: str) -> list[Object]:
        """The tier's pods that are not on their way out."""
        pods = await self.region.engine_pods(tier)
        return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]

    async def until_rolled(self, tier: str, before: set[str], *, timeout: float = 300) -> None:
        """None of the pods in `before` (uids) is left, and the tier is Ready with others."""

        async def is_left() -> bool:
            return any(pod["metadata"]["uid"] in before for pod in await self.region.engine_pods(tier))

        async with asyncio.timeout(timeout):
            # A watch that ends by itself proves nothing: then another begins.
            while await is_left():
                # Asked again at each event: what went before the watch began is in no event of it.
                watch = self.kubectl.watch("pods", self.namespace, "-l", f"npcfleet.dev/tier={tier}")
                async with contextlib.aclosing(watch) as events:
                    async for _ in events:
                        if not await is_left():
                            break
        await self.kubectl.until("gputier", tier, self.namespace, _is_settled, timeout=timeout, what="settled")

    async def until_served_by_pods(self, ask: Ask, count: int, *, timeout: float = 240) -> None:
        """`count` different engine pods say that they answered lines of this kind, by their own request counters.

        Each is of another conversation: those of one go where its beginning is cached already.
        """

        async def busy() -> int:
            totals = [await self._engine_total(pod) for pod in await self.pods(ask.tier)]
            return sum(total > before.get(name, 0.0) for name, total in totals)

        before = dict([await self._engine_total(pod) for pod in await self.pods(ask.tier)])
        async with asyncio.timeout(timeout):
            numbers = itertools.count()
            while await busy() < count:
                await self.ask(replace(ask, npc=ask.archetype, player=f"player-{next(numbers):05}"))

    async def _engine_total(self, pod: Object) -> tuple[str, float]:
        url = f"http://{pod['status']['podIP']}:8000/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            text = await response.text()
        total = sum(
            float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("vllm:request_success_total")
        )
        return pod["metadata"]["name"], total

    async def until_listed(
        self, tier: str, *, present: list[tuple[str, str]], absent: list[tuple[str, str]], timeout: float = 240
    ) -> None:
        """The tier's engines list, and no longer list, these (archetype, digest); they themselves are asked."""
        key = await self.engine_key()
        want = {served_name(archetype, digest) for archetype, digest in present}
        must_not = {served_name(archetype, digest) for archetype, digest in absent}

        async def listed(session: aiohttp.ClientSession, pod: Object) -> set[str]:
            url = f"http://{pod['status']['podIP']}:8000/v1/models"
            async with session.get(url, headers={"Authorization": f"Bearer {key}"}) as response:
                return {entry["id"] for entry in (await response.json())["data"]}

        async def holds(session: aiohttp.ClientSession, pod: Object) -> bool:
            names = await listed(session, pod)
            return want <= names and not must_not & names

        # An engine tells nobody when its list changes, so it is asked until the time is up.
        async with asyncio.timeout(timeout), aiohttp.ClientSession() as session:
            for pod in await self.pods(tier):
                while not await holds(session, pod):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)

    # --- the operator and the namespace's secrets ---

    system = OPERATOR_NAMESPACE

    @property
    def audit_log(self) -> Path:
        assert self.stack.cluster.audit_log is not None
        return self.stack.cluster.audit_log

    async def leader(self) -> tuple[str, str]:
        """The pod that holds the Lease, and the identity of its process: a container that starts again has another."""
        lease = await self.kubectl.get("lease", OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE)
        holder = str(lease["spec"].get("holderIdentity") or "")
        pods = [pod["metadata"]["name"] for pod in await self.kubectl.list("pods", OPERATOR_NAMESPACE)]
        return next((name for name in pods if holder.startswith(name)), ""), holder

    async def leadership(self) -> tuple[str, int]:
        """Who leads, and how often that has changed."""
        spec = (await self.kubectl.get("lease", OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE))["spec"]
        return str(spec.get("holderIdentity") or ""), int(spec.get("leaseTransitions") or 0)

    async def kill_operator(self, pod: str) -> None:
        """SIGKILL: no word to the API server, and the Lease stays taken until it has run out."""
        await faults.kill_container(self.kubectl, OPERATOR_NAMESPACE, pod, "operator")

    async def storage_frozen(self) -> AbstractAsyncContextManager[None]:
        """While its block runs the S3 server answers nothing, so no pod can get bytes that it has not."""
        pod = await self._only_pod(storage.NAMESPACE, f"app.kubernetes.io/name={storage.NAME}")
        return faults.frozen_container(self.kubectl, storage.NAMESPACE, pod["metadata"]["name"], storage.NAME)

    async def scale_operator(self, replicas: int) -> None:
        await self.kubectl.run(
            "scale", f"deployment/{OPERATOR_DEPLOYMENT}", "-n", OPERATOR_NAMESPACE, f"--replicas={replicas}"
        )
        await self.kubectl.until("deployment", OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE, is_rolled_out, timeout=300)
        if replicas == 0:
            selector = "app.kubernetes.io/name=npc-operator"
            await self.kubectl.until_none("pods", OPERATOR_NAMESPACE, selector, timeout=300)

    @contextlib.asynccontextmanager
    async def api_server_away(self) -> AsyncIterator[None]:
        """The API server refuses connections while the block runs; at its end all the nodes hear from it again.

        A kubelet that was refused often asks again only after up to a minute. Until it has, it starts no pod and ends
        none, and what the next test does would wait for that.
        """
        nodes = {f"system:node:{node['metadata']['name']}" for node in await self.kubectl.list("nodes", "")}
        away = api.api_server_away("stopped")
        await asyncio.to_thread(away.__enter__)
        audit = AuditLog(self.audit_log)
        try:
            yield
        finally:
            await asyncio.to_thread(away.__exit__, None, None, None)
        async with asyncio.timeout(300):
            while nodes:
                nodes -= {seen.user for seen in audit.watches() if seen.resource == "pods"}
                await asyncio.sleep(0.2)

    async def annotate_region(self, annotation: str) -> None:
        value = str(time.time_ns())
        await self.kubectl.run(
            "annotate", "npcregion", self.region.name, "-n", self.namespace, f"{annotation}={value}", "--overwrite"
        )

    async def internal_secret(self) -> dict[str, str]:
        return _data(await self.kubectl.get("secret", "npc-fleet-internal", self.namespace))

    async def until_internal_secret(self, holds: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """The Secret's data as soon as `holds(data)`.

        A rotation waits until the last of its kind is three minutes old; the region may have been made just now.
        """
        seen = await self.kubectl.until(
            "secret", "npc-fleet-internal", self.namespace, lambda seen: holds(_data(seen)), timeout=400
        )
        return _data(seen)

    async def engine_key(self) -> str:
        data = _data(await self.kubectl.get("secret", "npc-fleet-engine-key", self.namespace))
        return data[data["current"]]

    async def set_api_key(self, name: str, key: str | None) -> None:
        """Add or (None) remove an entry of the Secret with the game servers' keys."""
        value = None if key is None else base64.b64encode(key.encode()).decode()
        await self.kubectl.patch("secret", region.SECRET_API_KEYS, self.namespace, {"data": {name: value}})

    async def engine_identities(self) -> dict[str, tuple[str, int]]:
        """Pod -> (uid, restarts of all its containers)."""
        found: dict[str, tuple[str, int]] = {}
        for tier in TIERS:
            for pod in await self.pods(tier):
                statuses = pod["status"].get("containerStatuses", []) + pod["status"].get("initContainerStatuses", [])
                found[pod["metadata"]["name"]] = (pod["metadata"]["uid"], sum(one["restartCount"] for one in statuses))
        return found

    async def kill_engine(self, pod: Object) -> None:
        """SIGKILL from outside, as a driver crash or the OOM killer would."""
        await faults.kill_container(self.kubectl, self.namespace, pod["metadata"]["name"], "engine")

    async def nodes_ready_since(self) -> dict[str, tuple[str, str]]:
        """Node -> its Ready condition's status and the time of its last change."""
        nodes = await self.kubectl.list("nodes", "")
        ready = {node["metadata"]["name"]: self.condition(node, "Ready") for node in nodes}
        return {name: (seen["status"], seen["lastTransitionTime"]) for name, seen in ready.items()}

    async def gateway_process(self) -> int:
        """Host pid of the only gateway."""
        pod = await self._only_pod(self.namespace, "app.kubernetes.io/component=gateway")
        return await faults.process_one(self.kubectl, self.namespace, pod["metadata"]["name"], "gateway")

    async def _only_pod(self, namespace: str, selector: str) -> Object:
        """The one pod that is not on its way out: beside it may be another that still ends its last lines."""
        pods = await self.kubectl.list("pods", namespace, selector)
        (pod,) = (pod for pod in pods if not pod["metadata"].get("deletionTimestamp"))
        return pod

    async def kill_agent(self, pod: Object) -> None:
        """SIGKILL of the sidecar; the engine beside it goes on."""
        await faults.kill_container(self.kubectl, self.namespace, pod["metadata"]["name"], "agent")

    async def upgrade_operator(self) -> None:
        """`helm upgrade` of the operator with something changed, so that its pods really are replaced."""
        await install.install_operator(
            self.stack, resyncSeconds=RESYNC_SECONDS, podAnnotations={"upgrade": str(time.time_ns())}
        )

    # --- manifests ---

    async def apply_again(self) -> None:
        """The chart with the values it was installed with."""
        await regions.install(self.stack, self.region.plan)

    async def until_no_children(self, *, timeout: float = 300) -> None:
        """The garbage collector has taken everything the operator made."""
        for kind in ("deployments", "services", "poddisruptionbudgets", "networkpolicies", "secrets", "pods"):
            await self.kubectl.until_none(
                kind, self.namespace, "app.kubernetes.io/managed-by=npc-operator", timeout=timeout
            )

    async def fingerprint(self) -> str:
        """Everything a repeated apply must not change: specs and generations of our kinds and of children."""
        rows = []
        for kind in ("npcregion", "gputier", "archetypeadapter", "deployment", "service", "poddisruptionbudget"):
            for seen in await self.kubectl.list(kind, self.namespace):
                meta = seen["metadata"]
                rows.append([kind, meta["name"], meta.get("generation"), seen.get("spec")])
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def _variant(seen: Object, tier: str) -> Object:
    variants: list[Object] = seen["status"]["variants"]
    return next(entry for entry in variants if entry["tier"] == tier)


def _about(name: str) -> str:
    return f"involvedObject.name={name}"


def _identity(event: Object) -> tuple[str, str]:
    return event["metadata"]["uid"], event["metadata"]["resourceVersion"]


def _is_settled(seen: Object) -> bool:
    return kube.is_ready(seen) and not kube.condition(seen, "Reconciling") and not kube.condition(seen, "Stalled")


def _data(seen: Object) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in (seen.get("data") or {}).items()}


def _lenient_digest(folder: Path) -> str:
    """The digest by coreutils' rules even where the agent would refuse a name: the refusal must come from the agent."""
    listing = b"".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n".encode()
        for name, path in sorted((str(p.relative_to(folder)), p) for p in folder.rglob("*") if p.is_file())
    )
    return "sha256:" + hashlib.sha256(listing).hexdigest()
