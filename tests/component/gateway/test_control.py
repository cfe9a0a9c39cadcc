"""Keys, route pushes, long polls, tokens and certificates: what changes while lines are running."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import aiohttp
import pytest

from npc_runtime import wire
from tests.component.gateway.harness import (
    ADMIN_TOKEN,
    ENGINE_KEY,
    KEY,
    NEW,
    OLD,
    Asked,
    Engine,
    Reply,
    Rig,
    World,
    eventually,
    running,
    write_certificate,
)

NAME = wire.served_name("vampire", OLD)


# --- keys


async def test_only_a_known_key_may_speak(rig: Rig, world: World, engine: Engine) -> None:
    for key in (None, "", "wrong", KEY + "x", KEY[:-1]):
        answer = await rig.say(key=key)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (await rig.say(headers={"Authorization": f"Basic {KEY}"}, key=None)).status == 401
    assert (await rig.say(headers={"Authorization": f"bearer {KEY}"}, key=None)).status == 200
    assert engine.chats == 1


async def test_a_key_is_added_and_revoked_on_the_same_connection(rig: Rig, world: World) -> None:
    assert (await rig.say()).status == 200
    assert (await rig.say(key="second")).status == 401
    world.keys = {"game": KEY, "other": "second"}
    await rig.push(world.table())
    assert (await rig.say(key="second")).status == 200
    world.keys = {"other": "second"}
    await rig.push(world.table())
    assert (await rig.say()).status == 401
    assert (await rig.say(key="second")).status == 200


async def test_a_hash_that_is_none_locks_out_nobody_else(rig: Rig, world: World) -> None:
    table = world.table()
    broken = wire.ApiKey(name="broken", sha256="not-a-hash")
    await rig.push(table.model_copy(update={"api_keys": (broken, *table.api_keys)}))
    assert (await rig.say()).status == 200
    assert (await rig.say(key="not-a-hash")).status == 401


async def test_without_authentication_everyone_may_speak(rig: Rig, world: World) -> None:
    world.authentication = "None"
    await rig.push(world.table())
    assert (await rig.say(key=None)).status == 200
    assert (await rig.say(key="anything")).status == 200


async def test_before_the_first_table_nothing_is_served_but_everything_answers(rig: Rig) -> None:
    assert (await rig.say()).status == 503
    assert await rig.ready() == (503, "no route table yet\n")
    async with rig.session.get(rig.url("/healthz", port="health")) as answer:
        assert answer.status == 200
    async with rig.session.get(rig.url("/openapi.json")) as answer:
        assert (await answer.json())["openapi"] == "3.1.0"


# --- pushes


async def test_a_push_is_acknowledged_in_force_and_makes_ready(rig: Rig, engine: Engine) -> None:
    world = World(engines={"gold": [engine]})
    accepted = await rig.push(world.table())
    assert accepted.stamp == wire.Stamp(epoch=1, generation=1)
    assert (await rig.say()).status == 200
    assert await rig.ready() == (200, "ok\n")
    status, body = await rig.admin("GET", "/v1/status")
    assert status == 200
    assert wire.GatewayReport.model_validate(body).stamp == accepted.stamp


async def test_an_older_table_is_refused_with_what_is_in_force(rig: Rig, engine: Engine) -> None:
    world = World(engines={"gold": [engine]}, epoch=5)
    old, new = world.table(), world.table()
    await rig.push(new)
    for stale in (old, old.model_copy(update={"stamp": wire.Stamp(epoch=4, generation=99)})):
        status, body = await rig.admin("PUT", "/v1/routes", data=stale.to_bytes())
        refusal = wire.Refusal.model_validate(body)
        assert (status, refusal.reason, refusal.current) == (409, "StaleOrder", new.stamp)
    await rig.push(new)
    await rig.push(old.model_copy(update={"stamp": wire.Stamp(epoch=6, generation=1)}))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"defaultTier": "iron"}, "iron"),
        ({"protocol": 99}, "99"),
        ({"stamp": {"epoch": -1, "generation": 0}}, "epoch"),
        ({"tiers": "gold"}, "tiers"),
        ({"assignments": [{"npcPrefix": "a", "tier": "iron"}]}, "iron"),
    ],
)
async def test_a_table_that_contradicts_itself_changes_nothing(
    rig: Rig, world: World, change: dict[str, object], word: str
) -> None:
    data = json.loads(world.table().to_bytes()) | change
    status, body = await rig.admin("PUT", "/v1/routes", data=json.dumps(data).encode())
    refusal = wire.Refusal.model_validate(body)
    assert status == 400
    assert refusal.reason in ("BadMessage", "UnsupportedProtocol")
    assert word in refusal.message
    assert ENGINE_KEY not in json.dumps(body)
    assert (await rig.say()).status == 200


async def test_percents_that_do_not_sum_to_a_hundred_are_refused(rig: Rig, world: World) -> None:
    world.aliases = {("gold", "vampire"): [(OLD, 50), (NEW, 49)]}
    status, body = await rig.admin("PUT", "/v1/routes", data=world.table().to_bytes())
    assert status == 400
    assert "99" in body["message"]


async def test_a_broken_message_never_shows_its_secrets(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    data = b'{"stamp":{"epoch":1,"generation":1},"engineKeys":[{"id":5,"key":"hush-hush"}],"agentTokens":"hush-hush"}'
    status, body = await rig.admin("PUT", "/v1/routes", data=data)
    assert status == 400
    assert "hush" not in json.dumps(body) + caplog.text


async def test_a_status_poll_answers_when_something_changed(rig: Rig, world: World) -> None:
    _, now = await rig.admin("GET", "/v1/status")
    path = f"/v1/status?after={now['revision']}&boot={now['bootId']}&wait=50"
    poll = asyncio.ensure_future(rig.admin("GET", path))
    await asyncio.sleep(0.1)
    assert not poll.done()
    await rig.push(world.table())
    status, news = await asyncio.wait_for(poll, 2)
    assert (status, news["revision"]) == (200, now["revision"] + 1)
    assert news["stamp"] == {"epoch": 1, "generation": 2}
    unknown = await asyncio.wait_for(rig.admin("GET", "/v1/status?after=999&boot=other&wait=50"), 2)
    assert unknown == (200, news)
    nothing = await rig.admin("GET", f"/v1/status?after={news['revision']}&boot={news['bootId']}&wait=0.05")
    assert nothing == (200, news)
    assert (await rig.admin("GET", "/v1/status?after=x"))[0] == 400


async def test_tables_swapped_under_load_cost_no_line_and_never_mix_voices(
    rig: Rig, engine: Engine, second: Engine
) -> None:
    old, new = wire.served_name("vampire", OLD), wire.served_name("vampire", NEW)
    for each in (engine, second):
        each.loaded, each.pause = {old, new}, 0.003
    world = World(engines={"gold": [engine, second]})
    await rig.push(world.table())
    done = asyncio.Event()
    answers = []

    async def client(number: int) -> None:
        while not done.is_set():
            answer = await rig.say(stream=number % 2 == 0, npc=f"npc-{number}")
            answers.append(answer)

    clients = [asyncio.ensure_future(client(number)) for number in range(12)]
    for turn in range(60):
        split = [(OLD, 100 - turn % 101), (NEW, turn % 101)]
        world.aliases = {("gold", "vampire"): split if turn % 7 else [(NEW, 100)]}
        world.engines = {"gold": [engine] if turn % 3 == 0 else [second] if turn % 3 == 1 else [engine, second]}
        await rig.push(world.table())
        await asyncio.sleep(0.01)
    done.set()
    await asyncio.gather(*clients)
    assert len(answers) > 200
    assert {answer.status for answer in answers} == {200}
    assert {answer.digest for answer in answers} == {OLD, NEW}
    for answer in answers:
        name = wire.served_name("vampire", answer.digest)
        assert answer.spoken == f"{name} 0 {name} 1 {name} 2 "


async def test_the_engine_key_rotates_without_a_failed_line(rig: Rig, engine: Engine, second: Engine) -> None:
    world = World(engines={"gold": [engine]})
    await rig.push(world.table())
    assert (await rig.say()).status == 200
    second.key = "engine-key-2"
    world.engines, world.engine_keys = {"gold": [second]}, {"k1": ENGINE_KEY, "k2": "engine-key-2"}
    world.engine_key_id = "k2"
    await rig.push(world.table())
    assert (await rig.say()).status == 200
    assert second.asked[0].headers["authorization"] == "Bearer engine-key-2"


async def test_a_running_line_finishes_on_a_pod_that_left_the_table(rig: Rig, engine: Engine, second: Engine) -> None:
    engine.pause = 0.1
    world = World(engines={"gold": [engine]})
    await rig.push(world.table())
    line = asyncio.ensure_future(rig.say(stream=True))
    await eventually(lambda: engine.running == 1)
    world.engines = {"gold": [second]}
    await rig.push(world.table())
    assert (await line).status == 200
    assert (await rig.say()).status == 200
    assert second.chats == 1


# --- tokens and certificates


async def test_the_admin_port_wants_a_token(rig: Rig, world: World) -> None:
    for token in ("", "wrong", ADMIN_TOKEN + "x"):
        status, body = await rig.admin("GET", "/v1/status", token=token)
        assert (status, body["reason"]) == (401, "Unauthorized")
    assert (await rig.admin("GET", "/v1/nothing"))[0] == 404
    assert (await rig.admin("DELETE", "/v1/routes"))[0] == 405


async def test_the_admin_port_speaks_tls_only(rig: Rig) -> None:
    with pytest.raises(aiohttp.ClientError):
        await rig.session.get(rig.url("/v1/status", port="admin"))


async def test_tokens_rotate_without_restart(rig: Rig) -> None:
    folder = rig.internal
    (folder / "token-previous").write_text(ADMIN_TOKEN)
    (folder / "token").write_text("new-token")
    assert (await rig.admin("GET", "/v1/status", token="new-token"))[0] == 200
    assert (await rig.admin("GET", "/v1/status", token=ADMIN_TOKEN))[0] == 200
    (folder / "token-previous").write_text("")
    async with asyncio.timeout(5):
        while (await rig.admin("GET", "/v1/status", token=ADMIN_TOKEN))[0] != 401:
            pass
    assert (await rig.admin("GET", "/v1/status", token="new-token"))[0] == 200


async def test_the_certificate_rotates_without_restart(rig: Rig) -> None:
    assert (await rig.admin("GET", "/v1/status"))[0] == 200
    write_certificate(rig.internal)
    async with asyncio.timeout(5):
        while True:
            try:
                assert (await rig.admin("GET", "/v1/status"))[0] == 200
                break
            except aiohttp.ClientConnectorCertificateError:
                await asyncio.sleep(0.05)


async def test_a_broken_certificate_leaves_the_old_one_in_force(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    old = {name: (rig.internal / name).read_bytes() for name in ("tls.crt", "tls.key")}
    (rig.internal / "tls.crt").write_text("nonsense")
    (rig.internal / "token").write_text("new-token")
    await eventually(lambda: "cannot read the internal folder" in caplog.text)
    assert (await rig.admin("GET", "/v1/status"))[0] == 200
    for name, data in old.items():
        (rig.internal / name).write_bytes(data)
    assert (await rig.admin("GET", "/v1/status", token="new-token"))[0] == 200


# --- restarts


async def test_a_restarted_gateway_serves_from_its_disk(tmp_path: Path, engine: Engine) -> None:
    world = World(engines={"gold": [engine]})
    async with running(tmp_path) as rig:
        await rig.push(world.table())
        await rig.push(world.table())
    saved = tmp_path / "state" / "routes.json"
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    async with running(tmp_path) as rig:
        assert (await rig.say()).status == 200
        assert rig.gateway.routes.stamp == wire.Stamp(epoch=1, generation=2)
        stale = world.table().model_copy(update={"stamp": wire.Stamp(epoch=1, generation=1)})
        assert (await rig.admin("PUT", "/v1/routes", data=stale.to_bytes()))[0] == 409


@pytest.mark.parametrize(("disk", "secret", "wins"), [(1, 2, NEW), (2, 1, OLD), (2, 2, OLD)])
async def test_the_newer_of_disk_and_secret_wins(
    tmp_path: Path, engine: Engine, disk: int, secret: int, wins: str
) -> None:
    engine.loaded = {wire.served_name("vampire", OLD), wire.served_name("vampire", NEW)}
    (tmp_path / "state").mkdir()
    (tmp_path / "routes").mkdir()
    for folder, generation, digest in (("state", disk, OLD), ("routes", secret, NEW)):
        world = World(engines={"gold": [engine]}, aliases={("gold", "vampire"): [(digest, 100)]})
        world.generation = generation - 1
        (tmp_path / folder / "routes.json").write_bytes(world.table().to_bytes())
    async with running(tmp_path) as rig:
        assert (await rig.say()).digest == wins


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"protocol":99}', b"\x00" * 100])
async def test_a_broken_file_is_passed_over(tmp_path: Path, engine: Engine, data: bytes) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "routes").mkdir()
    (tmp_path / "state" / "routes.json").write_bytes(data)
    (tmp_path / "routes" / "routes.json").write_bytes(World(engines={"gold": [engine]}).table().to_bytes())
    async with running(tmp_path) as rig:
        assert (await rig.say()).status == 200


async def test_a_state_folder_that_cannot_be_written_does_not_stop_serving(
    tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, state_dir=tmp_path / "missing" / "folder") as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        assert (await rig.say()).status == 200
        await rig.gateway.routes.saved()
    assert "cannot keep the route table" in caplog.text


# --- the end


async def test_on_shutdown_it_turns_unready_at_once_and_finishes_its_lines(tmp_path: Path, engine: Engine) -> None:
    engine.pause = 0.2
    async with running(tmp_path, shutdown_delay=0.3) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        line = asyncio.ensure_future(rig.say(stream=True))
        await eventually(lambda: engine.running == 1)
        stopping = asyncio.ensure_future(rig.gateway.stop())
        await asyncio.sleep(0.05)
        assert (await rig.ready())[0] == 503
        late = asyncio.ensure_future(rig.say())
        answers = await asyncio.gather(line, late)
        assert [answer.status for answer in answers] == [200, 200]
        assert answers[1].headers["Connection"] == "close"
        await asyncio.wait_for(stopping, 3)
        with pytest.raises(aiohttp.ClientError):
            await rig.say()


async def test_on_shutdown_lines_that_do_not_end_are_cut_after_the_drain_time(tmp_path: Path, engine: Engine) -> None:
    engine.pause = 30
    async with running(tmp_path, drain=0.3) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        line = asyncio.ensure_future(rig.say(stream=True))
        await eventually(lambda: engine.running == 1)
        await asyncio.wait_for(rig.gateway.stop(), 3)
        with pytest.raises(aiohttp.ClientError):
            await line
        await asyncio.wait_for(engine.aborted.wait(), 1)


# --- what is told about it


async def test_the_access_log_names_who_and_what_but_no_words_and_no_keys(
    tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        headers = {"X-Player-Id": "player-1", "X-Request-Id": "r-1"}
        messages = [{"role": "user", "content": "my deepest secret"}]
        await rig.say(npc="npc-1", stream=True, messages=messages, headers=headers)
        await rig.say(key="wrong-key")
        await rig.say("ghoul")
    line, refused, unknown = rig.access_lines()
    assert line | {"time": 0, "durationSeconds": 0, "firstTokenSeconds": 0} == {
        "time": 0,
        "requestId": "r-1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "durationSeconds": 0,
        "firstTokenSeconds": 0,
        "archetype": "vampire",
        "tier": "gold",
        "digest": OLD,
        "pod": f"gold-{engine.port}",
        "npc": "npc-1",
        "player": "player-1",
        "key": "game",
        "attempts": 1,
    }
    assert (refused["status"], refused["reason"]) == (401, "Unauthorized")
    assert (unknown["status"], unknown["reason"]) == (404, "NotFound")
    everything = rig.log.getvalue().decode() + caplog.text
    for secret in ("deepest", KEY, "wrong-key", ENGINE_KEY, ADMIN_TOKEN, NAME):
        assert secret not in everything


async def test_the_access_log_can_be_switched_off(tmp_path: Path, engine: Engine) -> None:
    async with running(tmp_path, access_log=False) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        await rig.say()
    assert rig.log.getvalue() == b""


async def test_metrics_have_base_units_bounded_labels_and_follow_the_table(rig: Rig, world: World) -> None:
    for number in range(5):
        await rig.say(npc=f"npc-{number}", stream=True)
        await rig.say(f"unknown-{number}")
    text = await rig.metrics()
    assert 'npc_gateway_requests_total{archetype="vampire",code="200",tier="gold"} 5.0' in text
    assert 'npc_gateway_requests_total{archetype="",code="404",tier=""} 5.0' in text
    assert 'npc_gateway_time_to_first_token_seconds_count{archetype="vampire",tier="gold"} 5.0' in text
    assert 'npc_gateway_request_duration_seconds_count{archetype="vampire",tier="gold"} 5.0' in text
    assert "unknown-" not in text
    assert "npc-1" not in text
    await rig.push(world.table())
    assert 'npc_gateway_requests_total{archetype="vampire",code="200",tier="gold"} 5.0' in await rig.metrics()
    world.aliases = {("gold", "zombie"): [(OLD, 100)]}
    await rig.push(world.table())
    assert 'archetype="vampire"' not in await rig.metrics()


async def test_a_line_in_flight_is_counted_as_such(rig: Rig, world: World, engine: Engine) -> None:
    go_on = asyncio.Event()

    async def script(asked: Asked, reply: Reply) -> None:
        await go_on.wait()
        await engine.answer(asked, reply)

    engine.script = script
    line = asyncio.ensure_future(rig.say())
    await eventually(lambda: engine.running == 1)
    assert 'npc_gateway_requests_in_flight{archetype="vampire",tier="gold"} 1.0' in await rig.metrics()
    go_on.set()
    await line
    assert 'npc_gateway_requests_in_flight{archetype="vampire",tier="gold"} 0.0' in await rig.metrics()
