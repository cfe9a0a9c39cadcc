from __future__ import annotations

from npc_runtime.agent.engine import Lines, parse_lines

METRICS = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="base"} 2.0
vllm:num_requests_waiting{engine="0",model_name="base"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="base",reason="capacity"} 1.0
vllm:lora_requests_info{max_lora="2",running_lora_adapters="old--1",waiting_lora_adapters=""} 1.70e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="a--1,b--2",waiting_lora_adapters="c--3"} 1.7000000011e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="",waiting_lora_adapters=""} 1.7000000005e+09
"""


def test_requests_are_counted_once_and_only_the_newest_combination_of_adapters_holds() -> None:
    assert parse_lines(METRICS) == Lines(3, frozenset({"a--1", "b--2", "c--3"}))


def test_an_engine_that_tells_no_adapters_is_not_taken_for_idle() -> None:
    text = "vllm:num_requests_running 1.0\nvllm:num_requests_waiting 0.0\n"
    assert parse_lines(text) == Lines(1, None)
