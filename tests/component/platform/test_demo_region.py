"""Which region the chapters use as it is, which is installed anew first, and what of an earlier run is put back."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hack.demo import acts, rollback, show, spot
from hack.demo.console import Console
from hack.demo.rollback import FORBIDDEN, VOICE
from hack.demo.spot import FALLBACK, TIER
from hack.stack import commands, install, regions
from hack.stack.install import Stack
from hack.stack.region import RegionPlan

FLEET = "localhost/npc-fleet/npc-fleet:new"
STABLE = {"tier": "gold", "stable": {"digest": "sha256:one"}}


def seen(kind: str, name: str, **more: Any) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "observedGeneration": 1}
    return {
        "kind": kind,
        "metadata": {"name": name, "generation": 1},
        "spec": {},
        "status": {"observedGeneration": 1, "conditions": [ready], **more},
    }


NODE_READY = {"type": "Ready", "status": "True"}


class Site:
    """A cluster with the demo in it, and what was done to it."""

    def __init__(self) -> None:
        self.adapter = seen("ArchetypeAdapter", VOICE, variants=[dict(STABLE)])
        self.tiers = {"gold": seen("GpuTier", "gold"), FALLBACK: seen("GpuTier", FALLBACK)}
        self.tiers[TIER] = seen("GpuTier", TIER)
        self.tiers[FALLBACK]["spec"]["fallbackTier"] = TIER
        self.objects = [*self.tiers.values(), self.adapter, seen("NPCRegion", show.REGION)]
        self.nodes: dict[str, dict[str, Any]] = {
            name: {"spec": {}, "status": {"conditions": [dict(NODE_READY)]}} for name in ("od-1", "spot-1")
        }
        self.did: list[str] = []
        counts = dict.fromkeys(("updatedReplicas", "availableReplicas", "replicas"), 2)
        self.operator: dict[str, Any] | None = {
            "metadata": {"generation": 1},
            "spec": {"replicas": 2},
            "status": {"observedGeneration": 1, **counts},
        }
        self.images = {"npc-system": FLEET, show.REGION: FLEET}
        self.installed = True
        self.uninstalled: list[str] = []
        self.out = io.StringIO()

    async def listed(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        engine = {"image": "vllm/vllm-openai:v1"}
        return [{"spec": {"initContainers": [{"image": self.images[namespace]}], "containers": [engine]}}]

    async def find(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        assert self.installed or kind in ("deployment", "node"), f"there are no {kind}s where nothing is installed"
        if kind == "deployment":
            return self.operator
        return {"node": self.nodes, "gputier": self.tiers, "archetypeadapter": {VOICE: self.adapter}}[kind].get(name)

    async def patch(self, kind: str, name: str, namespace: str, patch: dict[str, Any]) -> None:
        spec = (self.tiers[name] if kind == "gputier" else self.adapter)["spec"]
        spec |= patch["spec"]
        for field in [field for field, value in spec.items() if value is None]:
            del spec[field]

    async def releases(self, chart: str) -> dict[str, str]:
        assert chart == "npc-region"
        return {show.REGION: show.REGION} if self.installed else {}

    async def run_tool(self, module: str, *arguments: str) -> str:
        assert (module, *arguments[:2]) == ("hack.cluster", "node", "revive")
        self.did.append(f"revive {arguments[2]}")
        self.nodes[arguments[2]] = {"spec": {}, "status": {"conditions": [dict(NODE_READY)]}}
        return ""

    def stack(self) -> Stack:
        kubectl = SimpleNamespace(list=self.listed, find=self.find, patch=self.patch)
        made = SimpleNamespace(
            kubectl=kubectl,
            helm=SimpleNamespace(releases=self.releases),
            images=SimpleNamespace(fleet=FLEET, engine_base="localhost/engine"),
            cluster=SimpleNamespace(driver="local", nodes=tuple(self.nodes), kubeconfig="/nowhere"),
            catalog=None,
            model_uri="s3://npc/base",
            adapter=lambda name: (f"s3://npc/{name}", f"sha256:{name}"),
        )
        return cast("Stack", made)

    def region(self) -> Any:
        kubectl = self.stack().kubectl
        return SimpleNamespace(
            kubectl=kubectl,
            namespace=show.REGION,
            objects=self.all_objects,
            url="http://127.0.0.1:1",
            plan=SimpleNamespace(tiers=self.tiers),
        )

    async def all_objects(self) -> list[dict[str, Any]]:
        return self.objects

    def be_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def find(*_: object) -> Any:
            return self.region() if self.installed else None

        async def uninstall(kubectl: object, helm: object, release: str, namespace: str) -> None:
            self.uninstalled.append(release)

        monkeypatch.setattr(regions, "find", find)
        monkeypatch.setattr(regions, "uninstall", uninstall)
        monkeypatch.setattr(commands, "run_tool", self.run_tool)

    async def usable(self, monkeypatch: pytest.MonkeyPatch) -> bool:
        self.be_there(monkeypatch)
        plan = SimpleNamespace(tiers=self.tiers, adapters={VOICE: {}})
        return await show.find_usable(Console(self.out), self.stack(), cast("RegionPlan", plan)) is not None


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_region_that_is_whole_and_at_rest_is_used_as_it_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await site.usable(monkeypatch)
    assert "everything of it is ready" in site.out.getvalue()
    assert not site.uninstalled


@pytest.mark.parametrize("namespace", ["npc-system", show.REGION])
async def test_what_another_version_has_left_is_made_anew(
    site: Site, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.images[namespace] = FLEET.replace("new", "old")
    assert not await site.usable(monkeypatch)
    assert site.uninstalled == [show.REGION]
    assert "another version" in site.out.getvalue()


def _is_gone(site: Site) -> None:
    site.installed = False


def _lacks_an_object(site: Site) -> None:
    site.objects.pop(0)


def _is_changing(site: Site) -> None:
    site.objects[0]["status"]["conditions"].append({"type": "Reconciling", "status": "True"})


def _has_no_operator(site: Site) -> None:
    site.operator = None


def _waits_for_its_operator(site: Site) -> None:
    assert site.operator is not None
    site.operator["status"]["availableReplicas"] = 0


def _has_a_voice_that_was_taken_back(site: Site) -> None:
    site.adapter["status"]["variants"][0]["rejected"] = {"digest": "sha256:two"}


def _was_left_by_a_killed_run(site: Site) -> None:
    site.adapter["spec"]["answers"] = {"mustNotMatch": [FORBIDDEN]}


def _was_left_without_its_spot_node(site: Site) -> None:
    site.nodes["spot-1"]["spec"]["unschedulable"] = True


def _was_left_with_other_fallbacks(site: Site) -> None:
    site.tiers[TIER]["spec"]["fallbackTier"] = FALLBACK
    del site.tiers[FALLBACK]["spec"]["fallbackTier"]


@pytest.mark.parametrize(
    "spoil",
    [
        _is_gone,
        _lacks_an_object,
        _is_changing,
        _has_no_operator,
        _waits_for_its_operator,
        _has_a_voice_that_was_taken_back,
        _was_left_by_a_killed_run,
        _was_left_without_its_spot_node,
        _was_left_with_other_fallbacks,
    ],
)
async def test_a_region_that_is_not_as_it_should_be_is_installed_again(
    site: Site, spoil: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(site)
    assert not await site.usable(monkeypatch)
    assert not site.uninstalled
    assert_nothing_is_left(site)


def assert_nothing_is_left(site: Site) -> None:
    assert (site.adapter["spec"].get("answers") or {}).get("mustNotMatch") is None
    assert [node["spec"] for node in site.nodes.values()] == [{}, {}]
    assert {
        name: tier["spec"].get("fallbackTier") for name, tier in site.tiers.items() if name in (TIER, FALLBACK)
    } == {
        FALLBACK: TIER,
        TIER: None,
    }


def play(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands with everything around them that needs a cluster: it notes what they do, in order."""

    def notes(word: str, result: Any = None) -> Any:
        async def do(*_: object, **__: object) -> Any:
            if word:
                assert_nothing_is_left(site)
                site.did.append(word)
            return result

        return do

    site.be_there(monkeypatch)
    monkeypatch.setattr(install, "bring_up", notes("", site.stack()))
    monkeypatch.setattr(show, "references", notes(""))
    monkeypatch.setattr(show, "vllm_plan", lambda _: SimpleNamespace())
    monkeypatch.setattr(show, "three_tiers", lambda *_, **__: SimpleNamespace(tiers=site.tiers, adapters={VOICE: {}}))
    monkeypatch.setattr(install, "install_operator", notes(""))
    monkeypatch.setattr(regions, "install", notes("install", site.region()))
    monkeypatch.setattr(show, "until_all_ready", notes(""))
    monkeypatch.setattr(show, "_look", notes(""))
    monkeypatch.setattr(acts, "let_them_speak", notes(""))
    monkeypatch.setattr(acts, "swap_under_load", notes("swap"))
    monkeypatch.setattr(acts, "kill_an_engine", notes("kill an engine"))
    monkeypatch.setattr(rollback, "take_back", notes("take back"))
    monkeypatch.setattr(spot, "take_away", notes("take away"))


COMMANDS = {
    "make demo": (show.up, ["swap", "kill an engine"]),
    "make demo-rollback": (show.take_back, ["take back"]),
    "make demo-spot": (show.take_away, ["take away"]),
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_first_puts_back_what_an_interrupted_one_has_left(
    site: Site, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for leave in (_was_left_by_a_killed_run, _was_left_without_its_spot_node, _was_left_with_other_fallbacks):
        leave(site)
    play(site, monkeypatch)
    run, acted = COMMANDS[command]
    await run(Console(site.out))
    assert site.did == ["revive spot-1", "install", *acted]
    assert "spot-1 is made well again" in site.out.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_brings_a_node_back_where_the_region_is_gone(
    site: Site, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _is_gone(site)
    _was_left_without_its_spot_node(site)
    play(site, monkeypatch)
    run, acted = COMMANDS[command]
    await run(Console(site.out))
    assert site.did == ["revive spot-1", "install", *acted]


@pytest.mark.parametrize("command", ["make demo-rollback", "make demo-spot"])
async def test_where_nothing_was_left_a_chapter_begins_at_once(
    site: Site, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(site, monkeypatch)
    run, acted = COMMANDS[command]
    await run(Console(site.out))
    assert site.did == acted
