"""drill: nothing happens without a yes; what was killed is waited for, and the time is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from npc_runtime.cli.answers import Code
from npc_runtime.cli.commands import drill
from tests.component.cli.conftest import CORE, LEASES, OPERATOR_PODS, POD, Run, ours
from tests.component.cli.fake_api import FakeApi
from tests.unit.cli import objects as o


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "LOOK_SECONDS", 0.01)


def pods(api: FakeApi) -> list[dict[str, Any]]:
    return api.collections[f"{CORE}/pods"]


async def test_nothing_is_done_without_a_yes(run: Run, api: FakeApi) -> None:
    for words in (("engine", POD), ("pod", POD)):
        ran = await run("drill", *words)
        assert ran.code == Code.DECLINED
        assert "nothing was done" in ran.err
    assert not api.executed
    assert {method for method, _ in api.requests} == {"GET"}


async def test_an_engine_is_killed_and_waited_for(run: Run, api: FakeApi) -> None:
    def restarted(_: FakeApi) -> None:
        pods(api)[0]["status"]["containerStatuses"] = [o.container("engine", restarts=1)]

    api.on_change = restarted
    ran = await run("drill", "engine", "--tier", "gold", "--yes", "-o", "json")
    assert ran.code == Code.FINE, ran.err
    assert json.loads(ran.out)["over"] is True
    assert [pod for pod, _ in api.executed] == [POD]
    assert api.executed[0][1][:2] == ["python3", "-c"]


async def test_an_engine_that_does_not_come_back_is_a_failed_drill(run: Run, api: FakeApi) -> None:
    ran = await run("drill", "engine", POD, "--yes", "--wait", "0.1")
    assert ran.code == Code.NOT_AS_WANTED
    assert "not over after" in ran.out


async def test_a_pod_is_deleted_by_its_uid_and_another_waited_for(run: Run, api: FakeApi) -> None:
    def replaced(_: FakeApi) -> None:
        pods(api).append(ours(o.pod("gold-on-demand-5d9c7-young")))

    api.on_change = replaced
    ran = await run("drill", "pod", POD, "--yes")
    assert ran.code == Code.FINE, ran.err
    assert ("DELETE", f"{CORE}/pods/{POD}") in api.requests
    assert "tier gold has 1 ready pods again" in ran.out


async def test_the_leader_is_deleted_and_another_waited_for(run: Run, api: FakeApi) -> None:
    leader = o.pod("npc-operator-6f9d")
    leader["metadata"]["namespace"] = "npc-system"
    api.put(OPERATOR_PODS, leader)

    def taken_over(_: FakeApi) -> None:
        api.collections[LEASES][0]["spec"]["holderIdentity"] = "npc-operator-other_ffff"

    api.on_change = taken_over
    ran = await run("drill", "leader", "--yes")
    assert ran.code == Code.FINE, ran.err
    assert api.collections[OPERATOR_PODS] == []


async def test_without_waiting_the_drill_ends_when_it_is_done(run: Run, api: FakeApi) -> None:
    ran = await run("drill", "engine", POD, "--yes", "--wait", "0")
    assert (ran.code, ran.out) == (Code.FINE, "done; not waited for\n")


async def test_only_engine_pods_are_killed(run: Run, api: FakeApi) -> None:
    ran = await run("drill", "pod", "eu-west-gateway-7c6f-b2k9d", "--yes")
    assert ran.code == Code.USAGE
    assert len(pods(api)) == 2


async def test_a_missing_right_is_named(run: Run, api: FakeApi) -> None:
    api.refused |= {("create", "pods/exec"), ("delete", "pods")}
    assert "you may not create pods/exec" in (await run("drill", "engine", POD, "--yes")).err
    assert "you may not delete pods" in (await run("drill", "pod", POD, "--yes")).err


async def test_a_drill_needs_a_pod_or_a_tier(run: Run) -> None:
    assert (await run("drill", "engine", "--yes")).code == Code.USAGE
    assert (await run("drill", "engine", "--tier", "silver", "--yes")).code == Code.NOT_FOUND


async def test_an_api_server_that_is_away_for_a_moment_ends_no_drill(
    run: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{CORE}/pods/{POD}"
    left = iter(range(3))

    def sleep(_: float) -> None:
        if next(left, None) is None:
            api.broken.clear()

    def killed(_: FakeApi) -> None:
        pods(api)[0]["status"]["containerStatuses"] = [o.container("engine", restarts=1)]
        api.broken[path] = 500

    api.on_change = killed
    monkeypatch.setattr("npc_runtime.cli.__main__.time.sleep", sleep)
    ran = await run("drill", "engine", POD, "--yes")
    assert ran.code == Code.FINE, ran.err
    assert api.requests.count(("GET", path)) == 5


async def test_ctrl_c_says_that_it_was_done_all_the_same(
    run: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("npc_runtime.cli.__main__.time.sleep", sleep)
    ran = await run("drill", "engine", POD, "--yes")
    assert ran.code == Code.INTERRUPTED
    assert "it was done and goes on" in ran.err
    assert len(api.executed) == 1


async def test_a_pod_that_is_lost_is_not_waited_for_without_end(run: Run, api: FakeApi) -> None:
    """Its node is gone and nobody has noticed: streams to it open and say nothing, or do not even open."""
    words = ("drill", "engine", POD, "--yes", "--request-timeout", "4")
    api.stuck = True
    ran = await run(*words)
    assert ran.code == Code.NOT_REACHED
    assert "it did not end within 4 s" in ran.err
    api.mute.add(f"{CORE}/pods/{POD}/exec")
    ran = await run(*words)
    assert ran.code == Code.NOT_REACHED
    assert f"pod {POD} cannot be reached: nobody answered within 4 s" in ran.err
