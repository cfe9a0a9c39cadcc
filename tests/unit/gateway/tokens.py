"""An issuer of service account tokens, as an API server is one."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from npc_runtime import wire

ISSUER = "https://kubernetes.default.svc"
AUDIENCE = "npc-gateway"
SUBJECT = "game:server"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())

RSA_JWK: dict[str, Any] = {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "r1", "use": "sig"}
EC_JWK: dict[str, Any] = {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "kid": "e1", "alg": "ES256"}


def identity(*keys: Mapping[str, Any] | object, **changes: Any) -> wire.Identity:
    """What the operator pushes of the issuer."""
    values: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "keys": json.dumps({"keys": keys or (RSA_JWK, EC_JWK)}),
        "subjects": (SUBJECT,),
    }
    return wire.Identity(**values | changes)


def claims(**changes: Any) -> dict[str, Any]:
    """What an API server says of a pod's service account; None leaves a claim out."""
    now = int(time.time())
    values: dict[str, Any] = {
        "iss": ISSUER,
        "aud": [AUDIENCE],
        "sub": f"system:serviceaccount:{SUBJECT}",
        "exp": now + 3600,
        "iat": now - 5,
        "nbf": now - 5,
        "kubernetes.io": {"namespace": "game", "pod": {"name": "server-0"}},
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def token(
    *,
    key: Any = RSA,
    algorithm: str = "RS256",
    kid: str | None = "r1",
    headers: Mapping[str, Any] | None = None,
    **changes: Any,
) -> bytes:
    """A signed token."""
    head = {**({} if kid is None else {"kid": kid}), **(headers or {})}
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=head).encode()


def encode(part: object) -> bytes:
    """One part of a token, unsigned."""
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")
