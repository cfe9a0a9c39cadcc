"""Refusals of what a caller may not ask, or did not say how it must be said."""

from __future__ import annotations

from math import ceil

from npc_runtime.gateway.errors.fault import Fault, Reason


def invalid(message: str, param: str | None = None) -> Fault:
    """The request is HTTP but its content is not what its path asks for."""
    return Fault(400, "invalid_request_error", "invalid_value", message, Reason.BAD_REQUEST, param)


def unauthorized() -> Fault:
    """The key is missing or unknown; which of the two is not told."""
    return Fault(
        401,
        "authentication_error",
        "invalid_api_key",
        "A valid API key is required: send it as 'Authorization: Bearer KEY'.",
        Reason.UNAUTHORIZED,
    )


def key_expired(name: str) -> Fault:
    """The key was valid until a moment its policy names."""
    return Fault(
        401,
        "authentication_error",
        "expired_api_key",
        f"The API key '{name}' has expired.",
        Reason.UNAUTHORIZED,
    )


def token_refused(why: str) -> Fault:
    """A service account token with a true signature that proves nothing here; `why` is said to its holder."""
    return Fault(
        401,
        "authentication_error",
        "invalid_token",
        f"The service account token is refused: {why}.",
        Reason.UNAUTHORIZED,
    )


def foreign_subject(name: str) -> Fault:
    """A valid token of a service account that is not among the region's callers."""
    return Fault(
        403,
        "permission_error",
        "service_account_not_allowed",
        f"The service account '{name[:316]}' may not ask in this region.",
        Reason.FORBIDDEN,
    )


def archetype_not_allowed(archetype: str) -> Fault:
    """The key's policy names archetypes, and this is none of them, whether it exists or not."""
    return Fault(
        403,
        "permission_error",
        "archetype_not_allowed",
        f"This API key may not ask for the archetype '{archetype}'; /v1/models lists what it may ask for.",
        Reason.FORBIDDEN,
        "model",
    )


def tier_not_allowed(tier: str, allowed: list[str]) -> Fault:
    """The key's policy names tiers, and the one that was asked for, assigned or default is none of them."""
    return Fault(
        403,
        "permission_error",
        "tier_not_allowed",
        f"This API key may not ask the tier '{tier}', but: {', '.join(allowed) or 'none that exists'}.",
        Reason.FORBIDDEN,
        "X-NPC-Tier",
    )


def rate_limited(what: str, seconds: float, lines: bytes) -> Fault:
    """The key or the region may begin no more lines right now. `lines` are the RateLimit headers."""
    return Fault(
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        f"Too many requests for this {what}.",
        Reason.RATE_LIMITED,
        retry_after=max(1, ceil(seconds)),
        lines=lines,
    )


def unknown_archetype(archetype: str) -> Fault:
    """No alias of that name anywhere in the region."""
    shown = archetype if len(archetype) <= 63 else archetype[:60] + "..."
    return Fault(
        404,
        "invalid_request_error",
        "model_not_found",
        f"The archetype '{shown}' does not exist in this region.",
        Reason.NOT_FOUND,
        "model",
    )


def archetype_not_on_tier(archetype: str, tier: str) -> Fault:
    """The archetype exists, but has no voice on the tier that would answer."""
    return Fault(
        404,
        "invalid_request_error",
        "model_not_found",
        f"The archetype '{archetype}' has no adapter on tier '{tier}'.",
        Reason.NOT_FOUND,
        "model",
    )


def unknown_tier(tier: str) -> Fault:
    """X-NPC-Tier names no tier of this region."""
    return Fault(
        404,
        "invalid_request_error",
        "tier_not_found",
        f"The tier '{tier}' does not exist in this region.",
        Reason.NOT_FOUND,
        "X-NPC-Tier",
    )
