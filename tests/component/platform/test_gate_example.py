"""The gate in examples/ against an engine that answers well, badly, or not at all: its verdicts are ones the operator
reads."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from aiohttp import web

from npc_operator.domain.gate import Verdict, parse_verdict

EXAMPLE = Path(__file__).parents[3] / "examples" / "gate"


async def run_gate(tmp_path: Path, answers: list[str], **more: str) -> tuple[int, str, list[dict[str, object]]]:
    """(exit code, what it wrote, what it asked) against an engine that gives these answers in turn."""
    asked: list[dict[str, object]] = []

    async def answer(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer s3cr3t":
            return web.json_response({"error": "who are you?"}, status=401)
        asked.append(await request.json())
        content = answers[(len(asked) - 1) % len(answers)]
        return web.json_response({"choices": [{"message": {"role": "assistant", "content": content}}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    log = tmp_path / "termination-log"
    environment = {
        **os.environ,
        "NPC_GATE_URL": f"http://127.0.0.1:{runner.addresses[0][1]}",
        "NPC_GATE_MODEL": "vampire--0123456789ab",
        "NPC_GATE_KEY": "s3cr3t",
        "QUESTIONS": str(EXAMPLE / "questions.json"),
        "TERMINATION_LOG": str(log),
        "no_proxy": "*",
        **more,
    }
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLE / "gate.py"),
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        code = await asyncio.wait_for(process.wait(), 120)
    finally:
        await runner.cleanup()
    return code, log.read_text() if log.exists() else "", asked


async def test_a_candidate_in_voice_passes_with_its_numbers(tmp_path: Path) -> None:
    code, wrote, asked = await run_gate(tmp_path, ["I am the night."])
    assert code == 0
    assert parse_verdict(wrote) == Verdict(True, "3 of 3 answers are good", (("good", 3.0), ("asked", 3.0)))
    assert {one["model"] for one in asked} == {"vampire--0123456789ab"}


@pytest.mark.parametrize("bad", ["As an AI I cannot say.", ""])
async def test_a_candidate_that_answers_badly_does_not_pass(tmp_path: Path, bad: str) -> None:
    code, wrote, _ = await run_gate(tmp_path, ["I am the night.", bad])
    verdict = parse_verdict(wrote)
    assert code == 0
    assert not verdict.passed
    assert verdict.message.startswith("2 of 3 answers are good; What do you think of sunlight?")


async def test_an_engine_that_does_not_answer_gives_no_verdict(tmp_path: Path) -> None:
    code, wrote, _ = await run_gate(tmp_path, ["x"], NPC_GATE_KEY="wrong")
    assert (code, wrote) == (1, "")


async def test_no_questions_are_no_proof(tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text(json.dumps([]))
    _, wrote, _ = await run_gate(tmp_path, ["x"], QUESTIONS=str(tmp_path / "none.json"))
    assert not parse_verdict(wrote).passed
