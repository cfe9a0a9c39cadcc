"""Everything the gateway itself can refuse.

One constructor per fault keeps status, code and the metrics' reason together; messages name what the caller can change
and never echo secrets.
"""

from npc_runtime.gateway.errors.answers import (
    engine_failed,
    engine_interrupted,
    engine_stalled,
    engine_unreachable,
    internal,
    no_resident,
    not_ready,
    shed,
    timed_out,
    too_late,
)
from npc_runtime.gateway.errors.callers import (
    archetype_not_allowed,
    archetype_not_on_tier,
    foreign_subject,
    invalid,
    key_expired,
    rate_limited,
    tier_not_allowed,
    token_refused,
    unauthorized,
    unknown_archetype,
    unknown_tier,
)
from npc_runtime.gateway.errors.fault import Fault, Reason, Refused
from npc_runtime.gateway.errors.requests import (
    body_too_large,
    expectation_failed,
    head_too_large,
    malformed,
    method_not_allowed,
    overloaded,
    target_too_long,
    too_slow,
    unknown_path,
    unsupported_coding,
    unsupported_version,
)

__all__ = [
    "Fault",
    "Reason",
    "Refused",
    "archetype_not_allowed",
    "archetype_not_on_tier",
    "body_too_large",
    "engine_failed",
    "engine_interrupted",
    "engine_stalled",
    "engine_unreachable",
    "expectation_failed",
    "foreign_subject",
    "head_too_large",
    "internal",
    "invalid",
    "key_expired",
    "malformed",
    "method_not_allowed",
    "no_resident",
    "not_ready",
    "overloaded",
    "rate_limited",
    "shed",
    "target_too_long",
    "tier_not_allowed",
    "timed_out",
    "token_refused",
    "too_late",
    "too_slow",
    "unauthorized",
    "unknown_archetype",
    "unknown_path",
    "unknown_tier",
    "unsupported_coding",
    "unsupported_version",
]
