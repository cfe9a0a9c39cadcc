"""A pod's address may soon be another pod's: what is meant for the one before is refused, and no stranger is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from npc_runtime import wire
from tests.component.gateway.agents import Agent
from tests.component.gateway.certificates import make_internal
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Rig, eventually, running
from tests.component.gateway.regions import World
from tests.component.gateway.words import ADMIN_TOKEN, NAMESPACE, OLD

OURS = "7d1f2c9e-0000-4000-8000-000000000001"
THEIRS = "7d1f2c9e-0000-4000-8000-000000000002"
NAME = wire.served_name("vampire", OLD)


@pytest.fixture
async def named(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway that knows its pod."""
    async with running(tmp_path, pod_uid=OURS) as rig:
        yield rig


async def push(rig: Rig, table: wire.RouteTable, meant: str) -> tuple[int, dict[str, object]]:
    return await rig.admin("PUT", "/v1/routes", data=table.to_bytes(), headers={wire.POD_HEADER: meant})


async def test_a_push_for_another_pod_is_refused_and_changes_nothing(named: Rig, engine: Engine) -> None:
    world = World(engines={"gold": [engine]})
    status, body = await push(named, world.table(), THEIRS)
    refusal = wire.Refusal.model_validate(body)
    assert (status, refusal.reason) == (421, "OtherPod")
    assert refusal.message == f"this is pod {OURS}, not {THEIRS}"
    assert named.gateway.routes.current is None
    assert (await named.say()).status == 503


async def test_a_push_for_another_pod_is_refused_before_its_body_is_sent(named: Rig) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        named.gateway.ports["admin"],
        ssl=named.admin_tls(),
        server_hostname=wire.server_name(NAMESPACE),
    )
    head = (
        f"PUT /v1/routes HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n{wire.POD_HEADER}: {THEIRS}\r\n"
    )
    writer.write(head.encode() + b"Content-Length: 1000000\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 421 ")
    writer.transport.abort()


async def test_a_poll_for_another_pod_is_refused(named: Rig) -> None:
    status, body = await named.admin("GET", "/v1/status", headers={wire.POD_HEADER: THEIRS})
    assert (status, body["reason"]) == (421, "OtherPod")
    assert "bootId" not in body


async def test_without_a_token_nobody_learns_which_pod_this_is(named: Rig) -> None:
    status, body = await named.admin("GET", "/v1/status", token="wrong", headers={wire.POD_HEADER: THEIRS})
    assert (status, body["reason"]) == (401, "Unauthorized")
    assert OURS not in str(body)


async def test_an_endless_name_of_a_pod_does_not_come_back_whole(named: Rig) -> None:
    _, body = await named.admin("GET", "/v1/status", headers={wire.POD_HEADER: "x" * 4000})
    assert body["reason"] == "OtherPod"
    assert len(body["message"]) < 200


@pytest.mark.parametrize("meant", [OURS, ""], ids=["for this pod", "for whoever is there"])
async def test_what_is_meant_for_this_pod_or_for_none_by_name_is_taken(named: Rig, engine: Engine, meant: str) -> None:
    assert (await push(named, World(engines={"gold": [engine]}).table(), meant))[0] == 200
    assert (await named.admin("GET", "/v1/status", headers={wire.POD_HEADER: meant}))[0] == 200
    assert (await named.say()).status == 200


async def test_a_gateway_that_does_not_know_its_pod_takes_everything(rig: Rig, engine: Engine) -> None:
    assert (await push(rig, World(engines={"gold": [engine]}).table(), THEIRS))[0] == 200


async def test_agents_are_told_which_pod_is_meant_and_a_stranger_is_not_heard(tmp_path: Path, engine: Engine) -> None:
    internal = make_internal(tmp_path / "internal")
    async with Agent(internal, host="127.0.0.1") as agent, running(tmp_path, agent_port=agent.port) as rig:
        agent.uid = THEIRS
        # The stranger has nothing resident: were it heard, the line would not be answered.
        await rig.push(World(engines={"gold": [engine]}, agent_ca=(internal / "ca.crt").read_text()).table())
        await eventually(lambda: len(agent.meant) > 1)
        assert set(agent.meant) == {f"uid-{engine.port}"}
        assert rig.gateway.agents_in_contact == 0
        assert (await rig.say()).status == 200
        agent.uid = f"uid-{engine.port}"
        await eventually(lambda: rig.gateway.agents_in_contact == 1)
        assert (await rig.say()).status == 503
