"""The part of vLLM's /metrics that this project reads, counted as vLLM counts."""

from __future__ import annotations

import time
from collections.abc import Sequence

_LATENCY_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class Metrics:
    """The part of vLLM's /metrics that this project reads, in the text form of Prometheus."""

    def __init__(self, model: str) -> None:
        self._labels = f'engine="0",model_name="{model}"'
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._finished = {"stop": 0, "length": 0, "abort": 0}
        self._times: dict[str, list[float]] = {
            "time_to_first_token_seconds": [],
            "inter_token_latency_seconds": [],
            "e2e_request_latency_seconds": [],
        }

    def first_token(self, seconds: float) -> None:
        self._times["time_to_first_token_seconds"].append(seconds)

    def next_token(self, seconds: float) -> None:
        self._times["inter_token_latency_seconds"].append(seconds)

    def finish(self, seconds: float, reason: str) -> None:
        self._times["e2e_request_latency_seconds"].append(seconds)
        self._finished[reason] += 1

    def tokens(self, prompt: int, generated: int) -> None:
        self._prompt_tokens += prompt
        self._generated_tokens += generated

    def text(self, *, running: int, waiting: int, max_loras: int, adapters: Sequence[str]) -> str:
        """All series as they are now; `adapters` are those that are told to run."""
        labels = self._labels
        lines = [
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{{{labels}}} {float(running)}",
            "# TYPE vllm:num_requests_waiting gauge",
            f"vllm:num_requests_waiting{{{labels}}} {float(waiting)}",
            "# TYPE vllm:kv_cache_usage_perc gauge",
            f"vllm:kv_cache_usage_perc{{{labels}}} {min(1.0, running / 64)}",
            "# TYPE vllm:prompt_tokens_total counter",
            f"vllm:prompt_tokens_total{{{labels}}} {float(self._prompt_tokens)}",
            "# TYPE vllm:generation_tokens_total counter",
            f"vllm:generation_tokens_total{{{labels}}} {float(self._generated_tokens)}",
            "# TYPE vllm:request_success_total counter",
        ]
        for reason, count in self._finished.items():
            name, _, model = labels.partition(",")
            lines.append(f'vllm:request_success_total{{{name},finished_reason="{reason}",{model}}} {float(count)}')
        lines.append("# TYPE vllm:lora_requests_info gauge")
        known = ",".join(adapters)
        loras = f'max_lora="{max_loras}",running_lora_adapters="{known}",waiting_lora_adapters=""'
        lines.append(f"vllm:lora_requests_info{{{loras}}} {time.time()}")
        for name, seconds in self._times.items():
            lines.append(f"# TYPE vllm:{name} histogram")
            for bound in (*_LATENCY_BUCKETS, float("inf")):
                count = sum(value <= bound for value in seconds)
                shown = "+Inf" if bound == float("inf") else str(bound)
                engine, _, model = labels.partition(",")
                lines.append(f'vllm:{name}_bucket{{{engine},le="{shown}",{model}}} {float(count)}')
            lines.append(f"vllm:{name}_count{{{labels}}} {float(len(seconds))}")
            lines.append(f"vllm:{name}_sum{{{labels}}} {sum(seconds)}")
        return "\n".join(lines) + "\n"
