"""Everything the gateway itself can refuse, in OpenAI's error form, so that existing client libraries raise what they
should.

One constructor per fault keeps status, code and the metrics' reason together; messages name what the caller can
change and never echo secrets.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil

import orjson


class Reason(StrEnum):
    """Why a request failed, as the label `reason` of `npc_gateway_errors_total`: a closed set, so series stay
    bounded."""

    BAD_REQUEST = "BadRequest"
    UNAUTHORIZED = "Unauthorized"
    FORBIDDEN = "Forbidden"
    NOT_FOUND = "NotFound"
    TOO_LARGE = "TooLarge"
    TOO_SLOW = "TooSlow"
    NOT_READY = "NotReady"
    NO_RESIDENT = "NoResident"
    ENGINE_UNREACHABLE = "EngineUnreachable"
    ENGINE_FAILED = "EngineFailed"
    ENGINE_INTERRUPTED = "EngineInterrupted"
    ENGINE_STALLED = "EngineStalled"
    TIMEOUT = "Timeout"
    CLIENT_GONE = "ClientGone"
    OVERLOADED = "Overloaded"
    RATE_LIMITED = "RateLimited"
    SHED = "Shed"
    INTERNAL = "Internal"


@dataclass(frozen=True, slots=True)
class Fault:
    """One refusal: the HTTP status, OpenAI's `type`, `code` and `param`, and the reason the metrics count it under."""

    status: int
    kind: str
    code: str
    message: str
    reason: Reason
    param: str | None = None
    retry_after: int | None = None
    """Seconds for a Retry-After header; None sends none."""
    allow: str | None = None
    """Value of the Allow header of a 405."""
    lines: bytes = b""
    """Further header lines, each with its end."""

    def body(self) -> bytes:
        """The JSON body `{"error": {message, type, param, code}}`."""
        return orjson.dumps(
            {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}
        )


class Refused(Exception):
    """Raised where a request must be answered with a fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def malformed(message: str) -> Fault:
    """The bytes are not one unambiguous HTTP/1.1 request; the connection is closed after it."""
    return Fault(400, "invalid_request_error", "malformed_request", message, Reason.BAD_REQUEST)


def invalid(message: str, param: str | None = None) -> Fault:
    """The request is HTTP but its content is not a chat completion."""
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


def unknown_path() -> Fault:
    """Any path that is not served."""
    return Fault(404, "invalid_request_error", "not_found", "This path does not exist here.", Reason.NOT_FOUND)


def method_not_allowed(allow: str) -> Fault:
    """A served path with another method; `allow` lists the right ones."""
    return Fault(
        405,
        "invalid_request_error",
        "method_not_allowed",
        f"This path answers {allow} only.",
        Reason.BAD_REQUEST,
        allow=allow,
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


def body_too_large(limit: int) -> Fault:
    """The request body exceeds the region's limit in bytes."""
    return Fault(
        413,
        "invalid_request_error",
        "body_too_large",
        f"The request body is larger than {limit} bytes.",
        Reason.TOO_LARGE,
    )


def head_too_large(limit: int) -> Fault:
    """Request line and headers together exceed the region's limit in bytes."""
    return Fault(
        431,
        "invalid_request_error",
        "headers_too_large",
        f"The request line and headers are larger than {limit} bytes.",
        Reason.TOO_LARGE,
    )


def target_too_long(limit: int) -> Fault:
    """The request target exceeds its limit in bytes."""
    return Fault(
        414, "invalid_request_error", "target_too_long", f"The path is longer than {limit} bytes.", Reason.TOO_LARGE
    )


def too_slow(what: str) -> Fault:
    """The client did not finish sending `what` in time."""
    return Fault(
        408, "invalid_request_error", "request_timeout", f"The {what} did not arrive in time.", Reason.TOO_SLOW
    )


def expectation_failed() -> Fault:
    """An Expect header other than 100-continue."""
    return Fault(
        417, "invalid_request_error", "expectation_failed", "Only 'Expect: 100-continue' is known.", Reason.BAD_REQUEST
    )


def unsupported_version() -> Fault:
    """HTTP/1.0 cannot carry a streamed answer whose end can be trusted."""
    return Fault(505, "invalid_request_error", "http_version", "HTTP/1.1 is required.", Reason.BAD_REQUEST)


def unsupported_coding() -> Fault:
    """A transfer coding other than chunked."""
    return Fault(
        501,
        "invalid_request_error",
        "transfer_coding",
        "The only known transfer coding is chunked.",
        Reason.BAD_REQUEST,
    )


def overloaded() -> Fault:
    """The gateway holds as many connections as its limits allow."""
    return Fault(
        503,
        "server_error",
        "too_many_connections",
        "The gateway has no room for another connection.",
        Reason.OVERLOADED,
        retry_after=1,
    )


def not_ready() -> Fault:
    """No route table has arrived yet."""
    return Fault(503, "server_error", "not_ready", "The gateway has no routes yet.", Reason.NOT_READY, retry_after=1)


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
