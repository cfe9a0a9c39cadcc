"""Refusals of what is no request that this port serves."""

from __future__ import annotations

from npc_runtime.gateway.errors.fault import Fault, Reason


def malformed(message: str) -> Fault:
    """The bytes are not one unambiguous HTTP/1.1 request; the connection is closed after it."""
    return Fault(400, "invalid_request_error", "malformed_request", message, Reason.BAD_REQUEST)


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
