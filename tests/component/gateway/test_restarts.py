"""A gateway that starts with the operator away serves what it knew last."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from npc_runtime import wire
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import running
from tests.component.gateway.regions import World
from tests.component.gateway.words import NEW, OLD


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
