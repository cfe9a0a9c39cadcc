"""Health: what kubelet and Prometheus are told, over real HTTP."""

from __future__ import annotations

import asyncio

import aiohttp

from npc_operator.edge.health import TICK_SECONDS, HealthServer, LagMeter
from tests.support.fake_clock import FakeClock, run_virtual


async def test_findings_make_it_unhealthy_with_their_own_words() -> None:
    findings = {"alive": "", "ready": "not yet"}
    server = HealthServer(
        host="127.0.0.1",
        port=0,
        alive=lambda: findings["alive"],
        ready=lambda: findings["ready"],
        metrics=lambda: b"npc_operator_leader 1.0\n",
        metrics_type="text/plain; version=0.0.4; charset=utf-8",
    )
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:

            async def get(path: str) -> tuple[int, str]:
                async with session.get(path) as answer:
                    return answer.status, await answer.text()

            assert await get("/healthz") == (200, "ok\n")
            assert await get("/readyz") == (503, "not yet\n")
            findings.update(alive="the watchers are dead", ready="")
            assert await get("/healthz") == (503, "the watchers are dead\n")
            assert await get("/readyz") == (200, "ok\n")
            assert await get("/metrics") == (200, "npc_operator_leader 1.0\n")
            assert (await get("/elsewhere"))[0] == 404
    finally:
        await server.stop()
    assert server.port == 0


def test_the_lag_of_the_event_loop_is_seen_during_and_after_a_block() -> None:
    async def scenario(clock: FakeClock) -> None:
        told: list[float] = []
        meter = LagMeter(clock, told=told.append)
        task = asyncio.create_task(meter.run())
        await asyncio.sleep(5)
        assert meter.present() < 0.001
        clock.advance(TICK_SECONDS + 7)  # something blocks the loop
        assert meter.present() > 6
        await asyncio.sleep(0.001)
        assert max(told) > 6
        await asyncio.sleep(TICK_SECONDS * 2)
        assert meter.present() < 0.001
        task.cancel()

    run_virtual(scenario)
