"""The fake as a process of its own, under vLLM's flags."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from tests.support.fake_engine.behaviour import Behaviour, Settings
from tests.support.fake_engine.engine import FakeEngine


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="A fake vLLM; flags of vLLM's that it has no use for are ignored.", allow_abbrev=False
    )
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default="/models/base")
    parser.add_argument("--served-model-name", default=None)
    parser.add_argument("--api-key", action="append", default=[])
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--max-loras", type=int, default=1)
    parser.add_argument("--max-cpu-loras", type=int, default=0)
    parser.add_argument("--max-logprobs", type=int, default=20)
    parser.add_argument("--max-num-seqs", type=int, default=0)
    parser.add_argument("--scheduling-policy", choices=("fcfs", "priority"), default="fcfs")
    parser.add_argument("--shutdown-timeout", type=float, default=0.0)
    for knob in dataclasses.fields(Behaviour):
        parser.add_argument(f"--fake-{knob.name.replace('_', '-')}", type=json.loads, default=json.dumps(knob.default))
    options, _ = parser.parse_known_args(arguments)
    return options


async def _serve(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    keys = options.api_key or ([environment["VLLM_API_KEY"]] if environment.get("VLLM_API_KEY") else [])
    settings = Settings(
        model=options.model,
        served_model_name=options.served_model_name or options.model,
        api_keys=tuple(keys),
        max_model_len=options.max_model_len,
        max_lora_rank=options.max_lora_rank,
        max_loras=options.max_loras,
        max_cpu_loras=options.max_cpu_loras,
        max_logprobs=options.max_logprobs,
        max_num_seqs=options.max_num_seqs,
        scheduling_policy=options.scheduling_policy,
        runtime_loras=environment.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0").strip().lower() in {"1", "true"},
        shutdown_timeout=options.shutdown_timeout,
    )
    behaviour = Behaviour(
        **{knob.name: getattr(options, f"fake_{knob.name}") for knob in dataclasses.fields(Behaviour)}
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    engine = FakeEngine(settings, behaviour, host=options.host, port=options.port)
    await engine.start()
    print(f"Starting fake vLLM server on {engine.url}", file=sys.stderr, flush=True)
    await ended.wait()
    await engine.terminate()


def main() -> None:
    """Run as a process until SIGTERM or SIGINT. Knobs are given as JSON: --fake-answer='"no"'."""
    asyncio.run(_serve(_options(sys.argv[1:]), os.environ))
