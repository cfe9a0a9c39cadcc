"""What we own is put back, what others own is left alone, at rest nothing is written, and nothing stays behind. On fake
engines: no tokens needed.
"""

from __future__ import annotations

import asyncio

import pytest

from hack.stack.audit import WRITES, AuditLog, Request
from tests.e2e.world import World

REST_SECONDS = 120
"""The window of rest; it holds at least two resyncs because the test's operator resyncs every 45 s."""

CALM_SECONDS = 15
"""Without a write for so long, nothing that came before is still being written: the Secret with the last routes follows
a change by up to 5 s, and so does the last word of a region's status on its gateways.
"""


async def test_foreign_changes_to_owned_children_are_put_back(quiet: World) -> None:
    name = "bronze-on-demand"
    deployment = await quiet.kubectl.get("deployment", name, quiet.namespace)
    wanted = deployment["spec"]["replicas"]
    await quiet.kubectl.patch("deployment", name, quiet.namespace, {"spec": {"replicas": wanted + 3}})
    await quiet.kubectl.until(
        "deployment",
        name,
        quiet.namespace,
        lambda seen: seen["spec"]["replicas"] == wanted and seen["metadata"]["generation"] >= 3,
        timeout=30,
    )
    budget = await quiet.kubectl.get("poddisruptionbudget", "bronze-engine", quiet.namespace)
    await quiet.kubectl.delete("poddisruptionbudget", "bronze-engine", quiet.namespace)
    await quiet.kubectl.until(
        "poddisruptionbudget",
        "bronze-engine",
        quiet.namespace,
        lambda seen: seen["metadata"]["uid"] != budget["metadata"]["uid"],
        timeout=30,
    )


async def test_foreign_fields_on_owned_children_are_left_alone(quiet: World) -> None:
    name = "bronze-on-demand"
    await quiet.kubectl.patch(
        "deployment", name, quiet.namespace, {"metadata": {"annotations": {"studio.example/team": "voices"}}}
    )
    # A change of ours makes the operator write this very object, and the foreign annotation must survive that.
    await quiet.kubectl.patch(
        "gputier", "bronze", quiet.namespace, {"spec": {"podAnnotations": {"studio.example/round": "two"}}}
    )
    seen = await quiet.kubectl.until(
        "deployment",
        name,
        quiet.namespace,
        lambda o: o["spec"]["template"]["metadata"].get("annotations", {}).get("studio.example/round") == "two",
        timeout=60,
    )
    assert seen["metadata"]["annotations"]["studio.example/team"] == "voices"
    await quiet.until_all_ready()


async def test_applying_the_same_manifests_again_changes_nothing(quiet: World) -> None:
    before = await quiet.fingerprint()
    await quiet.apply_again()
    await quiet.until_all_ready()
    assert await quiet.fingerprint() == before


async def test_no_annotation_or_finalizer_of_ours_is_on_the_users_objects(quiet: World) -> None:
    for kind in ("npcregion", "gputier", "archetypeadapter"):
        for seen in await quiet.kubectl.list(kind, quiet.namespace):
            assert not seen["metadata"].get("finalizers")
            assert not [
                name for name in seen["metadata"].get("annotations", {}) if "kopf" in name or "npcfleet" in name
            ]


async def test_at_rest_nothing_is_written_for_two_minutes_with_three_regions(three_regions: list[World]) -> None:
    for region in three_regions:
        await region.until_all_ready()
    operator = f"system:serviceaccount:{three_regions[0].system}:"
    log = AuditLog(three_regions[0].audit_log)
    # On a machine that stands still for seconds a probe may time out or the leader may change, and to write then is
    # right: that was no window of rest, and another begins.
    async with asyncio.timeout(1200):
        while True:
            while await _writes_within(log, CALM_SECONDS, operator):
                pass
            leadership = await three_regions[0].leadership()
            await asyncio.to_thread(_wait, REST_SECONDS)
            window = list(log.requests())
            seen = [request for request in window if operator in request.user]
            writes = [request for request in seen if request.verb in WRITES and request.resource != "leases"]
            if not writes:
                break
            stirred = _writes_to_pods(window, {region.namespace for region in three_regions})
            assert stirred or await three_regions[0].leadership() != leadership, writes
    looks = [request for request in seen if request.verb == "list" and request.resource == "npcregions"]
    assert len(looks) >= 2, "the window must hold at least two whole looks at everything"


def _writes_to_pods(window: list[Request], namespaces: set[str]) -> list[Request]:
    """What kubelets and controllers had to say of the regions' pods; at rest that is nothing."""
    return [
        request
        for request in window
        if request.verb in WRITES and request.namespace in namespaces and request.resource.startswith("pods")
    ]


async def _writes_within(log: AuditLog, seconds: float, user: str) -> list[Request]:
    """What a user writes in the next so many seconds, Leases apart."""
    await asyncio.to_thread(_wait, seconds)
    return [request for request in log.writes(user) if request.resource != "leases"]


def _wait(seconds: float) -> None:
    """The one wait that is the thing being tested: a window of time in which nothing may happen."""
    import threading

    threading.Event().wait(seconds)


@pytest.mark.parametrize(
    "order", ["region first", "adapters first", "namespace at once", "namespace of dead engines and agents"]
)
async def test_deleting_in_any_order_finishes_also_with_the_operator_gone(disposable: World, order: str) -> None:
    await disposable.scale_operator(0)
    try:
        if order == "namespace of dead engines and agents":
            for pod in await disposable.pods("bronze"):
                await disposable.kill_engine(pod)
                await disposable.kill_agent(pod)
        if order.startswith("namespace"):
            await disposable.kubectl.delete("namespace", disposable.namespace, "")
        else:
            kinds = ["npcregion", "gputier", "archetypeadapter"]
            for kind in kinds if order == "region first" else reversed(kinds):
                await disposable.kubectl.run("delete", kind, "--all", "-n", disposable.namespace)
            await disposable.until_no_children()
    finally:
        await disposable.scale_operator(2)
