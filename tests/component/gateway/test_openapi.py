"""The OpenAPI document is true: requests generated from it, good and bad, meet nothing it does not say."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from npc_runtime.gateway.openapi import document
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Rig
from tests.component.gateway.regions import World
from tests.component.gateway.words import KEY


@pytest.mark.timeout(180)
async def test_schemathesis_finds_nothing(rig: Rig, world: World, engine: Engine, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text("")
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(config), "run", rig.url("/openapi.json"), "--url", rig.url("/")),
        *("--header", f"Authorization: Bearer {KEY}", "--checks", "all", "--max-examples", "60"),
        *("--phases", "examples,coverage,fuzzing", "--generation-deterministic", "--no-color", "--workers", "2"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-6000:]
    # Not only refusals were looked at: the document's own example is a line that is answered.
    assert engine.chats > 0


async def test_both_ports_serve_the_same_document(rig: Rig) -> None:
    served = []
    for port in ("data", "health"):
        async with rig.session.get(rig.url("/openapi.json", port=port)) as answer:
            assert answer.status == 200
            served.append(await answer.json())
    assert served == [document(), document()]


def test_every_schema_in_the_document_is_a_schema() -> None:
    for schema in document()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
