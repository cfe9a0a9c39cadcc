"""What the user may not say to the engine, because the operator says it.

A second `--max-loras` would win over ours and make what the operator believes untrue; a second key or port would open a
door. vLLM's parser takes underscores for hyphens, `--flag value` and `--flag=value`, and any unambiguous beginning of a
flag (argparse's abbreviations, on in vLLM 0.18 to 0.32), so beginnings are refused too. No flag of vLLM is itself a
beginning of one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from npc_operator.api.base import Rule

OWN_FLAGS = (
    "--api-key",
    "--api-server-count",
    "--config",
    "--dtype",
    "--enable-lora",
    "--host",
    "--lora-modules",
    "--max-cpu-loras",
    "--max-lora-rank",
    "--max-loras",
    "--max-model-len",
    "--model",
    "--no-enable-lora",
    "--port",
    "--revision",
    "--served-model-name",
    "--shutdown-timeout",
    "--tensor-parallel-size",
    "--uds",
)
"""Set by the operator from spec.engine and spec.model; --config and --uds would go around them."""
OWN_SHORT_FLAGS = ("-asc", "-tp")

OWN_VARIABLES = (
    "HF_HOME",
    "HF_TOKEN",
    "HOME",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "USER",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_API_KEY",
    "VLLM_CACHE_ROOT",
    "VLLM_SERVER_DEV_MODE",
)
"""Set by the operator (HF_TOKEN from spec.model.secretRef), but the last: it would open vLLM's development endpoints to
everybody who reaches the pod."""


SCHEDULING_POLICY = "--scheduling-policy"
MAX_NUM_SEQS = "--max-num-seqs"
SHORTEST = {SCHEDULING_POLICY: "--scheduli", MAX_NUM_SEQS: "--max-num-se"}
"""Flags that users may set and that we look at, with the shortest beginning that vLLM 0.32 takes for each."""


def find_value(args: Sequence[str], flag: str) -> str | None:
    """What a command line says for a flag of SHORTEST, as vLLM's parser would take it (the last one counts); None where
    it is not there."""
    found: str | None = None
    for index, word in enumerate(args):
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        if len(name) >= len(SHORTEST[flag]) and flag.startswith(name):
            found = value if equals else next(iter(args[index + 1 : index + 2]), "")
    return found


def _cel(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{word}'" for word in words) + "]"


_FLAG = "self.split('=')[0].replace('_', '-')"

ExtraArg = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    Rule(
        f"!self.startsWith('--') || !{_cel(OWN_FLAGS)}.exists(flag, flag.startsWith({_FLAG}))",
        "the operator sets this flag itself, from the other fields of spec.engine and spec.model "
        "(an abbreviation of one is refused too)",
        reason="FieldValueForbidden",
    ),
    Rule(
        f"!({_FLAG} in {_cel(OWN_SHORT_FLAGS)})",
        "the operator sets this flag itself, from the other fields of spec.engine",
        reason="FieldValueForbidden",
    ),
    Rule(
        f"!{_FLAG}.startsWith('--ssl-') && !{_FLAG}.startsWith('--enable-ssl-')",
        "the engine speaks plain HTTP inside its pod network: the agent and the gateway call it so",
        reason="FieldValueForbidden",
    ),
]
VariableName = Annotated[
    str,
    Field(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
    Rule(
        f"!(self in {_cel(OWN_VARIABLES)})",
        "the operator sets this variable itself, or it would make the engine unsafe",
        reason="FieldValueForbidden",
    ),
]
