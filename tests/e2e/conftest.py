"""The product on the local cluster, once for the whole suite: real nodes, real charts, real vLLM, a real S3 server.

One event loop for all of it, because the fixtures live through the suite. Of what an earlier run left behind, cluster
and operator are taken over and regions are taken away, so a run can follow any other at any point.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from hack.cluster.control_plane import CONTEXT
from hack.stack import install, regions
from hack.stack.install import Stack
from hack.stack.references import References, references
from hack.stack.region import RegionPlan
from hack.stack.regions import Region
from tests.e2e import evidence
from tests.e2e.plans import RESYNC_SECONDS, TRIED, quiet_region, real_region, trial_region
from tests.e2e.trials import said_by
from tests.e2e.world import World
from tests.support.fake_engine import one_file

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
    # Takes away what all others use.
    items.sort(key=lambda item: item.path == HERE / "test_uninstall.py")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    made = item.funcargs.get("stack") if isinstance(item, pytest.Function) else None
    if report.failed and isinstance(made, Stack):
        crash = getattr(report.longrepr, "reprcrash", None)
        failure = f"{item.name}: {getattr(crash, 'message', 'failed')}"
        report.sections.append(("the cluster just after", evidence.collect(made, failure.replace("\n", " ")[:300])))
    return report


def _say(line: str) -> None:
    print(f"\n==> {line}", flush=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack() -> Stack:
    """Cluster, images, models, S3 server and both cluster-wide charts."""
    made = await install.bring_up(_say)
    # Nothing but the local cluster may ever be a target of these tests.
    assert made.cluster.context == CONTEXT
    _say("operator: two replicas by the npc-operator chart")
    await install.install_operator(made, resyncSeconds=RESYNC_SECONDS)
    return made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def answers(stack: Stack) -> References:
    """What a lone vLLM says with each adapter."""
    return await references(stack.catalog)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(stack: Stack, answers: References) -> World:
    """The region with three real vLLM tiers, Ready."""
    _say("region eu-west: three tiers of real vLLM")
    made = World(stack, await _install_anew(stack, real_region(stack)), answers)
    await made.until_all_ready(timeout=900)
    return made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def quiet(stack: Stack, answers: References) -> World:
    """A region of fake engines for what needs no tokens, Ready."""
    return await _fake(stack, answers, "quiet-1")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def trials(stack: Stack, answers: References) -> World:
    """A region of fake engines in which candidates are tried, Ready."""
    _say("region trials: two tiers of fake engines, and a voice for each story")
    made = World(stack, await _install_anew(stack, trial_region(stack, "trials"), fake_engine=one_file()), answers)
    digest = stack.adapter("vampire-v1")[1]
    made.references = {(voice, digest): said_by(stack.catalog.adapter("vampire-v1")) for voice in TRIED}
    await made.until_all_ready(timeout=300)
    return made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def three_regions(world: World, quiet: World, trials: World) -> list[World]:
    """One real region and two of fake engines."""
    return [world, quiet, trials]


@pytest_asyncio.fixture(loop_scope="session")
async def disposable(stack: Stack, answers: References) -> AsyncIterator[World]:
    """A region of fake engines that a test may destroy."""
    yield await _fake(stack, answers, "disposable")
    await regions.uninstall(stack.kubectl, stack.helm, "disposable", "disposable")


async def _fake(stack: Stack, answers: References, name: str) -> World:
    made = World(stack, await _install_anew(stack, quiet_region(stack, name), fake_engine=one_file()), answers)
    await made.until_all_ready()
    return made


async def _install_anew(stack: Stack, plan: RegionPlan, *, fake_engine: str = "") -> Region:
    """A region that is as its plan says. One that is there already may be as a test that was ended in its middle had
    made it: scaled to nothing, paused, half deleted; the chart writes over none of that.
    """
    if await stack.kubectl.find("namespace", plan.name, "") is not None:
        _say(f"region {plan.name}, left by an earlier run or by the demo, is taken away")
        await regions.uninstall(stack.kubectl, stack.helm, plan.name, plan.name)
    return await regions.install(stack, plan, fake_engine=fake_engine)
