"""Which region the chapter on a bad vampire uses as it is, and which is installed anew first."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hack.demo import show
from hack.demo.console import Console
from hack.demo.rollback import FORBIDDEN, VOICE
from hack.stack import regions
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


class Site:
    """A cluster with the demo in it, and what was done to it."""

    def __init__(self) -> None:
        self.adapter = seen("ArchetypeAdapter", VOICE, variants=[dict(STABLE)])
        self.objects = [seen("GpuTier", "gold"), self.adapter, seen("NPCRegion", show.REGION)]
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
        return self.operator if kind == "deployment" else self.adapter

    async def patch(self, kind: str, name: str, namespace: str, patch: dict[str, Any]) -> None:
        self.adapter["spec"] |= patch["spec"]

    async def all_objects(self) -> list[dict[str, Any]]:
        return self.objects

    async def usable(self, monkeypatch: pytest.MonkeyPatch) -> bool:
        kubectl = SimpleNamespace(list=self.listed, find=self.find, patch=self.patch)
        region = SimpleNamespace(kubectl=kubectl, namespace=show.REGION, objects=self.all_objects)
        stack = SimpleNamespace(kubectl=kubectl, helm=None, images=SimpleNamespace(fleet=FLEET))
        plan = SimpleNamespace(tiers={"gold": {}}, adapters={VOICE: {}})

        async def find(*_: object) -> Any:
            return region if self.installed else None

        async def uninstall(kubectl: object, helm: object, release: str, namespace: str) -> None:
            self.uninstalled.append(release)

        monkeypatch.setattr(regions, "find", find)
        monkeypatch.setattr(regions, "uninstall", uninstall)
        return await show.find_usable(Console(self.out), cast("Stack", stack), cast("RegionPlan", plan)) is not None


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
    ],
)
async def test_a_region_that_is_not_as_it_should_be_is_installed_again(
    site: Site, spoil: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(site)
    assert not await site.usable(monkeypatch)
    assert not site.uninstalled
    assert (site.adapter["spec"].get("answers") or {}).get("mustNotMatch") is None
