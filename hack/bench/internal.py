"""The internal folder of a pod as the operator would have made it: a self-signed certificate and bearer tokens.

For an agent without an operator beside it; the component tests of the agent use it too.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from npc_runtime.wire import server_name

NAMESPACE = "eu-west"
TOKEN = "token-of-the-operator"


def write_internal(folder: Path, *, token: str = TOKEN, previous: str = "", dns: str = "") -> Path:
    """Makes or renews the folder's files; the certificate is for `dns`, else for the namespace's internal name."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = _self_signed(key, dns or server_name(NAMESPACE)).public_bytes(serialization.Encoding.PEM)
    # The key first: whoever looks between the two writes finds a pair that does not match, and must keep the old one.
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "tls.crt").write_bytes(pem)
    (folder / "ca.crt").write_bytes(pem)
    (folder / "token").write_text(token)
    (folder / "token-previous").write_text(previous)
    return folder


def _self_signed(key: ec.EllipticCurvePrivateKey, dns: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, dns)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
