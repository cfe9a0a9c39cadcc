"""What counts as a proof of who asks, and everything that does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from npc_runtime.gateway import identity as module
from npc_runtime.gateway.errors import Refused
from npc_runtime.gateway.identity import Subject, Verifier
from tests.unit.gateway.tokens import (
    AUDIENCE,
    EC,
    EC_JWK,
    RSA,
    RSA_JWK,
    SUBJECT,
    claims,
    encode,
    identity,
    token,
)

VERIFIER = Verifier(identity())


def prove(presented: bytes, *, verifier: Verifier | None = None, now: float | None = None) -> Subject:
    now = time.time() if now is None else now
    return (verifier or Verifier(VERIFIER.identity)).prove(presented, hashlib.sha256(presented).digest(), now)


def later(seconds: int) -> int:
    """A moment as claims have it. Taken when a test runs: the library goes by the clock on the wall."""
    return int(time.time()) + seconds


def refused(presented: bytes, *, verifier: Verifier | None = None) -> tuple[int, str, str]:
    with pytest.raises(Refused) as caught:
        prove(presented, verifier=verifier)
    fault = caught.value.fault
    assert presented.decode("latin-1") not in fault.message
    return fault.status, fault.code, fault.message


def test_a_token_of_either_algorithm_proves_its_service_account() -> None:
    for presented in (token(), token(key=EC, algorithm="ES256", kid="e1"), token(aud=AUDIENCE), token(nbf=None)):
        subject = prove(presented)
        assert subject.name == SUBJECT
        assert subject.valid_until == pytest.approx(later(3660), abs=10)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"exp": -120}, 401, "expired"),
        ({"nbf": 120}, 401, "not valid yet"),
        ({"iat": 120}, 401, "not valid yet"),
        ({"aud": ["https://kubernetes.default.svc"]}, 401, "audience 'npc-gateway'"),
        ({"iss": "https://elsewhere"}, 401, "another issuer"),
        ({"sub": "system:serviceaccount:game:other"}, 403, "'game:other' may not"),
        ({"sub": "system:node:game:server"}, 403, "may not"),
        ({"sub": SUBJECT}, 403, "may not"),
        ({"sub": "system:serviceaccount:game:server:more"}, 403, "may not"),
    ],
)
def test_a_true_signature_on_the_wrong_claims_says_what_is_wrong(
    changes: dict[str, Any], status: int, words: str
) -> None:
    moments = {name: later(value) for name, value in changes.items() if isinstance(value, int)}
    found, _, message = refused(token(**changes | moments))
    assert found == status
    assert words in message


def test_clocks_may_differ_by_a_minute() -> None:
    each: list[dict[str, Any]] = [{"exp": later(-30)}, {"nbf": later(30)}, {"iat": later(30)}]
    for changes in each:
        assert prove(token(**changes)).name == SUBJECT


@pytest.mark.parametrize("missing", ["exp", "iat", "aud", "iss", "sub"])
def test_no_claim_may_be_left_out(missing: str) -> None:
    without: dict[str, Any] = {missing: None}
    assert refused(token(**without))[0] == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": "soon"},
        {"exp": 1e400},
        {"exp": float("nan")},
        {"exp": [1]},
        {"exp": {}},
        {"exp": True},
        {"nbf": "x"},
        {"iat": []},
        {"aud": 5},
        {"aud": []},
        {"aud": [5]},
        {"aud": {}},
        {"sub": 5},
        {"sub": ["system:serviceaccount:game:server"]},
        {"iss": ["https://kubernetes.default.svc", 5]},
        {"iss": 5},
    ],
)
def test_claims_of_another_type_are_refused(changes: dict[str, Any]) -> None:
    try:
        presented = token(**changes)
    except TypeError:
        # The library would not sign it; another issuer's might.
        head, body = encode({"alg": "RS256", "kid": "r1"}), encode(claims(**changes))
        signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(head + b"." + body, RSA)
        presented = b".".join((head, body, encode(signature)))
    assert refused(presented)[0] in (401, 403)


def signed_with(secret: bytes, header: dict[str, Any]) -> bytes:
    head, body = encode(header), encode(claims())
    return b".".join((head, body, encode(hmac.new(secret, head + b"." + body, hashlib.sha256).digest())))


def test_no_token_chooses_how_it_is_verified() -> None:
    public = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    for attack in (
        b".".join((encode({"alg": "none", "kid": "r1"}), encode(claims()), b"")),
        b".".join((encode({"alg": "None", "kid": "r1"}), encode(claims()), b"")),
        b".".join((encode({"alg": "", "kid": "r1"}), encode(claims()), b"")),
        b".".join((encode({"kid": "r1"}), encode(claims()), b"")),
        b".".join((encode({"alg": ["RS256"], "kid": "r1"}), encode(claims()), b"x")),
        signed_with(public, {"alg": "HS256", "kid": "r1"}),
        signed_with(der, {"alg": "HS256", "kid": "r1"}),
        signed_with(json.dumps(RSA_JWK).encode(), {"alg": "HS256", "kid": "r1"}),
        signed_with(b"", {"alg": "HS256", "kid": ""}),
        token(algorithm="RS512"),
        token(algorithm="PS256"),
        token(kid="e1"),
        token(key=EC, algorithm="ES256", kid="r1"),
        token(headers={"crit": ["exp"]}),
        token(headers={"crit": ["made-up"], "made-up": 1}),
    ):
        assert refused(attack)[:2] == (401, "invalid_api_key"), attack


def test_only_the_issuers_own_keys_count() -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(stranger.public_key(), as_dict=True)
    for attack in (
        token(key=stranger),
        token(key=stranger, headers={"jwk": jwk}),
        token(key=stranger, headers={"jku": "https://elsewhere/keys"}),
        token(kid=None),
        token(kid="r2"),
        token(kid="../../etc/passwd"),
        token(kid="r1' OR '1'='1"),
        signed_with(b"x", {"alg": "RS256", "kid": {"a": 1}}),
        signed_with(b"x", {"alg": "RS256", "kid": 5}),
        signed_with(b"x", {"alg": "RS256", "kid": None}),
    ):
        assert refused(attack)[:2] == (401, "invalid_api_key"), attack


def test_a_changed_byte_anywhere_is_refused() -> None:
    good = token()
    for place in range(0, len(good), 7):
        if good[place : place + 1] == b".":
            continue
        changed = good[:place] + (b"A" if good[place : place + 1] != b"A" else b"B") + good[place + 1 :]
        # The last character of a part may hold bits that stand for nothing.
        if changed.rstrip(b"=") != good and not _same(changed, good):
            assert refused(changed)[0] == 401


def _same(left: bytes, right: bytes) -> bool:
    def parts(text: bytes) -> list[bytes]:
        return [base64.urlsafe_b64decode(part + b"==") for part in text.split(b".")]

    return parts(left) == parts(right)


@pytest.mark.parametrize(
    "junk",
    [
        b"..",
        b"a.b.c",
        b"!!!.???.___",
        b"\xff\xfe.\xff.\xff",
        encode({"alg": "RS256", "kid": "r1"}) + b"..",
        encode(b"[1, 2]") + b"." + encode(claims()) + b".x",
        encode(b"5") + b"." + encode(claims()) + b".x",
        encode(b"[" * 5000) + b"." + encode(claims()) + b".x",
        encode(b'{"a":' * 1200) + b"." + encode(claims()) + b".x",
        encode(b"9" * 5000) + b"." + encode(claims()) + b".x",
        encode({"alg": "RS256", "kid": "r1"}) + b"." + encode(b"[]") + b"." + b"A" * 342,
        b"A" * 9000 + b".B.C",
    ],
)
def test_junk_is_refused_like_an_unknown_key(junk: bytes) -> None:
    assert refused(junk)[:2] == (401, "invalid_api_key")


def test_a_token_larger_than_any_is_not_even_verified() -> None:
    assert prove(token(padding="x" * 2000)).name == SUBJECT
    assert refused(token(padding="x" * 8000))[:2] == (401, "invalid_api_key")


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60), st.booleans())
def test_no_bytes_raise_anything_else(head: bytes, body: bytes, signature: bytes, wrapped: bool) -> None:
    parts = [encode(part) if wrapped else part.replace(b".", b"") for part in (head, body, signature)]
    with pytest.raises(Refused):
        prove(b".".join(parts), verifier=VERIFIER)


def test_a_token_is_verified_once_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(identity())
    now = time.time()
    presented = token(exp=int(now) + 10)
    verified: list[bytes] = []
    verify = verifier._verify

    def count(text: bytes) -> Subject:
        verified.append(text)
        return verify(text)

    monkeypatch.setattr(verifier, "_verify", count)
    for passed in (0.0, 5.0, 69.0):
        assert prove(presented, verifier=verifier, now=now + passed).name == SUBJECT
    assert len(verified) == 1
    prove(presented, verifier=verifier, now=now + 71)
    assert len(verified) == 2, "an end is an end, remembered or not"


def test_what_is_remembered_is_bounded_and_never_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_TOKENS", 3)
    verifier = Verifier(identity())
    for number in range(6):
        prove(token(jti=str(number)), verifier=verifier)
        refused(token(jti=str(number), iss="x"), verifier=verifier)
    assert len(verifier._proven) == 3


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '{"keys": 5}', '{"keys": [5, null]}', "[" * 100_000])
def test_a_key_set_that_is_none_refuses_tokens_and_says_so(text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert refused(token(), verifier=Verifier(identity(keys=text)))[0] == 401
    assert text == '{"keys": [5, null]}' or "key set is none" in caplog.text


def test_keys_that_cannot_be_used_are_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    p384 = ec.generate_private_key(ec.SECP384R1())
    bad: list[dict[str, Any]] = [
        {**jwt.algorithms.RSAAlgorithm.to_jwk(short.public_key(), as_dict=True), "kid": "short"},
        {**jwt.algorithms.ECAlgorithm.to_jwk(p384.public_key(), as_dict=True), "kid": "p384"},
        {**RSA_JWK, "kid": "enc", "use": "enc"},
        {**RSA_JWK, "kid": "rs512", "alg": "RS512"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "broken"},
        {"kty": "RSA", "kid": "empty"},
        {**RSA_JWK, "kid": None},
        {**EC_JWK, "kid": "r1"},
    ]
    verifier = Verifier(identity(RSA_JWK, *bad))
    assert set(verifier._keys) == {"r1"}
    assert prove(token(), verifier=verifier).name == SUBJECT
    assert caplog.text.count("cannot be used") == len(bad) - 1
    assert "two keys of the issuer have one id" in caplog.text
    assert refused(signed_with(b"secret", {"alg": "HS256", "kid": "oct"}), verifier=verifier)[0] == 401
