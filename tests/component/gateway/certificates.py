"""The internal folder of a region, as the operator would have made it."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from npc_runtime import wire
from tests.component.gateway.words import ADMIN_TOKEN, NAMESPACE


def write_certificate(folder: Path, *, name: str = wire.server_name(NAMESPACE)) -> None:
    """A self-signed certificate for `name` as tls.crt, tls.key and ca.crt."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "tls.crt").write_bytes(pem)
    (folder / "ca.crt").write_bytes(pem)


def make_internal(folder: Path) -> Path:
    """The folder a gateway finds its certificate and tokens in."""
    folder.mkdir(parents=True, exist_ok=True)
    write_certificate(folder)
    (folder / "token").write_text(ADMIN_TOKEN)
    return folder
