"""What is to be known of a Secret with a certificate: whether game servers could be served with it, and until when.

The same that gateways find when they read it, said before any of them has to. Neither key nor certificate is kept.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from npc_operator.domain.facts import CertificateFact
from npc_operator.ports import Manifest

CERTIFICATE, KEY = "tls.crt", "tls.key"


def read_certificate(secret: Manifest | None) -> CertificateFact:
    """`secret` as the API server shows it; None where it is not there."""
    if secret is None:
        return CertificateFact(missing=True)
    data: Mapping[str, str] = secret.get("data") or {}
    absent = [name for name in (CERTIFICATE, KEY) if not data.get(name)]
    if absent:
        return CertificateFact(fault=f"it has no {' and no '.join(absent)}")
    try:
        leaf = x509.load_pem_x509_certificates(base64.b64decode(data[CERTIFICATE]))[0]
    except (ValueError, binascii.Error):
        return CertificateFact(fault=f"{CERTIFICATE} holds no certificate in PEM form")
    try:
        key = serialization.load_pem_private_key(base64.b64decode(data[KEY]), password=None)
    except TypeError:
        return CertificateFact(fault=f"{KEY} is encrypted, and nobody could tell the gateways its password")
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        return CertificateFact(fault=f"{KEY} holds no private key in PEM form")
    if key.public_key() != leaf.public_key():
        return CertificateFact(fault=f"{KEY} is not the key of the first certificate in {CERTIFICATE}")
    return CertificateFact(ends=leaf.not_valid_after_utc.timestamp())
