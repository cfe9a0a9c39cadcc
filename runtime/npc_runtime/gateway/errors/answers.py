"""Refusals for want of an answer."""

from __future__ import annotations

from npc_runtime.gateway.errors.fault import Fault, Reason


def not_ready() -> Fault:
    """No route table has arrived yet."""
    return Fault(503, "server_error", "not_ready", "The gateway has no routes yet.", Reason.NOT_READY, retry_after=1)


def shed(tier: str) -> Fault:
    """Every slot of the tier is taken and its queue is full of lines that are as important or more."""
    return Fault(
        429,
        "rate_limit_error",
        "tier_overloaded",
        f"The tier '{tier}' has no room for another line.",
        Reason.SHED,
        retry_after=1,
    )


def no_resident(archetype: str, tier: str) -> Fault:
    """No pod of the tier has the archetype's adapter resident right now."""
    return Fault(
        503,
        "server_error",
        "no_resident_pod",
        f"No pod of tier '{tier}' has the adapter of '{archetype}' resident right now.",
        Reason.NO_RESIDENT,
        retry_after=1,
    )


def engine_unreachable() -> Fault:
    """Every pod that was tried refused or dropped the connection."""
    return Fault(
        502,
        "server_error",
        "engine_unreachable",
        "No engine could be reached.",
        Reason.ENGINE_UNREACHABLE,
        retry_after=1,
    )


def engine_failed() -> Fault:
    """The engines answered, but nothing that could be passed on."""
    return Fault(
        502, "server_error", "engine_failed", "The engine gave no usable answer.", Reason.ENGINE_FAILED, retry_after=1
    )


def engine_interrupted() -> Fault:
    """The engine stopped in the middle of an answer of which the client already has a part."""
    return Fault(
        502,
        "server_error",
        "engine_interrupted",
        "The engine stopped in the middle of this answer; it is incomplete.",
        Reason.ENGINE_INTERRUPTED,
    )


def engine_stalled(seconds: int) -> Fault:
    """The engine said nothing more for too long in the middle of an answer of which the client already has a part."""
    return Fault(
        504,
        "server_error",
        "engine_stalled",
        f"The engine said nothing for {seconds} s in the middle of this answer; it is incomplete.",
        Reason.ENGINE_STALLED,
    )


def too_late(tier: str) -> Fault:
    """No first token came in the time that the tier has for it, and nothing below could answer either."""
    return Fault(
        504,
        "server_error",
        "first_token_late",
        f"The tier '{tier}' did not begin its answer in time.",
        Reason.TIMEOUT,
        retry_after=1,
    )


def timed_out(seconds: int) -> Fault:
    """The answer took longer than the region's request timeout."""
    return Fault(504, "server_error", "timeout", f"The answer was not finished within {seconds} s.", Reason.TIMEOUT)


def internal() -> Fault:
    """A fault of the gateway itself; details are in its log."""
    return Fault(500, "server_error", "internal_error", "The gateway failed on this request.", Reason.INTERNAL)
