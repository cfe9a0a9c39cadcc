"""Who may ask a region's gateways, and how much: API keys with what their policies say, and callers of the cluster.

Keys travel as hashes. A policy that cannot be understood never widens what a key may do.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from pydantic import SecretStr

from npc_operator.api.npcregion import KeyPolicy, ServiceAccounts
from npc_operator.api.npcregion import Rate as RateSpec
from npc_operator.domain.conditions import parse_rfc3339
from npc_operator.domain.facts import IssuerFact
from npc_runtime.wire import ApiKey, Identity, Rate

SALT = "cache-salt"
"""Entry of the namespace's internal Secret from which the salts of keys are derived. Never rotated: another salt is
another prefix cache."""
BURST_SECONDS = 2
"""Of a rate without a burst: as many as in so long may begin at once."""


def build_rate(rate: RateSpec | None) -> Rate | None:
    """A token bucket as gateways take it."""
    if rate is None:
        return None
    burst = rate.burst if rate.burst is not None else BURST_SECONDS * rate.requests_per_second
    return Rate(requests_per_second=rate.requests_per_second, burst=burst)


def derive_salt(secret: str, name: str) -> SecretStr:
    """The salt of one key: the same for as long as `secret` is, and of no use to guess another's."""
    return SecretStr(hmac.new(secret.encode(), f"cache {name}".encode(), hashlib.sha256).hexdigest()[:32])


def hash_api_keys(data: Mapping[str, str], policies: Iterable[KeyPolicy] = (), *, salt: str = "") -> tuple[ApiKey, ...]:
    """The keys of a Secret by name, hashed; white space around a key (a file's last newline) is not part of it, empty
    ones are no keys. A key that no policy names may do everything.
    """
    by_name = {policy.name: policy for policy in policies}
    return tuple(
        _build_key(name, hashlib.sha256(key.strip().encode()).hexdigest(), by_name.get(name), salt)
        for name, key in sorted(data.items())
        if key.strip()
    )


def _build_key(name: str, sha256: str, policy: KeyPolicy | None, salt: str) -> ApiKey:
    if policy is None:
        return ApiKey(name=name, sha256=sha256)
    return ApiKey(
        name=name,
        sha256=sha256,
        archetypes=policy.archetypes,
        tiers=policy.tiers,
        expires_ms=_expires_ms(policy.expires_at),
        cache_salt=derive_salt(salt, name) if policy.separate_cache else None,
        rate=build_rate(policy.rate),
    )


def _expires_ms(text: str | None) -> int | None:
    if text is None:
        return None
    end = parse_rfc3339(text)
    return 0 if end is None else int(end * 1000)  # an end that nobody can read has passed


def build_identity(accounts: ServiceAccounts | None, issuer: IssuerFact | None) -> Identity | None:
    """How callers of the cluster prove who they are; None where nobody may, or the cluster's keys are not known:
    without them nobody is let in by a token.
    """
    if accounts is None or issuer is None or not issuer.keys:
        return None
    return Identity(issuer=issuer.issuer, audience=accounts.audience, keys=issuer.keys, subjects=accounts.allowed)
