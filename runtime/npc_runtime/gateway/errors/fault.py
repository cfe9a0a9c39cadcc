"""What a refusal is: one closed set of reasons, and OpenAI's error form, so that existing client libraries raise what
they should."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
