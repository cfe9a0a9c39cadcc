"""A Secret with a certificate: what gateways would find wrong with it, in words and without its data."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from npc_operator.clients.certificates import read_certificate
from npc_operator.domain.facts import CertificateFact
from npc_operator.reconcilers.material import CERTIFICATE_DAYS, make_certificate

NOW = 1_790_000_000.0
GOOD, OTHER = make_certificate("eu-west", NOW), make_certificate("eu-west", NOW)


def encrypted(key: str) -> str:
    loaded = serialization.load_pem_private_key(key.encode(), password=None)
    pem = loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    return pem.decode()


def secret(**values: str) -> dict[str, Any]:
    data = {name.replace("_", "."): base64.b64encode(value.encode()).decode() for name, value in values.items()}
    return {"metadata": {"name": "cert", "resourceVersion": "1"}, "data": data}


CASES = [
    (None, "", True),
    (secret(), "it has no tls.crt and no tls.key", False),
    (secret(tls_crt=GOOD.certificate), "it has no tls.key", False),
    (secret(tls_crt="", tls_key=GOOD.private_key), "it has no tls.crt", False),
    (secret(tls_crt="hello", tls_key=GOOD.private_key), "tls.crt holds no certificate in PEM form", False),
    (secret(tls_crt=GOOD.private_key, tls_key=GOOD.private_key), "tls.crt holds no certificate in PEM form", False),
    (secret(tls_crt=GOOD.certificate, tls_key="hello"), "tls.key holds no private key in PEM form", False),
    (
        secret(tls_crt=GOOD.certificate, tls_key=encrypted(GOOD.private_key)),
        "tls.key is encrypted, and nobody could tell the gateways its password",
        False,
    ),
    (
        secret(tls_crt=GOOD.certificate, tls_key=OTHER.private_key),
        "tls.key is not the key of the first certificate in tls.crt",
        False,
    ),
    (
        secret(tls_crt=OTHER.certificate + GOOD.certificate, tls_key=GOOD.private_key),
        "tls.key is not the key of the first certificate in tls.crt",
        False,
    ),
]


@pytest.mark.parametrize(("manifest", "fault", "missing"), CASES)
def test_what_is_wrong_is_said_and_nothing_of_the_data(
    manifest: dict[str, Any] | None, fault: str, missing: bool
) -> None:
    found = read_certificate(manifest)
    assert found == CertificateFact(missing=missing, fault=fault)


@pytest.mark.parametrize("chain", [GOOD.certificate, GOOD.certificate + GOOD.authority])
def test_a_certificate_and_its_key_can_be_used_and_it_is_known_until_when(chain: str) -> None:
    found = read_certificate(secret(tls_crt=chain, tls_key=GOOD.private_key))
    assert (found.missing, found.fault) == (False, "")
    assert found.ends is not None
    assert abs(found.ends - (NOW + CERTIFICATE_DAYS * 86_400)) <= 3600


@pytest.mark.parametrize("manifest", [case[0] for case in CASES if case[0] is not None and len(case[0]["data"]) == 2])
def test_what_is_refused_is_refused_by_what_gateways_read_it_with(manifest: dict[str, Any], tmp_path: Path) -> None:
    for name, value in manifest["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(value))
    with pytest.raises(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            tmp_path / "tls.crt", tmp_path / "tls.key", password=lambda: b""
        )


def test_what_is_accepted_is_accepted_by_what_gateways_read_it_with(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text(GOOD.certificate)
    (tmp_path / "tls.key").write_text(GOOD.private_key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
