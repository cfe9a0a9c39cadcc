"""What an adapter's adapter_config.json may say.

vLLM turns every unsupported feature into the same HTTP 500, and silently ignores others that change the answers
(another PEFT type, trainable tokens, base weights changed by PiSSA). So the list is kept here, from `PEFTHelper` of
vLLM 0.32 and PEFT's `LoraConfig`, and checked before any load.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import re2

from ..errors import Reason, refused
from .safetensors_header import BadJson, load_json

CONFIG_LIMIT = 1 << 20
"""Bytes of adapter_config.json; real ones have one or two thousand."""
CONFIG_NAME = "adapter_config.json"

# Inits that only set the adapter's first weights; the others (PiSSA, OLoRA, CorDA, LoftQ) change the base model's.
_PLAIN_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})
# Fields that, when set, mean something no engine of ours does.
_UNSUPPORTED: Mapping[str, str] = {
    "use_dora": "DoRA",
    "lora_bias": "LoRA bias",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "layer replication",
    "use_bdlora": "block-diagonal LoRA",
    "use_qalora": "QALoRA",
    "arrow_config": "Arrow routing",
    "trainable_token_indices": "trained tokens",
}
_CLASSIFIER_HEADS = frozenset({"classifier", "score"})
# rank_pattern's keys are regular expressions that the engine runs with a backtracking matcher: only digits may repeat,
# and there are too few groups and repetitions for their combinations to take long. Here RE2 runs them, in linear time
# whatever the names are: a backtracking match would hold the GIL, and with it the agent.
_PATTERN_KEY = re.compile(r"(?:[A-Za-z0-9_.^$|()-]|\\\.|\\d\+?|\[0-9\]\+?)+")
_PATTERN_LENGTH = 256
_PATTERN_GROUPS = 2
_PATTERN_REPEATS = 4
_PATTERN_LIMIT = 4096
_PATTERN_MEMORY = 128 << 10
"""Bytes one compiled pattern may use; a plain one takes some 4 KiB."""


class _Matcher(Protocol):
    def match(self, text: str) -> object | None: ...


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The parts of adapter_config.json that decide anything."""

    rank: int
    rank_pattern: Mapping[str, int]
    base_model: str
    modules_to_save: frozenset[str]

    @property
    def max_rank(self) -> int:
        """The highest rank any module may have."""
        return max([self.rank, *self.rank_pattern.values()])

    def rank_of(self, module: str) -> int:
        """The rank PEFT gives one module: the first pattern that matches a dotted end of its name wins."""
        for key, rank in self.rank_pattern.items():
            if _matcher(key).match(module):
                return rank
        return self.rank


def read_config(path: Path) -> AdapterConfig:
    """The checked config; raises AdapterError(BadConfig | UnsupportedFeature | TooLarge)."""
    size = path.stat().st_size
    if size > CONFIG_LIMIT:
        raise refused(Reason.TOO_LARGE, f"{CONFIG_NAME} has {size} bytes, more than {CONFIG_LIMIT}")
    try:
        raw = load_json(path.read_bytes())
    except BadJson as bad:
        raise refused(Reason.BAD_CONFIG, f"{CONFIG_NAME}: {bad}") from None
    return parse_config(raw)


def parse_config(raw: Mapping[str, Any]) -> AdapterConfig:
    """As read_config, from the parsed JSON object."""
    peft_type = raw.get("peft_type")
    if peft_type != "LORA":
        raise refused(Reason.UNSUPPORTED_FEATURE, f"peft_type is {peft_type!r}, only LORA can be served")
    for field, what in _UNSUPPORTED.items():
        if raw.get(field):
            raise refused(Reason.UNSUPPORTED_FEATURE, f"{field}: {what} cannot be served")
    _check_init(raw.get("init_lora_weights", True))
    if raw.get("bias", "none") != "none":
        raise refused(Reason.UNSUPPORTED_FEATURE, f"bias is {raw['bias']!r}, only 'none' can be served")
    if not isinstance(raw.get("target_modules"), (list, str)) and not raw.get("target_parameters"):
        raise refused(Reason.BAD_CONFIG, "target_modules is missing")
    alpha = raw.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not abs(alpha) < 1e9:
        raise refused(Reason.BAD_CONFIG, "lora_alpha is not a number")
    base_model = raw.get("base_model_name_or_path")
    return AdapterConfig(
        rank=_rank("r", raw.get("r")),
        rank_pattern=_rank_pattern(raw.get("rank_pattern") or {}),
        base_model=base_model if isinstance(base_model, str) else "",
        modules_to_save=_modules_to_save(raw.get("modules_to_save") or []),
    )


def _check_init(init: object) -> None:
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        raise refused(
            Reason.UNSUPPORTED_FEATURE, f"init_lora_weights is {init!r}: it changes the base model's own weights"
        )


def _rank(what: str, value: object) -> int:
    if type(value) is not int or not 0 < value <= 1 << 16:
        raise refused(Reason.BAD_CONFIG, f"{what} is not a positive whole number")
    return value


def _rank_pattern(raw: object) -> Mapping[str, int]:
    if not isinstance(raw, dict) or len(raw) > _PATTERN_LIMIT:
        raise refused(Reason.BAD_CONFIG, "rank_pattern is not a map of reasonable size")
    for key in raw:
        plain = len(key) <= _PATTERN_LENGTH and _PATTERN_KEY.fullmatch(key)
        if not plain or key.count("(") > _PATTERN_GROUPS or key.count("+") > _PATTERN_REPEATS:
            raise refused(Reason.BAD_CONFIG, f"rank_pattern key {key[:80]!r} is not a plain module pattern")
        try:
            re.compile(key)
            _matcher(key)
        except (re.error, re2.error):
            raise refused(Reason.BAD_CONFIG, f"rank_pattern key {key[:80]!r} is not a regular expression") from None
    return {key: _rank(f"rank_pattern[{key[:80]!r}]", value) for key, value in raw.items()}


@lru_cache(maxsize=_PATTERN_LIMIT)
def _matcher(key: str) -> _Matcher:
    """Matches names of which a dotted end matches the key."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    return cast("_Matcher", re2.compile(rf"(?:.*\.)?(?:{key})$", options=options))


def _modules_to_save(raw: object) -> frozenset[str]:
    if not isinstance(raw, list) or not all(isinstance(item, str) for item in raw):
        raise refused(Reason.BAD_CONFIG, "modules_to_save is not a list of names")
    others = sorted(set(raw) - _CLASSIFIER_HEADS)
    if others:
        raise refused(Reason.UNSUPPORTED_FEATURE, f"modules_to_save {others[:5]} cannot be served")
    return frozenset(raw)
