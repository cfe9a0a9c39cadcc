"""How engines are started on the local cluster: a real vLLM on the CPU, or a fake that answers the same API at once.

The fake is part of the tests, so its source comes in as text; it runs on the fleet image's Python, which has aiohttp.
"""

from __future__ import annotations

from hack.models.engine_flags import ENGINE_ARGS, ENGINE_ENV, MODULE
from hack.stack.region import CLAIM_VLLM, FAKE_CONFIG_MAP, FAKE_FILE, FAKE_MOUNT, VLLM_MOUNT, EnginePlan

# Set by the operator from the tier's own fields; a second one is refused.
_OPERATORS_ARGS = ("--dtype=",)
_OPERATORS_ENV = ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS")


def vllm_plan(engine_base_image: str) -> EnginePlan:
    """A real vLLM: the image has Python, the claim the packages, the flags are those of the lone reference engine."""
    return EnginePlan(
        image=engine_base_image,
        command=("python3", "-m", MODULE),
        env={
            **{name: value for name, value in ENGINE_ENV.items() if name not in _OPERATORS_ENV},
            "PYTHONPATH": VLLM_MOUNT,
        },
        args=tuple(argument for argument in ENGINE_ARGS if not argument.startswith(_OPERATORS_ARGS)),
        claim=CLAIM_VLLM,
        memory="4Gi",
    )


def fake_plan(fleet_image: str, *args: str) -> EnginePlan:
    """A fake engine from the ConfigMap FAKE_CONFIG_MAP (see `regions.install`); `args` are its own flags."""
    return EnginePlan(
        image=fleet_image,
        command=("python3", f"{FAKE_MOUNT}/{FAKE_FILE}"),
        env={},
        args=args,
        config_map=FAKE_CONFIG_MAP,
        memory="256Mi",
        cpu="20m",
    )
