"""What the API server's refusals mean: each one a PortError with the server's own reason and whether trying again can
help."""

from __future__ import annotations

import json

from npc_operator.ports import Blocked, Conflict, NotFound, PortError

_PERMANENT = {
    400: "BadRequest",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    413: "TooLarge",
    415: "BadRequest",
    422: "Invalid",
}


def error_of(status: int, body: bytes, what: str) -> PortError:
    """The PortError for a response that is not 2xx; `body` is a metav1.Status or whatever a proxy said."""
    reason, message, causes, fields = "", "", (), ()
    try:
        parsed = json.loads(body)
        reason, message = str(parsed.get("reason") or ""), str(parsed.get("message") or "")
        found = (parsed.get("details") or {}).get("causes") or ()
        causes = tuple(cause.get("reason") for cause in found)
        fields = tuple(cause.get("field") for cause in found)
    except (ValueError, AttributeError):
        message = body[:200].decode(errors="replace")
    text = f"{what}: {message or reason or status}"
    if status == 404 or "NamespaceTerminating" in causes:
        return NotFound(text, reason=reason or "NotFound", retryable=False, code=status)
    # An apply that names a uid is meant for that object alone; the server calls another one's uid immutable.
    if status == 409 or (status == 422 and "metadata.uid" in fields):
        return Conflict(text, reason=reason or "Conflict", code=status)
    if status == 429 and "DisruptionBudget" in causes:
        return Blocked(text, reason="DisruptionBudget", code=status)
    return PortError(
        text, reason=reason or _PERMANENT.get(status, "Unavailable"), retryable=status not in _PERMANENT, code=status
    )
