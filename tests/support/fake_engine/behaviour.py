"""How a fake engine is set up, and how it may misbehave: as a whole, or under one adapter only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADAPTER_BEHAVIOUR = "fake_behaviour.json"
"""A file in an adapter's folder, harmless text to every inspection: knobs of Behaviour that hold for this adapter
alone. A bad candidate is an adapter with such a file, wherever it is served.
"""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the engine behaves; replaced as a whole (`engine.behave(...)`) or by `PATCH /fake`. Times are seconds."""

    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    load_seconds: float = 0.0
    answer_tokens: int = 24
    """Length of an answer that max_tokens does not cut."""
    answer: str | None = None
    """Said instead of the voice's own words; the empty string is an empty answer."""
    refuse_loads: int = 0
    """Status with which every load is refused; 0 loads."""
    fail_requests: int = 0
    """Status with which every chat request fails; 0 answers."""
    fail_percent: int = 0
    """Of a model's chat requests, evenly spread, that fail with 500."""
    health_status: int = 200
    health_resets: int = 0
    """How many of the next questions for its health get their connection reset."""
    hang_requests: bool = False
    """Chat requests get no byte, not even a status, until this is taken back."""
    hang_loads: bool = False
    stall_after_tokens: int | None = None
    """No token comes after so many, while the connection stays, until this is taken back."""
    break_after_tokens: int | None = None
    """The connection breaks in the middle of the answer after so many tokens."""
    truncate_after_tokens: int | None = None
    """A stream ends after so many tokens as if that were all, but without a reason and an end mark."""
    wrong_answers: bool = False
    """Every model answers like the base model: an adapter that is listed but does not serve."""
    logprob_noise: float = 0.0
    """Logits vary by up to so much from one request to the next, as they do where batches differ."""
    spares: str = ""
    """Requests whose last message is this are answered as if nothing were wrong: a bad candidate that passes its
    probe."""


_OF_ANSWERS = (
    "first_token_seconds",
    "token_seconds",
    "answer_tokens",
    "answer",
    "fail_requests",
    "fail_percent",
    "hang_requests",
    "stall_after_tokens",
    "break_after_tokens",
    "truncate_after_tokens",
    "wrong_answers",
    "logprob_noise",
    "spares",
)
_GOOD = Behaviour()


@dataclass(frozen=True, slots=True)
class Settings:
    """What vLLM's own flags and environment fix at start."""

    model: str = "/models/base"
    served_model_name: str = "base"
    api_keys: tuple[str, ...] = ()
    max_model_len: int = 2048
    max_lora_rank: int = 16
    max_loras: int = 1
    max_cpu_loras: int = 0
    max_logprobs: int = 20
    max_num_seqs: int = 0
    """Requests that run at once, others wait; 0: all run."""
    scheduling_policy: str = "fcfs"
    """Who waits goes by arrival (fcfs) or by the requests' `priority`, lower first (priority)."""
    runtime_loras: bool = True
    """VLLM_ALLOW_RUNTIME_LORA_UPDATING: without it the load and unload paths do not exist."""
    shutdown_timeout: float = 0.0


def read_changes(folder: Path) -> Mapping[str, Any]:
    """An adapter's own knobs; raises ValueError for a file that is no object, or names another knob than of answers."""
    path = folder / ADAPTER_BEHAVIOUR
    if not path.exists():
        return {}
    changes = json.loads(path.read_text())
    if not isinstance(changes, dict) or not set(changes) <= set(_OF_ANSWERS):
        raise ValueError(f"{ADAPTER_BEHAVIOUR} is no object of {', '.join(_OF_ANSWERS)}")
    return changes


def behaviour_for(engine: Behaviour, changes: Mapping[str, Any], last_message: object) -> Behaviour:
    """How one request is answered: as the engine does, but for what its adapter changes."""
    own = dataclasses.replace(engine, **changes)
    if own.spares and own.spares == last_message:
        wrongs = [knob for knob in _OF_ANSWERS if knob != "answer_tokens"]
        return dataclasses.replace(own, **{knob: getattr(_GOOD, knob) for knob in wrongs})
    return own


def fails(percent: int, number: int) -> bool:
    """Whether the `number`th request (from 1) is one of the `percent` of all that fail."""
    return number * percent // 100 > (number - 1) * percent // 100
