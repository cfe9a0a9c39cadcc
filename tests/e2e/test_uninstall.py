"""Nothing stays behind: not of a region while the operator works, and not of everything, in the documented order.

These tests come last (see conftest): the second takes away what all others use.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from hack.stack import install, regions
from hack.stack.install import OPERATOR_NAMESPACE, Stack
from hack.stack.kubectl import Kubectl
from hack.stack.region import FAKE_CONFIG_MAP, SECRET_API_KEYS, SECRET_STORAGE
from tests.e2e.world import World

USERS = {
    f"configmap/{FAKE_CONFIG_MAP}",
    f"secret/{SECRET_API_KEYS}",
    f"secret/{SECRET_STORAGE}",
    # Of every namespace that there is.
    "configmap/kube-root-ca.crt",
    "serviceaccount/default",
}
"""What was in the namespace before the chart came, and has to be there after it."""


async def until_only(expected: set[str], kubectl: Kubectl, kinds: tuple[str, ...], *scope: str) -> None:
    """Nothing but `expected` (`kind/name`) is there of all `kinds` (flags of api-resources) that can be listed. The
    garbage collector takes things one after the other and tells nobody, so it is looked at again for five minutes.
    """
    listed = (await kubectl.run("api-resources", "--verbs=list", "-o", "name", *kinds)).split()
    # Events are memories and pass by themselves; the list of component statuses is made up at every call.
    asked = ",".join(kind for kind in listed if not kind.startswith(("events", "componentstatuses")))
    deadline = time.monotonic() + 300
    while True:
        left = set((await kubectl.run("get", asked, *scope, "-o", "name")).split())
        if left == expected or time.monotonic() > deadline:
            break
        await asyncio.sleep(1)
    assert left == expected


async def until_unknown(group: str, kubectl: Kubectl) -> None:
    """The API server names no kind of the group any more; it takes them off its list a moment after their CRDs."""
    deadline = time.monotonic() + 120
    while group in (listed := await kubectl.run("api-resources", "-o", "name")):
        assert time.monotonic() < deadline, listed
        await asyncio.sleep(0.5)


async def test_uninstalling_a_region_leaves_what_was_there_before(disposable: World) -> None:
    await disposable.stack.helm.uninstall(disposable.region.name, disposable.namespace, "--wait")
    await until_only(USERS, disposable.kubectl, ("--namespaced=true",), "-n", disposable.namespace)


@pytest.mark.usefixtures("world")
async def test_uninstalling_everything_in_the_documented_order_leaves_nothing(stack: Stack) -> None:
    for name, namespace in (await stack.helm.releases("npc-region")).items():
        await regions.uninstall(stack.kubectl, stack.helm, name, namespace)
    await install.uninstall_operator(stack.kubectl, stack.helm)
    await until_unknown("npcfleet.dev", stack.kubectl)
    await until_only(set(), stack.kubectl, (), "-A", "-l", "app.kubernetes.io/part-of=npc-fleet")
    assert await stack.kubectl.find("namespace", OPERATOR_NAMESPACE, "") is None
