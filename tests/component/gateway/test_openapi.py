"""The OpenAPI document is true: requests generated from it, good and bad, meet nothing it does not say."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from npc_runtime.gateway import errors
from npc_runtime.gateway.openapi import document
from npc_runtime.gateway.service import _METHODS
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Rig
from tests.component.gateway.regions import World
from tests.component.gateway.words import KEY


@pytest.mark.timeout(600)
async def test_schemathesis_finds_nothing(rig: Rig, world: World, engine: Engine, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text("")
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(config), "run", rig.url("/openapi.json"), "--url", rig.url("/")),
        *("--header", f"Authorization: Bearer {KEY}", "--checks", "all", "--max-examples", "60"),
        # One worker: CPython 3.11 parses sources in two threads at once only with luck (gh-106905).
        *("--phases", "examples,coverage,fuzzing", "--generation-deterministic", "--no-color", "--workers", "1"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-6000:]
    # Not only refusals were looked at: the document's own examples are lines that are answered.
    said = [asked.body["messages"][0].get("content") for asked in engine.asked]
    for schema, example in (
        ("Completion", "Who goes there?"),
        ("LineRequest", "Midnight, at the castle's gate. It rains."),
    ):
        assert example in said, schema


def test_the_document_has_every_path_that_is_served() -> None:
    assert set(document()["paths"]) == {path.decode() for path in _METHODS} | {"/v1/npcs/{npc}/lines"}
    for path, operations in document()["paths"].items():
        assert set(operations) == {_METHODS.get(path.encode(), b"POST").decode().lower()}


def test_every_refusal_that_the_gateway_has_is_in_the_document() -> None:
    """Each fault's status, by calling every one of them with whatever it takes."""
    lines = document()["paths"]["/v1/npcs/{npc}/lines"]["post"]["responses"]
    assert lines == document()["paths"]["/v1/chat/completions"]["post"]["responses"] | {"200": lines["200"]}
    anywhere = {
        status
        for each in document()["paths"].values()
        for operation in each.values()
        for status in operation["responses"]
    }
    made = [fault for _, fault in inspect.getmembers(errors, inspect.isfunction) if _makes_fault(fault)]
    assert len(made) > 30
    for fault in made:
        arguments = [_ANY[str(each.annotation)] for each in inspect.signature(fault).parameters.values()]
        status = str(fault(*arguments).status)
        assert status in anywhere or status == "405", fault.__name__


_ANY: dict[str, object] = {"str | None": None, "str": "x", "int": 1, "list[str]": [], "bytes": b"", "float": 1.0}


def _makes_fault(function: object) -> bool:
    return getattr(function, "__annotations__", {}).get("return") == "Fault"


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
