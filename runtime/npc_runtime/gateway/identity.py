"""Callers inside the cluster, who prove with a projected service account token who they are.

Verified offline against the issuer's keys as the operator pushed them, so a line never waits for the API server; the
price is that a token counts until it expires, even if its pod is gone. What is not told to strangers: why a token
whose signature does not hold was refused.
"""

from __future__ import annotations

import json
import logging
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from npc_runtime import wire
from npc_runtime.gateway.errors import Refused, foreign_subject, token_refused, unauthorized

log = logging.getLogger(__name__)

ALGORITHMS: Final = {"RSA": "RS256", "EC": "ES256"}
"""What API servers sign with, by type of key. The key decides which of them, never the token."""

LEEWAY_SECONDS: Final = 60
"""How far the clocks of issuer and gateway may differ."""

MAX_TOKEN_BYTES: Final = 8192
"""A projected token has about 1,200 bytes."""

MIN_RSA_BITS: Final = 2048

CACHED_TOKENS: Final = 1024
"""Tokens whose proof is remembered per event loop; a pod's token changes about once an hour."""

_SUBJECT: Final = "system:serviceaccount:"
_REQUIRED: Final = ["exp", "iat", "aud", "iss", "sub"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a token proved."""

    name: str
    """`namespace:name`."""
    valid_until: float
    """Unix seconds."""


class Verifier:
    """One issuer's keys and what is asked of its tokens."""

    def __init__(self, identity: wire.Identity) -> None:
        """Keys that cannot be used are said in the log and left out: they must not keep API keys from working."""
        self.identity = identity
        self._subjects = frozenset(identity.subjects)
        self._keys = _read_keys(identity.keys)
        self._proven: OrderedDict[bytes, Subject] = OrderedDict()

    def prove(self, token: bytes, digest: bytes, now: float) -> Subject:
        """Whose token this is. `digest` is its sha256, by which it is remembered; `now` is in Unix seconds.

        Raises:
            Refused: 401 when it proves nothing (any more), 403 when this service account may not ask here.

        """
        known = self._proven.get(digest)
        if known is not None and now < known.valid_until:
            self._proven.move_to_end(digest)
            return known
        subject = self._verify(token)
        self._proven[digest] = subject
        if len(self._proven) > CACHED_TOKENS:
            self._proven.popitem(last=False)
        return subject

    def _verify(self, token: bytes) -> Subject:
        if len(token) > MAX_TOKEN_BYTES:
            raise Refused(unauthorized())
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                raise Refused(unauthorized())
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self.identity.audience,
                issuer=self.identity.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": _REQUIRED},
            )
            expires = float(claims["exp"])
        except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError) as error:
            raise Refused(token_refused("it has expired, or is not valid yet")) from error
        except jwt.InvalidAudienceError as error:
            raise Refused(token_refused(f"it is not for the audience '{self.identity.audience}'")) from error
        except jwt.InvalidIssuerError as error:
            raise Refused(token_refused("another issuer made it")) from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # Whatever bytes a stranger sends, they are no token: libraries differ in what they raise for which.
            raise Refused(unauthorized()) from error
        subject = claims["sub"]
        name = subject.removeprefix(_SUBJECT)
        if not subject.startswith(_SUBJECT) or name not in self._subjects:
            raise Refused(foreign_subject(name))
        if not math.isfinite(expires):
            raise Refused(unauthorized())
        return Subject(name, expires + LEEWAY_SECONDS)


def _read_keys(text: str) -> dict[str, jwt.PyJWK]:
    try:
        found = json.loads(text)["keys"]
        entries = [entry for entry in found if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        log.warning("the issuer's key set is none; service account tokens are refused")
        return {}
    keys: dict[str, jwt.PyJWK] = {}
    for entry in entries:
        key = _read_key(entry)
        if key is None:
            log.warning("a key of the issuer cannot be used", extra={"kid": str(entry.get("kid", ""))[:64]})
        elif key.key_id in keys:
            # Which of the two is meant nobody can know; the first one was there first.
            log.warning("two keys of the issuer have one id", extra={"kid": str(key.key_id)[:64]})
        elif key.key_id is not None:
            keys[key.key_id] = key
    return keys


def _read_key(entry: dict[str, Any]) -> jwt.PyJWK | None:
    algorithm = ALGORITHMS.get(str(entry.get("kty")))
    if algorithm is None or not isinstance(entry.get("kid"), str) or not entry["kid"]:
        return None
    if entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
        return None
    if algorithm == "ES256" and entry.get("crv") != "P-256":
        return None
    try:
        # Only the public part is read, whatever else the entry holds.
        public: dict[str, Any] = {
            name: entry[name] for name in ("kty", "kid", "n", "e", "crv", "x", "y") if name in entry
        }
        key = jwt.PyJWK(public, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < MIN_RSA_BITS:
        return None
    return key
