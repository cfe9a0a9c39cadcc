"""What the user's own test of a candidate has said: from its Job and its pod to passed, failed or still running.

A gate lets nothing through by accident: only a verdict that can be read, says so, and comes from a container that
ended well has passed. Everything else has failed, and says precisely why.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npc_operator.domain.conditions import clip
from npc_operator.domain.facts import ContainerFact, GateFact, Pod

VERDICT_BYTES = 4096
"""What kubelet keeps of a termination message."""
MESSAGE_CHARACTERS = 512
NUMBERS = 16
"""Numbers of a verdict that are shown."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate wrote."""

    passed: bool
    message: str = ""
    numbers: tuple[tuple[str, float], ...] = ()

    def describe(self) -> str:
        """For people: the message, then the numbers."""
        shown = ", ".join(f"{name} {value:g}" for name, value in self.numbers[:NUMBERS])
        text = "; ".join(part for part in (self.message, shown) if part)
        # It goes into a status, Events and terminals: nothing that moves a cursor, and nothing that is no text at all
        # (JSON can hold halves of characters, which no status can be written with).
        return clip("".join(one if one.isprintable() else " " for one in text), MESSAGE_CHARACTERS)


class BadVerdict(ValueError):
    """The message says why it is no verdict."""


def parse_verdict(text: str) -> Verdict:
    """`{"pass": bool, "message": str, "numbers": {name: number}}`, the last two optional. Raises BadVerdict."""
    if not text.strip():
        raise BadVerdict("it wrote no verdict to /dev/termination-log")
    if len(text.encode()) >= VERDICT_BYTES:
        raise BadVerdict(f"its verdict may have been cut off at {VERDICT_BYTES} bytes")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadVerdict(f"its verdict is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise BadVerdict("its verdict is no JSON object")
    if not isinstance(found.get("pass"), bool):
        raise BadVerdict('its verdict has no "pass" that is true or false')
    message, numbers = found.get("message", ""), found.get("numbers", {})
    if not isinstance(message, str):
        raise BadVerdict('the "message" of its verdict is no text')
    if not isinstance(numbers, dict) or not all(_is_number(value) for value in numbers.values()):
        raise BadVerdict('the "numbers" of its verdict are not numbers by name')
    return Verdict(found["pass"], message, tuple((name, float(value)) for name, value in numbers.items()))


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def read_gate(status: Mapping[str, Any], pod: Pod | None, *, timeout_seconds: int) -> GateFact:
    """How far a gate is. `status`: its Job's; `pod`: the newest of its pods that is known."""
    container = _container(pod)
    if container is not None and container.exit_code is not None and pod is not None and pod.phase in _OVER:
        return _read_end(container)
    failed = _failure(status)
    if failed is not None:
        reason, message = failed
        if reason == "DeadlineExceeded":
            return GateFact("Failed", f"the gate did not end within {timeout_seconds} s")
        return GateFact("Failed", clip(f"the gate's Job failed: {reason}: {message}", MESSAGE_CHARACTERS))
    if container is not None and container.waiting_reason:
        waits = f"container gate: {container.waiting_reason}: {container.waiting_message}"
        return GateFact("Running", clip(waits, MESSAGE_CHARACTERS))
    if pod is not None and pod.unschedulable:
        return GateFact("Running", clip(f"its pod finds no node: {pod.unschedulable}", MESSAGE_CHARACTERS))
    return GateFact("Running")


_OVER = frozenset({"Succeeded", "Failed"})


def _read_end(container: ContainerFact) -> GateFact:
    try:
        verdict = parse_verdict(container.termination_message)
    except BadVerdict as error:
        how = f"the gate ended with exit code {container.exit_code} ({container.terminated_reason or 'unknown'})"
        return GateFact("Failed", clip(f"{how}: {error}", MESSAGE_CHARACTERS))
    if not verdict.passed:
        return GateFact("Failed", verdict.describe() or "the gate's verdict is that it does not pass")
    if container.exit_code:
        said = f"its verdict passes, but the gate ended with exit code {container.exit_code}"
        return GateFact("Failed", clip(f"{said}: {verdict.describe()}".removesuffix(": "), MESSAGE_CHARACTERS))
    return GateFact("Passed", verdict.describe())


def has_verdict(pod: Pod | None) -> bool:
    """Whether a gate ended by writing one, whatever it says."""
    container = _container(pod)
    if container is None or container.exit_code is None:
        return False
    try:
        parse_verdict(container.termination_message)
    except BadVerdict:
        return False
    return True


def _container(pod: Pod | None) -> ContainerFact | None:
    return None if pod is None else next((one for one in pod.containers if one.name == "gate"), None)


def _failure(status: Mapping[str, Any]) -> tuple[str, str] | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Failed" and condition.get("status") == "True":
            return str(condition.get("reason", "")), str(condition.get("message", ""))
    return None
